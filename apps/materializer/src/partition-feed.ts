import {
  asOffset,
  repeatWithin,
  toTidelineError,
  type LoopShare,
  type MsLeft,
  type Offset,
  type Scheduler,
  type TidelineError,
} from '#kernel';
import type { CommandLog, TailChunk, Target } from '#command-log';
import { batchLength, BATCH_HEADER_BYTES } from '#wire';
import type { Subscription } from 'rxjs';

/** What a feed fills: a view of one partition. */
export interface FedView {
  /** Applied up to here; 0 for nothing. */
  readonly offset: Offset;
  /** Whole committed batches, consecutive. Never throws for what a log accepted. */
  applyBatches(batches: Buffer): void;
  /**
   * The same for a view whose events may take long: as far as it gets until `overdue` says so. False: not to the end; it is then called again
   * with the same batches.
   */
  applyWithin?(batches: Buffer, overdue: () => boolean): boolean;
}

/** Bytes applied in one turn of the event loop, so that reads are answered while a view catches up. */
const SLICE_BYTES = 256 * 1024;
/** Between looks at the clock. What is applied for the first time, by code that V8 has not compiled yet, takes ten times as long. */
const STEP_BYTES = 32 * 1024;
/** Bytes on their way from the log; a view that is slow slows its own tail and nothing else. */
export const FEED_CREDIT_BYTES = 8 * 1024 * 1024;
const RESTART_DELAY_MS = 200;
/** To apply so little takes less than the pass of the event loop that putting it off costs. */
const AT_ONCE_BYTES_MAX = 4096;

/**
 * Feeds one view partition from the committed log. A chunk is released, and so replaced by another, only when it is applied.
 */
export class PartitionFeed {
  private subscription: Subscription | null = null;
  private readonly chunks: TailChunk[] = [];
  private at = 0;
  private scheduled = false;
  private held = false;
  private holds = 0;
  private closed = false;
  private cancelRestart: (() => void) | null = null;
  private knownCommit = 0;
  /** Of the log, since the feed began. */
  appliedBytes = 0;
  /** Why the tail ended, while it is being started again. */
  lastError: TidelineError | null = null;

  constructor(
    private readonly options: {
      readonly log: CommandLog;
      readonly target: Target;
      readonly view: FedView;
      readonly scheduler: Scheduler;
      /** Of the turns of the event loop: what is applied at once is not counted. */
      readonly share: LoopShare;
      /** After each slice applied. */
      readonly applied: () => void;
      /** Somebody waits for what comes next: it is applied at once. */
      readonly awaited: () => boolean;
      /** The log no longer has what comes next. It is tried again all the same. */
      readonly trimmed?: () => void;
      /** The view can take no more for now; `resume` when it can again. */
      readonly full?: () => boolean;
    },
  ) {
    this.start();
  }

  /** Last commit offset heard of; at least what is applied. */
  get commitOffset(): Offset {
    return asOffset(Math.max(this.knownCommit, this.options.view.offset));
  }

  get isClosed(): boolean {
    return this.closed;
  }

  private start(): void {
    const { log, target, view } = this.options;
    this.subscription = log.tail(target, asOffset(view.offset + 1), { creditBytes: FEED_CREDIT_BYTES }).subscribe({
      next: (chunk) => {
        this.lastError = null;
        if (chunk.commitOffset > this.knownCommit) this.knownCommit = chunk.commitOffset;
        this.chunks.push(chunk);
        if (this.scheduled) return;
        // Applying much takes its time, and those who wait for the log's word alone are answered at the end of this turn.
        if (chunk.batches.length <= AT_ONCE_BYTES_MAX || this.options.awaited()) this.work(this.options.share.begin());
        else this.workLater();
      },
      error: (error: unknown) => this.restart(toTidelineError(error)),
      complete: () => this.restart(null),
    });
  }

  /** A tail ends only for good reasons (topic gone, offset trimmed): say why and try again, in case it comes back. */
  private restart(error: TidelineError | null): void {
    if (this.closed) return;
    this.lastError = error;
    if (error?.code === 'offset-out-of-range') this.options.trimmed?.();
    if (this.closed) return;
    this.cancelRestart = this.options.scheduler.after(RESTART_DELAY_MS, () => {
      this.dropChunks();
      this.start();
    });
  }

  /** Goes on after the view was full. */
  resume(): void {
    if (!this.held) return;
    this.held = false;
    if (!this.scheduled) this.work(this.options.share.begin());
  }

  /** The view is given nothing more until what is returned is called; then from the next turn on. */
  hold(): () => void {
    let held = true;
    this.holds++;
    return () => {
      if (!held) return;
      held = false;
      if (--this.holds > 0 || this.scheduled || this.closed) return;
      this.workLater();
    };
  }

  private workLater(): void {
    this.scheduled = true;
    this.options.share.run(this.work);
  }

  private readonly work = (left: MsLeft): void => {
    this.scheduled = false;
    if (this.closed || this.held || this.holds > 0) return;
    if (this.options.full?.() === true) {
      this.held = true;
      return;
    }
    let budget = SLICE_BYTES;
    repeatWithin(left, () => {
      if (this.chunks.length === 0) return false;
      const applied = this.applyStep(Math.min(budget, STEP_BYTES), left);
      budget -= applied;
      return applied >= 0 && budget > 0;
    });
    this.options.applied();
    if (this.chunks.length > 0 && !this.scheduled) this.workLater();
  };

  /** About so many bytes of the first chunk, at least a batch. Returns how many; −1: the view got to no end with them. */
  private applyStep(bytes: number, left: MsLeft): number {
    const { view } = this.options;
    const chunk = this.chunks[0];
    const until = sliceEnd(chunk.batches, this.at, bytes);
    const slice = chunk.batches.subarray(this.at, until);
    if (slice.length > 0) {
      if (!view.applyWithin) view.applyBatches(slice);
      else if (!view.applyWithin(slice, () => left() <= 0)) return -1;
      this.appliedBytes += slice.length;
    }
    this.at = until;
    if (this.at >= chunk.batches.length) {
      this.chunks.shift();
      this.at = 0;
      chunk.release();
    }
    return slice.length;
  }

  private dropChunks(): void {
    for (const chunk of this.chunks.splice(0)) chunk.release();
    this.at = 0;
  }

  close(): void {
    this.closed = true;
    this.cancelRestart?.();
    this.subscription?.unsubscribe();
    this.dropChunks();
  }
}

/** End of the whole batches from `at` that make up about `budget` bytes; at least one batch. */
const sliceEnd = (batches: Buffer, at: number, budget: number): number => {
  if (batches.length - at <= budget) return batches.length;
  let end = at;
  while (end + BATCH_HEADER_BYTES <= batches.length && end - at < budget) end += batchLength(batches, end);
  return Math.min(end, batches.length);
};
