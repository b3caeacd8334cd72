import type { Clock, Scheduler } from '#kernel';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly task: () => void;
}

const PROMISE_TURNS = 8;

/** Clock and scheduler of a test: time moves only when the test says so, and everything due runs in a fixed order. */
export class VirtualTime implements Clock, Scheduler {
  private now = 0;
  private order = 0;
  private deferred: (() => void)[] = [];
  private readonly timers = new Set<Timer>();

  constructor(private readonly epochMs = 1_700_000_000_000) {}

  wallMs(): number {
    return this.epochMs + this.now;
  }

  monotonicMs(): number {
    return this.now;
  }

  defer(task: () => void): void {
    this.deferred.push(task);
  }

  after(delayMs: number, task: () => void): () => void {
    const timer: Timer = { at: this.now + delayMs, order: this.order++, task };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  get pendingTimers(): number {
    return this.timers.size;
  }

  /** Runs what is deferred, and what promises and other turns of the event loop bring, until there is no more. Time stands still. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < PROMISE_TURNS;) {
      const tasks = this.deferred;
      this.deferred = [];
      for (const task of tasks) task();
      quiet = tasks.length > 0 ? 0 : quiet + 1;
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
  }

  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      await this.settle();
      const next = this.nextTimer();
      if (next === null || next.at > end) break;
      this.timers.delete(next);
      this.now = Math.max(this.now, next.at);
      next.task();
    }
    this.now = end;
  }

  private nextTimer(): Timer | null {
    let first: Timer | null = null;
    for (const timer of this.timers) {
      if (first === null || timer.at < first.at || (timer.at === first.at && timer.order < first.order)) first = timer;
    }
    return first;
  }

  /** Lets time pass until the promise is settled, at most `limitMs`. */
  async until<T>(promise: Promise<T>, limitMs = 60_000): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    const end = this.now + limitMs;
    for (;;) {
      await this.settle();
      if (settled) return promise;
      const next = this.nextTimer();
      if (next === null || next.at > end) throw new Error(`not settled within ${limitMs} ms of virtual time`);
      this.timers.delete(next);
      this.now = Math.max(this.now, next.at);
      next.task();
    }
  }
}
