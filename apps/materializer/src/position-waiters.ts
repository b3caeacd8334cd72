import { TidelineError, type Clock, type Offset, type Scheduler } from '#kernel';

/** A reader waits for an offset; called with null when it is applied, with `timeout` or another error when it will not be. */
export type PositionCallback = (error: TidelineError | null) => void;

interface Waiter {
  readonly offset: Offset;
  readonly deadlineMs: number;
  readonly done: PositionCallback;
}

/** Beyond this many waiting readers a partition answers `overloaded`. */
export const WAITERS_MAX = 100_000;
const SWEEP_MS = 50;

/**
 * Readers of one view partition that wait until it has applied an offset. Almost all of them wait for the newest offset, so the list is kept in
 * the order of arrival and looked through once per applied run of batches; one timer serves all deadlines.
 */
export class PositionWaiters {
  private waiters: Waiter[] = [];
  private lowest = Number.POSITIVE_INFINITY;
  private cancelSweep: (() => void) | null = null;

  constructor(
    private readonly clock: Clock,
    private readonly scheduler: Scheduler,
  ) {}

  get size(): number {
    return this.waiters.length;
  }

  add(offset: Offset, timeoutMs: number, done: PositionCallback): void {
    if (this.waiters.length >= WAITERS_MAX) {
      done(new TidelineError('overloaded', `${WAITERS_MAX} readers wait for this view already`));
      return;
    }
    this.waiters.push({ offset, deadlineMs: this.clock.monotonicMs() + timeoutMs, done });
    if (offset < this.lowest) this.lowest = offset;
    this.cancelSweep ??= this.scheduler.after(SWEEP_MS, this.sweep);
  }

  /** Everything up to `offset` is applied. */
  reached(offset: Offset): void {
    if (this.lowest > offset) return;
    this.settle((waiter) => waiter.offset <= offset, null);
  }

  failAll(error: TidelineError): void {
    this.settle(() => true, error);
    this.cancelSweep?.();
    this.cancelSweep = null;
  }

  private settle(settled: (waiter: Waiter) => boolean, error: TidelineError | null): void {
    const all = this.waiters;
    this.waiters = [];
    this.lowest = Number.POSITIVE_INFINITY;
    for (const waiter of all) {
      if (settled(waiter)) {
        waiter.done(error);
        continue;
      }
      this.waiters.push(waiter);
      if (waiter.offset < this.lowest) this.lowest = waiter.offset;
    }
  }

  private readonly sweep = (): void => {
    this.cancelSweep = null;
    const now = this.clock.monotonicMs();
    this.settle(
      (waiter) => waiter.deadlineMs <= now,
      new TidelineError('timeout', 'the view did not reach the offset in time', { outcome: 'unknown' }),
    );
    if (this.waiters.length > 0) this.cancelSweep ??= this.scheduler.after(SWEEP_MS, this.sweep);
  };
}
