import type { AwakeClock } from './awake-clock.js';

/** Longer ones get a line in the log of the run. */
const LONG_PAUSE_MS = 3000;

/** Counts of outcomes, and the pauses in which no write was acknowledged. */
export class Statistics {
  readonly outcomes = new Map<string, number>();
  /** Codes of what was not ok. */
  readonly codes = new Map<string, number>();
  /** Longest pause, ms, by the kinds of faults that were there at some time during it. */
  readonly pauses = new Map<string, number>();
  longestPauseMs = 0;
  /** NaN before the first: the start is no pause. */
  private lastAck = Number.NaN;
  private readonly active = new Set<string>();
  private readonly sinceLastAck = new Set<string>();

  constructor(
    private readonly clock: AwakeClock,
    private readonly say: (text: string) => void,
  ) {}

  count(operation: string, outcome: string, code = ''): void {
    add(this.outcomes, `${operation} ${outcome}`);
    if (code !== '') add(this.codes, code);
  }

  faultBegins(kind: string): void {
    this.active.add(kind);
    this.sinceLastAck.add(kind);
  }

  faultEnds(kind: string): void {
    this.active.delete(kind);
  }

  /** A write was acknowledged. */
  acknowledged(): void {
    const now = this.clock.ms;
    const pauseMs = Number.isNaN(this.lastAck) ? 0 : now - this.lastAck;
    this.longestPauseMs = Math.max(this.longestPauseMs, pauseMs);
    for (const kind of this.sinceLastAck) this.pauses.set(kind, Math.max(pauseMs, this.pauses.get(kind) ?? 0));
    if (pauseMs >= LONG_PAUSE_MS)
      this.say(
        `no write was acknowledged for ${Math.round(pauseMs)} ms: ${[...this.sinceLastAck].join(', ') || 'calm'}`,
      );
    this.lastAck = now;
    this.sinceLastAck.clear();
    for (const kind of this.active) this.sinceLastAck.add(kind);
  }
}

export const add = (counts: Map<string, number>, name: string): void => {
  counts.set(name, (counts.get(name) ?? 0) + 1);
};
