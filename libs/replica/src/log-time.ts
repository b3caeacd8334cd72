import { asLogTime, type LogTime } from '#kernel';

/** How far a barrier's time may be ahead of the last committed log time, and how far ahead a new leader's first stamp is of its log. */
export const LOG_TIME_LEAD_MS = 1000;

/**
 * The leader's clock for one partition. Log time never decreases along a partition, whatever the wall clock does:
 *
 *     stamp   = max(wall clock, last stamp, last barrier time handed out)
 *     first stamp of a term ≥ last log time in the log + LOG_TIME_LEAD_MS
 *     barrier time ≤ last committed log time + LOG_TIME_LEAD_MS
 *
 * A barrier time given out by an earlier leader was at most LOG_TIME_LEAD_MS beyond a committed log time, every new leader has that entry, so
 * its first stamp is not before it: a key once seen expired stays expired.
 */
export class LogClock {
  private floor = 0;

  /** Starts a term on top of a log that ends at `lastLogTime`. */
  begin(lastLogTime: LogTime): void {
    this.floor = Math.max(this.floor, lastLogTime + LOG_TIME_LEAD_MS);
  }

  /** What a batch stamped now would get; changes nothing. */
  peek(wallMs: number): LogTime {
    return asLogTime(wallMs > this.floor ? wallMs : this.floor);
  }

  /** A time that has been stamped or promised: nothing is stamped below it from now on. */
  advance(time: LogTime): void {
    if (time > this.floor) this.floor = time;
  }
}
