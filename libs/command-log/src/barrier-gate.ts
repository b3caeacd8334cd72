import { TidelineError, toTidelineError, type Scheduler } from '#kernel';
import type { Barrier } from './command-log.js';
import type { Deadlines } from './deadlines.js';

/** Callers waiting for one partition's barrier; beyond it they are turned away. */
export const BARRIER_WAITERS_MAX = 100_000;

interface Waiter {
  done: boolean;
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

  constructor(
    private readonly options: {
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
      const forget = this.options.deadlines.add(timeoutMs, () => {
        waiter.done = true;
        reject(new TidelineError('timeout', `no barrier within ${timeoutMs} ms`));
      });
      const waiter: Waiter = {
        done: false,
        resolve: (barrier) => {
          forget();
          resolve(barrier);
        },
        reject: (error) => {
          forget();
          reject(error);
        },
      };
      this.gathering.push(waiter);
      if (!this.busy) {
        this.busy = true;
        this.options.scheduler.defer(() => this.askOnce(0));
      }
    });
  }

  private askOnce(attempt: number): void {
    // Those of a failed question ask again together with the new ones.
    this.asked = [...this.asked, ...this.gathering].filter((waiter) => !waiter.done);
    this.gathering = [];
    if (this.asked.length === 0) {
      this.busy = false;
      return;
    }
    this.options.ask().then(
      (barrier) => {
        const answered = this.asked;
        this.asked = [];
        this.proceed();
        for (const waiter of answered) if (!waiter.done) waiter.resolve(barrier);
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
        for (const waiter of refused) if (!waiter.done) waiter.reject(error);
      },
    );
  }

  private proceed(): void {
    if (this.gathering.length === 0) this.busy = false;
    else this.askOnce(0);
  }
}
