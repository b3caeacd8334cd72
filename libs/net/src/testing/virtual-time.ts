import type { Clock, Scheduler } from '#kernel';

interface Event {
  readonly dueMs: number;
  readonly order: number;
  readonly task: () => void;
  cancelled: boolean;
}

/** A clock and a scheduler that move only when told to: one queue, by time and then by order of arrival. */
export class VirtualTime implements Clock, Scheduler {
  private readonly heap: Event[] = [];
  private order = 0;
  private nowMs = 0;

  constructor(private readonly startWallMs = 1_700_000_000_000) {}

  wallMs(): number {
    return this.startWallMs + Math.floor(this.nowMs);
  }

  monotonicMs(): number {
    return this.nowMs;
  }

  defer(task: () => void): void {
    this.push({ dueMs: this.nowMs, order: this.order++, task, cancelled: false });
  }

  after(delayMs: number, task: () => void): () => void {
    const event = { dueMs: this.nowMs + Math.max(0, delayMs), order: this.order++, task, cancelled: false };
    this.push(event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Runs the next event; false when there is none. */
  step(): boolean {
    for (let event = this.pop(); event !== undefined; event = this.pop()) {
      if (event.cancelled) continue;
      this.nowMs = event.dueMs;
      event.task();
      return true;
    }
    return false;
  }

  /** Runs everything due within the next `ms`. */
  advance(ms: number): void {
    const untilMs = this.nowMs + ms;
    while (this.heap.length > 0 && this.heap[0].dueMs <= untilMs) {
      const event = this.pop()!;
      if (event.cancelled) continue;
      this.nowMs = event.dueMs;
      event.task();
    }
    this.nowMs = untilMs;
  }

  private before(a: Event, b: Event): boolean {
    return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
  }

  private push(event: Event): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(event, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  private pop(): Event | undefined {
    const { heap } = this;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.before(heap[child + 1], heap[child])) child++;
      if (!this.before(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
