import { isErrorCode, type Rng } from '#kernel';
import {
  VIEW,
  type Appended,
  type CallResult,
  type ChaosClient,
  type Command,
  type CommandResult,
} from './chaos-client.js';
import { PATIENT, Persistence, type Patience, type Refusal } from './persistence.js';

/** What a read said, and the offset that it says it reflects. */
export interface LeaseRead {
  readonly value: string | null;
  readonly offset: number;
}

/** REST: every write with an Idempotency-Key. */
export class RestChaosClient implements ChaosClient {
  private sequence = 0;
  private readonly persistence: Persistence<string>;

  constructor(
    readonly name: string,
    /** Of all gateways, the one to ask first in front. */
    addresses: readonly string[],
    rng: Rng,
    private readonly patience: Patience = PATIENT,
  ) {
    this.persistence = new Persistence(addresses, rng, patience);
  }

  get(key: string): Promise<CallResult<string | null>> {
    return this.call(`/v1/views/${VIEW}/entries/${key}`, { method: 'GET' }, ({ text }) => text, null);
  }

  /** An entry of any view, with the offset the answer reflects. */
  read(view: string, key: string): Promise<CallResult<LeaseRead>> {
    return this.persistence.call(async (address) => {
      const answer = await this.request(address, `/v1/views/${view}/entries/${key}`, { method: 'GET' });
      if ('certain' in answer) return answer;
      const isThere = answer.status < 300;
      if (!isThere && !isMissing(answer)) return refusalOf(answer);
      return { value: { value: isThere ? answer.text : null, offset: answer.offset } };
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
    return this.call(
      `/v1/topics/${topic}/records`,
      this.withKey({ method: 'POST', body: JSON.stringify({ records: [record] }), headers: JSON_BODY }),
      ({ text }) => {
        const { partition, firstOffset } = JSON.parse(text) as { partition: number; firstOffset: number };
        return { partition, offset: firstOffset };
      },
    );
  }

  putLease(
    view: string,
    lease: { readonly key: string; readonly value: string; readonly ttlMs: number },
  ): Promise<CallResult<number>> {
    return this.call(
      `/v1/views/${view}/entries/${lease.key}?ttl=${lease.ttlMs}`,
      this.withKey({ method: 'PUT', body: lease.value }),
      ({ text }) => (JSON.parse(text) as { offset: number }).offset,
    );
  }

  command({ key, op, args }: Command): Promise<CallResult<CommandResult>> {
    return this.commandUnder(this.nextIdempotencyKey(), { key, op, args });
  }

  /** Sent again under the same key it takes effect once and has the same result. */
  commandUnder(idempotencyKey: string, { key, op, args }: Command): Promise<CallResult<CommandResult>> {
    return this.call(
      `/v1/views/${VIEW}/entries/${key}/commands`,
      {
        method: 'POST',
        body: JSON.stringify({ op, args }),
        headers: { ...JSON_BODY, 'idempotency-key': idempotencyKey },
      },
      ({ text }) => JSON.parse(text) as CommandResult,
    );
  }

  nextIdempotencyKey(): string {
    return `${this.name}-${this.sequence++}`;
  }

  private write(path: string, init: RequestInit): Promise<CallResult<void>> {
    return this.call(path, this.withKey(init), () => undefined);
  }

  private withKey(init: RequestInit): RequestInit {
    const headers = { ...(init.headers as Record<string, string>), 'idempotency-key': this.nextIdempotencyKey() };
    return { ...init, headers };
  }

  /** `missing`: what to say when there is no such entry. */
  private call<T>(path: string, init: RequestInit, read: (answer: Answer) => T, missing?: T): Promise<CallResult<T>> {
    return this.persistence.call(async (address) => {
      const answer = await this.request(address, path, init);
      if ('certain' in answer) return answer;
      if (missing !== undefined && isMissing(answer)) return { value: missing };
      return answer.status < 300 ? { value: read(answer) } : refusalOf(answer);
    });
  }

  private async request(address: string, path: string, init: RequestInit): Promise<Answer | Refusal> {
    try {
      const response = await fetch(`http://${address}${path}`, {
        ...init,
        signal: AbortSignal.timeout(this.patience.attemptMs),
      });
      const offset = Number(response.headers.get('tideline-offset') ?? Number.NaN);
      return { status: response.status, text: await response.text(), offset };
    } catch (thrown) {
      return { code: isAborted(thrown) ? 'timeout' : 'connection-lost', certain: isRefusedConnection(thrown) };
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const JSON_BODY = { 'content-type': 'application/json' };

interface Answer {
  readonly status: number;
  readonly text: string;
  /** What the answer reflects. */
  readonly offset: number;
}

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

const isMissing = (answer: Answer): boolean => answer.status === 404 && problemOf(answer).code === 'unknown-entry';

const refusalOf = (answer: Answer): Refusal => {
  const { code, outcome } = problemOf(answer);
  return { code: isErrorCode(code) ? code : `http-${answer.status}`, certain: outcome === 'rejected' };
};

const isAborted = (thrown: unknown): boolean => (thrown as Error).name === 'TimeoutError';

/** Nobody listened: nothing was sent. */
const isRefusedConnection = (thrown: unknown): boolean =>
  ((thrown as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNREFUSED';
