import { expect, test } from '@jest/globals';
import { SeededRng, randomBelow } from '#kernel';
import { OrderedKeys } from './ordered-keys.js';

const keyOf = (n: number): Buffer => Buffer.from(`key-${String(n).padStart(6, '0')}`);

const keysFrom = (order: OrderedKeys, from: Buffer, exclusive = false): string[] => {
  const keys: string[] = [];
  order.walk(from, exclusive, (key) => {
    keys.push(key.toString());
    return true;
  });
  return keys;
};

test('keys that come and go, by one and by thousands, are walked in order from anywhere', () => {
  const rng = new SeededRng(7);
  const order = new OrderedKeys();
  const there = new Set<string>();
  const exists = (key: Buffer): boolean => there.has(key.toString());
  for (let round = 0; round < 60; round++) {
    // Rounds that take away more than they bring leave blocks empty, the first and the last among them.
    const brings = round % 3 === 2 ? 200 : 2000;
    for (let i = 0; i < brings; i++) {
      const key = keyOf(randomBelow(rng, 20_000));
      if (there.has(key.toString())) continue;
      there.add(key.toString());
      order.add(key, 0, key.length);
    }
    while (order.pendingKeys > 0) order.merge(1 + randomBelow(rng, 700), exists);
    const start = randomBelow(rng, 20_000);
    const taken = round % 3 === 2 ? 12_000 : 300;
    for (let n = start; n < start + taken; n++) {
      const key = keyOf(n % 20_000);
      if (there.delete(key.toString())) order.remove(key, 0, key.length);
    }
    const sorted = [...there].sort();
    expect(keysFrom(order, Buffer.alloc(0))).toEqual(sorted);
    const from = sorted[randomBelow(rng, sorted.length)];
    expect(keysFrom(order, Buffer.from(from))).toEqual(sorted.slice(sorted.indexOf(from)));
    expect(keysFrom(order, Buffer.from(from), true)).toEqual(sorted.slice(sorted.indexOf(from) + 1));
  }
});

test('nothing is left of keys that all went, and others may come', () => {
  const order = new OrderedKeys();
  const add = (n: number): void => {
    const key = keyOf(n);
    order.add(key, 0, key.length);
  };
  for (let n = 0; n < 5000; n++) add(n);
  order.merge(5000, () => true);
  for (let n = 0; n < 5000; n++) order.remove(keyOf(n), 0, keyOf(n).length);
  expect(keysFrom(order, Buffer.alloc(0))).toEqual([]);
  add(3);
  add(1);
  order.merge(2, () => true);
  expect(keysFrom(order, Buffer.alloc(0))).toEqual([keyOf(1).toString(), keyOf(3).toString()]);
});
