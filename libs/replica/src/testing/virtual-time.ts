import { assert, type Clock, type Scheduler } from '#kernel';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly task: () => void;
}

/** Tasks of one moment; more is a loop that never ends. */
const TASKS_PER_MOMENT_MAX = 1_000_000;

/**
 * Time that passes only when it is told to, and the one queue of all that happens in it. Deferred tasks run at once, in order, before any
 * timer. Wall time is elapsed time plus `wallOffsetMs`, which may be changed at will.
 */
export class VirtualTime implements Clock, Scheduler {
  private now = 0;
  private order = 0;
  private deferred: (() => void)[] = [];
  /** A binary heap by (at, order). */
  private readonly timers: Timer[] = [];

  constructor(private readonly epochMs = 1_700_000_000_000) {}

  wallOffsetMs = 0;

  wallMs(): number {
    return Math.floor(this.epochMs + this.now + this.wallOffsetMs);
  }

  monotonicMs(): number {
    return this.now;
  }

  defer(task: () => void): void {
    this.deferred.push(task);
  }

  after(delayMs: number, task: () => void): () => void {
    let cancelled = false;
    this.push({ at: this.now + Math.max(0, delayMs), order: this.order++, task: () => !cancelled && task() });
    return () => {
      cancelled = true;
    };
  }

  /** Runs all that is deferred, also what comes up on the way. */
  settle(): void {
    for (let count = 0; this.deferred.length > 0; count++) {
      assert(count < TASKS_PER_MOMENT_MAX, 'a moment comes to an end');
      const tasks = this.deferred;
      this.deferred = [];
      for (const task of tasks) task();
    }
  }

  /** Runs what is due next, and moves time there. False when nothing is. */
  step(): boolean {
    if (this.deferred.length > 0) {
      this.settle();
      return true;
    }
    const timer = this.pop();
    if (timer === undefined) return false;
    this.now = Math.max(this.now, timer.at);
    timer.task();
    this.settle();
    return true;
  }

  /** Lets time pass. */
  pass(ms: number): void {
    const end = this.now + ms;
    this.settle();
    while (this.timers.length > 0 && this.timers[0].at <= end) this.step();
    this.now = end;
  }

  /** Lets time pass until the condition holds; throws when it does not within `timeoutMs`. */
  until(condition: () => boolean, timeoutMs = 60_000, what = 'the condition holds'): void {
    const end = this.now + timeoutMs;
    this.settle();
    while (!condition()) {
      const due = this.deferred.length > 0 ? this.now : this.timers[0]?.at;
      if (due === undefined || due > end) throw new Error(`not within ${timeoutMs} ms of virtual time: ${what}`);
      this.step();
    }
  }

  private push(timer: Timer): void {
    const { timers } = this;
    let at = timers.length;
    timers.push(timer);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(timer, timers[parent])) break;
      timers[at] = timers[parent];
      at = parent;
    }
    timers[at] = timer;
  }

  private pop(): Timer | undefined {
    const { timers } = this;
    const first = timers[0];
    const last = timers.pop();
    if (last === undefined || timers.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= timers.length) break;
      if (child + 1 < timers.length && isBefore(timers[child + 1], timers[child])) child++;
      if (!isBefore(timers[child], last)) break;
      timers[at] = timers[child];
      at = child;
    }
    timers[at] = last;
    return first;
  }
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
