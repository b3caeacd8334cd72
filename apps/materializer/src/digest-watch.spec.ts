import { expect, test } from '@jest/globals';
import { DigestWatch } from './digest-watch.js';
import type { HostedView } from './hosted-partition.js';

/** A host whose only view takes `lookMs` to look through a slot, for `forMs` of its time; how many slots it looked through. */
const slotsLookedThrough = (lookMs: number, forMs: number): number => {
  let now = 0;
  let slots = 0;
  let due: { at: number; task: () => void } | null = null;
  const look = (): boolean => {
    slots++;
    now += lookMs;
    return true;
  };
  const view = { stoppedSlots: [], addsUp: look };
  const hosted = { partition: 0, view } as unknown as HostedView['partitions'][number];
  const watch = new DigestWatch({
    peers: null,
    clock: { wallMs: () => now, monotonicMs: () => now },
    scheduler: {
      defer: (task) => task(),
      after: (ms, task) => {
        due = { at: now + ms, task };
        return () => (due = null);
      },
    },
    intervalMs: 1000,
    views: () => [{ partitions: [hosted], keepers: [null] } as unknown as HostedView],
    found: () => undefined,
  });
  for (let next = due as { at: number; task: () => void } | null; next !== null && next.at <= forMs; next = due) {
    now = Math.max(now, next.at);
    next.task();
  }
  watch.close();
  return slots;
};

test('a view is looked through at a tenth of a second a slot while slots are small', () => {
  expect(slotsLookedThrough(0, 10_000)).toBe(100);
});

test('looking through large slots takes two hundredths of the time, not more', () => {
  const lookMs = 30;
  expect(slotsLookedThrough(lookMs, 60_000) * lookMs).toBeLessThanOrEqual(60_000 / 50 + lookMs);
});
