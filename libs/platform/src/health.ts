/**
 * Is the process alive, and should it get work? `/livez` is yes while the process answers at all: restarting does
 * not help a node that waits for its peers. `/readyz` is yes when every named check passes.
 */
import { afterRunning, systemScheduler, type Scheduler } from '#kernel';

export interface CheckResult {
  readonly ok: boolean;
  /** Why not, or what it saw, in a few words. */
  readonly detail?: string;
}

export type HealthCheck = () => CheckResult | Promise<CheckResult>;

/** The checks users rely on by name; an app registers those that apply to it, and may add others. */
export type CheckName = 'leader' | 'storage' | 'view-lag' | 'catalog' | (string & {});

export interface ReadyReport {
  readonly status: 'ready' | 'not-ready';
  readonly checks?: ReadonlyArray<{ readonly name: string } & CheckResult>;
}

export interface HealthAnswer<Body> {
  readonly status: 200 | 503;
  readonly body: Body;
}

/** A check that takes longer has failed: a probe that hangs says less than one that says no. */
const CHECK_TIMEOUT_MS = 1000;

export class HealthRegistry {
  readonly #checks = new Map<string, HealthCheck>();
  readonly #scheduler: Scheduler;
  #draining = false;

  constructor(scheduler: Scheduler = systemScheduler) {
    this.#scheduler = scheduler;
  }

  /** Returns a function that takes the check away again. A second check of the same name replaces the first. */
  register(name: CheckName, check: HealthCheck): () => void {
    this.#checks.set(name, check);
    return () => {
      if (this.#checks.get(name) === check) this.#checks.delete(name);
    };
  }

  /** Not ready from now on: load balancers look elsewhere while the process finishes its work. */
  drain(): void {
    this.#draining = true;
  }

  live(): HealthAnswer<{ readonly status: 'live' }> {
    return { status: 200, body: { status: 'live' } };
  }

  /** Failed checks are always listed, the others if `verbose`. */
  async ready({ verbose }: { readonly verbose: boolean }): Promise<HealthAnswer<ReadyReport>> {
    const results = await Promise.all(
      [...this.#checks].map(async ([name, check]) => ({ name, ...(await this.#run(check)) })),
    );
    if (this.#draining) results.push({ name: 'shutdown', ok: false, detail: 'the node is stopping' });
    const ready = results.every((result) => result.ok);
    const checks = verbose ? results : results.filter((result) => !result.ok);
    return {
      status: ready ? 200 : 503,
      body: { status: ready ? 'ready' : 'not-ready', ...(checks.length > 0 && { checks }) },
    };
  }

  #run(check: HealthCheck): Promise<CheckResult> {
    return new Promise((resolve) => {
      const cancel = afterRunning(this.#scheduler, CHECK_TIMEOUT_MS, () =>
        resolve({ ok: false, detail: `no answer within ${CHECK_TIMEOUT_MS} ms` }),
      );
      const settle = (result: CheckResult): void => {
        cancel();
        resolve(result);
      };
      const fail = (error: unknown): void =>
        settle({ ok: false, detail: error instanceof Error ? error.message : String(error) });
      try {
        Promise.resolve(check()).then(settle, fail);
      } catch (error) {
        fail(error);
      }
    });
  }
}
