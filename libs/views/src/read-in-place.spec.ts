import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asLogTime, hashKey, slotOf } from '#kernel';
import { MapView } from './map-view.js';
import { BatchSource, keysOfSlot } from './testing/index.js';

const put = (view: MapView, source: BatchSource, key: Buffer, value: Buffer, ttlMs?: number): void =>
  view.applyBatches(source.records([{ key, value, ttlMs }]));

describe('an entry read in place', () => {
  test('is what get makes an object of, for keys and values of any length and bytes', () => {
    const some = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
    fc.assert(
      fc.property(fc.array(fc.tuple(some(300), some(1200)), { maxLength: 40 }), some(20), (pairs, stranger) => {
        const view = new MapView();
        const source = new BatchSource();
        for (const [key, value] of pairs) put(view, source, key, value);
        for (const key of [...pairs.map(([of]) => of), stranger]) {
          const entry = view.get(key, view.logTime);
          const stored = view.read(key, view.logTime);
          expect(stored === null).toBe(entry === null);
          if (stored === null || entry === null) continue;
          expect({ key: stored.key, value: stored.value, offset: stored.offset }).toEqual({
            key,
            value: entry.value,
            offset: entry.offset,
          });
          expect(stored.valueText).toBe(entry.value.toString());
        }
      }),
      { numRuns: 60 },
    );
  });

  test('differs in any one byte from the key asked for: it is not found', () => {
    const view = new MapView();
    const source = new BatchSource();
    // Entries under the same hash are told apart by their keys alone, so look at the comparison itself.
    const key = Buffer.from('abcdefghijklmnopqrstuvw');
    put(view, source, key, Buffer.from('v'));
    const stored = view.read(key, view.logTime)!;
    expect(stored.hasKey(key)).toBe(true);
    for (let at = 0; at < key.length; at++) {
      const other = Buffer.from(key);
      other[at] ^= 0x80;
      expect(stored.hasKey(other)).toBe(false);
    }
    expect(stored.hasKey(key.subarray(1))).toBe(false);
    expect(stored.hasKey(key.subarray(0, -1))).toBe(false);
  });

  test('is gone at the log time it expires', () => {
    const view = new MapView();
    const source = new BatchSource(1000);
    put(view, source, Buffer.from('a'), Buffer.from('1'), 50);
    expect(view.read(Buffer.from('a'), asLogTime(1049))?.expiresAt).toBe(1050);
    expect(view.read(Buffer.from('a'), asLogTime(1050))).toBeNull();
  });

  test('may be too large for a chunk of many, between others that are not', () => {
    const view = new MapView();
    const source = new BatchSource();
    const keys = keysOfSlot(slotOf(hashKey(Buffer.from('k'))), 6);
    const values = keys.map((_, i) => Buffer.alloc(i % 2 === 0 ? 100 : 40_000, i + 1));
    for (let pass = 0; pass < 2; pass++) {
      keys.forEach((key, i) => put(view, source, key, values[i]));
      keys.forEach((key, i) => expect(view.read(key, view.logTime)?.value.equals(values[i])).toBe(true));
      values.reverse();
    }
  });
});
