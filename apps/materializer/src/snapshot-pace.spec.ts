import { describe, expect, test } from '@jest/globals';
import type { Clock, Scheduler } from '#kernel';
import { PACE_PARTS, QUIET_MS, SnapshotPace } from './snapshot-pace.js';

const STEPS = 100;
const STEP_MS = 2;

/** So many steps; `moves` says at which of them the view is given something, and `hurries` when it is time. Returns how long they took. */
const steps = async (moves: (step: number) => boolean, hurries: (step: number) => boolean = () => false) => {
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
  let step = 0;
  const pace = new SnapshotPace({ clock, scheduler, applied: () => offset, hurries: () => hurries(step) });
  for (; step < STEPS; step++) {
    now += STEP_MS;
    if (moves(step)) offset++;
    await pace.rest();
  }
  return now;
};

describe('the pace of a snapshot', () => {
  test('leaves most of the time to others while records are applied', async () => {
    expect(await steps(() => true)).toBe(STEPS * STEP_MS * PACE_PARTS);
  });

  test('is the same when a record comes only now and then: a step is short beside the wait of a client', async () => {
    const every = 4;
    expect(every * STEP_MS * PACE_PARTS).toBeLessThan(QUIET_MS);
    expect(await steps((step) => step % every === 0)).toBe(STEPS * STEP_MS * PACE_PARTS);
  });

  test('does not pause when nothing is applied', async () => {
    expect(await steps(() => false)).toBe(STEPS * STEP_MS);
  });

  test('does not pause any more when nothing was applied for a while', async () => {
    const paused = Math.ceil(QUIET_MS / (STEP_MS * PACE_PARTS));
    const took = await steps((step) => step === 0);
    expect(took).toBe(paused * STEP_MS * PACE_PARTS + (STEPS - paused) * STEP_MS);
  });

  test('does not pause any more when there is a hurry', async () => {
    const took = await steps(
      () => true,
      (step) => step >= STEPS / 2,
    );
    expect(took).toBe((STEPS / 2) * STEP_MS * PACE_PARTS + (STEPS / 2) * STEP_MS);
  });
});
