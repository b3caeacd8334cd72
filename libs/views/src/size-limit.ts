import { ENTRY_FIXED_BYTES } from '#kernel';
import type { StoredEntry } from './stored-entry.js';
import { UseOrder } from './use-order.js';

/** What an entry counts towards `maxBytes`: the same on every host, however it lies in memory. */
export const countedBytes = (keyLength: number, valueLength: number): number =>
  keyLength + valueLength + ENTRY_FIXED_BYTES;

/** What a view's index holds, counted, and in the order of use, when the view may hold only so much. */
export class SizeLimit {
  entries = 0;
  bytesCounted = 0;
  readonly order = new UseOrder();

  constructor(
    /** Infinity: any. */
    private readonly entriesMax: number,
    private readonly bytesMax: number,
  ) {}

  get exceeded(): boolean {
    // A single entry stays, whatever its size.
    return (this.entries > this.entriesMax || this.bytesCounted > this.bytesMax) && this.entries > 1;
  }

  /** It was just written or touched: its use is the last of all. */
  enter(hash: number, entry: StoredEntry): void {
    this.count(entry, 1);
    this.order.add(entry.usedAt, hash);
  }

  leave(entry: StoredEntry): void {
    this.count(entry, -1);
    this.order.remove(entry.usedAt);
  }

  private count(entry: StoredEntry, sign: 1 | -1): void {
    this.entries += sign;
    this.bytesCounted += sign * countedBytes(entry.keyEnd - entry.keyStart, entry.valueEnd - entry.valueStart);
  }

  /** What a snapshot held, in any order. */
  fill(entries: (visit: (hash: number, entry: StoredEntry) => void) => void): void {
    const offsets: number[] = [];
    const hashes: number[] = [];
    entries((hash, entry) => {
      this.count(entry, 1);
      offsets.push(entry.usedAt);
      hashes.push(hash);
    });
    const byUse = Uint32Array.from(offsets.keys()).sort((a, b) => offsets[a] - offsets[b]);
    for (const at of byUse) this.order.add(offsets[at], hashes[at]);
  }
}
