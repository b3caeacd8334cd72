import { afterEach, describe, expect, test } from '@jest/globals';
import { GET_KEYS_MAX, NO_NODE, SeededRng, TidelineError, asNodeId, asOffset, hashKey, partitionOf } from '#kernel';
import { gatewayServiceV1 } from '#wire';
import { MemoryNetwork } from '../../net/src/testing/index.js';
import type { TidelineClientOptions } from './client-options.js';
import { positionOf, type TailBatches, type TailRecord } from './record-tail.js';
import { FakeGatewayCluster, VirtualTime } from './testing/index.js';
import { TidelineClient } from './tideline-client.js';
import { json } from './values.js';
import type { ViewWatchEvent } from './view-watch.js';

const stops: (() => Promise<void>)[] = [];

const setUp = async (options: Partial<TidelineClientOptions> & { readonly seeds?: number } = {}) => {
  const time = new VirtualTime();
  const network = new MemoryNetwork({ clock: time, scheduler: time, rng: new SeededRng(1) });
  const cluster = new FakeGatewayCluster({
    clock: time,
    transportOf: (machine) => network.transport(machine),
    topics: { orders: 1, wide: 4 },
  });
  const addresses = await cluster.start();
  const { seeds = 1, ...given } = options;
  const client = await time.until(
    TidelineClient.connect({
      addresses: addresses.slice(0, seeds),
      transport: network.transport('client'),
      clock: time,
      scheduler: time,
      rng: new SeededRng(2),
      ...given,
    }),
  );
  stops.push(async () => {
    await time.until(client.close());
    await time.until(cluster.stop());
  });
  const [one, two, three] = cluster.gateways;
  return { time, network, cluster, client, one, two, three, orders: cluster.partition('orders') };
};

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

const errorOf = (promise: Promise<unknown>): Promise<TidelineError> =>
  promise.then(
    () => {
      throw new Error('expected an error');
    },
    (error: unknown) => error as TidelineError,
  );

describe('connecting', () => {
  test('one address is enough to find the cluster, and any that answers will do', async () => {
    const { time, network, cluster, client, one } = await setUp();
    expect(client.cluster.nodes.map((node) => node.id)).toEqual([1, 2, 3]);
    await time.until(one.stop());
    const [dead, alive] = cluster.gateways.map((gateway) => gateway.address);
    const connecting = TidelineClient.connect({
      addresses: [dead, alive],
      transport: network.transport('late'),
      clock: time,
      scheduler: time,
      rng: new SeededRng(3),
    });
    const late = await time.until(connecting);
    expect(late.cluster.clusterId).toBe('fake');
    await time.until(late.close());
  });

  test('nobody there is an error when the time is over', async () => {
    const { time, network } = await setUp();
    const error = await time.until(
      errorOf(
        TidelineClient.connect({
          addresses: ['127.0.0.1:9'],
          transport: network.transport('lost'),
          clock: time,
          scheduler: time,
          rng: new SeededRng(3),
          timeoutMs: 1_000,
        }),
      ),
    );
    expect(error).toMatchObject({ code: 'connection-lost', outcome: 'rejected' });
  });

  test('a cluster of another id is refused at once', async () => {
    const { time, network, one } = await setUp();
    const error = await time.until(
      errorOf(
        TidelineClient.connect({
          addresses: [one.address],
          clusterId: 'another',
          transport: network.transport('stranger'),
          clock: time,
          scheduler: time,
        }),
      ),
    );
    expect(error.code).toBe('cluster-mismatch');
    await expect(TidelineClient.connect({ addresses: [] })).rejects.toMatchObject({ code: 'bad-option' });
  });
});

describe('writing', () => {
  test('writes of one turn share a batch and go to the leader', async () => {
    const { time, cluster, client, one, two, orders } = await setUp();
    cluster.elect(two.id);
    await time.until(client.describe());
    const writes = Array.from({ length: 256 }, (_, i) => client.set('orders', `k${i}`, `v${i}`));
    const written = await time.until(Promise.all(writes));
    expect(written.map((each) => each.offset)).toEqual(Array.from({ length: 256 }, (_, i) => i + 3));
    expect([one.appends, two.appends]).toEqual([0, 1]);
    expect(orders.values).toHaveLength(256);
  });

  test('append gives the range of each partition', async () => {
    const { time, cluster, client } = await setUp();
    const ranges = await time.until(
      client.append(
        'wide',
        Array.from({ length: 40 }, (_, i) => ({ key: `k${i}`, value: `v${i}` })),
      ),
    );
    expect(ranges.map((range) => range.partition)).toEqual([0, 1, 2, 3]);
    for (const { partition, firstOffset, lastOffset } of ranges) {
      const { values } = cluster.partition('wide', partition);
      expect(lastOffset - firstOffset + 1).toBe(values.length);
      for (const value of values) {
        expect(partitionOf(hashKey(Buffer.from(value.replace('v', 'k'))), 4)).toBe(partition);
      }
    }
  });

  test('records without a key take turns over the partitions, or go where they are told', async () => {
    const { time, client } = await setUp();
    const partitions: number[] = [];
    for (let i = 0; i < 4; i++) partitions.push((await time.until(client.append('wide', { value: 'x' })))[0].partition);
    expect([...partitions].sort()).toEqual([0, 1, 2, 3]);
    expect((await time.until(client.append('wide', { key: 'k', value: 'x' }, { partition: 2 })))[0].partition).toBe(2);
    const beyond = client.append('wide', { value: 'x' }, { partition: 4 });
    expect((await time.until(errorOf(beyond))).code).toBe('unknown-partition');
  });

  test('a leader that moves is followed, and the receipt of the forwarded write says where', async () => {
    const { time, cluster, client, one, three } = await setUp();
    await time.until(client.set('orders', 'a', '1'));
    cluster.elect(three.id);
    await time.until(client.set('orders', 'a', '2'));
    const before = one.appends;
    await time.until(client.set('orders', 'a', '3'));
    expect(one.appends).toBe(before);
    expect(three.appends).toBe(1);
  });

  test('a connection that is lost in the middle of an append does not make it happen twice', async () => {
    const { time, client, one, two, three, orders } = await setUp();
    await time.until(client.set('orders', 'warm', 'up'));
    for (const gateway of [one, two, three]) gateway.answersToLose = 1;
    const written = await time.until(Promise.all(['a', 'b', 'c'].map((value) => client.append('orders', { value }))));
    expect(orders.values).toEqual(['up', 'a', 'b', 'c']);
    expect(written.map(([range]) => range.firstOffset)).toEqual([4, 5, 6]);
    expect(one.appends + two.appends + three.appends).toBeGreaterThan(2);
  });

  test('a gateway that dies under load loses nothing, repeats nothing and keeps the order', async () => {
    const { time, network, cluster, client, one, two, orders } = await setUp();
    const confirmed: string[] = [];
    let next = 0;
    const write = async (): Promise<void> => {
      while (next < 400) {
        const value = `v${next++}`;
        await client.append('orders', { value });
        confirmed.push(value);
      }
    };
    const writers = Promise.all(Array.from({ length: 16 }, () => write()));
    await time.advance(20);
    one.answersToLose = 1;
    network.crash('node-1');
    cluster.elect(two.id);
    await time.until(writers);
    expect(new Set(orders.values).size).toBe(orders.values.length);
    expect([...orders.values].sort()).toEqual([...confirmed].sort());
    expect(confirmed).toHaveLength(400);
  });

  test('without a session an answer that got lost is an unknown outcome and nothing is sent again', async () => {
    const { time, client, one, two, three, orders } = await setUp();
    for (const gateway of [one, two, three]) gateway.answersToLose = 1;
    const error = await time.until(errorOf(client.append('orders', { value: 'a' }, { acks: 'leader' })));
    expect(error).toMatchObject({ code: 'connection-lost', outcome: 'unknown' });
    expect(orders.values).toEqual(['a']);
  });

  test('a gateway that says overloaded is asked again, later', async () => {
    const { time, client, one, orders } = await setUp();
    one.refusals = [new TidelineError('overloaded', 'full'), new TidelineError('overloaded', 'full')];
    await time.until(client.set('orders', 'a', '1'));
    expect(orders.values).toEqual(['1']);
  });

  test('too much waiting is refused at once with overloaded', async () => {
    const { time, client } = await setUp({ producer: { queuedRecordsMax: 10 } });
    const writes = Array.from({ length: 12 }, (_, i) => client.set('orders', `k${i}`, 'v'));
    const outcomes = await time.until(Promise.allSettled(writes));
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refused).toHaveLength(2);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'overloaded', outcome: 'rejected' });
  });

  test('when no leader is found in time the outcome says whether anything may have happened', async () => {
    const { time, client, one, two, three } = await setUp({ timeoutMs: 500 });
    await time.until(client.set('orders', 'warm', 'up'));
    const nobody = Array.from({ length: 1_000 }, () => new TidelineError('no-leader', 'nobody'));
    for (const gateway of [one, two, three]) gateway.refusals = [...nobody];
    const error = await time.until(errorOf(client.set('orders', 'a', '1')));
    expect(error).toMatchObject({ code: 'no-leader', outcome: 'rejected' });
  });

  test('an idempotency key makes repeated calls one', async () => {
    const { time, client, orders } = await setUp();
    const append = (value: string) =>
      client.append('orders', { value, timestamp: 1_000 }, { idempotencyKey: 'order-42' });
    const first = await time.until(append('a'));
    await time.advance(1_234);
    expect(await time.until(append('a'))).toEqual(first);
    expect(orders.values).toEqual(['a']);
    expect((await time.until(errorOf(append('b')))).code).toBe('idempotency-conflict');
  });

  test('what is refused before it is sent is a rejected promise, not a thrown error', async () => {
    const { time, client } = await setUp();
    const error = await time.until(errorOf(client.set('orders', 'x'.repeat(5_000), 'v')));
    expect(error).toMatchObject({ code: 'key-too-large', outcome: 'rejected' });
    expect((await time.until(errorOf(client.set('nowhere', 'k', 'v')))).code).toBe('unknown-topic');
    expect((await time.until(errorOf(client.append('orders', [])))).code).toBe('bad-request');
  });
});

describe('views', () => {
  test('values come back as they were stored', async () => {
    const { time, client } = await setUp();
    await time.until(client.set('orders', 'text', 'grüße'));
    await time.until(client.set('orders', 'bytes', Buffer.from([0, 255, 1])));
    await time.until(client.set('orders', 'json', json({ a: [1] }), { ttlMs: 60_000 }));
    expect((await time.until(client.get('orders', 'text')))!.text()).toBe('grüße');
    expect([...(await time.until(client.get('orders', 'bytes')))!.value]).toEqual([0, 255, 1]);
    const entry = (await time.until(client.get('orders', 'json')))!;
    expect(entry.json()).toEqual({ a: [1] });
    expect(entry.contentType).toBe('application/json');
    expect(entry.expiresAt).toBe(entry.logTime + 60_000);
    expect(await time.until(client.get('orders', 'none'))).toBeNull();
    expect(() => json(undefined)).toThrow(expect.objectContaining({ code: 'bad-request' }));
  });

  test('entries that are set in one turn keep keys of their own', async () => {
    const { time, client } = await setUp();
    const keys = ['a', 'bb', 'c'.repeat(64), 'ключ', 'd'.repeat(65), 'e'];
    await time.until(client.describe());
    await time.until(Promise.all(keys.map((key, i) => client.set('orders', key, `${i}`))));
    await time.until(client.del('orders', 'bb'));
    const read = await time.until(Promise.all(keys.map((key) => client.get('orders', key))));
    expect(read.map((entry) => entry?.text() ?? null)).toEqual(['0', null, '2', '3', '4', '5']);
  });

  test('conditions are kept and broken ones are told, with the offset that is there', async () => {
    const { time, client } = await setUp();
    const { offset } = await time.until(client.set('orders', 'k', '1', { ifAbsent: true }));
    const taken = await time.until(errorOf(client.set('orders', 'k', '2', { ifAbsent: true })));
    expect(taken).toMatchObject({ code: 'condition-failed', outcome: 'rejected', details: { offset } });
    await time.until(client.set('orders', 'k', '3', { ifOffset: offset }));
    expect((await time.until(errorOf(client.del('orders', 'k', { ifOffset: offset })))).code).toBe('condition-failed');
    await time.until(client.del('orders', 'k'));
    expect(await time.until(client.get('orders', 'k'))).toBeNull();
    const both = client.set.bind(client, 'orders', 'k', '1', { ifAbsent: true, ifOffset: 1 });
    expect((await time.until(errorOf(both()))).code).toBe('bad-request');
  });

  test('plain and conditional writes of one turn keep their order', async () => {
    const { time, client } = await setUp();
    const writes = [
      client.set('orders', 'k', '1'),
      client.set('orders', 'k', '2', { ifPresent: true }),
      client.set('orders', 'k', '3'),
    ];
    await time.until(Promise.all(writes));
    expect((await time.until(client.get('orders', 'k')))!.text()).toBe('3');
  });

  test('a command gives its result', async () => {
    const { time, client } = await setUp();
    const { result, partition } = await time.until(client.command('orders', 'k', 'incrby', [5, 'x']));
    expect(result).toEqual(['incrby', '5', 'x']);
    expect(partition).toBe(0);
  });

  test('a session read asks for what this client has written', async () => {
    const { time, client, one, two, three } = await setUp();
    const { offset } = await time.until(client.set('orders', 'k', '1'));
    const asked: number[] = [];
    for (const gateway of [one, two, three]) {
      const request = gateway.request.bind(gateway);
      gateway.request = (method, payload, responder, connection) => {
        if (method === gatewayServiceV1.get.method) asked.push(gatewayServiceV1.get.decodeRequest(payload).minOffset);
        request(method, payload, responder, connection);
      };
    }
    await time.until(client.get('orders', 'k', { consistency: 'session' }));
    await time.until(client.get('orders', 'k'));
    expect(asked).toEqual([offset, 0]);
  });

  describe('gets of one turn', () => {
    const { get, getMany } = gatewayServiceV1;
    const askedOf = (cluster: FakeGatewayCluster, { method }: { readonly method: number }): number =>
      cluster.gateways.reduce((sum, gateway) => sum + (gateway.asked.get(method) ?? 0), 0);
    const filled = async (options: Partial<TidelineClientOptions> = {}) => {
      const all = await setUp(options);
      const keys = Array.from({ length: 60 }, (_, i) => `key-${i}`);
      await all.time.until(
        Promise.all(keys.map((key) => all.client.set('wide', key, `value of ${key}`, { ttlMs: 60_000 }))),
      );
      return { ...all, keys };
    };

    test('share a request of each partition, and each has its own answer', async () => {
      const { time, cluster, client, keys } = await filled();
      const wanted = [...keys, 'none', keys[0]];
      const entries = await time.until(Promise.all(wanted.map((key) => client.get('wide', key))));
      expect(entries.map((entry) => entry && [entry.keyText(), entry.text()])).toEqual(
        wanted.map((key) => (key === 'none' ? null : [key, `value of ${key}`])),
      );
      expect(entries[3]!.expiresAt).toBe(entries[3]!.logTime + 60_000);
      expect([askedOf(cluster, getMany), askedOf(cluster, get)]).toEqual([4, 0]);
    });

    test('do not when there is one, or it has options of its own', async () => {
      const { time, cluster, client } = await filled();
      await time.until(client.get('wide', 'key-1'));
      const options = [
        { timeoutMs: 500 },
        { consistency: 'bounded', maxLagMs: 5 },
        { consistency: 'session', minOffset: 1 },
      ] as const;
      const gets = [...options, ...options].map((option) => client.get('wide', 'key-1', option));
      for (const entry of await time.until(Promise.all(gets))) expect(entry!.text()).toBe('value of key-1');
      expect([askedOf(cluster, getMany), askedOf(cluster, get)]).toEqual([0, 7]);
    });

    test('go by their consistency; those of a session ask for what it has written', async () => {
      const { time, cluster, client } = await filled();
      const { offset } = await time.until(client.set('orders', 'k', '1'));
      const asked: unknown[] = [];
      for (const gateway of cluster.gateways) {
        const request = gateway.request.bind(gateway);
        gateway.request = (method, payload, responder, connection) => {
          if (method === getMany.method) {
            const { consistency, minOffset, keys } = getMany.decodeRequest(payload);
            asked.push([consistency, minOffset, keys.length]);
          }
          request(method, payload, responder, connection);
        };
      }
      const levels = ['session', 'linearizable', 'stale', 'stale', 'session', 'linearizable', 'linearizable'] as const;
      await time.until(Promise.all(levels.map((consistency) => client.get('orders', 'k', { consistency }))));
      expect(asked.toSorted()).toEqual([
        ['linearizable', 0, 3],
        ['session', offset, 2],
        ['stale', 0, 2],
      ]);
    });

    test('that are not answered with the others are asked for by themselves', async () => {
      const { time, cluster, client, keys } = await filled();
      for (const { answeredAlone } of cluster.gateways) answeredAlone.add('key-3').add('none');
      const wanted = [...keys, 'none'];
      const entries = await time.until(Promise.all(wanted.map((key) => client.get('wide', key))));
      expect(entries.map((entry) => entry?.text())).toEqual([...keys.map((key) => `value of ${key}`), undefined]);
      expect([askedOf(cluster, getMany), askedOf(cluster, get)]).toEqual([4, 2]);
    });

    test('get large values too, which no answer has room for together', async () => {
      const { time, cluster, client } = await setUp();
      const keys = ['a', 'b', 'c', 'd'];
      for (const key of keys) await time.until(client.set('orders', key, Buffer.alloc(300_000, key)));
      const entries = await time.until(Promise.all(keys.map((key) => client.get('orders', key))));
      expect(entries.map((entry) => entry!.value.subarray(-1).toString())).toEqual(keys);
      expect([askedOf(cluster, getMany), askedOf(cluster, get)]).toEqual([1, 3]);
    });

    test('are as many to a request as it may have keys', async () => {
      const { time, cluster, client } = await setUp();
      await time.until(client.set('orders', 'k', 'v'));
      const entries = await time.until(
        Promise.all(Array.from({ length: 2 * GET_KEYS_MAX + 1 }, () => client.get('orders', 'k'))),
      );
      expect(new Set(entries.map((entry) => entry!.text()))).toEqual(new Set(['v']));
      expect([askedOf(cluster, getMany), askedOf(cluster, get)]).toEqual([2, 1]);
    });

    test('keep the key that was given, whatever becomes of its buffer', async () => {
      const { time, client } = await filled();
      const key = Buffer.from('key-1');
      const gets = [client.get('wide', key), client.get('wide', key)];
      key.fill('x');
      for (const entry of await time.until(Promise.all(gets))) expect(entry!.keyText()).toBe('key-1');
    });

    test('all hear of an error, and go to another gateway when theirs is lost', async () => {
      const { time, client, cluster, keys, one, orders } = await filled({ timeoutMs: 3_000 });
      const asked = keys.slice(0, 5);
      const failed = await time.until(Promise.all(asked.map((key) => errorOf(client.get('nowhere', key)))));
      expect(failed.map((error) => error.code)).toEqual(asked.map(() => 'unknown-view'));
      expect(orders.leader).toBe(one.id);
      await time.until(one.stop());
      const entries = await time.until(Promise.all(asked.map((key) => client.get('wide', key))));
      expect(entries.map((entry) => entry!.keyText())).toEqual(asked);
      for (const gateway of cluster.gateways) await time.until(gateway.stop());
      const lost = await time.until(Promise.all(asked.map((key) => errorOf(client.get('wide', key)))));
      for (const error of lost) expect(['connection-lost', 'timeout']).toContain(error.code);
    });

    test('of a topic that was made anew with other partitions find their entries', async () => {
      const { time, cluster, client } = await filled();
      const [, two, three] = cluster.topics.get('wide')!;
      await time.until(client.set('wide', 'key-1', 'new'));
      const entry = { ...(await time.until(client.get('wide', 'key-1')))!, value: Buffer.from('elsewhere') };
      for (const partition of [two, three]) partition.entries.set('key-1', entry as never);
      cluster.topics.set('wide', [two, three]);
      const entries = await time.until(Promise.all([client.get('wide', 'key-1'), client.get('wide', 'key-1')]));
      expect(entries.map((found) => found!.text())).toEqual(['elsewhere', 'elsewhere']);
    });

    test('that wait when the client is closed are told', async () => {
      const { time, client } = await filled();
      const gets = [errorOf(client.get('wide', 'key-1')), errorOf(client.get('wide', 'key-1'))];
      await time.until(client.close());
      for (const error of await time.until(Promise.all(gets))) expect(error.code).toBe('shutting-down');
    });
  });

  test('a scan goes through all pages in order', async () => {
    const { time, client } = await setUp();
    const keys = Array.from({ length: 25 }, (_, i) => `key-${String(i).padStart(2, '0')}`);
    await time.until(Promise.all([...keys].reverse().map((key) => client.set('wide', key, 'v'))));
    await time.until(client.set('wide', 'other', 'v'));
    const seen: string[] = [];
    const reading = (async () => {
      for await (const entry of client.entries('wide', { prefix: 'key-', limit: 7 })) seen.push(entry.keyText());
    })();
    await time.until(reading);
    expect(seen).toEqual(keys);
    expect((await time.until(errorOf(client.scan('wide', { limit: 0 })))).code).toBe('bad-request');
  });

  test('a watch begins again after a disconnect and says so', async () => {
    const { time, client, network, one, two, three } = await setUp();
    await time.until(client.set('orders', 'k', '1'));
    const events: ViewWatchEvent[] = [];
    const subscription = client.watch('orders').subscribe((event) => {
      events.push(event);
    });
    await time.advance(100);
    expect(events.map((event) => event.type)).toEqual(['put', 'live']);
    for (const gateway of [one, two, three]) network.reset('client', `node-${gateway.id}`);
    await time.advance(1_000);
    expect(events.map((event) => event.type)).toEqual(['put', 'live', 'restart', 'put', 'live']);
    subscription.unsubscribe();
  });
});

describe('reading the log', () => {
  const follow = (client: TidelineClient, options: Parameters<TidelineClient['tail']>[1], topic = 'orders') => {
    const records: TailRecord[] = [];
    const state = { records, error: null as unknown, stop: () => subscription.unsubscribe() };
    const subscription = client.tail(topic, options).subscribe({
      next: (record) => {
        records.push(record);
      },
      error: (error: unknown) => {
        state.error = error;
      },
    });
    return state;
  };
  const valuesOf = (records: readonly TailRecord[]): string[] => records.map((record) => String(record.value));

  test('a tail goes on at another node without loss or repetition', async () => {
    const { time, network, client, one, two, three, orders } = await setUp();
    const reader = follow(client, { from: 'earliest', creditBytes: 300 });
    const expected: string[] = [];
    for (let i = 0; i < 40; i++) {
      expected.push(`v${i}`);
      await time.until(client.append('orders', { value: `v${i}` }));
      if (i % 7 === 3) {
        const gateway = [one, two, three][i % 3];
        await time.until(gateway.stop());
        await time.advance(300);
        await gateway.start();
      }
      if (i % 5 === 0) network.reset('client', `node-${(i % 3) + 1}`);
    }
    await time.advance(5_000);
    expect(valuesOf(reader.records)).toEqual(expected);
    expect(orders.values).toEqual(expected);
    expect(reader.error).toBeNull();
    reader.stop();
    await time.advance(100);
    expect(one.openStreams + two.openStreams + three.openStreams).toBe(0);
  });

  test('a tail begins at the earliest, the latest, an offset, in the middle of a batch, or a position of each partition', async () => {
    const { time, client } = await setUp();
    await time.until(
      client.append(
        'orders',
        ['a', 'b', 'c'].map((value) => ({ value })),
      ),
    );
    const earliest = follow(client, { from: 'earliest' });
    const middle = follow(client, { from: 4 });
    const latest = follow(client, {});
    const positions = follow(client, { from: new Map([[0, 5]]) });
    await time.advance(100);
    await time.until(client.append('orders', { value: 'd' }));
    await time.advance(100);
    expect(valuesOf(earliest.records)).toEqual(['a', 'b', 'c', 'd']);
    expect(valuesOf(middle.records)).toEqual(['b', 'c', 'd']);
    expect(valuesOf(latest.records)).toEqual(['d']);
    expect(valuesOf(positions.records)).toEqual(['c', 'd']);
    expect(positionOf(latest.records[0])).toBe('0:6');
    for (const reader of [earliest, middle, latest, positions]) reader.stop();
  });

  test('partitions are merged, each in its own order', async () => {
    const { time, client } = await setUp();
    const reader = follow(client, { from: 'earliest' }, 'wide');
    const records = Array.from({ length: 60 }, (_, i) => ({ key: `k${i % 9}`, value: `${i}` }));
    for (const record of records) await time.until(client.append('wide', record));
    await time.advance(100);
    expect(reader.records).toHaveLength(60);
    for (const key of new Set(records.map((record) => record.key))) {
      const mine = reader.records.filter((record) => String(record.key) === key).map((record) => Number(record.value));
      expect(mine).toEqual([...mine].sort((a, b) => a - b));
    }
    expect(new Set(reader.records.map((record) => record.partition)).size).toBeGreaterThan(1);
    reader.stop();
  });

  test('a loop that stops reading makes the server stop sending, and then gets everything', async () => {
    const { time, client, one, two, three, orders } = await setUp();
    const values = Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(5_000, '.'));
    for (const value of values) await time.until(client.append('orders', { value }));
    const seen: string[] = [];
    const iterator = client.tail('orders', { from: 'earliest', creditBytes: 20_000 })[Symbol.asyncIterator]();
    seen.push(String((await time.until(iterator.next())).value!.value));
    await time.advance(2_000);
    const sent = one.bytesSent + two.bytesSent + three.bytesSent;
    expect(sent).toBeLessThan(60_000);
    while (seen.length < 100) seen.push(String((await time.until(iterator.next())).value!.value));
    expect(seen).toEqual(orders.values);
    await time.until(iterator.return!(undefined));
    await time.advance(100);
    expect(one.openStreams + two.openStreams + three.openStreams).toBe(0);
  });

  test('a tail that moves while its reader holds everything does not hold ever more', async () => {
    const { time, network, client } = await setUp();
    for (let i = 0; i < 60; i++) await time.until(client.append('orders', { value: 'x'.repeat(10_000) }));
    const held: TailBatches[] = [];
    const subscription = client
      .tailBatches('orders', { from: 'earliest', creditBytes: 50_000 })
      .subscribe((chunk) => held.push(chunk));
    for (let i = 0; i < 10; i++) {
      await time.advance(500);
      for (const node of [1, 2, 3]) network.reset('client', `node-${node}`);
    }
    const bytes = held.reduce((sum, chunk) => sum + chunk.batches.length, 0);
    expect(bytes).toBeGreaterThanOrEqual(50_000);
    expect(bytes).toBeLessThanOrEqual(2 * 50_000 + 20_000);
    // Once it lets go, everything comes, once.
    for (let at = 0; at < held.length; at++) {
      held[at].release();
      await time.advance(500);
    }
    const starts = held.map((chunk) => chunk.nextOffset);
    expect(starts.at(-1)).toBe(63);
    expect(starts).toEqual([...new Set(starts)].sort((a, b) => a - b));
    subscription.unsubscribe();
  });

  test('an offset that is gone and a topic that is not there end a tail for good', async () => {
    const { time, client, orders } = await setUp();
    for (const value of ['a', 'b', 'c']) await time.until(client.append('orders', { value }));
    orders.trimBefore(asOffset(5));
    const gone = follow(client, { from: 2 });
    const earliest = follow(client, { from: 'earliest' });
    const nowhere = follow(client, {}, 'nowhere');
    await time.advance(500);
    expect(gone.error).toMatchObject({ code: 'offset-out-of-range' });
    expect(valuesOf(earliest.records)).toEqual(['c']);
    expect(earliest.error).toBeNull();
    expect(nowhere.error).toMatchObject({ code: 'unknown-topic' });
    earliest.stop();
  });

  test('fetch gives records from an offset on', async () => {
    const { time, client } = await setUp();
    await time.until(
      client.append(
        'orders',
        ['a', 'b', 'c'].map((value) => ({ value })),
      ),
    );
    const fetched = await time.until(client.fetch('orders', { from: 4 }));
    expect(valuesOf(fetched.records)).toEqual(['b', 'c']);
    expect(fetched.nextOffset).toBe(6);
  });
});

describe('closing', () => {
  test('close waits for writes, ends tails and refuses what comes after', async () => {
    const { time, client, orders } = await setUp();
    const ended: string[] = [];
    client.tail('orders').subscribe({ complete: () => ended.push('observable') });
    const loop = (async () => {
      for await (const record of client.tail('orders')) ended.push(String(record.value));
      ended.push('loop');
    })();
    await time.advance(100);
    const write = client.set('orders', 'k', 'v');
    await time.until(client.close());
    await time.until(write);
    expect(orders.values).toEqual(['v']);
    await time.until(loop);
    expect(ended).toEqual(['v', 'observable', 'loop']);
    expect((await time.until(errorOf(client.set('orders', 'k', 'v')))).code).toBe('shutting-down');
    expect((await time.until(errorOf(client.get('orders', 'k')))).code).toBe('shutting-down');
  });

  test('a closed client leaves no timer behind', async () => {
    const { time, cluster, client } = await setUp();
    cluster.elect(NO_NODE);
    cluster.elect(asNodeId(2));
    await time.until(client.set('orders', 'k', 'v'));
    await time.until(client.close());
    await time.until(cluster.stop());
    await time.advance(60_000);
    expect(time.pendingTimers).toBe(0);
  });
});
