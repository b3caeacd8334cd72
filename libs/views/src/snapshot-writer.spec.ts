import { describe, expect, test } from '@jest/globals';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { encodeOp, type RecordInput } from '#wire';
import { MapView } from './map-view.js';
import { restoreMapView } from './map-view-restorer.js';
import { CHUNK_BYTES_MAX } from './slot.js';
import { SNAPSHOT_BLOCK_BYTES } from './snapshot-writer.js';
import { BatchSource, blocksOf, keysOfSlot, snapshotOf } from './testing/index.js';

const bytes = (text: string): Buffer => Buffer.from(text);
const everything = { prefix: Buffer.alloc(0), after: null, limit: 1e6, bytesMax: Infinity, values: true };
/** Everything in it, by key, and its digest. Of values the checksum: comparing buffers takes long. */
const contents = (view: MapView): unknown => [
  view.digest,
  view
    .scan({ ...everything, time: view.logTime })
    .entries.map(({ key, value, ...rest }) =>
      JSON.stringify({ ...rest, key: key.toString(), value: [value.length, crc32(value)] }),
    ),
];
/** A view with many entries in few slots, so that these have several chunks. */
const filled = (source: BatchSource, keys: readonly Buffer[], valueBytes: number): MapView => {
  const view = new MapView();
  for (let at = 0; at < keys.length; at += 500) {
    const part = keys.slice(at, at + 500);
    view.applyBatches(source.records(part.map((key, n) => ({ key, value: Buffer.alloc(valueBytes, at + n) }))));
  }
  return view;
};

const manyKeys = [...keysOfSlot(3, 1500), ...keysOfSlot(4, 700)];

describe('the blocks of a snapshot', () => {
  const keys = manyKeys;

  test('are no larger than they should be, and are made in the same memory', () => {
    const view = filled(new BatchSource(), keys, 1000);
    const memory = new Set<ArrayBufferLike>();
    let blocks = 0;
    for (const block of view.freeze()) {
      expect(block.length).toBeLessThanOrEqual(SNAPSHOT_BLOCK_BYTES);
      memory.add(block.buffer);
      blocks++;
    }
    expect(blocks).toBeGreaterThan(2);
    expect(memory.size).toBe(1);
  });

  test('hold an entry that is larger than a block, and go on at their size after it', () => {
    const source = new BatchSource();
    const view = filled(source, keys, 1000);
    view.applyBatches(source.records([{ key: keys[0], value: Buffer.alloc(3 * SNAPSHOT_BLOCK_BYTES, 7) }]));
    const blocks = blocksOf(view.freeze());
    expect(blocks.filter(({ length }) => length > SNAPSHOT_BLOCK_BYTES)).toHaveLength(1);
    expect(contents(restoreMapView(blocks))).toEqual(contents(view));
  });

  test('have the checksums that the writer and its table say', () => {
    const source = new BatchSource();
    const view = filled(source, keys, 1000);
    view.applyBatches(source.records([{ key: bytes('c'), op: encodeOp('nothing', []) }]));
    const writer = view.freeze();
    const file = Buffer.concat(blocksOf(writer));
    expect(writer.checksum).toBe(crc32(file));
    const { preambleBytes, preambleCrc, slots } = writer.table;
    expect(crc32(file.subarray(0, preambleBytes))).toBe(preambleCrc);
    for (const { position, bytes: length, crc } of slots) {
      expect(crc32(file.subarray(position, position + length))).toBe(crc);
    }
  });

  test('have sections that a chunk has room for, though the chunks they come from are small and many', () => {
    const source = new BatchSource();
    const view = filled(source, keys, 60);
    const restored = restoreMapView([snapshotOf(view)]);
    expect(contents(restored)).toEqual(contents(view));
    const chunks = (restored as unknown as { state: { slots: ({ chunks: Buffer[] } | null)[] } }).state.slots[3]!
      .chunks;
    const sizes = chunks.map(({ length }) => length).filter((length) => length > 0);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(CHUNK_BYTES_MAX);
    // Not one for each of the chunks that doubled as the slot grew.
    expect(sizes.length).toBeLessThanOrEqual(3);
  });
});

describe('a slot that is frozen', () => {
  const keys = keysOfSlot(9, 40);
  const change = fc.oneof(
    { weight: 6, arbitrary: fc.record({ key: fc.nat(39), size: fc.constantFrom(0, 40, 40, 41, 3000, 40_000) }) },
    { weight: 3, arbitrary: fc.record({ key: fc.nat(39), size: fc.constant(null) }) },
    { weight: 1, arbitrary: fc.constantFrom('reclaim' as const, 'reclaim a little' as const) },
    { weight: 2, arbitrary: fc.constant('block' as const) },
  );
  type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

  test('is written as it was, whatever was dead in it, dies, is overwritten or is moved meanwhile', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 80 }), fc.array(change, { maxLength: 80 }), (before, after) => {
        const source = new BatchSource();
        const view = new MapView();
        let iterator: Iterator<Buffer> | null = null;
        const blocks: Buffer[] = [];
        const advance = (): boolean => {
          const next = iterator!.next();
          if (next.done !== true) blocks.push(Buffer.from(next.value));
          return next.done !== true;
        };
        const does = (what: Change, n: number): void => {
          if (what === 'reclaim' || what === 'reclaim a little') view.reclaim(what === 'reclaim' ? 1e9 : 200);
          else if (what === 'block') {
            if (iterator !== null) advance();
          } else {
            const value = what.size === null ? null : Buffer.alloc(what.size, n);
            const record: RecordInput = { key: keys[what.key], value };
            view.applyBatches(source.records([record]));
          }
        };
        for (const [n, what] of before.entries()) does(what, n);
        const then = contents(restoreMapView([snapshotOf(view)]));
        expect(then).toEqual(contents(view));
        iterator = view.freeze()[Symbol.iterator]();
        for (const [n, what] of after.entries()) does(what, 100 + n);
        while (advance());
        expect(contents(restoreMapView(blocks))).toEqual(then);
      }),
      { numRuns: 150 },
    );
  });

  test('lets its snapshot go when that is given up in the middle', () => {
    const source = new BatchSource();
    const view = filled(source, manyKeys, 1000);
    const writer = view.freeze();
    for (const block of writer) {
      expect(block.length).toBeGreaterThan(0);
      break;
    }
    expect(() => writer.table).toThrow('not written to its end');
    writer.release();
    const { bytes: before } = view;
    // In place again: it takes no memory to overwrite all.
    view.applyBatches(source.records(manyKeys.map((key) => ({ key, value: Buffer.alloc(1000, 1) }))));
    expect(view.bytes).toBe(before);
  });

  test('that does not hold what it says is not written', () => {
    const view = filled(new BatchSource(), keys, 100);
    const { slots } = (view as unknown as { state: { slots: ({ liveBytes: number } | null)[] } }).state;
    slots[9]!.liveBytes += 4;
    expect(() => blocksOf(view.freeze())).toThrow('other entries than its slot');
  });
});

/** Two batches of puts, a delete and a command; 749 bytes. */
const EARLIER = Buffer.from(
  [
    'ZAAAAAFUTFZTAggAAAAAAAAAQEIPAAAAAAAAAAAAAAAAAAEQYXBwbGljYXRpb24vanNvbggGc3RyaW5nB2NvdW50ZXIGYml0bWFwBGhhc2gEbGlzdANz',
    'ZXQKc29ydGVkLXNldARqc29uCUDLGiYAAAACAAAAAAAAAAABBQAAAAAAAAAFAAAAAAAAAAEAAAExBQAAAAAAAADkVDTbEgAAAAN5AePgrNKAvf2VAAAA',
    'AAAAAAD/lGizIAAAAAQABwAAAAAAAABAQg8AAAAAAAVwbGFpbgZsb25nZXIAAFfD4PUSAAAAA5YBM0HKZeI6TOMAAAAAAAAAADes6zEcAAAABAIDAAAA',
    'AAAAAEBCDwAAAAAAAAAFdHlwZWQCe323FyTMEgAAAAOaAWGAtnHDaCMPAAAAAAAAAABAWOC0LAAAAAQACAAAAAAAAABAQg8AAAAAAARsYXN0FHp6enp6',
    'enp6enp6enp6enp6enp6ACkj7ukSAAAAA8cBGlpx7y/yJTAAAAAAAAAAALvv9DIgAAAABAECAAAAAAAAAEBCDwAAAAAAKEYPAAAAAAAEc29vbgEyJZB+',
    'qxIAAAADyQGjzSEQPDiUegAAAAAAAAAASF5OwhwAAAAEEAUAAAAAAAAAQEIPAAAAAAAHY291bnRlcgExAIw8uxQSAAAAA+EAAAAAAAAAAAAAAAAAAAAA',
    'APbXrN/BAAAABpwAAAAAAAAA6V/C3gZ5nAAAAAAAAABEAAAAAAAAAFbnujwB4+Cs0oC9/ZWW4AAAAAAAAABAAAAAAAAAAA+Bl88BM0HKZeI6TOOaIAEA',
    'AAAAAABQAAAAAAAAABd6h1oBYYC2ccNoIw/HcAEAAAAAAABEAAAAAAAAAFbnujwBGlpx7y/yJTDJtAEAAAAAAABAAAAAAAAAAA+Bl88Bo80hEDw4lHrh',
    '9AEAAAAAAAAbAAAAAAAAADw08soAAAAAAAAAAABmwye4DwIAAAAAAADKAAAAve7dSFRMVkU=',
  ].join(''),
  'base64',
);
const EARLIER_DIGEST = 'a9c0ca3433278b90';

describe('a snapshot that an earlier version wrote', () => {
  test('is read: its entries come in the order of their index, in sections of 128 KiB', () => {
    const view = restoreMapView([EARLIER]);
    expect(view.entries).toBe(5);
    expect(view.digest).toBe(EARLIER_DIGEST);
    expect(contents(restoreMapView([snapshotOf(view)]))).toEqual(contents(view));
  });
});
