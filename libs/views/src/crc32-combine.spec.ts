import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { crc32 } from 'node:zlib';
import { crc32Combine } from './crc32-combine.js';

const bytes = fc.uint8Array({ maxLength: 5000 });

describe('the checksum of two parts', () => {
  test('is that of the whole', () => {
    fc.assert(
      fc.property(bytes, bytes, (before, after) => {
        const whole = crc32(after, crc32(before));
        expect(crc32Combine(crc32(before), crc32(after), after.length)).toBe(whole);
      }),
    );
  });

  test('is that of the whole for more than fits 32 bits', () => {
    // Zeros only, put together by halves.
    let whole = crc32(Buffer.alloc(1024));
    let length = 1024;
    for (; length < 2 ** 34; length *= 2) whole = crc32Combine(whole, whole, length);
    // The same another way: a quarter four times.
    let quarter = crc32(Buffer.alloc(4096));
    for (let has = 4096; has < 2 ** 32; has *= 2) quarter = crc32Combine(quarter, quarter, has);
    let other = quarter;
    for (let i = 1; i < 4; i++) other = crc32Combine(other, quarter, 2 ** 32);
    expect(other).toBe(whole);
    // The first part may be as long as it likes: all that counts is what follows.
    const tail = Buffer.from('tail');
    expect(crc32Combine(whole, crc32(tail), tail.length)).toBe(crc32(tail, whole));
    expect(length).toBe(2 ** 34);
  });
});
