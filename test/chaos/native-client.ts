import { TidelineClient } from '#client';
import { toTidelineError } from '#kernel';
import {
  VIEW,
  type Appended,
  type CallResult,
  type ChaosClient,
  type Command,
  type CommandResult,
} from './chaos-client.js';
import { CALL_MS_MAX } from './persistence.js';

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

  putLease(
    view: string,
    lease: { readonly key: string; readonly value: string; readonly ttlMs: number },
  ): Promise<CallResult<number>> {
    const { key, value, ttlMs } = lease;
    return outcome(this.client.set(view, key, value, { ttlMs }).then(({ offset }) => offset));
  }

  command({ key, op, args }: Command): Promise<CallResult<CommandResult>> {
    return outcome(this.client.command(VIEW, key, op, args));
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
