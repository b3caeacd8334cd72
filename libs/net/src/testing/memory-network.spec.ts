import { describe, expect, test } from '@jest/globals';
import { SeededRng, type TidelineError } from '#kernel';
import type { Connection, ConnectionHandler, Hello, Transport } from '../connection.js';
import { MemoryNetwork } from './memory-network.js';
import { transportConformance } from './transport.conformance.js';
import { VirtualTime } from './virtual-time.js';

/** Lets promises settle between virtual events. */
const microtasks = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const until = async (time: VirtualTime, condition: () => boolean): Promise<void> => {
  for (let i = 0; !condition(); i++) {
    await microtasks();
    if (condition()) return;
    if (!time.step() && i > 1000) throw new Error('nothing left to happen');
  }
};

const world = (seed: number) => {
  const time = new VirtualTime();
  const network = new MemoryNetwork({ clock: time, scheduler: time, rng: new SeededRng(seed) });
  return { time, network };
};

transportConformance('the memory network', () => {
  const { time, network } = world(1);
  return {
    server: network.transport('server'),
    client: network.transport('client'),
    until: (condition) => until(time, condition),
    run: async (promise) => {
      let settled = false;
      const mark = (): void => {
        settled = true;
      };
      promise.then(mark, mark);
      await until(time, () => settled);
      return promise;
    },
    passTime: async (ms) => {
      time.advance(ms);
      await microtasks();
    },
  };
});

const hello: Hello = { nodeId: 0, clusterId: '', service: '', software: 'spec', addresses: {} };

const pair = async (seed = 1) => {
  const { time, network } = world(seed);
  const posts: string[] = [];
  const trace: string[] = [];
  const handler: ConnectionHandler = {
    request: (_method, payload, responder) => responder.ok(payload),
    stream: () => undefined,
    post: (_method, payload) => {
      posts.push(payload.toString());
      trace.push(`${time.monotonicMs()} ${payload.toString()}`);
    },
  };
  const b: Transport = network.transport('b');
  const listener = await b.listen({ host: 'b', port: 1 }, hello, handler);
  let connection: Connection | null = null;
  network.transport('a').dial('b:1', hello, null, {}, (_error, opened) => (connection = opened));
  time.advance(10);
  const ends: (TidelineError | null)[] = [];
  connection!.onClose((error) => ends.push(error));
  return { time, network, connection: connection! as Connection, posts, trace, listener, ends };
};

describe('memory network', () => {
  test('the same seed gives the same times', async () => {
    const run = async (seed: number): Promise<string[]> => {
      const { time, network, connection, trace } = await pair(seed);
      network.weather.delayMsMax = 20;
      for (let i = 0; i < 30; i++) {
        connection.post(1, Buffer.from(`${i}`));
        time.advance(3);
      }
      time.advance(100);
      expect(trace.map((line) => line.split(' ')[1])).toEqual(Array.from({ length: 30 }, (_, i) => `${i}`));
      return trace;
    };
    expect(await run(7)).toEqual(await run(7));
    expect(await run(7)).not.toEqual(await run(8));
  });

  test('across a partition nothing arrives, and after it heals everything does, in order', async () => {
    const { time, network, connection, posts, ends } = await pair();
    network.partition(['a'], ['b']);
    for (let i = 0; i < 5; i++) connection.post(1, Buffer.from(`${i}`));
    time.advance(3000);
    expect(posts).toEqual([]);
    network.heal();
    time.advance(10);
    expect(posts).toEqual(['0', '1', '2', '3', '4']);
    expect(ends).toEqual([]);
  });

  test('a partition that lasts breaks the connection at both ends by silence', async () => {
    const { time, network, listener, ends } = await pair();
    network.partition(['a'], ['b']);
    time.advance(11_000);
    expect(ends.map((error) => error?.code)).toEqual(['connection-lost']);
    expect(listener.connections).toBe(0);
    expect(network.linkCount).toBe(0);
  });

  test('a one-way cut stops one way', async () => {
    const { time, network, connection, posts } = await pair();
    network.cut('b', 'a');
    connection.post(1, Buffer.from('arrives'));
    let answered = false;
    connection.request(1, Buffer.from('q'), { timeoutMs: 100 }, (error) => {
      expect(error?.code).toBe('timeout');
      answered = true;
    });
    time.advance(200);
    expect(posts).toEqual(['arrives']);
    expect(answered).toBe(true);
  });

  test('a clog holds up and lets go', async () => {
    const { time, network, connection, posts } = await pair();
    network.clog('a', 'b', 500);
    connection.post(1, Buffer.from('late'));
    time.advance(400);
    expect(posts).toEqual([]);
    time.advance(200);
    expect(posts).toEqual(['late']);
  });

  test('a reset loses what is under way and both ends hear of it', async () => {
    const { time, network, connection, posts, ends, listener } = await pair();
    network.weather.delayMsMin = network.weather.delayMsMax = 50;
    connection.post(1, Buffer.from('lost'));
    time.advance(10);
    network.reset('a', 'b');
    time.advance(200);
    expect(posts).toEqual([]);
    expect(ends.map((error) => error?.code)).toEqual(['connection-lost']);
    expect(listener.connections).toBe(0);
  });

  test('resets by chance happen', async () => {
    const { time, network, connection, ends } = await pair();
    network.weather.resetChance = 0.5;
    for (let i = 0; i < 20; i++) {
      connection.post(1, Buffer.from('x'));
      time.advance(5);
    }
    expect(ends.length).toBe(1);
  });

  test('a crashed machine is not reached until it listens again', async () => {
    const { time, network, ends } = await pair();
    network.crash('b');
    time.advance(10);
    expect(ends.length).toBe(1);
    const errors: (TidelineError | null)[] = [];
    network.transport('a').dial('b:1', hello, null, {}, (error) => errors.push(error));
    time.advance(10);
    expect(errors[0]).toMatchObject({ code: 'connection-lost', outcome: 'rejected' });
    await network.transport('b').listen({ host: 'b', port: 1 }, hello, { request() {}, stream() {}, post() {} });
    network.transport('a').dial('b:1', hello, null, {}, (error) => errors.push(error));
    time.advance(10);
    expect(errors[1]).toBeNull();
  });

  test('dialling across a cut ends by its timeout', async () => {
    const { time, network } = await pair();
    network.cut('a', 'b');
    const errors: (TidelineError | null)[] = [];
    network.transport('a').dial('b:1', hello, null, { timeoutMs: 300 }, (error) => errors.push(error));
    time.advance(299);
    expect(errors).toEqual([]);
    time.advance(5);
    expect(errors[0]?.code).toBe('connection-lost');
  });
});
