import { describe, expect, test } from '@jest/globals';
import { AssertionFailure, assert, type Clock } from '#kernel';
import { HANG_MS, LOOP_WRITE_BYTES_MAX, LoopWrites, PAUSE_MS_MAX, PAUSE_MS_MIN, QUICK_MS } from './loop-writes.js';

const setUp = () => {
  let now = 5000;
  const clock: Clock = { wallMs: () => now, monotonicMs: () => now };
  const writes = new LoopWrites(clock);
  const pass = (ms: number): void => {
    now += ms;
  };
  return {
    writes,
    pass,
    take: (ms: number) => writes.make(() => pass(ms)),
    /** Ms until the loop may write again. */
    pause: (): number => {
      let ms = 0;
      for (; !writes.admits(1); ms += 500) pass(500);
      return ms;
    },
  };
};

describe('writes by the event loop itself', () => {
  test('begin when the disk has not hung for a while', () => {
    const { writes, pass, pause } = setUp();
    expect(writes.admits(1)).toBe(false);
    pass(PAUSE_MS_MIN - 1);
    const began = writes.nowMs();
    pass(HANG_MS);
    writes.pooledSince(began);
    expect(writes.admits(1)).toBe(false);
    expect(pause()).toBe(PAUSE_MS_MIN);
  });

  test('are small ones', () => {
    const { writes, pass } = setUp();
    pass(PAUSE_MS_MIN);
    expect(writes.admits(LOOP_WRITE_BYTES_MAX)).toBe(true);
    expect(writes.admits(LOOP_WRITE_BYTES_MAX + 1)).toBe(false);
  });

  test('go on while most are quick, whatever a few take', () => {
    const { writes, pause, take } = setUp();
    pause();
    for (let i = 0; i < 200; i++) take(i % 3 === 0 ? HANG_MS - 1 : QUICK_MS);
    expect(writes.admits(1)).toBe(true);
  });

  test('end at a disk that is not quick', () => {
    const { writes, pause, take } = setUp();
    pause();
    for (let i = 0; i < 64; i++) take(QUICK_MS);
    let slow = 0;
    for (; writes.admits(1); slow++) take(QUICK_MS + 1);
    expect(slow).toBeGreaterThan(1);
    expect(slow).toBeLessThan(100);
  });

  test('end with one that hangs, each time for twice as long, up to a bound', () => {
    const { pause, take } = setUp();
    pause();
    const pauses: number[] = [];
    for (let i = 0; i < 10; i++) {
      take(HANG_MS);
      pauses.push(pause());
    }
    expect(pauses.slice(0, 4)).toEqual([1, 2, 4, 8].map((times) => times * PAUSE_MS_MIN));
    expect(pauses.at(-1)).toBe(PAUSE_MS_MAX);
  });

  test('forget the pauses after as long a time without trouble', () => {
    const { pass, pause, take } = setUp();
    pause();
    for (let i = 0; i < 3; i++) {
      take(HANG_MS);
      pause();
    }
    for (let i = 0; i < 100; i++) {
      take(QUICK_MS);
      pass(1000);
    }
    take(HANG_MS);
    expect(pause()).toBe(PAUSE_MS_MIN);
  });

  test('tell their errors, but not those of the program', () => {
    const { writes } = setUp();
    const error = new Error('EIO');
    const failing = (): never => {
      throw error;
    };
    expect(writes.make(failing)).toBe(error);
    expect(() => writes.make(() => assert(false, 'never'))).toThrow(AssertionFailure);
  });
});
