import type { Archive, ArchiveEntry } from '#catalog';
import {
  asLogTime,
  toTidelineError,
  type LogTime,
  type PartitionId,
  type Scheduler,
  type TidelineError,
} from '#kernel';
import type { LeavingEntry, MapView } from '#views';

/** Entries of one write to the archive, and their bytes: to take them out of memory and to let go of them is some 5 ms. */
export const ARCHIVE_BATCH_ENTRIES_MAX = 1000;
const ARCHIVE_BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** A view whose overwritten, not yet archived entries take this much applies nothing more until the archive has some of them. */
export const ARCHIVE_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/**
 * Under way at a time, so that the archive need not wait for this view, nor the view for the archive, which may put those that have come while it
 * wrote into one transaction.
 */
export const ARCHIVE_WRITES_MAX = 16;
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
  /** With their bytes, until they have left memory. */
  private readonly writing = new Map<readonly LeavingEntry[], number>();
  private bytesWriting = 0;
  /** Of these, those that the archive has. */
  private readonly archived: (readonly LeavingEntry[])[] = [];
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
    for (const entries of this.writing.keys()) {
      for (const { expiresAt } of entries) earliest = Math.min(earliest, expiresAt ?? Infinity);
    }
    return earliest === Infinity ? null : asLogTime(earliest);
  }

  /** Lets go of some of what was written or writes some of what is due, unless enough is under way or it waits to try again; the rest a turn later. */
  work(): void {
    if (this.closed) return;
    const archived = this.archived.shift();
    if (archived !== undefined) {
      this.remove(archived);
      this.workLater();
    } else if (
      this.cancelRetry === null &&
      this.writing.size < ARCHIVE_WRITES_MAX &&
      this.bytesWriting < ARCHIVE_WRITTEN_BYTES_MAX
    ) {
      this.writeDue();
    }
  }

  private writeDue(): void {
    const { archive, state } = this.options;
    const due = state.take({
      until: state.logTime,
      max: ARCHIVE_BATCH_ENTRIES_MAX,
      bytesMax: ARCHIVE_BATCH_BYTES_MAX,
    });
    if (due.length === 0) {
      // What was looked at was overwritten before it expired; what is on its way comes back here by itself.
      if (this.writing.size === 0 && (state.nextExpiry() ?? Infinity) <= state.logTime) this.workLater();
      return;
    }
    const bytes = due.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
    this.writing.set(due, bytes);
    this.bytesWriting += bytes;
    archive.write(due.map(this.archiveEntry)).then(
      () => this.written(due),
      (error: unknown) => this.failed(due, toTidelineError(error)),
    );
    this.workLater();
  }

  private workLater(): void {
    if (this.workDeferred) return;
    this.workDeferred = true;
    this.options.scheduler.defer(() => {
      this.workDeferred = false;
      this.work();
    });
  }

  private written(entries: readonly LeavingEntry[]): void {
    if (this.closed) return;
    // Unless one that was under way beside it has failed since.
    if (this.cancelRetry === null) {
      this.lastError = null;
      this.retryMs = RETRY_MS_MIN;
    }
    this.archived.push(entries);
    this.workLater();
  }

  private remove(entries: readonly LeavingEntry[]): void {
    this.over(entries);
    const removed = this.options.state.removeExpired(entries);
    // Those that were evicted were out of the index already, and are counted since.
    this.options.removed(removed - entries.filter(({ evicted }) => evicted).length);
  }

  private over(entries: readonly LeavingEntry[]): void {
    this.bytesWriting -= this.writing.get(entries)!;
    this.writing.delete(entries);
  }

  private failed(entries: readonly LeavingEntry[], error: TidelineError): void {
    if (this.closed) return;
    this.over(entries);
    this.options.state.putBack(entries);
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
    for (const entries of this.writing.keys()) this.options.state.putBack(entries);
    this.writing.clear();
  }
}
