import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { hashKey, isTidelineError, slotOf } from '#kernel';
import { BATCH_HEADER_BYTES, RecordCursor, RecordKeys, batchLength, encodeBatch, type RecordInput } from '#wire';
import { LookAhead } from './look-ahead.js';
import type { Slot } from './slot.js';

const bytes = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));

const record: fc.Arbitrary<RecordInput> = fc.record(
  {
    key: fc.option(fc.oneof(bytes(30), bytes(400))),
    value: fc.option(fc.oneof(bytes(20), bytes(20_000))),
    ttlMs: fc.integer({ min: 0, max: 2 ** 52 }),
    type: fc.string({ maxLength: 10 }),
    op: bytes(20),
    timestamp: fc.integer({ min: 0, max: 4_000_000_000_000 }),
  },
  { requiredKeys: [] },
);
const batch = fc
  .array(record, { minLength: 1, maxLength: 100 })
  .map((records) => encodeBatch(records, { createTime: 1_700_000_000_000 }));
/** A few bytes changed: most such batches stop parsing somewhere. */
const damagedBatch = fc
  .tuple(batch, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }))
  .map(([good, changes]) => {
    const bad = Buffer.from(good);
    for (const [at, byte] of changes) {
      if (bad.length > BATCH_HEADER_BYTES) bad[BATCH_HEADER_BYTES + (at % (bad.length - BATCH_HEADER_BYTES))] = byte;
    }
    return bad;
  });

const isMalformed = (error: unknown): boolean => isTidelineError(error, 'malformed-batch');

test('finds the keys that the cursor finds', () => {
  fc.assert(
    fc.property(batch, fc.integer({ min: 1, max: 40 }), (bytesOfBatch, window) => {
      const cursor = new RecordCursor().reset(bytesOfBatch);
      const wanted: [number, number][] = [];
      while (cursor.next()) wanted.push([cursor.keyStart, cursor.keyEnd]);
      const keys = new RecordKeys(window);
      const found: [number, number][] = [];
      let at = BATCH_HEADER_BYTES;
      for (let n = keys.find(bytesOfBatch, at, bytesOfBatch.length); n > 0;) {
        for (let i = 0; i < n; i++) found.push([keys.starts[i], keys.ends[i]]);
        at = keys.next;
        n = keys.find(bytesOfBatch, at, bytesOfBatch.length);
      }
      expect(found).toEqual(wanted);
      expect(at).toBe(bytesOfBatch.length);
    }),
  );
});

test('knows the hash of every key the cursor comes to, of damaged batches too, and fetches where it leads', () => {
  const fetched = new Set<number>();
  const slots = Array.from({ length: 256 }, (_, number) =>
    number % 2 === 0 ? null : ({ fetch: (hash: number) => fetched.add(hash).size } as unknown as Slot),
  );
  const ahead = new LookAhead();
  const cursor = new RecordCursor();
  fc.assert(
    fc.property(damagedBatch, fc.boolean(), (bytesOfBatch, skipsOthers) => {
      fetched.clear();
      cursor.reset(bytesOfBatch);
      ahead.reset(bytesOfBatch, BATCH_HEADER_BYTES, batchLength(bytesOfBatch, 0));
      try {
        while (cursor.next()) {
          if (cursor.keyStart < 0 || (skipsOthers && cursor.index % 3 === 0)) continue;
          const hash = hashKey(bytesOfBatch, cursor.keyStart, cursor.keyEnd);
          expect(ahead.hashOf(cursor, slots)).toBe(hash);
          if (slots[slotOf(hash)] !== null) expect(fetched).toContain(hash);
        }
      } catch (error) {
        if (!isMalformed(error)) throw error;
      }
    }),
    { numRuns: 300 },
  );
});

test('a batch that comes after another of the same shape is not taken for it', () => {
  const ahead = new LookAhead();
  const cursor = new RecordCursor();
  const slots = Array.from({ length: 256 }, () => null);
  for (const name of ['first', 'other']) {
    const one = encodeBatch([{ key: Buffer.from(name), value: Buffer.from('v') }], { createTime: 1 });
    cursor.reset(one);
    ahead.reset(one, BATCH_HEADER_BYTES, one.length);
    expect(cursor.next()).toBe(true);
    expect(ahead.hashOf(cursor, slots)).toBe(hashKey(Buffer.from(name)));
  }
});
