import { asGroupId, asOffset, type GroupId, type Offset, type Scheduler, type TidelineError } from '#kernel';
import type { ReadResult } from './group-host.js';

/** A group, as far as its log is looked through. */
export interface ScrubbedGroup {
  readonly logStartOffset: Offset;
  readonly readableOffset: Offset;
  read(
    request: { readonly from: Offset; readonly maxBytes: number },
    done: (error: TidelineError | null, result: ReadResult | null) => void,
  ): void;
}

export interface LogScrubOptions {
  readonly scheduler: Scheduler;
  /** Those that are open at the moment. */
  readonly groupIds: () => readonly GroupId[];
  readonly group: (id: GroupId) => ScrubbedGroup | undefined;
  readonly pace: ScrubPace;
}

export interface ScrubPace {
  /** From the start to the first round: a leader is to say first how far the logs are committed. */
  readonly delayMs: number;
  readonly bytesAtOnce: number;
  readonly pauseMs: number;
  /** From the end of one round to the beginning of the next. */
  readonly intervalMs: number;
}

/** At most some 10 MiB a second, whatever the disk could do. */
export const SCRUB_PACE: ScrubPace = {
  delayMs: 5000,
  bytesAtOnce: 256 * 1024,
  pauseMs: 25,
  intervalMs: 24 * 3600 * 1000,
};
/** A place that cannot be read is tried again after this long: it is being repaired. */
const RETRY_MS = 1000;
/** Then the rest of that group has to wait for the next round. */
const RETRIES_MAX = 60;

/**
 * Reads all logs of a node from their beginning to what was committed when it came to them, one after the other and slowly: soon after the start, and
 * then again and again. Opening a log checks its last segment only, and nobody may ask for old batches for months; damage there is met by this, and
 * repaired like any other that a read meets, while the peers still have what is lost.
 */
export class LogScrub {
  /** Rounds that have ended. */
  rounds = 0;
  bytes = 0;
  private cancel: (() => void) | null = null;
  private stopped = false;
  private group: GroupId | null = null;
  private next = asOffset(1);
  private end = asOffset(0);
  private retries = 0;

  constructor(private readonly options: LogScrubOptions) {}

  start(): void {
    this.after(this.options.pace.delayMs);
  }

  stop(): void {
    this.stopped = true;
    this.cancel?.();
  }

  private after(delayMs: number): void {
    if (!this.stopped) this.cancel = this.options.scheduler.after(delayMs, this.step);
  }

  private readonly step = (): void => {
    const { options } = this;
    const group = this.group === null ? undefined : options.group(this.group);
    if (group === undefined || this.next > this.end) {
      this.turn();
      return;
    }
    group.read({ from: this.next, maxBytes: options.pace.bytesAtOnce }, (error, result) => {
      if (error !== null) {
        this.refused(error, group);
        return;
      }
      this.retries = 0;
      this.bytes += result!.batches.length;
      // Nothing between here and the end: it has been cut off meanwhile.
      this.next = result!.nextOffset > this.next ? result!.nextOffset : asOffset(this.end + 1);
      this.after(options.pace.pauseMs);
    });
  };

  /** To the group with the next id; after the last one a day's rest. */
  private turn(): void {
    const { options } = this;
    const before: number = this.group ?? -1;
    let id = Number.POSITIVE_INFINITY;
    for (const candidate of options.groupIds()) if (candidate > before && candidate < id) id = candidate;
    this.retries = 0;
    if (id === Number.POSITIVE_INFINITY) {
      this.group = null;
      this.rounds++;
      this.after(options.pace.intervalMs);
      return;
    }
    this.group = asGroupId(id);
    const group = options.group(this.group)!;
    this.next = group.logStartOffset;
    this.end = group.readableOffset;
    this.after(options.pace.pauseMs);
  }

  private refused(error: TidelineError, group: ScrubbedGroup): void {
    // Trimmed in the meantime.
    if (error.code === 'offset-out-of-range' && group.logStartOffset > this.next) this.next = group.logStartOffset;
    else if (++this.retries > RETRIES_MAX) this.next = asOffset(this.end + 1);
    this.after(RETRY_MS);
  }
}
