import zlib from 'node:zlib';
import { SeededRng, randomBelow, type Rng } from '#kernel';
import { BATCH_HEADER_BYTES, encodeBatch } from '#wire';
import type { Benchmark, Sample } from '../bench.js';
import { leadingNumber } from '../looping.js';
import { lz4Compress, lz4Decompress } from '../lz4-block.js';

interface Codec {
  readonly compress: (bytes: Buffer) => Buffer;
  readonly decompress: (bytes: Buffer, length: number) => Buffer;
}

const brotli = (quality: number): Codec => ({
  compress: (bytes) =>
    zlib.brotliCompressSync(bytes, {
      params: {
        [zlib.constants.BROTLI_PARAM_QUALITY]: quality,
        [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
      },
    }),
  decompress: (bytes) => zlib.brotliDecompressSync(bytes),
});

const deflate = (level: number): Codec => ({
  compress: (bytes) => zlib.deflateRawSync(bytes, { level }),
  decompress: (bytes) => zlib.inflateRawSync(bytes),
});

/** Newer Nodes have it. */
const zstd = (zlib as unknown as Record<string, ((bytes: Buffer) => Buffer) | undefined>)['zstdCompressSync'];
const unzstd = (zlib as unknown as Record<string, ((bytes: Buffer) => Buffer) | undefined>)['zstdDecompressSync'];

const CODECS: Readonly<Record<string, Codec>> = {
  'deflate 1': deflate(1),
  'deflate 6': deflate(6),
  'brotli 1': brotli(1),
  'brotli 4': brotli(4),
  'lz4 (JavaScript)': { compress: lz4Compress, decompress: lz4Decompress },
  ...(zstd && unzstd && { 'zstd 3': { compress: zstd, decompress: unzstd } }),
};

const RECORD_BYTES = 100;
/** So many different batches are taken in turn. */
const BATCHES = 16;
const COUNTS = [1, 10, 100, 1000];
const KINDS = ['JSON', 'random bytes'] as const;

const NAMES = ['ada', 'bert', 'chen', 'dana', 'emil', 'fay', 'gus', 'hana'];
const EVENTS = ['signed-in', 'signed-out', 'added-to-cart', 'paid', 'viewed', 'searched'];

/** An event as applications write them, cut or filled to the size. */
const jsonEvent = (rng: Rng): Buffer => {
  const text = JSON.stringify({
    user: `${NAMES[randomBelow(rng, NAMES.length)]}-${randomBelow(rng, 100_000)}`,
    event: EVENTS[randomBelow(rng, EVENTS.length)],
    at: 1_790_000_000_000 + randomBelow(rng, 1_000_000_000),
    amount: randomBelow(rng, 100_000) / 100,
  });
  return Buffer.from(text.padEnd(RECORD_BYTES).slice(0, RECORD_BYTES));
};

const randomValue = (rng: Rng): Buffer =>
  Buffer.from(Array.from({ length: RECORD_BYTES }, () => randomBelow(rng, 256)));

/** The records of a batch: what a codec would get; the header stays as it is. */
const recordsOf = (count: number, value: (rng: Rng) => Buffer, rng: Rng): Buffer =>
  encodeBatch(
    Array.from({ length: count }, () => ({
      key: Buffer.from(`user:${randomBelow(rng, 1_000_000)}`),
      value: value(rng),
    })),
    { createTime: 1_790_000_000_000 },
  ).subarray(BATCH_HEADER_BYTES);

/** MB of plain bytes a second of one core. */
const rate = (seconds: number, plainBytes: number, once: (n: number) => unknown): number => {
  const began = performance.now();
  let done = 0;
  let elapsedMs: number;
  do {
    for (let i = 0; i < BATCHES; i++) once(done++ % BATCHES);
    elapsedMs = performance.now() - began;
  } while (elapsedMs < seconds * 1000);
  return ((plainBytes / BATCHES) * done) / elapsedMs / 1000;
};

const measure = (which: string, seconds: number): Sample => {
  const rng = new SeededRng(1);
  const value = which.endsWith('JSON') ? jsonEvent : randomValue;
  const batches = Array.from({ length: BATCHES }, () => recordsOf(leadingNumber(which), value, rng));
  const plain = batches.reduce((sum, batch) => sum + batch.length, 0);
  const also: Record<string, number> = {};
  let best = 0;
  // Half for either direction of each.
  const share = seconds / (2 * Object.keys(CODECS).length);
  for (const [name, { compress, decompress }] of Object.entries(CODECS)) {
    const packed = batches.map(compress);
    for (const [i, bytes] of packed.entries()) {
      if (!decompress(bytes, batches[i].length).equals(batches[i]))
        throw new Error(`${name} does not give back what it got`);
    }
    const ratio = plain / packed.reduce((sum, bytes) => sum + bytes.length, 0);
    const down = rate(share, plain, (n) => compress(batches[n]));
    const up = rate(share, plain, (n) => decompress(packed[n], batches[n].length));
    // It pays where a byte's time on the line is longer than its time in the codec, both ends counted: MB/s, and 8 bits a byte.
    const paysBelow = Math.max(0, (1 - 1 / ratio) / (1 / down + 1 / up)) * 8;
    also[`${name} ratio`] = ratio;
    also[`${name} compress MB/s`] = down;
    also[`${name} decompress MB/s`] = up;
    also[`${name} pays below Mbit/s`] = paysBelow;
    best = Math.max(best, paysBelow);
  }
  return { value: best, operations: BATCHES, also };
};

export const compression: Benchmark = {
  name: 'compression',
  unit: 'Mbit/s',
  higherIsBetter: true,
  summary:
    'the records of a batch through the codecs of this runtime, one core: ratio, speed, and the fastest link between nodes on which it would save time',
  cases: COUNTS.flatMap((count) => KINDS.map((kind) => `${count} records, ${kind}`)),
  peers: [],
  ours: (_settings, which) =>
    Promise.resolve({
      description: 'best codec of the runtime',
      run: (seconds) => Promise.resolve(measure(which, seconds)),
      stop: () => Promise.resolve(),
    }),
};
