/** Counts of outcomes, and the pauses in which nothing was acknowledged. */
export class Statistics {
  readonly outcomes = new Map<string, number>();
  /** Codes of what was not ok. */
  readonly codes = new Map<string, number>();
  private lastAck = performance.now();
  private lastAckFaults: readonly string[] = [];
  longestGap: { readonly ms: number; readonly during: readonly string[] } = { ms: 0, during: [] };

  constructor(private readonly activeFaults: () => readonly string[]) {}

  count(operation: string, outcome: string, code = ''): void {
    add(this.outcomes, `${operation} ${outcome}`);
    if (code !== '') add(this.codes, code);
  }

  /** A write was acknowledged. */
  acknowledged(): void {
    const now = performance.now();
    const ms = now - this.lastAck;
    const faults = this.activeFaults();
    if (ms > this.longestGap.ms) this.longestGap = { ms, during: [...new Set([...this.lastAckFaults, ...faults])] };
    this.lastAck = now;
    this.lastAckFaults = faults;
  }
}

export const add = (counts: Map<string, number>, name: string): void => {
  counts.set(name, (counts.get(name) ?? 0) + 1);
};
