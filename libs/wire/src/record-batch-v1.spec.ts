import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asGroupId, asLogTime, asOffset, asTerm, isTidelineError, writeU32, writeU64 } from '#kernel';
import {
  BATCH_HEADER_BYTES,
  BatchBuilder,
  ControlKind,
  batchControlKind,
  batchControlPayload,
  batchCreateTime,
  batchFirstOffset,
  batchGroup,
  batchHeaderIsValid,
  batchIsControl,
  batchLastOffset,
  batchLength,
  batchLogTime,
  batchPayloadCrc,
  batchPayloadIsValid,
  batchRecordCount,
  batchSequence,
  batchSessionHigh,
  batchSessionLow,
  batchTerm,
  checkBatch,
  encodeBatch,
  encodeControlBatch,
  forEachBatch,
  setBatchSession,
  stampBatch,
  type RecordInput,
} from './record-batch-v1.js';
import { RecordCursor, decodeRecords, forEachRecord, validateRecords } from './record-cursor.js';

const CREATED = 1_700_000_000_000;
const bytes = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));

const record: fc.Arbitrary<RecordInput> = fc.record(
  {
    key: fc.option(bytes(40)),
    value: fc.option(fc.oneof(bytes(40), bytes(20_000))),
    headers: fc.array(fc.record({ name: fc.string({ maxLength: 20, unit: 'grapheme' }), value: bytes(20) }), {
      maxLength: 3,
    }),
    ttlMs: fc.integer({ min: 0, max: 2 ** 52 }),
    type: fc.string({ maxLength: 20, unit: 'grapheme' }),
    op: bytes(30),
    timestamp: fc.integer({ min: 0, max: 4_000_000_000_000 }),
  },
  { requiredKeys: [] },
);
const records = fc.array(record, { minLength: 1, maxLength: 20 });

const encode = (inputs: readonly RecordInput[]): Buffer => encodeBatch(inputs, { createTime: CREATED });
const small = encode([
  {
    key: Buffer.from('key'),
    value: Buffer.from('value'),
    ttlMs: 10,
    headers: [{ name: 'h', value: Buffer.from('x') }],
  },
  { key: Buffer.from('other'), type: 'Placed' },
]);
/** Makes the checksums right again after a change, so that only the parser stands in the way. */
const resealed = (batch: Buffer, change: (copy: Buffer) => Buffer | void): Buffer => {
  let copy: Buffer = Buffer.from(batch);
  copy = change(copy) ?? copy;
  writeU32(copy, 0, copy.length);
  setBatchSession(copy, { low: 0, high: 0, sequence: 0 });
  return copy;
};

describe('record batch', () => {
  test('holds what was put in', () => {
    fc.assert(
      fc.property(records, (inputs) => {
        const batch = encode(inputs);
        checkBatch(batch);
        expect(batchLength(batch)).toBe(batch.length);
        expect(batchRecordCount(batch)).toBe(inputs.length);
        stampBatch(batch, {
          firstOffset: asOffset(100),
          term: asTerm(2),
          logTime: asLogTime(CREATED),
          group: asGroupId(1),
        });
        const decoded = decodeRecords(batch);
        expect(decoded.length).toBe(inputs.length);
        for (const [i, input] of inputs.entries()) {
          const got = decoded[i];
          expect(got.offset).toBe(100 + i);
          expect(got.logTime).toBe(CREATED);
          expect(got.timestamp).toBe(input.timestamp ?? CREATED);
          expect(got.key).toEqual(input.key ?? null);
          expect(got.value).toEqual(input.value ?? null);
          expect(got.ttlMs).toBe(input.ttlMs);
          expect(got.type).toBe(input.type);
          expect(got.op).toEqual(input.op);
          expect(got.headers.map(({ name, value }) => [name, Buffer.from(value)])).toEqual(
            (input.headers ?? []).map(({ name, value }) => [name, value]),
          );
        }
      }),
      { numRuns: 60 },
    );
  });

  test('a stamp says who, when and where, and leaves the records and their checksum alone', () => {
    const batch = Buffer.from(small);
    const crc = batchPayloadCrc(batch);
    const stamp = {
      firstOffset: asOffset(2 ** 40 + 3),
      term: asTerm(0xffff_fff0),
      logTime: asLogTime(CREATED + 9),
      group: asGroupId(77),
    };
    stampBatch(batch, stamp);
    checkBatch(batch);
    expect(batchFirstOffset(batch)).toBe(stamp.firstOffset);
    expect(batchLastOffset(batch)).toBe(stamp.firstOffset + 1);
    expect(batchTerm(batch)).toBe(stamp.term);
    expect(batchLogTime(batch)).toBe(stamp.logTime);
    expect(batchGroup(batch)).toBe(77);
    expect(batchPayloadCrc(batch)).toBe(crc);
    expect(batch.subarray(BATCH_HEADER_BYTES)).toEqual(small.subarray(BATCH_HEADER_BYTES));
  });

  test('a session is set by the builder or afterwards, to the same bytes', () => {
    const session = { low: 2 ** 50, high: 5, sequence: 9 };
    const later = Buffer.from(small);
    setBatchSession(later, session);
    checkBatch(later);
    expect([batchSessionLow(later), batchSessionHigh(later), batchSequence(later)]).toEqual([2 ** 50, 5, 9]);
    const inputs = [{ value: Buffer.from('v') }];
    const atOnce = encodeBatch(inputs, { createTime: CREATED, session });
    const after = encode(inputs);
    setBatchSession(after, session);
    expect(after).toEqual(atOnce);
  });

  test('any changed bit is noticed', () => {
    for (let at = 0; at < small.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const batch = Buffer.from(small);
        batch[at] ^= 1 << bit;
        expect(() => checkBatch(batch)).toThrow();
      }
    }
  });

  test('a batch that is cut off or too long is noticed', () => {
    for (let length = 0; length < small.length; length++) {
      expect(() => checkBatch(small.subarray(0, length))).toThrow();
    }
    expect(() => checkBatch(Buffer.concat([small, Buffer.alloc(1)]))).toThrow(/length/);
  });

  test('the header can be trusted without the payload', () => {
    const damaged = Buffer.from(small);
    damaged[damaged.length - 1] ^= 1;
    expect(batchHeaderIsValid(damaged)).toBe(true);
    expect(batchPayloadIsValid(damaged)).toBe(false);
    expect(batchHeaderIsValid(small, 0, 71)).toBe(false);
  });

  test('numbers that cannot be told apart are refused', () => {
    const batch = Buffer.from(small);
    writeU64(batch, 64, 2 ** 53 + 2);
    setBatchSession(batch, { low: 0, high: 0, sequence: 0 });
    expect(() => checkBatch(batch)).toThrow(/out of range/);
  });

  test('a control batch takes one offset and has no records', () => {
    const batch = encodeControlBatch(ControlKind.Configuration, Buffer.from('abc'), CREATED);
    checkBatch(batch);
    expect(batchIsControl(batch)).toBe(true);
    expect(batchControlKind(batch)).toBe(ControlKind.Configuration);
    expect(Buffer.from(batchControlPayload(batch))).toEqual(Buffer.from('abc'));
    expect(batchRecordCount(batch)).toBe(1);
    expect(decodeRecords(batch)).toEqual([]);
    expect(() => validateRecords(batch)).toThrow(/control/);
  });

  test('a run of batches is walked by headers, up to a partial one', () => {
    const run = Buffer.concat([small, small, small.subarray(0, small.length - 1)]);
    const seen: [number, number][] = [];
    forEachBatch(run, (at, length) => seen.push([at, length]));
    expect(seen).toEqual([
      [0, small.length],
      [small.length, small.length],
    ]);
    expect(decodeRecords(run, small.length)).toEqual(decodeRecords(small));
  });

  test('a builder starts over after finish and reset, with the time of its first record', () => {
    let now = 5;
    const builder = new BatchBuilder(() => now, 16);
    now = 9;
    expect(builder.add({ value: Buffer.alloc(1000) })).toBe(0);
    now = 11;
    expect(builder.add({ value: Buffer.alloc(10) })).toBe(1);
    expect(builder.recordCount).toBe(2);
    const { byteLength } = builder;
    const first = builder.finish();
    expect(first.length).toBe(byteLength);
    expect(batchCreateTime(first)).toBe(9);
    builder.add({ value: Buffer.from('thrown away') });
    builder.reset();
    builder.add({ key: Buffer.from('k') });
    const second = builder.finish();
    expect(decodeRecords(second).map(({ key }) => key?.toString())).toEqual(['k']);
    expect(decodeRecords(first).length).toBe(2);
  });

  test('a batch keeps little more memory alive than it takes, and the next one of its size grows no buffer', () => {
    const builder = new BatchBuilder(() => 0, 16 * 1024);
    const batchOf = (bytes: number): Buffer => {
      builder.add({ value: Buffer.alloc(bytes) });
      return builder.finish();
    };
    batchOf(100);
    expect(batchOf(100).buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize);
    const large = batchOf(20_000);
    expect(batchOf(20_000).buffer.byteLength).toBe(large.length * 2);
    batchOf(1_000_000);
    expect(batchOf(1_000_000).buffer.byteLength).toBeLessThanOrEqual(1_000_000 + 72 + 64 * 1024 + 8);
    // However large the last one was.
    expect(batchOf(100).buffer.byteLength).toBeLessThanOrEqual(64 * 1024);
    expect(batchOf(100).buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize);
  });

  test('every length is written in as few bytes as it takes, and one that was written in more stays readable', () => {
    for (let size = 60; size < 140; size++) {
      const record = encode([{ value: Buffer.alloc(size, 3) }]).subarray(BATCH_HEADER_BYTES);
      const body = 1 + (size < 0x80 ? 1 : 2) + size;
      expect(record.length).toBe((body < 0x80 ? 1 : 2) + body);
    }
    // As builders wrote them that kept room for the longest length before they knew it.
    const batch = encode([{ value: Buffer.alloc(98, 3) }]);
    const padded = Buffer.concat([
      batch.subarray(0, BATCH_HEADER_BYTES),
      Buffer.from([0x80 | 100, 0]),
      batch.subarray(BATCH_HEADER_BYTES + 1),
    ]);
    writeU32(padded, 0, padded.length);
    expect(batch[BATCH_HEADER_BYTES]).toBe(100);
    expect(decodeRecords(padded)[0].value).toEqual(Buffer.alloc(98, 3));
  });
});

describe('record cursor', () => {
  test('sees the same as decodeRecords, from a reused object', () => {
    const cursor = new RecordCursor();
    fc.assert(
      fc.property(records, (inputs) => {
        const batch = encode(inputs);
        const expected = decodeRecords(batch);
        let i = 0;
        forEachRecord(
          batch,
          (at) => {
            expect(at.headers).toEqual(expected[i].headers);
            expect(at.key).toEqual(expected[i].key);
            expect(at.value).toEqual(expected[i].value);
            expect(at.index).toBe(i++);
          },
          { cursor },
        );
        expect(i).toBe(inputs.length);
      }),
      { numRuns: 40 },
    );
  });

  test('reads any bytes as records or as a malformed batch', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.integer({ min: 1, max: 10 }), (payload, count) => {
        const batch = resealed(small, (copy) => {
          writeU32(copy, 24, count);
          return Buffer.concat([copy.subarray(0, BATCH_HEADER_BYTES), payload]);
        });
        try {
          decodeRecords(batch);
          validateRecords(batch);
        } catch (error) {
          expect(isTidelineError(error, 'malformed-batch')).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('any changed byte of the records is read as records or as a malformed batch', () => {
    for (let at = BATCH_HEADER_BYTES; at < small.length; at++) {
      for (const change of [1, 0x7f, 0x80, 0xff]) {
        const batch = Buffer.from(small);
        batch[at] ^= change;
        try {
          for (const { key, value } of decodeRecords(batch)) {
            expect((key?.length ?? 0) + (value?.length ?? 0)).toBeLessThanOrEqual(small.length);
          }
        } catch (error) {
          expect(isTidelineError(error, 'malformed-batch')).toBe(true);
        }
      }
    }
  });

  test.each([1, 3, 1000, 0xffff_ffff])('a batch of two that says it has %d is malformed', (count) => {
    expect(() => decodeRecords(resealed(small, (copy) => writeU32(copy, 24, count)))).toThrow(
      expect.objectContaining({ code: 'malformed-batch' }),
    );
  });

  test('flags from a later version are refused', () => {
    const batch = Buffer.from(small);
    batch[6] = 2;
    expect(() => decodeRecords(batch)).toThrow(expect.objectContaining({ code: 'unsupported-version' }));
  });
});

describe('validation of what a client encoded', () => {
  const limits = { keyBytesMax: 10, recordBytesMax: 100, headerBytesMax: 30 };
  const check = (input: RecordInput): void => validateRecords(encode([{ value: Buffer.from('fine') }, input]), limits);

  test('lets good records pass', () => {
    check({ key: Buffer.alloc(10), value: Buffer.alloc(60), ttlMs: 5 });
  });

  test('names the record whose key is too long', () => {
    expect(() => check({ key: Buffer.alloc(11) })).toThrow(
      expect.objectContaining({ code: 'key-too-large', details: { index: 1, limit: 10 } }),
    );
  });

  test('names the record that is too long', () => {
    expect(() => check({ value: Buffer.alloc(101) })).toThrow(
      expect.objectContaining({ code: 'record-too-large', details: { index: 1, limit: 100 } }),
    );
  });

  test('limits headers by themselves', () => {
    expect(() => check({ headers: [{ name: 'a', value: Buffer.alloc(31) }] })).toThrow(
      expect.objectContaining({ code: 'record-too-large', details: { index: 1, limit: 30 } }),
    );
  });

  test('refuses a TTL that would leave the range of time', () => {
    expect(() => check({ ttlMs: 2 ** 53 - 1 })).toThrow(expect.objectContaining({ code: 'malformed-batch' }));
  });
});
