import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatByteSize, parseByteSize } from './byte-size.js';
import { formatDurationMs, parseDurationMs } from './duration.js';

describe('durations', () => {
  test.each([
    ['30s', 30_000],
    ['1.5h', 5_400_000],
    [' 250 ms ', 250],
    ['2d', 172_800_000],
    ['5m', 300_000],
    ['5min', 300_000],
    ['0s', 0],
  ])('%s is %d ms', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });

  test('a bare number needs someone to say its unit', () => {
    expect(parseDurationMs('30')).toBeUndefined();
    expect(parseDurationMs('30', 's')).toBe(30_000);
    expect(parseDurationMs('30', 'ms')).toBe(30);
  });

  test.each(['', 's', '-1s', '1 year', '1e3s', '0x10s', '1s2', '99999999999d', 'NaN', 'constructor', '1constructor'])(
    '%j is none',
    (text) => {
      expect(parseDurationMs(text, 'ms')).toBeUndefined();
    },
  );

  test('what is formatted reads back the same', () => {
    fc.assert(fc.property(fc.nat({ max: 10 ** 9 }), (ms) => expect(parseDurationMs(formatDurationMs(ms))).toBe(ms)));
  });
});

describe('sizes', () => {
  test.each([
    ['64MiB', 67_108_864],
    ['1.5GiB', 1_610_612_736],
    ['4k', 4096],
    ['4kB', 4000],
    ['1048576', 1_048_576],
    ['12B', 12],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseByteSize(text)).toBe(bytes);
  });

  test.each(['', 'MiB', '-1', '1.5', '1 parsec', '9999999999999999', '9007199254740992', '1e6'])(
    '%j is none',
    (text) => {
      expect(parseByteSize(text)).toBeUndefined();
    },
  );

  test('what is formatted reads back the same', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => expect(parseByteSize(formatByteSize(bytes))).toBe(bytes)));
  });
});
