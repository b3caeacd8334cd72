import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isTidelineError } from '#kernel';
import { UNSAFE_NAMES, parseJson } from './safe-json.js';

const codeOf = (text: string | Uint8Array, depthMax?: number): string => {
  try {
    parseJson(text, { depthMax });
    return 'accepted';
  } catch (error) {
    if (!isTidelineError(error)) throw error;
    return error.code;
  }
};

/** Whether an object anywhere in a parsed value has a name that is not accepted. */
const hasUnsafeName = (value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  Object.entries(value).some(([name, member]) => UNSAFE_NAMES.has(name) || hasUnsafeName(member));

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('parseJson', () => {
  test('reads what JSON.parse reads but for unsafe names, from text and from bytes', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 20 }), (text) => {
        const parsed: unknown = JSON.parse(text);
        for (const source of [text, Buffer.from(text)]) {
          if (hasUnsafeName(parsed)) expect(codeOf(source)).toBe('unsafe-key');
          else expect(parseJson(source)).toEqual(parsed);
        }
      }),
      { examples: [['{"prototype":""}'], ['[{"a":{"__proto__":1}}]'], ['{"a":"constructor"}']] },
    );
  });

  test('refuses, and never fails in another way, whatever the text', () => {
    const soup = fc.array(fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', ' ', '\n', 'a', '1', '__proto__'), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(soup, (parts) => {
        expect(['accepted', 'malformed-json', 'unsafe-key']).toContain(codeOf(parts.join('')));
      }),
      { numRuns: 2000 },
    );
  });

  test('is malformed-json where JSON.parse throws', () => {
    for (const text of ['', '  ', '{', '{"a":}', 'undefined', '{"a":1}}', '"\u0001"', "{'a':1}", '\ufeff{}']) {
      expect(codeOf(text)).toBe('malformed-json');
    }
    expect(() => parseJson('')).toThrow('empty; expected a JSON value');
    expect(codeOf(Uint8Array.of(0x22, 0xc3, 0x28, 0x22))).toBe('malformed-json');
  });

  test('stops at the depth limit, before anything is built', () => {
    expect(codeOf(nested(64))).toBe('accepted');
    expect(codeOf(nested(65))).toBe('too-deep');
    expect(codeOf(nested(200_000))).toBe('too-deep');
    expect(codeOf('{"a":'.repeat(4) + '1' + '}'.repeat(4), 3)).toBe('too-deep');
    expect(codeOf('[[],[],[],[]]', 2)).toBe('accepted');
  });

  test('brackets inside strings do not count', () => {
    expect(parseJson(`"${'['.repeat(100)}"`)).toBe('['.repeat(100));
    expect(codeOf(`["\\"${'['.repeat(100)}\\\\"]`)).toBe('accepted');
  });

  test.each([
    '{"__proto__":{"admin":true}}',
    '{"a":[{"constructor" : 1}]}',
    '{"prototype"\n\t:1}',
    '{"\\u005f_proto__":1}',
    '{"\\u005f\\u005f\\u0070\\u0072\\u006f\\u0074\\u006f\\u005f\\u005f":1}',
    '{"x":"\\\\","__proto__":1}',
  ])('refuses the member name in %s', (text) => {
    expect(codeOf(text)).toBe('unsafe-key');
  });

  test('the same words are fine as values and as parts of names', () => {
    const value = { a: '__proto__', b: ['constructor', 'prototype'], __proto: 1, constructors: 2, '"__proto__': 3 };
    expect(parseJson(JSON.stringify(value))).toEqual(value);
    expect(parseJson('"__proto__"')).toBe('__proto__');
  });

  test('a text made to be slow takes time in proportion to its length', () => {
    // Quadratic work on a megabyte would take minutes, not fit into the time a test has.
    for (const text of [`"${'\\\\'.repeat(500_000)}"`, `"${'\\"'.repeat(500_000)}"`, `[${'"",'.repeat(300_000)}1]`]) {
      expect(codeOf(text)).toBe('accepted');
    }
    expect(codeOf('"'.repeat(1_000_001))).toBe('malformed-json');
    expect(codeOf(`""${' '.repeat(1_000_000)}""`)).toBe('malformed-json');
  });
});
