import type { LogTime, NodeId, Offset, Term, TidelineError } from '#kernel';

/** Where an appended batch lies. */
export interface Appended {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly logTime: LogTime;
  readonly term: Term;
  /** The node that led. */
  readonly node: NodeId;
  /** The batch had been appended before (same session and sequence, or idempotency key): these are its offsets. */
  readonly duplicate: boolean;
}

/** Exactly one of the two is null. May be called before `append` returns. */
export type AppendCallback = (error: TidelineError | null, appended: Appended | null) => void;

export interface AppendWaiter {
  readonly appended: Appended;
  readonly done: AppendCallback;
  /** Tick of the group at which a waiter whose leader lost its office gives up. */
  deadline: number;
}

const COMPACT_AT = 1024;

/** Appends that wait for an offset, in order of their last offset. */
export class AppendWaiters {
  private waiters: AppendWaiter[] = [];
  private head = 0;

  get size(): number {
    return this.waiters.length - this.head;
  }

  /** Nearly always the newest; a retry of a batch in flight goes to its place before others. */
  add(waiter: AppendWaiter): void {
    const { waiters } = this;
    const { lastOffset } = waiter.appended;
    let at = waiters.length;
    while (at > this.head && waiters[at - 1].appended.lastOffset > lastOffset) at--;
    if (at === waiters.length) waiters.push(waiter);
    else waiters.splice(at, 0, waiter);
  }

  /** Takes the first one if it ends at or below `offset`. */
  takeUpTo(offset: Offset): AppendWaiter | null {
    const { waiters, head } = this;
    if (head === waiters.length || waiters[head].appended.lastOffset > offset) return null;
    const waiter = waiters[head];
    this.head++;
    if (this.head === waiters.length) {
      waiters.length = 0;
      this.head = 0;
    } else if (this.head >= COMPACT_AT && this.head * 2 >= waiters.length) {
      waiters.splice(0, this.head);
      this.head = 0;
    }
    return waiter;
  }

  /** All of them; none are left. */
  takeAll(): AppendWaiter[] {
    const taken = this.waiters.slice(this.head);
    this.waiters = [];
    this.head = 0;
    return taken;
  }

  /** All that a predicate picks. */
  take(picked: (waiter: AppendWaiter) => boolean): AppendWaiter[] {
    const all = this.takeAll();
    const taken: AppendWaiter[] = [];
    for (const waiter of all) (picked(waiter) ? taken : this.waiters).push(waiter);
    return taken;
  }
}
