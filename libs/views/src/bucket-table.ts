/**
 * Open addressing in a part of an array of numbers: bucket b is two of them, the hash of a key and a location that is not 0 (0: the bucket is
 * empty), at `start + 2 · b`. Linear probing from the hash's home, (hash >>> 8) mod buckets, of which there are a power of two. What is taken out has its
 * followers moved back, so there are no tombstones. Functions and no object: an object more is one more that has to be fetched from memory.
 */

/** The first empty bucket from the hash's home on; there is one. */
export const emptyBucket = (table: Uint32Array, start: number, buckets: number, hash: number): number => {
  const mask = buckets - 1;
  let bucket = (hash >>> 8) & mask;
  while (table[start + 2 * bucket + 1] !== 0) bucket = (bucket + 1) & mask;
  return bucket;
};

/** The bucket with this location, which is of a key of this hash; −1: there is none. */
export const bucketOfLocation = (
  table: Uint32Array,
  start: number,
  buckets: number,
  hash: number,
  location: number,
): number => {
  const mask = buckets - 1;
  for (let bucket = (hash >>> 8) & mask; table[start + 2 * bucket + 1] !== 0; bucket = (bucket + 1) & mask) {
    if (table[start + 2 * bucket + 1] === location) return bucket;
  }
  return -1;
};

/** Empties the bucket. */
export const vacate = (table: Uint32Array, start: number, buckets: number, bucket: number): void => {
  const mask = buckets - 1;
  let hole = bucket;
  for (let next = (hole + 1) & mask; table[start + 2 * next + 1] !== 0; next = (next + 1) & mask) {
    const home = (table[start + 2 * next] >>> 8) & mask;
    // A follower may move into the hole unless its home lies after the hole.
    if (((next - home) & mask) < ((next - hole) & mask)) continue;
    table[start + 2 * hole] = table[start + 2 * next];
    table[start + 2 * hole + 1] = table[start + 2 * next + 1];
    hole = next;
  }
  table[start + 2 * hole] = table[start + 2 * hole + 1] = 0;
};

/** Puts what is in one table into another, which is empty. */
export const fillFrom = (
  table: Uint32Array,
  start: number,
  buckets: number,
  from: { readonly table: Uint32Array; readonly start: number; readonly buckets: number },
): void => {
  for (let at = from.start; at < from.start + 2 * from.buckets; at += 2) {
    const location = from.table[at + 1];
    if (location === 0) continue;
    const hash = from.table[at];
    const bucket = emptyBucket(table, start, buckets, hash);
    table[start + 2 * bucket] = hash;
    table[start + 2 * bucket + 1] = location;
  }
};
