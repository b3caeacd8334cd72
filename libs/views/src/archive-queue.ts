import type { LogTime } from '#kernel';
import type { Entry } from './view-query.js';

/** An entry on its way out of memory, by the archive. */
export interface LeavingEntry extends Entry {
  /** It was evicted while it was alive; `expiresAt` is when. */
  readonly evicted: boolean;
}

/** What an entry takes in the queue besides its key and value, about. */
const ENTRY_OVERHEAD_BYTES = 256;

/** Bytes of its own, so that a small entry does not keep a whole chunk of the arena. */
export const copyOfEntry = (entry: Entry): LeavingEntry => ({
  evicted: false,
  ...entry,
  key: Buffer.from(entry.key),
  value: Buffer.from(entry.value),
});

export const sizeOfEntry = (entry: Entry): number => entry.key.length + entry.value.length + ENTRY_OVERHEAD_BYTES;

/**
 * Entries that are out of the index but not in the archive yet: those that had expired and were then overwritten or deleted, and those that
 * had to make room. They wait here, oldest first. How much may wait is for whoever feeds the view to say (`MapView.archiveQueueBytes`): applying a record cannot fail.
 */
export class ArchiveQueue {
  bytes = 0;
  private entries: LeavingEntry[] = [];
  /** Entries before this one are archived. */
  private head = 0;

  get length(): number {
    return this.entries.length - this.head;
  }

  /** Copied. `evictedAt`: it was alive until then. */
  push(entry: Entry, evictedAt?: LogTime): void {
    const copy = copyOfEntry(entry);
    this.take(evictedAt === undefined ? copy : { ...copy, evicted: true, expiresAt: evictedAt });
  }

  /** From another queue, or a copy. */
  take(entry: LeavingEntry): void {
    this.entries.push(entry);
    this.bytes += sizeOfEntry(entry);
  }

  /** The entry at this place, 0 for the one that has waited longest. */
  at(place: number): LeavingEntry {
    return this.entries[this.head + place];
  }

  /** The one that has waited longest is archived. */
  shift(): void {
    this.bytes -= sizeOfEntry(this.entries[this.head]);
    this.head++;
    if (this.head * 2 < this.entries.length) return;
    this.entries = this.entries.slice(this.head);
    this.head = 0;
  }
}
