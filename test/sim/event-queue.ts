import { assert, type Scheduler } from '#kernel';
import { drainMicrotasks } from './microtasks.js';

/** Who an event belongs to: a node by its id, 0 the world, from 100 on clients. */
export type Owner = number;

interface Timer {
  at: number;
  readonly order: number;
  readonly owner: Owner;
  task: (() => void) | null;
}

/** Deferred tasks of one event; more is a loop that never ends. */
const TASKS_PER_EVENT_MAX = 100_000;

/**
 * Virtual time, and the one queue of all that happens in it. An event is a task with all that it defers and all promise reactions that follow
 * from it; then the checkers look. Events of one moment run in the order in which they were asked for.
 */
export class EventQueue {
  /** Milliseconds since the start. */
  now = 0;
  events = 0;
  /** Whose event it is, or was last. */
  owner: Owner = 0;
  private order = 0;
  private deferred: (() => void)[] = [];
  private readonly heap: Timer[] = [];
  /** Events of a paused owner wait until then. */
  private readonly pausedUntil = new Map<Owner, number>();

  get size(): number {
    return this.heap.length;
  }

  after(delayMs: number, owner: Owner, task: () => void): () => void {
    const timer: Timer = { at: this.now + (delayMs > 0 ? delayMs : 0), order: this.order++, owner, task };
    this.push(timer);
    return () => {
      timer.task = null;
    };
  }

  defer(task: () => void): void {
    this.deferred.push(task);
  }

  /** The scheduler of one life of one owner. `rate`: how fast its timers run. */
  scheduler(owner: Owner, isAlive: () => boolean, rate = 1): Scheduler {
    return {
      defer: (task) => this.defer(() => isAlive() && task()),
      after: (delayMs, task) => this.after(delayMs / rate, owner, () => isAlive() && task()),
    };
  }

  pause(owner: Owner, ms: number): void {
    this.pausedUntil.set(owner, this.now + ms);
  }

  /** As `pause`, but never shortens one. */
  holdUntil(owner: Owner, until: number): void {
    if (until > (this.pausedUntil.get(owner) ?? 0)) this.pausedUntil.set(owner, until);
  }

  isPaused(owner: Owner): boolean {
    return (this.pausedUntil.get(owner) ?? 0) > this.now;
  }

  resume(owner: Owner): void {
    this.pausedUntil.delete(owner);
  }

  /** Runs the next event if it is due by `until`; returns its owner, −1 when there is none. */
  step(until: number): Owner {
    for (;;) {
      const first = this.heap[0];
      if (first === undefined || first.at > until) return -1;
      this.pop();
      const { task, owner } = first;
      if (task === null) continue;
      if (first.at > this.now) this.now = first.at;
      if (this.pausedUntil.size > 0) {
        const paused = this.pausedUntil.get(owner);
        if (paused !== undefined) {
          if (paused > this.now) {
            // With its order kept: what waits comes in the order in which it would have come.
            first.at = paused;
            this.push(first);
            continue;
          }
          this.pausedUntil.delete(owner);
        }
      }
      this.events++;
      this.owner = owner;
      task();
      this.settle();
      return owner;
    }
  }

  /** Runs all that is deferred and all promise reactions, until nothing is left. */
  settle(): void {
    drainMicrotasks();
    for (let count = 0; this.deferred.length > 0;) {
      const tasks = this.deferred;
      this.deferred = [];
      count += tasks.length;
      assert(count < TASKS_PER_EVENT_MAX, 'an event comes to an end');
      for (let i = 0; i < tasks.length; i++) {
        tasks[i]();
        drainMicrotasks();
      }
    }
  }

  private push(timer: Timer): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(timer);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(timer, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = timer;
  }

  private pop(): void {
    const { heap } = this;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
  }
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
