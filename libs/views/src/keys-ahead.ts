import { hashKey, slotOf } from '#kernel';
import { fetchBuckets } from './fetch-buckets.js';
import type { Slot } from './slot.js';

/** Keys looked at together. */
const WINDOW = 32;
/** Loaded from memory at once. */
const CACHE_LINE_BYTES = 64;

/** A byte to look at, as of any other. */
const NO_ENTRY = Buffer.alloc(1);

/**
 * What LookAhead is for records, for keys that are asked for together: those of a window are hashed, their buckets fetched, their entries
 * found, and these fetched, each for all of them in a loop of its own so short that many loads are under way at once. A read by itself waits for its
 * bucket and then for its entry.
 */
export class KeysAhead {
  readonly hashes = new Uint32Array(WINDOW);
  /** Of the first entries with these hashes, as their slots say it. */
  readonly locations = new Uint32Array(WINDOW);
  private readonly regions: Buffer[] = Array.from({ length: WINDOW }, () => NO_ENTRY);
  private readonly positions = new Uint32Array(WINDOW);
  /** What was fetched; written so that it is not left out as useless. */
  fetched = 0;

  /** Looks at the keys from `first` on, at as many as are looked at together, and fetches what their entries need. Returns how many these are. */
  look(keys: readonly Uint8Array[], first: number, slots: readonly (Slot | null)[]): number {
    const count = Math.min(WINDOW, keys.length - first);
    for (let i = 0; i < count; i++) this.hashes[i] = hashKey(keys[first + i]);
    this.fetched = fetchBuckets(this.hashes, count, slots);
    this.findEntries(count, slots);
    this.fetchEntries(count);
    return count;
  }

  private findEntries(count: number, slots: readonly (Slot | null)[]): void {
    const { hashes, locations, regions, positions } = this;
    for (let i = 0; i < count; i++) {
      const slot = slots[slotOf(hashes[i])];
      const location = slot === null ? 0 : slot.locate(hashes[i]);
      locations[i] = location;
      regions[i] = location === 0 ? NO_ENTRY : slot!.regionOf(location);
      positions[i] = location === 0 ? 0 : slot!.positionOf(location);
    }
  }

  private fetchEntries(count: number): void {
    const { regions, positions } = this;
    let fetched = 0;
    // What small entries take, within the region: once V8 has seen a look beyond the end, it takes longer for all.
    for (let i = 0; i < count; i++) {
      const region = regions[i];
      const at = positions[i];
      const last = region.length - 1;
      fetched ^=
        region[at] ^ region[Math.min(at + CACHE_LINE_BYTES, last)] ^ region[Math.min(at + 2 * CACHE_LINE_BYTES, last)];
    }
    this.fetched ^= fetched;
  }
}
