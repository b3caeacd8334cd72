/** Longest time between two looks that counts, ms. */
const STEP_MS_MAX = 2000;

/**
 * Time in which this process was awake. Somebody looks at it often; what lies between two looks and is longer than a step — the process, and most
 * likely its nodes with it, stood still — counts as one step.
 */
export class AwakeClock {
  private passedMs = 0;
  private last: number;

  constructor(private readonly now: () => number = () => performance.now()) {
    this.last = now();
  }

  get ms(): number {
    const now = this.now();
    this.passedMs += Math.min(STEP_MS_MAX, now - this.last);
    this.last = now;
    return this.passedMs;
  }
}
