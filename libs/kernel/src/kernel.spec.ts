import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  ByteReader,
  ByteWriter,
  ERROR_CODES,
  SeededRng,
  TidelineError,
  WORD_COPY_BYTES_MAX,
  hashKey,
  isErrorCode,
  partitionOf,
  slotOf,
  varintSize,
  wordsOf,
} from './index.js';

const safeInteger = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

describe('bytes', () => {
  test('what a writer wrote, a reader reads', () => {
    fc.assert(
      fc.property(safeInteger, safeInteger, fc.uint8Array(), fc.string(), (a, b, bytes, text) => {
        const written = new ByteWriter(1).u64(a).varint(b).lengthPrefixed(bytes).string(text).u16(7).u32(9).finish();
        const reader = new ByteReader(written);
        expect(reader.u64()).toBe(a);
        expect(reader.varint()).toBe(b);
        expect([...reader.lengthPrefixed()]).toEqual([...bytes]);
        expect(reader.string()).toBe(Buffer.from(text).toString());
        expect(reader.u16()).toBe(7);
        expect(reader.u32()).toBe(9);
        expect(reader.remaining).toBe(0);
      }),
    );
  });

  test('the size of a varint is what the writer takes', () => {
    fc.assert(fc.property(safeInteger, (n) => new ByteWriter().varint(n).position === varintSize(n)));
  });

  test('a reader never reads past its end, whatever the bytes say', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const reader = new ByteReader(bytes);
        try {
          for (;;) reader.lengthPrefixed();
        } catch (error) {
          expect(error).toMatchObject({ code: 'malformed-frame' });
        }
        expect(reader.position).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });

  test('part of a buffer is written as a whole one is, by words or not, and nothing around it changes', () => {
    const length = fc.oneof(fc.nat(40), fc.integer({ min: WORD_COPY_BYTES_MAX - 9, max: WORD_COPY_BYTES_MAX + 9 }));
    fc.assert(
      fc.property(fc.nat(20), fc.nat(20), length, fc.boolean(), (before, start, bytes, byWords) => {
        const source = Buffer.from(Array.from({ length: start + bytes + 5 }, (_, i) => (i * 37) % 251));
        const words = byWords ? wordsOf(source) : null;
        const writer = new ByteWriter(1).bytes(Buffer.alloc(before, 1));
        writer.lengthPrefixedPart(source, words, start, start + bytes).u8(9);
        const part = source.subarray(start, start + bytes);
        expect(writer.finish()).toEqual(
          new ByteWriter().bytes(Buffer.alloc(before, 1)).lengthPrefixed(part).u8(9).finish(),
        );
      }),
    );
  });
});

describe('key hash', () => {
  test('matches the published MurmurHash3 vectors', () => {
    expect(hashKey(Buffer.from(''))).toBe(0);
    expect(hashKey(Buffer.from('hello'))).toBe(0x248bfa47);
    expect(hashKey(Buffer.from('hello, world'))).toBe(0x149bbb7f);
    expect(hashKey(Buffer.from('The quick brown fox jumps over the lazy dog'))).toBe(0x2e4ff723);
  });

  test('a slot lies in exactly one partition', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.integer({ min: 1, max: 256 }), (key, partitions) => {
        const hash = hashKey(key);
        expect(partitionOf(hash, partitions)).toBe(slotOf(hash) % partitions);
      }),
    );
  });
});

describe('errors', () => {
  test('a code carries its outcome unless the error says otherwise', () => {
    expect(new TidelineError('timeout', 'x').outcome).toBe('unknown');
    expect(new TidelineError('timeout', 'x', { outcome: 'rejected' }).outcome).toBe('rejected');
    expect(new TidelineError('overloaded', 'x').retriable).toBe(true);
  });

  test('codes are kebab-case and known', () => {
    for (const code of Object.keys(ERROR_CODES)) expect(code).toMatch(/^[a-z]+(-[a-z]+)*$/);
    expect(isErrorCode('toString')).toBe(false);
    expect(isErrorCode('timeout')).toBe(true);
  });
});

test('the seeded generator repeats itself and a fork has a stream of its own', () => {
  const draw = (rng: SeededRng): number[] => Array.from({ length: 5 }, () => rng.nextU32());
  expect(draw(new SeededRng(42))).toEqual(draw(new SeededRng(42)));
  expect(draw(new SeededRng(42))).not.toEqual(draw(new SeededRng(43)));
  const rng = new SeededRng(1);
  expect(draw(rng.fork())).not.toEqual(draw(rng));
});
