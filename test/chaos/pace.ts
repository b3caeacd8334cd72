/** Lets at most `perSecond` operations begin in a second, whoever asks. */
export class Pace {
  private next = performance.now();

  constructor(private readonly perSecond: number) {}

  async turn(): Promise<void> {
    const now = performance.now();
    // Turns not taken are lost: after a pause there is no burst.
    this.next = Math.max(this.next, now) + 1000 / this.perSecond;
    const waitMs = this.next - now;
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}
