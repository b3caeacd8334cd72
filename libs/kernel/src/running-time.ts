import type { Scheduler } from './clock.js';

/** A delay is counted in so many steps. */
const STEPS = 4;

/**
 * Runs the task when this process has run for `delayMs`: for limits on what others may take their time for. Returns a function that cancels it.
 *
 *     ── step ── step ── step ── step ──► sockets are read once more ──► task
 *     └───────────── delayMs ─────────┘
 *
 * A process that stood still (a virtual machine without its processor, SIGSTOP, a long turn of the event loop) wakes to timers that are due, and
 * only then reads what has arrived meanwhile; and if the whole machine stood still, others had no time either. A standstill, however long,
 * passes for one step at most, and sockets have been read between any two.
 */
export const afterRunning = (scheduler: Scheduler, delayMs: number, task: () => void): (() => void) => {
  const stepMs = Math.ceil(delayMs / STEPS);
  let leftMs = delayMs;
  let cancelled = false;
  let cancelStep: () => void = () => undefined;
  const wait = (): void => {
    const nowMs = Math.min(stepMs, leftMs);
    leftMs -= nowMs;
    cancelStep = scheduler.after(nowMs, () => {
      if (leftMs > 0) wait();
      else scheduler.defer(end);
    });
  };
  const end = (): void => {
    if (!cancelled) task();
  };
  wait();
  return () => {
    cancelled = true;
    cancelStep();
  };
};
