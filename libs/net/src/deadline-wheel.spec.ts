import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Deadline, DeadlineWheel } from './deadline-wheel.js';
import { VirtualTime } from './testing/virtual-time.js';

class Alarm extends Deadline {
  firedAtMs: number | null = null;
  constructor(private readonly time: VirtualTime) {
    super();
  }
  expire(): void {
    expect(this.firedAtMs).toBeNull();
    this.firedAtMs = this.time.monotonicMs();
  }
}

test('a deadline is never early, at most two ticks late, and not at all when it was removed', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          startMs: fc.integer({ min: 0, max: 3000 }),
          delayMs: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 40_000 })),
          removeAfterMs: fc.option(fc.integer({ min: 0, max: 500 })),
        }),
        { maxLength: 30 },
      ),
      (plan) => {
        const time = new VirtualTime();
        const wheel = new DeadlineWheel(time, time);
        const alarms = plan.map((entry) => ({ ...entry, alarm: new Alarm(time) }));
        for (const { startMs, delayMs, removeAfterMs, alarm } of alarms) {
          time.after(startMs, () => wheel.add(alarm, delayMs));
          if (removeAfterMs !== null) time.after(startMs + removeAfterMs, () => wheel.remove(alarm));
        }
        time.advance(50_000);
        for (const { startMs, delayMs, removeAfterMs, alarm } of alarms) {
          const dueMs = startMs + delayMs;
          if (alarm.firedAtMs === null) expect(removeAfterMs).not.toBeNull();
          else {
            expect(alarm.firedAtMs).toBeGreaterThanOrEqual(dueMs);
            expect(alarm.firedAtMs).toBeLessThanOrEqual(dueMs + 40);
          }
          if (removeAfterMs !== null && removeAfterMs < delayMs) expect(alarm.firedAtMs).toBeNull();
        }
        expect(wheel.size).toBe(0);
        expect(time.step()).toBe(false); // no timer is left running
      },
    ),
  );
});

test('after a standstill of the process everything due fires at once, earliest first, when sockets have been read', () => {
  let nowMs = 0;
  const queue: (() => void)[] = [];
  const wheel = new DeadlineWheel(
    { wallMs: () => 0, monotonicMs: () => nowMs },
    {
      defer: () => undefined,
      after: (_delay, task) => {
        queue.push(task);
        return () => undefined;
      },
    },
  );
  const fired: number[] = [];
  class Numbered extends Deadline {
    constructor(private readonly n: number) {
      super();
    }
    expire(): void {
      fired.push(this.n);
    }
  }
  const answered = new Numbered(200);
  wheel.add(answered, 200);
  for (const delayMs of [30_000, 100, 20_000, 60_000]) wheel.add(new Numbered(delayMs), delayMs);
  nowMs = 45_000;
  queue.shift()!();
  expect(fired).toEqual([]);
  wheel.remove(answered);
  queue.shift()!();
  expect(fired).toEqual([100, 20_000, 30_000]);
  expect(wheel.size).toBe(1);
  // Late again: what is due is not put off a second time.
  nowMs = 90_000;
  queue.shift()!();
  nowMs = 95_000;
  queue.shift()!();
  expect(fired).toEqual([100, 20_000, 30_000, 60_000]);
  expect(queue).toEqual([]);
});
