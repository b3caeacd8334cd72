/**
 * A process that waits for its disk within a call: when the write returns its clocks have moved on, and nothing has happened to it meanwhile, while for
 * everybody else no time has passed yet. What it does after that has to be put off by `leftMs`.
 */
export class HeldProcess {
  private until = 0;

  constructor(private readonly outsideMs: () => number) {}

  /** As its clocks have it, in ms of the time outside. */
  get nowMs(): number {
    return Math.max(this.outsideMs(), this.until);
  }

  /** How far it is ahead of those outside. */
  get leftMs(): number {
    return Math.max(0, this.until - this.outsideMs());
  }

  hold(ms: number): void {
    this.until = this.nowMs + ms;
  }

  /** Another process has taken its place. */
  release(): void {
    this.until = 0;
  }
}
