import { closeSync, fsyncSync, openSync, readFileSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { randomBelow, randomChance, type Rng } from '#kernel';
import { PADDING } from './record-load.js';

const SEGMENT_NAME = /^\d{20}\.log$/;
/** Shorter logs are left alone: the damage shall be in the middle of what has been committed. */
const DATA_BYTES_MIN = 32 * 1024;
const FLIPS_MAX = 16;
/** The flips lie within one stretch, as of a bad sector. */
const STRETCH_BYTES = 512;

/** Found in the middle of values of appended records. */
const PADDING_SAMPLE = Buffer.from(PADDING.slice(0, 64));

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

/** Flips bits in the middle of a segment of a stopped node; null when there is none that is long enough yet. */
export const flipBytes = (dataDir: string, rng: Rng): Flipped | null => {
  const segments = readdirSync(dataDir, { recursive: true, encoding: 'utf8' })
    .filter((name) => SEGMENT_NAME.test(name.split('/').at(-1)!))
    .map((name) => {
      const file = join(dataDir, name);
      return { file, length: dataBytes(readFileSync(file)) };
    })
    .filter(({ length }) => length >= DATA_BYTES_MIN)
    .sort((a, b) => (a.file < b.file ? -1 : 1));
  if (segments.length === 0) return null;
  const { file, length } = segments[randomBelow(rng, segments.length)];
  const whole = readFileSync(file);
  const somewhere = Math.floor(length * 0.2) + randomBelow(rng, Math.floor(length * 0.4));
  // Inside a value no length or type gives the damage away: only a checksum does.
  const inValue = randomChance(rng, 0.5) ? whole.indexOf(PADDING_SAMPLE, somewhere) : -1;
  const position = inValue < 0 ? somewhere : inValue;
  const bytes = whole.subarray(position, position + (inValue < 0 ? STRETCH_BYTES : PADDING_SAMPLE.length));
  const flips = 1 + randomBelow(rng, FLIPS_MAX);
  for (let i = 0; i < flips; i++) bytes[randomBelow(rng, bytes.length)] ^= 1 << randomBelow(rng, 8);
  // An even number of flips of one bit would be none.
  bytes[0] ^= 0xff;
  const handle = openSync(file, 'r+');
  writeSync(handle, bytes, 0, bytes.length, position);
  fsyncSync(handle);
  closeSync(handle);
  return { file, position, bytes: flips + 1 };
};
