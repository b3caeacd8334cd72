import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isTidelineError } from '#kernel';
import { jsonIsDeeperThan } from './json-depth.js';
import { decodeValue, encodeValue } from './pattern-message.js';

/** Values with members that look like the format's own tags. */
const key = fc.oneof(fc.string(), fc.constantFrom('$bytes', '$bigint', '$object', '__proto__', 'constructor'));
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.oneof(
      fc.string(),
      fc.boolean(),
      fc.constant(null),
      fc.integer(),
      fc.bigInt(),
      fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
    ),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.array(fc.tuple(key, tie('value')), { maxLength: 3 }).map((members) => Object.fromEntries(members) as unknown),
  ),
}));

describe('values of Nest messages', () => {
  test('are read back as they were, bytes, bigints and look-alikes too', () => {
    fc.assert(fc.property(value, (one) => expect(decodeValue(encodeValue(one))).toEqual(one)));
  });

  test('undefined is nothing', () => {
    expect(encodeValue(undefined).length).toBe(0);
    expect(decodeValue(Buffer.alloc(0))).toBeUndefined();
  });

  test('any text is a value, or an error of ours', () => {
    const piece = fc.constantFrom('{', '}', '[', ']', '"', ':', ',', '$bytes', '$bigint', '$object', '1', 'null', ' ');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        try {
          decodeValue(Buffer.from(pieces.join('')));
        } catch (error) {
          expect(isTidelineError(error, 'malformed-json')).toBe(true);
        }
      }),
    );
  });

  test('text nested too deep is refused, whatever its strings hold', () => {
    expect(jsonIsDeeperThan('[[[]]]', 3)).toBe(false);
    expect(jsonIsDeeperThan('[[[]]]', 2)).toBe(true);
    expect(jsonIsDeeperThan('["[[[[", {"\\"{{": "\\\\"}]', 2)).toBe(false);
    expect(() => decodeValue(Buffer.from('['.repeat(200_000)))).toThrow(expect.objectContaining({ code: 'too-deep' }));
  });
});
