import { expect, test } from '@jest/globals';
import { reservePorts } from './free-ports.js';

test('ranges that are asked for at the same time have nothing in common', async () => {
  const sizes = [3, 1, 6, 3, 2, 6, 1, 3];
  const ranges = await Promise.all(sizes.map((nodes) => reservePorts(nodes)));
  const hundreds = ranges.flatMap(({ basePort }, i) => Array.from({ length: sizes[i] }, (_, k) => basePort + 100 * k));
  for (const range of ranges) range.release();
  expect(new Set(hundreds).size).toBe(hundreds.length);
});

test('ranges that are released can be had again', async () => {
  // More than there are.
  for (let i = 0; i < 25; i++) (await reservePorts(10)).release();
});
