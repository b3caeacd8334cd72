import { describe, expect, test } from '@jest/globals';
import type { Clock, Scheduler } from '#kernel';
import { PACE_PARTS, SnapshotPace } from './snapshot-pace.js';

/** A hundred blocks of 2 ms each; returns how long they took. */
const blocks = async (moves: boolean, hurriesFrom = Number.POSITIVE_INFINITY): Promise<number> => {
  let now = 0;
  const clock: Clock = { monotonicMs: () => now, wallMs: () => now };
  /** Whoever waits is called when it is time, and nothing else happens until then. */
  const scheduler: Scheduler = {
    defer: queueMicrotask,
    after: (ms, run) => {
      now += ms;
      queueMicrotask(run);
      return () => undefined;
    },
  };
  let offset = 0;
  let block = 0;
  const pace = new SnapshotPace({
    clock,
    scheduler,
    applied: () => offset,
    hurries: () => block >= hurriesFrom,
  });
  for (; block < 100; block++) {
    now += 2;
    await pace.made(() => {
      if (moves) offset++;
      return Promise.resolve();
    });
  }
  return now;
};

describe('the pace of a snapshot', () => {
  test('leaves most of the time to others while records are applied', async () => {
    expect(await blocks(true)).toBe(100 * 2 * PACE_PARTS);
  });

  test('does not pause when nothing is applied', async () => {
    expect(await blocks(false)).toBe(200);
  });

  test('does not pause any more when there is a hurry', async () => {
    expect(await blocks(true, 50)).toBe(50 * 2 * PACE_PARTS + 50 * 2);
  });
});
