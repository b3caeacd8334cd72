import { assert } from '#kernel';
import type { LeavingEntry } from './archive-queue.js';
import type { StoredEntry } from './stored-entry.js';

const NO_BYTES = Buffer.alloc(0);
const NO_NUMBERS = new Uint32Array(0);
/** Entries of a batch at most. */
export const LEAVING_BATCH_MAX = 2 ** 14;
/** Batches that are taken at a time at most. */
const BATCHES_MAX = 2 ** 16;

/**
 * Entries on their way to the archive. They are objects only until the archive was given them (`release`): thousands are under way at a time, and V8 would
 * move each of them, with its buffers, whenever it collects what is young. What is left are a few arrays, by which they are found again.
 */
export class LeavingBatch {
  length = 0;
  /** Of these, the first so many are out of the index, and wait in the queue. */
  queued = 0;
  /** Of these, those that had to make room. */
  evicted = 0;
  /** When the first of them departed; Infinity: there is none. */
  earliest = Infinity;
  /** Of keys and values. */
  bytes = 0;
  /** The first so many are settled: out of memory, or due again. */
  settled = 0;
  /** Among those that are taken; −1: it is not. */
  number = -1;
  private list: LeavingEntry[] = [];
  private keys = NO_BYTES;
  /** Where in `keys` each ends. */
  private ends = NO_NUMBERS;
  private offsets = new Float64Array(0);

  /** Empty from `release` on. */
  get entries(): readonly LeavingEntry[] {
    return this.list;
  }

  get isSettled(): boolean {
    return this.settled === this.length;
  }

  /** Before any is settled or released. Those of the queue come first. */
  add(entry: LeavingEntry, isQueued: boolean): void {
    const { length } = this.list;
    assert(length === this.length && length < LEAVING_BATCH_MAX, 'a batch is added to that is released or full');
    this.list.push(entry);
    this.length++;
    if (isQueued) this.queued++;
    if (entry.evicted) this.evicted++;
    this.earliest = Math.min(this.earliest, entry.expiresAt ?? Infinity);
    this.bytes += entry.key.length + entry.value.length;
  }

  /** Whoever is to write the entries has them: what stays is what they are found by. */
  release(): void {
    const { entries } = this;
    if (entries.length === 0) return;
    this.keys = Buffer.concat(entries.map(({ key }) => key));
    this.ends = new Uint32Array(entries.length);
    this.offsets = Float64Array.from(entries, ({ offset }) => offset);
    let end = 0;
    for (const [place, { key }] of entries.entries()) this.ends[place] = end += key.length;
    this.list = [];
  }

  /** Good as long as the batch. */
  keyAt(place: number): Buffer {
    if (this.list.length > 0) return this.list[place].key;
    return this.keys.subarray(place === 0 ? 0 : this.ends[place - 1], this.ends[place]);
  }

  offsetAt(place: number): number {
    return this.list.length > 0 ? this.list[place].offset : this.offsets[place];
  }
}

/** Which entries of the index are in batches. */
export class TakenEntries {
  private readonly batches: (LeavingBatch | null)[] = [];
  /** By the hash of its key, where an entry is: number of its batch · LEAVING_BATCH_MAX + place in it; of several, those. */
  private readonly places = new Map<number, number | readonly number[]>();

  open(batch: LeavingBatch): void {
    const free = this.batches.indexOf(null);
    batch.number = free < 0 ? this.batches.length : free;
    assert(batch.number < BATCHES_MAX, 'too many batches are taken');
    this.batches[batch.number] = batch;
  }

  /** None of its entries is among these any more. */
  close(batch: LeavingBatch): void {
    this.batches[batch.number] = null;
    batch.number = -1;
  }

  add(hash: number, batch: LeavingBatch, place: number): void {
    const at = batch.number * LEAVING_BATCH_MAX + place;
    const before = this.places.get(hash | 0);
    // As signed numbers: V8 keeps them in the table itself.
    this.places.set(hash | 0, before === undefined ? at : [...listOf(before), at]);
  }

  delete(hash: number, batch: LeavingBatch, place: number): void {
    const at = batch.number * LEAVING_BATCH_MAX + place;
    const before = this.places.get(hash | 0);
    if (before === at) this.places.delete(hash | 0);
    if (typeof before !== 'object') return;
    const left = before.filter((other) => other !== at);
    this.places.set(hash | 0, left.length === 1 ? left[0] : left);
  }

  /** Whether the entry, whose key has this hash, is one of these. */
  has(hash: number, entry: StoredEntry): boolean {
    const places = this.places.get(hash | 0);
    if (places === undefined) return false;
    return listOf(places).some((at) => {
      const { batch, place } = this.locate(at);
      return batch.offsetAt(place) === entry.offset && entry.hasKey(batch.keyAt(place));
    });
  }

  /** Takes one out, any; null: there is none. */
  pop(): { readonly hash: number; readonly key: Buffer; readonly offset: number } | null {
    for (const [signed, places] of this.places) {
      const { batch, place } = this.locate(listOf(places)[0]);
      const hash = signed >>> 0;
      this.delete(hash, batch, place);
      return { hash, key: batch.keyAt(place), offset: batch.offsetAt(place) };
    }
    return null;
  }

  private locate(at: number): { readonly batch: LeavingBatch; readonly place: number } {
    return { batch: this.batches[Math.floor(at / LEAVING_BATCH_MAX)]!, place: at % LEAVING_BATCH_MAX };
  }
}

const listOf = (places: number | readonly number[] | undefined): readonly number[] =>
  places === undefined ? [] : typeof places === 'number' ? [places] : places;
