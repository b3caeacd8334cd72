import type { Archive, ArchiveEntry } from '#catalog';
import {
  asLogTime,
  repeatWithin,
  toTidelineError,
  type LogTime,
  type LoopShare,
  type MsLeft,
  type PartitionId,
  type Scheduler,
  type TidelineError,
} from '#kernel';
import type { LeavingBatch, LeavingEntry, MapView } from '#views';

/** Entries of one write to the archive, and their bytes. */
export const ARCHIVE_BATCH_ENTRIES_MAX = 1000;
/** Entries let go of between looks at the clock. */
const REMOVE_STEP = 50;
const ARCHIVE_BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** A view whose overwritten, not yet archived entries take this much applies nothing more until the archive has some of them. */
export const ARCHIVE_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/**
 * Entries under way at a time, so that the archive need not wait for this view, nor the view for the archive, which may put those that have come while it
 * wrote into one transaction.
 */
export const ARCHIVE_WRITTEN_ENTRIES_MAX = 16_000;
/** Keys and values of these, about. */
const ARCHIVE_WRITTEN_BYTES_MAX = 16 * 1024 * 1024;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 30_000;

export interface ArchiveWriterOptions {
  readonly archive: Archive;
  readonly view: string;
  readonly partition: PartitionId;
  readonly state: MapView;
  readonly scheduler: Scheduler;
  /** Of the turns of the event loop. */
  readonly share: LoopShare;
  /** Entries are archived and have left memory; so many of them because they had expired, the others because they had to make room. */
  readonly removed: (expired: number) => void;
  /** A write failed; the entries stay. */
  readonly failed: (error: TidelineError) => void;
}

/**
 * Moves the expired entries of one view partition into the archive: they leave memory when it has them, and not before. No two writes under
 * way have entries of one key, so those of a key arrive in order. What fails is repeated, later each time; what it wrote in part it writes
 * again, which the archive ignores, as it does what another host has written already.
 */
export class ArchiveWriter {
  /** Why the last write failed; null when it did not. */
  lastError: TidelineError | null = null;
  /** Until they have left memory. */
  private readonly writing = new Set<LeavingBatch>();
  private entriesWriting = 0;
  private bytesWriting = 0;
  /** Of these, those that the archive has. */
  private readonly archived: LeavingBatch[] = [];
  /** Entries of the first of them that have left memory. */
  private removed = 0;
  private workDeferred = false;
  private retryMs = RETRY_MS_MIN;
  private cancelRetry: (() => void) | null = null;
  private closed = false;

  constructor(private readonly options: ArchiveWriterOptions) {}

  /** The queue of the view is full: it must not be given more to apply. */
  get full(): boolean {
    return this.options.state.archiveQueueBytes >= ARCHIVE_QUEUE_BYTES_MAX;
  }

  /** Before this log time nothing departed that the archive does not have; null: nothing is in memory that has departed, or will. */
  get archivedBefore(): LogTime | null {
    let earliest: number = this.options.state.earliestToArchive() ?? Infinity;
    for (const batch of this.writing) earliest = Math.min(earliest, batch.earliest);
    return earliest === Infinity ? null : asLogTime(earliest);
  }

  /** In this turn or a later one, as there is time for it, lets go of some of what was written or writes some of what is due; then the rest. */
  work(): void {
    if (this.workDeferred || this.closed) return;
    this.workDeferred = true;
    this.options.share.run((left) => {
      this.workDeferred = false;
      if (!this.closed) this.doSome(left);
    });
  }

  private doSome(left: MsLeft): void {
    const [archived] = this.archived;
    if (archived !== undefined) {
      this.remove(archived, left);
      this.work();
    } else if (
      this.cancelRetry === null &&
      this.entriesWriting < ARCHIVE_WRITTEN_ENTRIES_MAX &&
      this.bytesWriting < ARCHIVE_WRITTEN_BYTES_MAX
    ) {
      this.writeDue(left);
    }
  }

  private writeDue(left: MsLeft): void {
    const { archive, state } = this.options;
    // To hand them over takes about as long as to take them.
    const enough = left() / 2;
    const batch = state.take({
      until: state.logTime,
      max: ARCHIVE_BATCH_ENTRIES_MAX,
      bytesMax: ARCHIVE_BATCH_BYTES_MAX,
      isOverdue: () => left() <= enough,
    });
    if (batch.length === 0) {
      // What was looked at was overwritten before it expired; what is on its way comes back here by itself.
      if (this.writing.size === 0 && (state.nextExpiry() ?? Infinity) <= state.logTime) this.work();
      return;
    }
    this.writing.add(batch);
    this.entriesWriting += batch.length;
    this.bytesWriting += batch.bytes;
    const written = archive.write(batch.entries.map(this.archiveEntry));
    batch.release();
    written.then(
      () => this.written(batch),
      (error: unknown) => this.failed(batch, toTidelineError(error)),
    );
    this.work();
  }

  private written(batch: LeavingBatch): void {
    if (this.closed) return;
    // Unless one that was under way beside it has failed since.
    if (this.cancelRetry === null) {
      this.lastError = null;
      this.retryMs = RETRY_MS_MIN;
    }
    this.archived.push(batch);
    this.work();
  }

  private remove(batch: LeavingBatch, left: MsLeft): void {
    const { state } = this.options;
    repeatWithin(left, () => {
      this.removed += state.removeExpired(batch, REMOVE_STEP);
      return !batch.isSettled;
    });
    if (!batch.isSettled) return;
    this.archived.shift();
    this.over(batch);
    // Those that were evicted were out of the index already, and are counted since.
    const expired = this.removed - batch.evicted;
    this.removed = 0;
    this.options.removed(expired);
  }

  private over(batch: LeavingBatch): void {
    this.entriesWriting -= batch.length;
    this.bytesWriting -= batch.bytes;
    this.writing.delete(batch);
  }

  private failed(batch: LeavingBatch, error: TidelineError): void {
    if (this.closed) return;
    this.over(batch);
    this.options.state.putBack(batch);
    this.lastError = error;
    this.options.failed(error);
    if (this.cancelRetry !== null) return;
    this.cancelRetry = this.options.scheduler.after(this.retryMs, () => {
      this.cancelRetry = null;
      this.work();
    });
    this.retryMs = Math.min(RETRY_MS_MAX, this.retryMs * 2);
  }

  private readonly archiveEntry = (entry: LeavingEntry): ArchiveEntry => {
    const { view, partition } = this.options;
    const { key, value, offset, logTime, contentType, expiresAt, evicted } = entry;
    return {
      view,
      partition,
      key,
      value,
      offset,
      logTime,
      expiresAt: expiresAt!,
      evicted,
      ...(contentType !== null && { contentType }),
    };
  };

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.cancelRetry?.();
    for (const batch of this.writing) this.options.state.putBack(batch);
    this.writing.clear();
  }
}
