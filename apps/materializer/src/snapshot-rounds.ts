import type { SnapshotEntry } from '#catalog';
import { asLogTime, toTidelineError, type Clock, type LogTime, type Scheduler, type TidelineError } from '#kernel';
import { isOpen, type HostedPartition, type HostedView } from './hosted-partition.js';
import { SnapshotPace } from './snapshot-pace.js';
import type { SnapshotStore } from './snapshot-store.js';

/** How long a view is given nothing more, so that the archive gets what waits for it; then the snapshot is left out. */
const SETTLE_MS_MAX = 2000;
const SETTLE_LOOK_MS = 5;
/**
 * A view is not written for log that comes to less than so many times what it took when it was written last. To write an entry costs about a quarter
 * of what it costs to apply one, so of the work for a view that is written to without end a tenth is for its snapshots, whatever its size; and what
 * is to be applied after a restart is at most so many times what is loaded (or `logBytes`), and what was applied while it was written.
 */
const LOG_BYTES_PER_VIEW_BYTE = 2;
/** Of the log that makes a snapshot due: when so much more was applied while it is written, it pauses no longer. What is to be applied after a restart stays bounded. */
const LOG_PART_WHILE_PACED = 1 / 2;

export interface SnapshotRoundsOptions {
  readonly store: SnapshotStore;
  readonly intervalMs: number;
  /** Log applied to a partition for which it is written, whatever the interval, if it is not little beside the view. */
  readonly logBytes: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly views: () => Iterable<HostedView>;
  readonly failed: (view: string, partition: number, error: TidelineError) => void;
}

/**
 * When a host takes snapshots: of every partition that has moved on since its last, at an interval and before a stop; of one partition when so
 * much log was applied to it, when it was rebuilt, and when somebody asks. One at a time.
 */
export class SnapshotRounds {
  /** Ends when all that were asked for so far are written. */
  private queue: Promise<void> = Promise.resolve();
  private readonly queued = new Set<HostedPartition>();
  /** Asked for by somebody who waits. */
  private waited = 0;
  private untilMs = Number.POSITIVE_INFINITY;
  private cancelNext: (() => void) | null = null;
  private closed = false;

  constructor(private readonly options: SnapshotRoundsOptions) {
    this.schedule();
  }

  private schedule(): void {
    const { scheduler, intervalMs } = this.options;
    if (this.closed) return;
    this.cancelNext = scheduler.after(intervalMs, () => {
      void this.all().then(() => this.schedule());
    });
  }

  private all(): Promise<void> {
    for (const { partitions } of this.options.views()) for (const hosted of partitions) this.request(hosted);
    return this.queue;
  }

  /** More log was applied to it. */
  applied(hosted: HostedPartition): void {
    const logBytes = hosted.feed.appliedBytes - hosted.snapshotLogBytes;
    if (logBytes >= this.dueBytes(hosted.snapshotViewBytes)) this.request(hosted);
  }

  /** Log applied to a view for which it is written. */
  private dueBytes(viewBytes: number): number {
    return Math.max(this.options.logBytes, LOG_BYTES_PER_VIEW_BYTE * viewBytes);
  }

  /** Due now, whatever the interval. */
  request(hosted: HostedPartition | null | undefined): void {
    if (!hosted || this.closed || this.queued.has(hosted)) return;
    this.queued.add(hosted);
    this.queue = this.queue.then(async () => {
      try {
        await this.write(hosted, 'paced');
      } catch (error) {
        this.options.failed(hosted.source.view, hosted.partition, toTidelineError(error));
      }
      this.queued.delete(hosted);
    });
  }

  /** After those that are queued. Null: there was nothing new, or no time. Rejects when it cannot be written. */
  async take(hosted: HostedPartition): Promise<SnapshotEntry | null> {
    const before = this.queue;
    this.waited++;
    const written = before.then(() => this.write(hosted, 'at once'));
    const over = (): void => {
      this.waited--;
    };
    this.queue = written.then(over, over);
    return written;
  }

  private async write(hosted: HostedPartition, pace: 'paced' | 'at once'): Promise<SnapshotEntry | null> {
    const { store, clock, scheduler, views } = this.options;
    const { view, source, feed } = hosted;
    const gone = (): boolean => ![...views()].some(({ partitions }) => partitions.filter(isOpen).includes(hosted));
    const cancelled = (): boolean => this.closed || clock.monotonicMs() >= this.untilMs;
    if (cancelled() || gone() || view.offset <= hosted.snapshotOffset) return null;
    // What waits for the archive besides the entries is in no snapshot: the log is still needed for it. Where entries are evicted all the time
    // there is always something, unless the view is given nothing more for a moment.
    const release = feed.hold();
    try {
      const settleUntil = clock.monotonicMs() + SETTLE_MS_MAX;
      while (view.archiveQueueBytes > 0) {
        if (cancelled() || gone() || clock.monotonicMs() >= settleUntil || hosted.archiver?.lastError) return null;
        await new Promise<void>((resolve) => {
          scheduler.after(SETTLE_LOOK_MS, resolve);
        });
      }
    } finally {
      // What follows begins in this turn, before anything more is applied.
      release();
    }
    if (view.stoppedSlots.length > 0) return null;
    const { offset } = view;
    const { appliedBytes } = feed;
    const { bytes } = view;
    const between =
      pace === 'paced'
        ? new SnapshotPace({
            clock,
            scheduler,
            applied: () => view.offset,
            hurries: () =>
              this.closed ||
              this.waited > 0 ||
              Number.isFinite(this.untilMs) ||
              feed.appliedBytes - appliedBytes > this.dueBytes(bytes) * LOG_PART_WHILE_PACED,
          })
        : undefined;
    const entry = await store.write(source, view, { cancelled, pace: between, archivedUntil: archivedUntil(hosted) });
    if (entry === null) return null;
    hosted.snapshotOffset = offset;
    hosted.snapshotLogBytes = appliedBytes;
    hosted.snapshotViewBytes = bytes;
    return entry;
  }

  /** When those that were asked for so far are written. */
  settled(): Promise<void> {
    return this.queue;
  }

  /** Before a stop: what has changed, as far as that goes within the time. */
  async finish(withinMs: number): Promise<void> {
    this.untilMs = this.options.clock.monotonicMs() + withinMs;
    await this.queue;
    await this.all();
  }

  close(): void {
    this.closed = true;
    this.cancelNext?.();
  }
}

/** What had departed before this is in the archive; null: there is none. What departs from now on does so at the view's log time or later. */
const archivedUntil = ({ view, archiver }: HostedPartition): LogTime | null =>
  archiver === null ? null : asLogTime(Math.min(view.logTime, archiver.archivedBefore ?? Infinity));
