import { Logger } from '@nestjs/common';
import { ClientProxyFactory, Transport, type ClientProxy } from '@nestjs/microservices';
import { isErrorCode, type Rng } from '#kernel';
import { firstValueFrom, timeout } from 'rxjs';
import type { Appended, CallResult, ChaosClient, Command, CommandResult } from './chaos-client.js';
import { PATIENT, Persistence, type Patience, type Refusal } from './persistence.js';

/** Lost connections are what this is about: Nest's own lines about them say nothing new. */
Logger.overrideLogger(false);

/** Nest's own client over its own TCP transport, as it comes; every write with an idempotency key. */
export class NestChaosClient implements ChaosClient {
  private sequence = 0;
  private readonly proxies: readonly ClientProxy[];
  private readonly persistence: Persistence<ClientProxy>;

  constructor(
    readonly name: string,
    /** Of all gateways, the one to ask first in front. */
    ports: readonly number[],
    rng: Rng,
    private readonly patience: Patience = PATIENT,
  ) {
    this.proxies = ports.map((port) =>
      ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } }),
    );
    this.persistence = new Persistence(this.proxies, rng, patience);
  }

  get(key: string): Promise<CallResult<string | null>> {
    return this.call('get', { key }, (entry: { value: string } | null) => entry?.value ?? null);
  }

  put(key: string, value: string): Promise<CallResult<void>> {
    return this.write('set', { key, value }, () => undefined);
  }

  delete(key: string): Promise<CallResult<void>> {
    return this.write('del', { key }, () => undefined);
  }

  putIfAbsent(key: string, value: string): Promise<CallResult<void>> {
    return this.write('set', { key, value, ifNoneMatch: '*' }, () => undefined);
  }

  append(topic: string, record: { readonly key: string; readonly value: string }): Promise<CallResult<Appended>> {
    return this.write(
      'append',
      { topic, records: [record] },
      ({ partition, firstOffset }: { partition: number; firstOffset: number }) => ({ partition, offset: firstOffset }),
    );
  }

  putLease(
    view: string,
    lease: { readonly key: string; readonly value: string; readonly ttlMs: number },
  ): Promise<CallResult<number>> {
    const { key, value, ttlMs } = lease;
    return this.write('set', { view, key, value, ttl: ttlMs }, ({ offset }: { offset: number }) => offset);
  }

  command({ key, op, args }: Command): Promise<CallResult<CommandResult>> {
    return this.write('command', { key, op, args }, (result: CommandResult) => result);
  }

  private write<A, T>(cmd: string, payload: object, read: (answer: A) => T): Promise<CallResult<T>> {
    return this.call(cmd, { ...payload, idempotencyKey: `${this.name}-${this.sequence++}` }, read);
  }

  private call<A, T>(cmd: string, payload: object, read: (answer: A) => T): Promise<CallResult<T>> {
    return this.persistence.call(async (proxy) => {
      try {
        const answer = proxy.send<A>({ cmd }, payload).pipe(timeout(this.patience.attemptMs));
        return { value: read(await firstValueFrom(answer)) };
      } catch (thrown) {
        return refusalOf(thrown);
      }
    });
  }

  close(): Promise<void> {
    for (const proxy of this.proxies) void proxy.close();
    return Promise.resolve();
  }
}

/** An answer of ours has a code and an outcome; the rest is what the client makes of its connection. */
const refusalOf = (thrown: unknown): Refusal => {
  const { code, outcome, name } = thrown as { code?: unknown; outcome?: unknown; name?: unknown };
  if (isErrorCode(code)) return { code, certain: outcome === 'rejected' };
  return { code: name === 'TimeoutError' ? 'timeout' : 'connection-lost', certain: code === 'ECONNREFUSED' };
};
