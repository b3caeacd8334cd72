import { expect, test } from '@jest/globals';
import { SeededRng, randomBelow } from '#kernel';
import { UseOrder } from './use-order.js';

test('gives the one not used for longest, whatever was taken out, and forgets what is gone', () => {
  for (const [seed, keys, rounds] of [
    [1, 3, 5000],
    [2, 200, 20_000],
    [3, 12_000, 60_000],
  ]) {
    const rng = new SeededRng(seed);
    const order = new UseOrder();
    const used = new Map<number, number>();
    for (let offset = 1; offset <= rounds; offset++) {
      const key = randomBelow(rng, keys);
      const old = used.get(key);
      if (old !== undefined) {
        order.remove(old);
        used.delete(key);
      }
      if (randomBelow(rng, 10) > 0) {
        order.add(offset, key);
        used.set(key, offset);
      }
      if (offset % 97 !== 0) continue;
      const [first] = used;
      expect(order.first()).toBe(first?.[1] ?? 0);
      if (first) expect(order.firstHash).toBe(first[0]);
    }
    // Half empty at worst, beyond the segment that is being filled.
    expect(order.bytes).toBeLessThanOrEqual((used.size / 4096 + 1) * 2 * 4096 * 12 + 4096 * 12);
    for (const [key, offset] of used) {
      expect([order.first(), order.firstHash]).toEqual([offset, key]);
      order.remove(offset);
    }
    expect(order.first()).toBe(0);
  }
});

test('refuses an offset that is not the last, and one that is not there', () => {
  const order = new UseOrder();
  order.add(5, 1);
  expect(() => order.add(5, 2)).toThrow('after all others');
  expect(() => order.remove(4)).toThrow('not in the order');
});
