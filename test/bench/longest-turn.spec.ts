import { expect, test } from '@jest/globals';
import { TurnWatch } from './longest-turn.js';

const BLOCKED_MS = 30;

test('the longest turn is told with what it was spent on', async () => {
  const watch = new TurnWatch();
  await new Promise((resolve) => setImmediate(resolve));
  const until = performance.now() + BLOCKED_MS;
  while (performance.now() < until);
  const told = await watch.end();
  expect(told['pause ms']).toBeGreaterThanOrEqual(BLOCKED_MS);
  expect(told['longest turn, CPU of all threads']).toBeGreaterThan(0);
  expect(told['longest turn, CPU of all threads']).toBeLessThanOrEqual(told['pause CPU ms']);
  expect(told['longest turn, times a thread was switched away from']).toBeGreaterThanOrEqual(0);
});
