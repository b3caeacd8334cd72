import { expect, test } from '@jest/globals';
import { asOffset } from '#kernel';
import { RESULTS_LENGTH_MAX, ResultRing } from './result-ring.js';

test('long results push out older ones, and the last one stays whatever its length', () => {
  const ring = new ResultRing(1000);
  const add = (offset: number, length: number): void =>
    ring.add(asOffset(offset), asOffset(offset), {
      ok: true,
      code: '',
      message: '',
      value: 'x'.repeat(length),
      entryOffset: asOffset(0),
    });
  add(1, RESULTS_LENGTH_MAX / 2);
  add(2, RESULTS_LENGTH_MAX / 2);
  expect([ring.length, ring.evictedThrough]).toEqual([2, 0]);
  add(3, 1);
  expect([ring.length, ring.evictedThrough]).toEqual([2, 1]);
  add(4, RESULTS_LENGTH_MAX + 1);
  expect([ring.length, ring.evictedThrough]).toEqual([1, 3]);
  add(5, 7);
  expect([ring.length, ring.evictedThrough]).toEqual([1, 4]);
  expect(ring.range(asOffset(5), asOffset(5))).toMatchObject([{ value: 'xxxxxxx' }]);
});
