import { randomBelow, type Rng } from '#kernel';
import type { CallResult } from './chaos-client.js';

/** How long a client waits. */
export interface Patience {
  /** One request; then another gateway is asked. */
  readonly attemptMs: number;
  /** A call with all its requests: no other is begun after that. */
  readonly callMs: number;
}

/** Longest time a call is tried for. */
export const CALL_MS_MAX = 15_000;

export const PATIENT: Patience = { attemptMs: 4_000, callMs: CALL_MS_MAX };
/** Asks once and soon asks anew: some of its questions are always fresh when a node that stood still, or was cut off, answers again. */
export const IMPATIENT: Patience = { attemptMs: 1_000, callMs: 0 };

export interface Refusal {
  readonly code: string;
  /** This attempt had no effect and will have none. */
  readonly certain: boolean;
}

/** Codes after which the same request is sent again. */
const RETRIED = new Set([
  'timeout',
  'connection-lost',
  'leadership-lost',
  'result-evicted',
  'no-leader',
  'not-leader',
  'not-ready',
  'shutting-down',
  'overloaded',
]);

const PAUSE_MS_MIN = 20;
const PAUSE_MS_MAX = 500;

/**
 * One call as a careful user makes it, who has no SDK: asked of one gateway after the other until something certain is heard or time is over. A
 * write has the same idempotency key in every attempt.
 */
export class Persistence<Gateway> {
  constructor(
    /** The one to ask first in front. */
    private readonly gateways: readonly Gateway[],
    private readonly rng: Rng,
    private readonly patience: Patience,
  ) {}

  /** `attempt` resolves with a value or a refusal, and rejects with nothing. */
  async call<T>(attempt: (gateway: Gateway) => Promise<{ readonly value: T } | Refusal>): Promise<CallResult<T>> {
    const deadline = performance.now() + this.patience.callMs;
    let inDoubt = false;
    for (let i = 0; ; i++) {
      const answer = await attempt(this.gateways[i % this.gateways.length]);
      if ('value' in answer) return { kind: 'ok', value: answer.value };
      // The answer of the one time it took effect, whichever attempt that was.
      if (answer.code === 'condition-failed') return { kind: 'rejected', code: answer.code };
      inDoubt ||= !answer.certain;
      if (performance.now() >= deadline || !RETRIED.has(answer.code))
        return { kind: inDoubt ? 'unknown' : 'rejected', code: answer.code };
      const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** i);
      await new Promise((resolve) => setTimeout(resolve, randomBelow(this.rng, pauseMs) + 1));
    }
  }
}
