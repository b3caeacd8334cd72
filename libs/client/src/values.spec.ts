import { describe, expect, test } from '@jest/globals';
import { keyBytes, passingKeyBytes } from './values.js';

describe('a key that is copied at once', () => {
  const texts = [
    '',
    'a',
    'order-17',
    '~'.repeat(64),
    '~'.repeat(65),
    'ключ',
    'a\u0080',
    '\u007f',
    'naïve',
    '🜁',
    'x'.repeat(5000),
  ];

  test.each(texts)('has the bytes that any key has (%#)', (text) => {
    passingKeyBytes('something longer that was there before it, of sixty chars or so.');
    expect(Buffer.from(passingKeyBytes(text))).toEqual(Buffer.from(keyBytes(text)));
  });

  test('is itself when it is bytes', () => {
    const key = Buffer.from('k');
    expect(passingKeyBytes(key)).toBe(key);
  });
});
