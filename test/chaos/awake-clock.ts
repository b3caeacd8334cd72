/** Longest time between two looks that counts, ms. */
const STEP_MS_MAX = 2000;

/**
 * Time in which this process was awake. Somebody looks at it often; what lies between two looks and is longer than a step — the process, and most
 * likely its nodes with it, stood still — counts as one step.
 */
export class AwakeClock {
  private passedMs = 0;
  private last: number;
  private readonly now: () => number;
  private readonly stepMsMax: number;

  constructor(options: { readonly now?: () => number; readonly stepMsMax?: number } = {}) {
    this.now = options.now ?? (() => performance.now());
    this.stepMsMax = options.stepMsMax ?? STEP_MS_MAX;
    this.last = this.now();
  }

  get ms(): number {
    const now = this.now();
    this.passedMs += Math.min(this.stepMsMax, now - this.last);
    this.last = now;
    return this.passedMs;
  }
}
