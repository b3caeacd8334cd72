import { describe, expect, test } from '@jest/globals';
import type { Scheduler } from './clock.js';
import { afterRunning } from './running-time.js';

/** An event loop, pass by pass as Node's: timers that are due, then sockets, then what was deferred. */
class EventLoop implements Scheduler {
  nowMs = 0;
  private timers: { readonly dueMs: number; readonly task: () => void }[] = [];
  private deferred: (() => void)[] = [];
  readSockets: () => void = () => undefined;

  defer(task: () => void): void {
    this.deferred.push(task);
  }
  after(delayMs: number, task: () => void): () => void {
    const timer = { dueMs: this.nowMs + delayMs, task };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }
  get timerCount(): number {
    return this.timers.length;
  }

  standStill(durationMs: number): void {
    this.nowMs += durationMs;
    const due = this.timers.filter(({ dueMs }) => dueMs <= this.nowMs);
    this.timers = this.timers.filter(({ dueMs }) => dueMs > this.nowMs);
    for (const { task } of due) task();
    this.readSockets();
    for (const task of this.deferred.splice(0)) task();
  }
  run(durationMs: number): void {
    for (let i = 0; i < durationMs; i++) this.standStill(1);
  }
}

/** When the task ran. */
const started = (delayMs: number) => {
  const loop = new EventLoop();
  const ranAtMs: number[] = [];
  const cancel = afterRunning(loop, delayMs, () => ranAtMs.push(loop.nowMs));
  return { loop, ranAtMs, cancel };
};

describe('a limit in running time', () => {
  test.each([0, 1, 3, 30, 100, 101, 1000])('of %i ms is over after that, in a process that runs', (delayMs) => {
    const { loop, ranAtMs } = started(delayMs);
    loop.run(Math.max(0, delayMs - 1));
    expect(ranAtMs).toEqual([]);
    loop.run(4);
    expect(ranAtMs).toEqual([Math.max(delayMs, 1)]);
    expect(loop.timerCount).toBe(0);
  });

  test('is not over after a standstill before three quarters of it have passed besides', () => {
    for (let atMs = 0; atMs < 100; atMs++) {
      const { loop, ranAtMs } = started(100);
      loop.run(atMs);
      loop.standStill(10_000);
      loop.run(74 - atMs);
      expect(ranAtMs.length).toBe(atMs < 75 ? 0 : 1);
      loop.run(100);
      expect(ranAtMs.length).toBe(1);
    }
  });

  test('is over in the end, though the process stands still again and again', () => {
    const { loop, ranAtMs } = started(100);
    for (let i = 0; i < 4; i++) {
      expect(ranAtMs).toEqual([]);
      loop.standStill(10_000);
    }
    expect(ranAtMs).toEqual([40_000]);
  });

  test('can be cancelled by what is read last', () => {
    const { loop, ranAtMs, cancel } = started(100);
    loop.run(90);
    loop.readSockets = cancel;
    loop.standStill(10_000);
    loop.run(100);
    expect(ranAtMs).toEqual([]);
    expect(loop.timerCount).toBe(0);
  });
});
