import { TidelineClient } from '#client';
import { isErrorCode, toTidelineError, type Rng, randomBelow } from '#kernel';

/** What became of one call, however it was made. */
export type CallResult<T> =
  | { readonly kind: 'ok'; readonly value: T }
  /** It has not and will not take effect. */
  | { readonly kind: 'rejected'; readonly code: string }
  /** It may have taken effect, or may still. */
  | { readonly kind: 'unknown'; readonly code: string };

export interface Appended {
  readonly partition: number;
  readonly offset: number;
}

/** The calls the load makes, over one protocol. All reads are linearizable. */
export interface ChaosClient {
  readonly name: string;
  get(key: string): Promise<CallResult<string | null>>;
  put(key: string, value: string): Promise<CallResult<void>>;
  delete(key: string): Promise<CallResult<void>>;
  /** `condition-failed` is a rejection. */
  putIfAbsent(key: string, value: string): Promise<CallResult<void>>;
  append(topic: string, record: { readonly key: string; readonly value: string }): Promise<CallResult<Appended>>;
  close(): Promise<void>;
}

const VIEW = 'default';

/** The TypeScript SDK: sessions, retries of its own, its own choice of gateway once it knows the cluster. */
export class NativeChaosClient implements ChaosClient {
  private constructor(
    readonly name: string,
    readonly client: TidelineClient,
  ) {}

  static async connect(name: string, addresses: readonly string[]): Promise<NativeChaosClient> {
    return new NativeChaosClient(name, await TidelineClient.connect({ addresses, name, timeoutMs: CALL_MS_MAX }));
  }

  get(key: string): Promise<CallResult<string | null>> {
    return outcome(this.client.get(VIEW, key).then((entry) => entry?.value.toString() ?? null));
  }

  put(key: string, value: string): Promise<CallResult<void>> {
    return outcome(this.client.set(VIEW, key, value).then(() => undefined));
  }

  delete(key: string): Promise<CallResult<void>> {
    return outcome(this.client.del(VIEW, key).then(() => undefined));
  }

  putIfAbsent(key: string, value: string): Promise<CallResult<void>> {
    return outcome(this.client.set(VIEW, key, value, { ifAbsent: true }).then(() => undefined));
  }

  append(topic: string, record: { readonly key: string; readonly value: string }): Promise<CallResult<Appended>> {
    return outcome(
      this.client.append(topic, record).then(([{ partition, firstOffset }]) => ({ partition, offset: firstOffset })),
    );
  }

  close(): Promise<void> {
    return this.client.close();
  }
}

const outcome = async <T>(call: Promise<T>): Promise<CallResult<T>> => {
  try {
    return { kind: 'ok', value: await call };
  } catch (thrown) {
    const { outcome: kind, code } = toTidelineError(thrown);
    return { kind, code };
  }
};

/** Longest time a call is tried for. */
const CALL_MS_MAX = 15_000;

/** How long a client waits. */
export interface Patience {
  /** One request; then another gateway is asked. */
  readonly attemptMs: number;
  /** A call with all its requests: no other is begun after that. */
  readonly callMs: number;
}

export const PATIENT: Patience = { attemptMs: 4_000, callMs: CALL_MS_MAX };
/** Asks once and soon asks anew: some of its questions are always fresh when a node that stood still, or was cut off, answers again. */
export const IMPATIENT: Patience = { attemptMs: 1_000, callMs: 0 };

const PAUSE_MS_MIN = 20;
const PAUSE_MS_MAX = 500;

interface Answer {
  readonly status: number;
  readonly text: string;
}

/**
 * REST, as a careful user writes it: every write with an Idempotency-Key, repeated at the next gateway with the same key until something
 * certain is heard or time is over.
 */
export class RestChaosClient implements ChaosClient {
  private sequence = 0;

  constructor(
    readonly name: string,
    /** Of all gateways, the one to ask first in front. */
    private readonly addresses: readonly string[],
    private readonly rng: Rng,
    private readonly patience: Patience = PATIENT,
  ) {}

  async get(key: string): Promise<CallResult<string | null>> {
    return this.call(async (address) => {
      const answer = await this.request(address, `/v1/views/${VIEW}/entries/${key}`, { method: 'GET' });
      return answer.status === 404 && codeOf(answer) === 'unknown-entry' ? { value: null } : okText(answer);
    });
  }

  put(key: string, value: string): Promise<CallResult<void>> {
    return this.write(`/v1/views/${VIEW}/entries/${key}`, { method: 'PUT', body: value });
  }

  delete(key: string): Promise<CallResult<void>> {
    return this.write(`/v1/views/${VIEW}/entries/${key}`, { method: 'DELETE' });
  }

  putIfAbsent(key: string, value: string): Promise<CallResult<void>> {
    return this.write(`/v1/views/${VIEW}/entries/${key}`, {
      method: 'PUT',
      body: value,
      headers: { 'if-none-match': '*' },
    });
  }

  append(topic: string, record: { readonly key: string; readonly value: string }): Promise<CallResult<Appended>> {
    const idempotencyKey = this.nextIdempotencyKey();
    return this.call(async (address) => {
      const answer = await this.request(address, `/v1/topics/${topic}/records`, {
        method: 'POST',
        body: JSON.stringify({ records: [record] }),
        headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
      });
      const ok = okText(answer);
      if (!('value' in ok)) return ok;
      const { partition, firstOffset } = JSON.parse(ok.value) as { partition: number; firstOffset: number };
      return { value: { partition, offset: firstOffset } };
    });
  }

  private write(path: string, init: RequestInit): Promise<CallResult<void>> {
    const headers = { ...(init.headers as Record<string, string>), 'idempotency-key': this.nextIdempotencyKey() };
    return this.call(async (address) => {
      const ok = okText(await this.request(address, path, { ...init, headers }));
      return 'value' in ok ? { value: undefined } : ok;
    });
  }

  private nextIdempotencyKey(): string {
    return `${this.name}-${this.sequence++}`;
  }

  private async request(address: string, path: string, init: RequestInit): Promise<Answer> {
    const response = await fetch(`http://${address}${path}`, {
      ...init,
      signal: AbortSignal.timeout(this.patience.attemptMs),
    });
    return { status: response.status, text: await response.text() };
  }

  private async call<T>(attempt: (address: string) => Promise<{ value: T } | Refusal>): Promise<CallResult<T>> {
    const deadline = performance.now() + this.patience.callMs;
    let inDoubt = false;
    for (let i = 0; ; i++) {
      let refusal: Refusal;
      try {
        const result = await attempt(this.addresses[i % this.addresses.length]);
        if ('value' in result) return { kind: 'ok', value: result.value };
        refusal = result;
      } catch (thrown) {
        refusal = { code: isAborted(thrown) ? 'timeout' : 'connection-lost', certain: isRefusedConnection(thrown) };
      }
      // The answer of the one time it took effect, whichever attempt that was.
      if (refusal.code === 'condition-failed') return { kind: 'rejected', code: refusal.code };
      inDoubt ||= !refusal.certain;
      if (performance.now() >= deadline || !RETRIED.has(refusal.code))
        return { kind: inDoubt ? 'unknown' : 'rejected', code: refusal.code };
      const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** i);
      await new Promise((resolve) => setTimeout(resolve, randomBelow(this.rng, pauseMs) + 1));
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

interface Refusal {
  readonly code: string;
  /** This attempt had no effect and will have none. */
  readonly certain: boolean;
}

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

interface Problem {
  readonly code?: unknown;
  readonly outcome?: unknown;
}

const problemOf = ({ text }: Answer): Problem => {
  try {
    return JSON.parse(text) as Problem;
  } catch {
    return {};
  }
};

const codeOf = (answer: Answer): string => {
  const { code } = problemOf(answer);
  return isErrorCode(code) ? code : `http-${answer.status}`;
};

const okText = (answer: Answer): { value: string } | Refusal =>
  answer.status < 300
    ? { value: answer.text }
    : { code: codeOf(answer), certain: problemOf(answer).outcome === 'rejected' };

const isAborted = (thrown: unknown): boolean => (thrown as Error).name === 'TimeoutError';

/** Nobody listened: nothing was sent. */
const isRefusedConnection = (thrown: unknown): boolean =>
  ((thrown as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNREFUSED';
