import type { Entry } from './view-query.js';

/** What an entry takes in the queue besides its key and value, about. */
const ENTRY_OVERHEAD_BYTES = 256;

/** Bytes of its own, so that a small entry does not keep a whole chunk of the arena. */
export const copyOfEntry = (entry: Entry): Entry => ({
  ...entry,
  key: Buffer.from(entry.key),
  value: Buffer.from(entry.value),
});

export const sizeOfEntry = (entry: Entry): number => entry.key.length + entry.value.length + ENTRY_OVERHEAD_BYTES;

/**
 * Entries that had expired and were then overwritten or deleted before the archive had them: the index holds them no longer, so they wait
 * here, oldest first. How much may wait is for whoever feeds the view to say (`MapView.archiveQueueBytes`): applying a record cannot fail.
 */
export class ArchiveQueue {
  bytes = 0;
  private entries: Entry[] = [];
  /** Entries before this one are archived. */
  private head = 0;

  get length(): number {
    return this.entries.length - this.head;
  }

  push(entry: Entry): void {
    this.entries.push(copyOfEntry(entry));
    this.bytes += sizeOfEntry(entry);
  }

  /** The entry at this place, 0 for the one that has waited longest. */
  at(place: number): Entry {
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
