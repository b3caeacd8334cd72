import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { asOffset, type TidelineError } from '#kernel';
import { tcpTransport, type Connection } from '#net';
import {
  DEL_IF,
  decodeRecords,
  encodeBatch,
  encodeConditionalOp,
  encodeControlBatch,
  forEachBatch,
  gatewayServiceV1 as v1,
  readAllFound,
  setBatchSession,
  type RequestCall,
  type WatchEventMessage,
} from '#wire';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

let gateway: TestGateway;
let connection: Connection;
beforeAll(async () => {
  gateway = await startTestGateway();
  const hello = { nodeId: 0, clusterId: '', service: 'gateway', software: 'test', addresses: {} };
  connection = await tcpTransport.connect(`127.0.0.1:${gateway.nativePort}`, hello, null);
});
afterAll(async () => {
  connection.close();
  await gateway.stop();
});

const ask = <Q, A>(call: RequestCall<Q, A, never> | RequestCall<Q, A>, request: Q): Promise<A> =>
  new Promise((resolve, reject) => {
    connection.request(call.method, call.encodeRequest(request), { timeoutMs: 10_000 }, (error, payload) =>
      error ? reject(error) : resolve(call.decodeResponse(payload)),
    );
  });
const batchOf = (...values: string[]): Buffer =>
  encodeBatch(
    values.map((value) => ({ key: Buffer.from(value), value: Buffer.from(value) })),
    { createTime: 1 },
  );
const target = { topic: 'default', partition: 0 };
const append = (batch: Buffer, acks: 'quorum' | 'applied' | 'leader' | 'none' = 'quorum') =>
  ask(v1.append, { ...target, acks, timeoutMs: 5_000, batch });
const read = { consistency: 'linearizable', minOffset: 0, maxLagMs: 0, timeoutMs: 0 } as const;

describe('a native client', () => {
  test('appends batches it has encoded, in a session if it likes', async () => {
    const first = await append(batchOf('a', 'b'));
    expect(first.lastOffset - first.firstOffset).toBe(1);
    const session = await ask(v1.openSession, target);
    const batch = batchOf('c');
    setBatchSession(batch, { low: session, high: 0, sequence: 1 });
    const once = await append(Buffer.from(batch));
    const again = await append(batch);
    expect(again).toMatchObject({ firstOffset: once.firstOffset, duplicate: true });
  });

  test('gets what the view made of its records with acks applied', async () => {
    const batch = encodeBatch(
      [
        { key: Buffer.from('x'), value: Buffer.from('1') },
        { key: Buffer.from('x'), value: null, op: encodeConditionalOp(DEL_IF, { kind: 'absent' }) },
      ],
      { createTime: 1 },
    );
    const { results } = await append(batch, 'applied');
    expect(results.map(({ ok, code }) => [ok, code])).toEqual([
      [true, ''],
      [false, 'condition-failed'],
    ]);
  });

  test('reads: get, scan, fetch, results, barrier, describe, offsetAtTime', async () => {
    const { firstOffset } = await append(batchOf('r1', 'r2'));
    const got = await ask(v1.get, { view: 'default', partition: null, key: Buffer.from('r1'), ...read });
    expect(got.entry?.value.toString()).toBe('r1');
    const keys = ['r2', 'none', 'r1'].map((key) => Buffer.from(key));
    const many = { view: 'default', partition: 0, partitions: 1, keys, bytesMax: 10_000, ...read };
    const found = readAllFound((await ask(v1.getMany, many)).found, keys.length);
    expect(found.map((entry) => entry && String(entry.value))).toEqual(['r2', null, 'r1']);
    await expect(ask(v1.getMany, { ...many, partition: 1 })).rejects.toMatchObject({ code: 'unknown-partition' });
    await expect(ask(v1.getMany, { ...many, view: 'nowhere' })).rejects.toMatchObject({ code: 'unknown-view' });
    const page = await ask(v1.scan, {
      view: 'default',
      partition: null,
      prefix: Buffer.from('r'),
      after: null,
      limit: 10,
      bytesMax: 1000,
      values: true,
      ...read,
    });
    expect(page.entries.map((entry) => entry.key.toString())).toEqual(['r1', 'r2']);
    const fetched = await ask(v1.fetch, { ...target, from: firstOffset, maxBytes: 100_000, maxWaitMs: 0 });
    expect(decodeRecords(fetched.batches as Buffer).map((record) => record.key?.toString())).toEqual(['r1', 'r2']);
    const { results } = await ask(v1.results, {
      view: 'default',
      partition: 0,
      firstOffset,
      lastOffset: firstOffset,
      timeoutMs: 1000,
    });
    expect(results).toHaveLength(1);
    expect((await ask(v1.barrier, target)).offset).toBeGreaterThanOrEqual(firstOffset);
    expect((await ask(v1.describe, undefined)).topics.map((topic) => topic.name)).toEqual(['default', 'wide']);
    expect(await ask(v1.offsetAtTime, { ...target, time: 0 as never })).toBe(1);
  });

  test.each<[string, () => Promise<unknown>, string]>([
    ['a batch with a flipped bit', () => append(flipped(batchOf('a'))), 'malformed-batch'],
    ['a batch that is none', () => append(Buffer.from('hello')), 'malformed-batch'],
    ['a control batch', () => append(encodeControlBatch(1, Buffer.alloc(0), 1)), 'malformed-batch'],
    ['a key that is too long', () => append(batchOf('k'.repeat(5000))), 'key-too-large'],
    [
      'an unknown topic',
      () => ask(v1.append, { topic: 'no', partition: 0, acks: 'quorum', timeoutMs: 0, batch: batchOf('a') }),
      'unknown-topic',
    ],
    ['the system topic', () => ask(v1.openSession, { topic: '__meta', partition: 0 }), 'unknown-topic'],
    ['an unknown partition', () => ask(v1.barrier, { topic: 'default', partition: 7 }), 'unknown-partition'],
    [
      'an unknown view',
      () => ask(v1.get, { view: 'no', partition: null, key: Buffer.from('k'), ...read }),
      'unknown-view',
    ],
  ])('%s is refused', async (_what, run, code) => {
    await expect(run()).rejects.toMatchObject({ code, outcome: 'rejected' });
  });

  test('a request that does not parse and a method that is not there are refused, the connection stays', async () => {
    const raw = (method: number, payload: Buffer): Promise<TidelineError | null> =>
      new Promise((resolve) => connection.request(method, payload, { timeoutMs: 5000 }, (error) => resolve(error)));
    expect((await raw(v1.get.method, Buffer.from([1, 2, 3])))?.code).toBe('malformed-frame');
    expect((await raw(0x04ff, Buffer.alloc(0)))?.code).toBe('unsupported-version');
    await ask(v1.describe, undefined);
  });
});

describe('a native stream', () => {
  test('tails batches as they are, no further than its credit', async () => {
    const { firstOffset } = await append(batchOf('t1', 't2'));
    const keys: string[] = [];
    let wake: () => void = () => undefined;
    const stream = connection.openStream(
      v1.tail.method,
      v1.tail.encodeRequest({ ...target, from: firstOffset }),
      { creditBytes: 1 },
      {
        item: (item) => {
          const { batches } = v1.tail.decodeItem(item);
          forEachBatch(batches, (at) => {
            for (const record of decodeRecords(batches, at)) keys.push(String(record.key));
          });
          wake();
        },
        end: () => undefined,
      },
    );
    const until = async (count: number): Promise<void> => {
      while (keys.length < count) await new Promise<void>((resolve) => (wake = resolve));
    };
    await until(2);
    await append(batchOf('t3'));
    await ask(v1.describe, undefined);
    expect(keys).toEqual(['t1', 't2']);
    stream.grant(10_000);
    await until(3);
    expect(keys).toEqual(['t1', 't2', 't3']);
    stream.cancel();
    while (gateway.log.node.calls.tail > 0 && (await metric()) > 0);
  });

  test('watches a view', async () => {
    await append(batchOf('w1'));
    await ask(v1.get, { view: 'default', partition: null, key: Buffer.from('w1'), ...read });
    const events: WatchEventMessage[] = [];
    let wake: () => void = () => undefined;
    const stream = connection.openStream(
      v1.watch.method,
      v1.watch.encodeRequest({ view: 'default', partition: null, prefix: Buffer.from('w') }),
      { creditBytes: 100_000 },
      {
        item: (item) => {
          events.push(...v1.watch.decodeItem(item));
          wake();
        },
        end: () => undefined,
      },
    );
    const until = async (count: number): Promise<void> => {
      while (events.length < count) await new Promise<void>((resolve) => (wake = resolve));
    };
    await until(2);
    await append(batchOf('w2'));
    await until(3);
    expect(events.map((event) => event.type)).toEqual(['put', 'live', 'put']);
    stream.cancel();
  });

  test.each([
    [v1.tail.method, v1.tail.encodeRequest({ topic: 'no', partition: 0, from: asOffset(1) }), 'unknown-topic'],
    [v1.tail.method, v1.tail.encodeRequest({ topic: 'wide', partition: 9, from: asOffset(1) }), 'unknown-partition'],
    [v1.tail.method, Buffer.from([9]), 'malformed-frame'],
    [v1.watch.method, v1.watch.encodeRequest({ view: 'no', partition: null, prefix: Buffer.alloc(0) }), 'unknown-view'],
    [0x04fe, Buffer.alloc(0), 'unsupported-version'],
  ])('of method %i that cannot be served ends with why', async (method, payload, code) => {
    const error = await new Promise<TidelineError | null>((resolve) => {
      connection.openStream(method, payload as Buffer, { creditBytes: 1000 }, { item: () => undefined, end: resolve });
    });
    expect(error?.code).toBe(code);
  });
});

const flipped = (batch: Buffer): Buffer => {
  batch[batch.length - 1] ^= 1;
  return batch;
};

const metric = async (): Promise<number> => {
  const text = await (await fetch(`${gateway.url}/metrics`)).text();
  return Number(/tideline_tail_subscribers\{[^}]*kind="gateway"[^}]*\} (\d+)/.exec(text)![1]);
};
