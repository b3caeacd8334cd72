import { slotOf } from '#kernel';
import type { Slot } from './slot.js';

/**
 * Has the processor load the buckets that the first `count` hashes lead to. As short as can be, so that many loads are under way at once. What it
 * returns means nothing, but is to be kept, so that the loads are not left out as useless.
 */
export const fetchBuckets = (hashes: Uint32Array, count: number, slots: readonly (Slot | null)[]): number => {
  let fetched = 0;
  for (let i = 0; i < count; i++) {
    const hash = hashes[i];
    const slot = slots[slotOf(hash)];
    if (slot !== null) fetched ^= slot.fetch(hash);
  }
  return fetched;
};
