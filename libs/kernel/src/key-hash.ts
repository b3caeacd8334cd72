/**
 * Where a key lives. One hash for the whole system: it is part of the format of logs and snapshots.
 *
 *     slot      = hash(key) mod 256
 *     partition = slot mod partitions      (so a slot lies in exactly one partition)
 */
export const SLOTS = 256;
/** More partitions than slots would leave some without keys. */
export const PARTITIONS_MAX = SLOTS;

/** 32-bit MurmurHash3 (Appleby, public domain), seed 0; 0 … 2^32 − 1. */
export const hashKey = (key: Uint8Array, start = 0, end = key.length): number => {
  const length = end - start;
  const body = start + (length & ~3);
  let h = 0;
  for (let i = start; i < body; i += 4) {
    let k = key[i] | (key[i + 1] << 8) | (key[i + 2] << 16) | (key[i + 3] << 24);
    k = Math.imul(k, 0xcc9e2d51);
    k = (k << 15) | (k >>> 17);
    h ^= Math.imul(k, 0x1b873593);
    h = (h << 13) | (h >>> 19);
    h = (Math.imul(h, 5) + 0xe6546b64) | 0;
  }
  let tail = 0;
  switch (length & 3) {
    case 3:
      tail ^= key[body + 2] << 16;
    // falls through
    case 2:
      tail ^= key[body + 1] << 8;
    // falls through
    case 1:
      tail ^= key[body];
      tail = Math.imul(tail, 0xcc9e2d51);
      tail = (tail << 15) | (tail >>> 17);
      h ^= Math.imul(tail, 0x1b873593);
  }
  h ^= length;
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
};

export const slotOf = (keyHash: number): number => keyHash & (SLOTS - 1);

export const partitionOf = (keyHash: number, partitions: number): number => (keyHash & (SLOTS - 1)) % partitions;
