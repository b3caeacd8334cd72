import { closeSync, fsyncSync, openSync, readFileSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { randomBelow, type Rng } from '#kernel';
import { PADDING } from './record-load.js';

const SEGMENT_NAME = /^\d{20}\.log$/;
/** Shorter logs are left alone: the damage shall be in the middle of what has been committed. */
const DATA_BYTES_MIN = 16 * 1024;
const FLIPS_MAX = 16;
/** The flips lie within one stretch, as of a bad sector. */
const STRETCH_BYTES = 512;

/** Found in the middle of values of appended records. */
const VALUE_SAMPLE = Buffer.from(PADDING.slice(0, 64));

interface Flipped {
  readonly file: string;
  readonly position: number;
  readonly bytes: number;
}

/** Length without the zeros that are laid out ahead. */
const dataBytes = (bytes: Buffer): number => {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return end;
};

/**
 * Flips bits of a stopped node: several near each other, whatever they belong to, and one inside of a value, where no length and no type gives it
 * away but only a checksum. Empty when there is no segment yet that is long enough.
 */
export const flipBytes = (dataDir: string, rng: Rng): Flipped[] => {
  const segments = readdirSync(dataDir, { recursive: true, encoding: 'utf8' })
    .filter((name) => SEGMENT_NAME.test(name.split('/').at(-1)!))
    .map((name) => {
      const file = join(dataDir, name);
      const bytes = readFileSync(file);
      return { file, bytes, length: dataBytes(bytes) };
    })
    .filter(({ length }) => length >= DATA_BYTES_MIN)
    .sort((a, b) => (a.file < b.file ? -1 : 1));
  if (segments.length === 0) return [];
  const inTheMiddle = (length: number): number => Math.floor(length * 0.2) + randomBelow(rng, Math.floor(length * 0.4));
  const { file, bytes, length } = segments[randomBelow(rng, segments.length)];
  const position = inTheMiddle(length);
  const stretch = bytes.subarray(position, position + STRETCH_BYTES);
  const flips = 1 + randomBelow(rng, FLIPS_MAX);
  for (let i = 0; i < flips; i++) stretch[randomBelow(rng, stretch.length)] ^= 1 << randomBelow(rng, 8);
  // An even number of flips of one bit would be none.
  stretch[0] ^= 0xff;
  write(file, stretch, position);
  const flipped = [{ file, position, bytes: flips + 1 }];

  const withValues = segments.filter(({ bytes: data }) => data.includes(VALUE_SAMPLE));
  if (withValues.length === 0) return flipped;
  const other = withValues[randomBelow(rng, withValues.length)];
  const found = other.bytes.indexOf(VALUE_SAMPLE, inTheMiddle(other.length));
  const at = found < 0 ? other.bytes.indexOf(VALUE_SAMPLE) : found;
  write(other.file, Buffer.from([other.bytes[at] ^ (1 << randomBelow(rng, 8))]), at);
  return [...flipped, { file: other.file, position: at, bytes: 1 }];
};

const write = (file: string, bytes: Buffer, position: number): void => {
  const handle = openSync(file, 'r+');
  writeSync(handle, bytes, 0, bytes.length, position);
  fsyncSync(handle);
  closeSync(handle);
};
