/** Longest time between two looks that counts, ms. */
const STEP_MS_MAX = 2000;

/**
 * A limit on waiting that is looked at again and again. Time in which this process stood still — a machine that is suspended takes everybody with
 * it — does not count: nobody could have done anything in it.
 */
export class Countdown {
  private last = performance.now();

  constructor(private leftMs: number) {}

  get isOver(): boolean {
    const now = performance.now();
    this.leftMs -= Math.min(STEP_MS_MAX, now - this.last);
    this.last = now;
    return this.leftMs < 0;
  }
}
