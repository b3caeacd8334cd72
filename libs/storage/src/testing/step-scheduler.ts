import { assert, type Clock, type Scheduler } from '#kernel';

/** More than any test needs. */
const STEPS_MAX = 1_000_000;

interface Task {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** A scheduler and clock for tests without waiting: time moves when the test runs what is due. Same calls, same order. */
export class StepScheduler implements Scheduler, Clock {
  private tasks: Task[] = [];
  private order = 0;
  private now = 0;

  defer(task: () => void): void {
    this.after(0, task);
  }

  after(delayMs: number, run: () => void): () => void {
    const task = { at: this.now + delayMs, order: this.order++, run };
    this.tasks.push(task);
    return () => {
      this.tasks = this.tasks.filter((other) => other !== task);
    };
  }

  wallMs(): number {
    return Math.floor(this.now);
  }

  monotonicMs(): number {
    return this.now;
  }

  get pending(): number {
    return this.tasks.length;
  }

  /** Runs the next task; false when there is none. */
  step(): boolean {
    if (this.tasks.length === 0) return false;
    const next = this.tasks.reduce((first, task) =>
      task.at < first.at || (task.at === first.at && task.order < first.order) ? task : first,
    );
    this.tasks = this.tasks.filter((task) => task !== next);
    this.now = Math.max(this.now, next.at);
    next.run();
    return true;
  }

  /** Runs what is due within `ms` from now, and what that makes due. */
  advance(ms: number): void {
    const end = this.now + ms;
    while (this.tasks.some((task) => task.at <= end)) this.step();
    this.now = end;
  }

  /** Steps until the condition holds; false when nothing is left to run before it does. */
  runUntil(condition: () => boolean): boolean {
    for (let steps = 0; !condition(); steps++) {
      assert(steps < STEPS_MAX, 'the condition comes about in a bounded number of steps');
      if (!this.step()) return condition();
    }
    return true;
  }

  /** Forgets everything: the process is gone. */
  clear(): void {
    this.tasks = [];
  }
}
