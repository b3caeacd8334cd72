import { TidelineError, toTidelineError, type Clock, type Scheduler } from '#kernel';
import type { Barrier } from './command-log.js';
import type { Deadlines } from './deadlines.js';

/** Callers waiting for one partition's barrier; beyond it they are turned away. */
export const BARRIER_WAITERS_MAX = 100_000;

interface Waiter {
  /** Monotonic. */
  readonly deadlineMs: number;
  readonly resolve: (barrier: Barrier) => void;
  readonly reject: (error: TidelineError) => void;
}

/**
 * Shares barriers of one partition among all who wait.
 *
 * A barrier proves that the leader was the leader *after it was asked*, so it answers those who came before the question and nobody
 * else: at most one question is under way and one group gathers behind it. A question that fails is asked again, and then answers
 * those who have come in the meantime too.
 *
 *     callers ──► gathering ──(end of turn, or the question under way ends)──► asked ──► answered
 */
export class BarrierGate {
  private gathering: Waiter[] = [];
  private asked: Waiter[] = [];
  private busy = false;
  /** When the waiters are looked through for those whose time is over; Infinity: nobody waits. One deadline for all of them. */
  private sweepAtMs = Number.POSITIVE_INFINITY;
  private forgetSweep: () => void = () => undefined;

  constructor(
    private readonly options: {
      readonly clock: Clock;
      readonly scheduler: Scheduler;
      readonly deadlines: Deadlines;
      /** Asks once. */
      readonly ask: () => Promise<Barrier>;
      /** Whether and when to ask again after this error, in ms; null: never. */
      readonly retryAfterMs: (error: TidelineError, attempt: number) => number | null;
    },
  ) {}

  wait(timeoutMs: number): Promise<Barrier> {
    if (this.gathering.length >= BARRIER_WAITERS_MAX) {
      return Promise.reject(new TidelineError('overloaded', `${BARRIER_WAITERS_MAX} reads wait for a barrier`));
    }
    return new Promise((resolve, reject) => {
      const deadlineMs = this.options.clock.monotonicMs() + timeoutMs;
      this.gathering.push({ deadlineMs, resolve, reject });
      if (deadlineMs < this.sweepAtMs) this.sweepAfter(timeoutMs, deadlineMs);
      if (!this.busy) {
        this.busy = true;
        this.options.scheduler.defer(this.askFirst);
      }
    });
  }

  private readonly askFirst = (): void => this.askOnce(0);

  private askOnce(attempt: number): void {
    // Those of a failed question ask again together with the new ones.
    this.asked = this.asked.length === 0 ? this.gathering : [...this.asked, ...this.gathering];
    this.gathering = [];
    if (this.asked.length === 0) {
      this.busy = false;
      this.stopSweeping();
      return;
    }
    this.options.ask().then(
      (barrier) => {
        const answered = this.asked;
        this.asked = [];
        this.proceed();
        for (let i = 0; i < answered.length; i++) answered[i].resolve(barrier);
      },
      (thrown: unknown) => {
        const error = toTidelineError(thrown);
        const delayMs = this.options.retryAfterMs(error, attempt);
        if (delayMs !== null) {
          this.options.scheduler.after(delayMs, () => this.askOnce(attempt + 1));
          return;
        }
        const refused = this.asked;
        this.asked = [];
        this.proceed();
        for (const waiter of refused) waiter.reject(error);
      },
    );
  }

  private proceed(): void {
    if (this.gathering.length > 0) this.askOnce(0);
    else {
      this.busy = false;
      this.stopSweeping();
    }
  }

  private sweepAfter(delayMs: number, atMs: number): void {
    this.forgetSweep();
    this.sweepAtMs = atMs;
    this.forgetSweep = this.options.deadlines.add(delayMs, this.sweep);
  }

  private stopSweeping(): void {
    this.forgetSweep();
    this.sweepAtMs = Number.POSITIVE_INFINITY;
  }

  private readonly sweep = (): void => {
    const now = this.options.clock.monotonicMs();
    let next = Number.POSITIVE_INFINITY;
    const late: Waiter[] = [];
    const stay = (waiter: Waiter): boolean => {
      if (waiter.deadlineMs <= now) late.push(waiter);
      else next = Math.min(next, waiter.deadlineMs);
      return waiter.deadlineMs > now;
    };
    this.asked = this.asked.filter(stay);
    this.gathering = this.gathering.filter(stay);
    this.sweepAtMs = Number.POSITIVE_INFINITY;
    if (next < this.sweepAtMs) this.sweepAfter(next - now, next);
    for (const { reject } of late) reject(new TidelineError('timeout', 'no barrier in time'));
  };
}
