import type { Archive, ArchiveEntry } from '#catalog';
import { toTidelineError, type PartitionId, type Scheduler, type TidelineError } from '#kernel';
import type { LeavingEntry, MapView } from '#views';

/** Entries of one write to the archive, and their bytes. */
export const ARCHIVE_BATCH_ENTRIES_MAX = 1000;
const ARCHIVE_BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** A view whose overwritten, not yet archived entries take this much applies nothing more until the archive has some of them. */
export const ARCHIVE_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 30_000;

export interface ArchiveWriterOptions {
  readonly archive: Archive;
  readonly view: string;
  readonly partition: PartitionId;
  readonly state: MapView;
  readonly scheduler: Scheduler;
  /** So many entries are archived and have left memory. */
  readonly removed: (count: number) => void;
  /** A write failed; the entries stay. */
  readonly failed: (error: TidelineError) => void;
}

/**
 * Moves the expired entries of one view partition into the archive: they leave memory when it has them, and not before. One write at a
 * time, so those of a key arrive in order. One that fails is repeated, later each time; what it wrote in part it writes again, which the
 * archive ignores, as it does what another host has written already.
 */
export class ArchiveWriter {
  /** Why the last write failed; null when it did not. */
  lastError: TidelineError | null = null;
  private writing = false;
  private retryMs = RETRY_MS_MIN;
  private cancelRetry: (() => void) | null = null;
  private closed = false;

  constructor(private readonly options: ArchiveWriterOptions) {}

  /** The queue of the view is full: it must not be given more to apply. */
  get full(): boolean {
    return this.options.state.archiveQueueBytes >= ARCHIVE_QUEUE_BYTES_MAX;
  }

  /** Writes what is due, unless it is at it or waits to try again. */
  work(): void {
    if (this.closed || this.writing || this.cancelRetry !== null) return;
    const { archive, state } = this.options;
    const due = state.due({
      until: state.logTime,
      max: ARCHIVE_BATCH_ENTRIES_MAX,
      bytesMax: ARCHIVE_BATCH_BYTES_MAX,
    });
    if (due.length === 0) return;
    this.writing = true;
    archive.write(due.map(this.archiveEntry)).then(
      () => this.written(due),
      (error: unknown) => this.failed(toTidelineError(error)),
    );
  }

  private written(entries: readonly LeavingEntry[]): void {
    this.writing = false;
    if (this.closed) return;
    this.lastError = null;
    this.retryMs = RETRY_MS_MIN;
    this.options.removed(this.options.state.removeExpired(entries));
    this.work();
  }

  private failed(error: TidelineError): void {
    this.writing = false;
    if (this.closed) return;
    this.lastError = error;
    this.options.failed(error);
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
    this.closed = true;
    this.cancelRetry?.();
  }
}
