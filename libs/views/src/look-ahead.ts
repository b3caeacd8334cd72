import { hashKey } from '#kernel';
import { RecordKeys, type RecordCursor } from '#wire';
import { fetchBuckets } from './fetch-buckets.js';
import type { Slot } from './slot.js';

/** Records looked at together. */
const WINDOW = 32;

/**
 * Hashes the keys of a window of records, then has the processor fetch the buckets they lead to: loads that do not wait for each other go on side by
 * side, while applying a record needs its bucket before anything else. With three million entries, where no bucket is in the cache, a quarter more
 * sets a second. Only then does a record get applied, with the hash that is known by now.
 */
export class LookAhead {
  private readonly keys = new RecordKeys(WINDOW);
  private readonly hashes = new Uint32Array(WINDOW);
  private bytes: Buffer = Buffer.alloc(0);
  private end = 0;
  /** The records of the window, by their number in the batch. */
  private first = 0;
  private count = 0;
  /** What was fetched; written so that it is not left out as useless. */
  fetched = 0;

  /** A batch whose records lie from `start` to `end`. */
  reset(bytes: Buffer, start: number, end: number): void {
    this.bytes = bytes;
    this.keys.next = start;
    this.end = end;
    this.first = this.count = 0;
  }

  /** Hash of the key of the cursor's record, which has one. `slots`: where its bucket is looked for. */
  hashOf(cursor: RecordCursor, slots: readonly (Slot | null)[]): number {
    const { index, keyStart, keyEnd } = cursor;
    if (index >= this.first + this.count && this.keys.next < this.end) this.look(index, slots);
    const place = index - this.first;
    const isKnown = place < this.count && this.keys.starts[place] === keyStart && this.keys.ends[place] === keyEnd;
    return isKnown ? this.hashes[place] : hashKey(this.bytes, keyStart, keyEnd);
  }

  private look(index: number, slots: readonly (Slot | null)[]): void {
    const { keys, hashes, bytes } = this;
    // Records without key are not asked for, but counted.
    let first = this.first + this.count;
    let count = keys.find(bytes, keys.next, this.end);
    while (count > 0 && first + count <= index) {
      first += count;
      count = keys.find(bytes, keys.next, this.end);
    }
    this.first = first;
    this.count = count;
    if (count === 0) this.keys.next = this.end;
    const { starts, ends } = keys;
    for (let i = 0; i < count; i++) hashes[i] = starts[i] < 0 ? 0 : hashKey(bytes, starts[i], ends[i]);
    this.fetched = fetchBuckets(hashes, count, slots);
  }
}
