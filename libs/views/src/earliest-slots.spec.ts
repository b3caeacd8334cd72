import { expect, test } from '@jest/globals';
import { SLOTS, SeededRng, randomBelow, randomChance } from '#kernel';
import { EarliestSlots } from './earliest-slots.js';

test('nothing expires at first', () => {
  const slots = new EarliestSlots();
  expect(slots.earliest).toBe(Infinity);
});

test.each([1, 2, 3])('the first slot is that with the earliest time, the lowest of several (seed %i)', (seed) => {
  const rng = new SeededRng(seed);
  const slots = new EarliestSlots();
  const times = Array.from({ length: SLOTS }, () => Infinity);
  const touched = seed === 1 ? 4 : SLOTS;
  for (let i = 0; i < 3000; i++) {
    const slot = randomBelow(rng, touched);
    // Few different times, so that many are equal.
    const time = randomChance(rng, 0.3) ? Infinity : randomBelow(rng, 40);
    times[slot] = time;
    slots.set(slot, time);
    const earliest = Math.min(...times);
    expect(slots.earliest).toBe(earliest);
    if (earliest !== Infinity) expect(slots.first).toBe(times.indexOf(earliest));
  }
});
