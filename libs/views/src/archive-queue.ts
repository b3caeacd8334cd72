import { hashKey, type LogTime } from '#kernel';
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

interface Waiting {
  readonly entry: LeavingEntry;
  readonly hash: number;
  /** Number of the one before it whose key has the same hash; −1: there was none. It may be archived meanwhile. */
  readonly before: number;
}

/**
 * Entries that are out of the index but not in the archive yet: those that had expired and were then overwritten or deleted, and those that
 * had to make room. They wait here, oldest first. How much may wait is for whoever feeds the view to say (`MapView.archiveQueueBytes`): applying a record cannot fail.
 */
export class ArchiveQueue {
  bytes = 0;
  private waiting: Waiting[] = [];
  /** Those before this one are archived. */
  private head = 0;
  /** Number of the first in `waiting`; they are numbered as they come. */
  private firstNumber = 0;
  /** By the hash of its key, the number of the one that came last. */
  private readonly last = new Map<number, number>();

  get length(): number {
    return this.waiting.length - this.head;
  }

  /** Copied. `evictedAt`: it was alive until then. */
  push(entry: Entry, evictedAt?: LogTime): void {
    const copy = copyOfEntry(entry);
    this.take(evictedAt === undefined ? copy : { ...copy, evicted: true, expiresAt: evictedAt });
  }

  /** From another queue, or a copy. */
  take(entry: LeavingEntry): void {
    const hash = hashKey(entry.key);
    const before = this.last.get(hash) ?? -1;
    this.last.set(hash, this.firstNumber + this.waiting.length);
    this.waiting.push({ entry, hash, before });
    this.bytes += sizeOfEntry(entry);
  }

  /** When the first of them departed, which need not be the one that has waited longest; Infinity: there is none. Looks at them all. */
  get earliest(): number {
    let earliest = Infinity;
    for (let at = this.head; at < this.waiting.length; at++) {
      earliest = Math.min(earliest, this.waiting[at].entry.expiresAt ?? Infinity);
    }
    return earliest;
  }

  /** The entry at this place, 0 for the one that has waited longest. */
  at(place: number): LeavingEntry {
    return this.waiting[this.head + place].entry;
  }

  /** The one under the key that came last: those of a key come as they were written. */
  newest(hash: number, key: Uint8Array): LeavingEntry | null {
    let at = (this.last.get(hash) ?? -1) - this.firstNumber;
    while (at >= this.head) {
      const { entry, before } = this.waiting[at];
      if (entry.key.equals(key)) return entry;
      at = before - this.firstNumber;
    }
    return null;
  }

  /** The one that has waited longest is archived. */
  shift(): void {
    const { entry, hash } = this.waiting[this.head];
    this.bytes -= sizeOfEntry(entry);
    if (this.last.get(hash) === this.firstNumber + this.head) this.last.delete(hash);
    this.head++;
    if (this.head * 2 < this.waiting.length) return;
    this.waiting = this.waiting.slice(this.head);
    this.firstNumber += this.head;
    this.head = 0;
  }
}
