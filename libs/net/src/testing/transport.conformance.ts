import { afterEach, describe, expect, test } from '@jest/globals';
import { TidelineError } from '#kernel';
import type { Hello } from '#wire';
import type {
  Connection,
  ConnectionHandler,
  NetLimits,
  Responder,
  StreamProducer,
  StreamSubscription,
  Transport,
} from '../connection.js';

/** What the suite needs of a world with two machines in it. */
export interface TransportWorld {
  readonly server: Transport;
  readonly client: Transport;
  /** Lets things happen until the condition holds. */
  until(condition: () => boolean): Promise<void>;
  /** Lets things happen until the promise is settled. */
  run<T>(promise: Promise<T>): Promise<T>;
  passTime(ms: number): Promise<void>;
}

const helloOf = (changes: Partial<Hello> = {}): Hello => ({
  nodeId: 0,
  clusterId: '',
  service: 'log',
  software: 'spec',
  addresses: {},
  ...changes,
});

class Handler implements ConnectionHandler {
  readonly requests: { method: number; payload: Buffer; responder: Responder }[] = [];
  readonly producers: StreamProducer[] = [];
  readonly posts: string[] = [];
  readonly connections: Connection[] = [];
  readonly closings: (TidelineError | null)[] = [];
  answer: ((payload: Buffer, responder: Responder) => void) | null = (payload, responder) => responder.ok(payload);

  request(method: number, payload: Buffer, responder: Responder): void {
    this.requests.push({ method, payload, responder });
    this.answer?.(payload, responder);
  }
  stream(_method: number, _payload: Buffer, producer: StreamProducer): void {
    this.producers.push(producer);
  }
  post(_method: number, payload: Buffer): void {
    this.posts.push(payload.toString());
  }
  opened(connection: Connection): void {
    this.connections.push(connection);
  }
  closed(_connection: Connection, error: TidelineError | null): void {
    this.closings.push(error);
  }
}

/** The consumer's end of a stream, with everything that came. */
class Stream {
  readonly items: Buffer[] = [];
  readonly ends: (TidelineError | null)[] = [];
  readonly subscription: StreamSubscription;

  constructor(connection: Connection, creditBytes: number) {
    this.subscription = connection.openStream(
      7,
      Buffer.from('from'),
      { creditBytes },
      { item: (payload) => this.items.push(payload), end: (error) => this.ends.push(error) },
    );
  }
  get bytes(): number {
    return this.items.reduce((sum, item) => sum + item.length, 0);
  }
}

interface Answer {
  readonly error: TidelineError | null;
  readonly payload: Buffer;
}

/** Contract of Transport; every implementation passes it. */
export const transportConformance = (name: string, makeWorld: () => TransportWorld): void => {
  describe(`${name} keeps the transport contract`, () => {
    const ends: (() => void)[] = [];
    afterEach(() => {
      for (const end of ends.splice(0)) end();
    });

    const open = async (options: { limits?: Partial<NetLimits>; clientHandler?: ConnectionHandler } = {}) => {
      const world = makeWorld();
      const handler = new Handler();
      const listener = await world.run(
        world.server.listen(
          { host: '127.0.0.1', port: 0 },
          helloOf({ nodeId: 1, clusterId: 'c', addresses: { http: 'h:1' } }),
          handler,
          options.limits,
        ),
      );
      const connect = async (changes: { hello?: Partial<Hello>; limits?: Partial<NetLimits> } = {}) => {
        const connection = await world.run(
          world.client.connect(listener.address, helloOf(changes.hello), options.clientHandler ?? null, {
            limits: changes.limits ?? {},
          }),
        );
        ends.push(() => connection.close());
        return connection;
      };
      ends.push(() => void listener.close());
      return { world, handler, listener, connect };
    };

    const ask = (connection: Connection, payload: Buffer | Buffer[], timeoutMs = 5000): Promise<Answer> =>
      new Promise((resolve) => {
        connection.request(3, payload, { timeoutMs }, (error, answer) => resolve({ error, payload: answer }));
      });

    const refusal = async (attempt: Promise<unknown>): Promise<TidelineError> => {
      const error: unknown = await attempt.then(
        () => null,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(TidelineError);
      return error as TidelineError;
    };

    test('both sides know each other after the hello', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect({ hello: { nodeId: 5, software: 'a client' } });
      expect(connection.remote).toMatchObject({ nodeId: 1, clusterId: 'c', addresses: { http: 'h:1' } });
      await world.until(() => handler.connections.length === 1);
      expect(handler.connections[0].remote).toMatchObject({ nodeId: 5, software: 'a client' });
      expect(connection.isOpen).toBe(true);
      expect(connection.remoteAddress).not.toBe('');
    });

    test('a request gets its own answer, however many are in flight and in whatever order they are answered', async () => {
      const { world, handler, connect } = await open();
      handler.answer = null;
      const connection = await connect();
      const answers = Array.from({ length: 100 }, (_, i) => ask(connection, Buffer.from(`q${i}`)));
      await world.until(() => handler.requests.length === 100);
      for (const { payload, responder } of handler.requests.reverse()) responder.ok([payload, Buffer.from('!')]);
      const got = await world.run(Promise.all(answers));
      expect(got.map(({ payload }) => payload.toString())).toEqual(Array.from({ length: 100 }, (_, i) => `q${i}!`));
    });

    test('pieces arrive joined, small and large', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect();
      const pieces = [Buffer.from('head'), Buffer.alloc(3_000_000, 7), Buffer.alloc(0), Buffer.from('tail')];
      const { payload } = await world.run(ask(connection, pieces));
      expect(payload.equals(Buffer.concat(pieces))).toBe(true);
      expect(handler.requests[0].method).toBe(3);
    });

    test('an error arrives with code, outcome, message and details', async () => {
      const { world, handler, connect } = await open();
      handler.answer = (_payload, responder) =>
        responder.fail(new TidelineError('not-leader', 'ask 3', { outcome: 'unknown', details: { leader: 3 } }));
      const { error } = await world.run(ask(await connect(), Buffer.from('q')));
      expect(error).toMatchObject({ code: 'not-leader', outcome: 'unknown', message: 'ask 3', details: { leader: 3 } });
    });

    test('an error thrown by the handler is the answer, and the connection goes on', async () => {
      const { world, handler, connect } = await open();
      handler.answer = () => {
        throw new TidelineError('malformed-batch', 'no batch');
      };
      const connection = await connect();
      expect((await world.run(ask(connection, Buffer.from('q')))).error?.code).toBe('malformed-batch');
      handler.answer = () => {
        throw new TypeError('a defect');
      };
      expect((await world.run(ask(connection, Buffer.from('q')))).error?.code).toBe('internal');
      handler.answer = (payload, responder) => responder.ok(payload);
      expect((await world.run(ask(connection, Buffer.from('q')))).error).toBeNull();
    });

    test('a request without an answer in time ends as unknown, is cancelled at the other side, and a late answer is nothing', async () => {
      const { world, handler, connect } = await open();
      handler.answer = null;
      const connection = await connect();
      const { error } = await world.run(ask(connection, Buffer.from('q'), 30));
      expect(error).toMatchObject({ code: 'timeout', outcome: 'unknown' });
      await world.until(() => handler.requests[0].responder.cancelled);
      handler.requests[0].responder.ok(Buffer.from('late'));
      handler.answer = (payload, responder) => responder.ok(payload);
      expect((await world.run(ask(connection, Buffer.from('next')))).payload.toString()).toBe('next');
    });

    test('what is flushed arrives once, before what is sent after it in the same turn', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect();
      connection.flush();
      connection.post(1, Buffer.from('first'));
      connection.flush();
      expect(connection.post(1, Buffer.from('second'))).toBe(true);
      connection.flush();
      connection.flush();
      connection.post(1, Buffer.from('third'));
      await world.until(() => handler.posts.length >= 3);
      expect(handler.posts).toEqual(['first', 'second', 'third']);
      connection.close();
      connection.flush();
    });

    test('posts arrive in the order they were sent, among requests', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect();
      const order: string[] = [];
      handler.answer = (payload, responder) => {
        handler.posts.push(payload.toString());
        responder.ok(payload);
      };
      for (let i = 0; i < 200; i++) {
        order.push(`${i}`);
        if (i % 7 === 0) connection.request(1, Buffer.from(`${i}`), { timeoutMs: 5000 }, () => undefined);
        else expect(connection.post(2, Buffer.from(`${i}`))).toBe(true);
      }
      await world.until(() => handler.posts.length === 200);
      expect(handler.posts).toEqual(order);
    });

    test('the accepting side may ask too', async () => {
      const clientHandler = new Handler();
      const { world, handler, connect } = await open({ clientHandler });
      await connect();
      await world.until(() => handler.connections.length === 1);
      const { payload } = await world.run(ask(handler.connections[0], Buffer.from('you there?')));
      expect(payload.toString()).toBe('you there?');
    });

    test('a side without a handler answers requests and streams with an error', async () => {
      const { world, handler, connect } = await open();
      await connect();
      await world.until(() => handler.connections.length === 1);
      expect((await world.run(ask(handler.connections[0], Buffer.from('q')))).error?.code).toBe('bad-request');
      const stream = new Stream(handler.connections[0], 100);
      await world.until(() => stream.ends.length === 1);
      expect(stream.ends[0]?.code).toBe('bad-request');
    });

    test('a stream gets no more than its credit and one item, and goes on when more is granted', async () => {
      const { world, handler, connect } = await open();
      const stream = new Stream(await connect(), 1000);
      await world.until(() => handler.producers.length === 1);
      const [producer] = handler.producers;
      const send = (): void => {
        while (producer.credit > 0) producer.item(Buffer.alloc(300));
      };
      producer.onCredit(send);
      send();
      expect(producer.credit).toBeLessThanOrEqual(0);
      await world.until(() => stream.items.length === 4);
      expect(stream.bytes).toBe(1200);
      stream.subscription.grant(200); // the overdraft is paid back first
      stream.subscription.grant(1);
      await world.until(() => stream.items.length === 5);
      stream.subscription.grant(600);
      await world.until(() => stream.items.length === 7);
      producer.end(null);
      await world.until(() => stream.ends.length === 1);
      expect(stream.ends).toEqual([null]);
      expect(stream.items.length).toBe(7);
    });

    test('a producer without credit must not send', async () => {
      const { world, handler, connect } = await open();
      void new Stream(await connect(), 0);
      await world.until(() => handler.producers.length === 1);
      expect(() => handler.producers[0].item(Buffer.from('x'))).toThrow(/credit/);
    });

    test('a stream that breaks off says why', async () => {
      const { world, handler, connect } = await open();
      const stream = new Stream(await connect(), 1000);
      await world.until(() => handler.producers.length === 1);
      handler.producers[0].item(Buffer.from('last'));
      handler.producers[0].end(new TidelineError('offset-out-of-range', 'trimmed', { details: { logStart: 9 } }));
      await world.until(() => stream.ends.length === 1);
      expect(stream.items.map(String)).toEqual(['last']);
      expect(stream.ends[0]).toMatchObject({ code: 'offset-out-of-range', details: { logStart: 9 } });
    });

    test('cancelling a stream stops its producer and nothing more is heard of it', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect();
      const stream = new Stream(connection, 1000);
      await world.until(() => handler.producers.length === 1);
      let cancelled = 0;
      handler.producers[0].onCancel(() => cancelled++);
      handler.producers[0].item(Buffer.from('one'));
      await world.until(() => stream.items.length === 1);
      handler.producers[0].item(Buffer.from('on its way'));
      stream.subscription.cancel();
      stream.subscription.cancel();
      stream.subscription.grant(5);
      await world.until(() => cancelled === 1);
      handler.producers[0].item(Buffer.from('dropped'));
      handler.producers[0].end(null);
      await world.run(ask(connection, Buffer.from('whatever was on its way has arrived before this')));
      expect(stream.items.map(String)).toEqual(['one']);
      expect(stream.ends).toEqual([]);
    });

    test('a stream whose consumer grants nothing does not hold up others', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect();
      const stuck = new Stream(connection, 10);
      const live = new Stream(connection, 1 << 20);
      await world.until(() => handler.producers.length === 2);
      handler.producers[0].item(Buffer.alloc(10));
      for (let i = 0; i < 100; i++) handler.producers[1].item(Buffer.alloc(1000));
      await world.until(() => live.items.length === 100);
      expect(stuck.bytes).toBe(10);
    });

    test('the end of the connection ends everything on it, once, as unknown', async () => {
      const { world, handler, connect } = await open();
      handler.answer = null;
      const connection = await connect();
      const answer = ask(connection, Buffer.from('q'));
      const stream = new Stream(connection, 100);
      let cancelled = 0;
      const closings: (TidelineError | null)[] = [];
      connection.onClose((error) => closings.push(error));
      await world.until(() => handler.requests.length === 1 && handler.producers.length === 1);
      handler.producers[0].onCancel(() => cancelled++);
      connection.close();
      expect(connection.isOpen).toBe(false);
      expect(stream.ends.length).toBe(0); // never nested inside the call
      expect((await world.run(answer)).error).toMatchObject({ code: 'connection-lost', outcome: 'unknown' });
      await world.until(() => handler.closings.length === 1 && cancelled === 1);
      expect(handler.requests[0].responder.cancelled).toBe(true);
      expect(stream.ends.map((end) => end?.code)).toEqual(['connection-lost']);
      expect(closings).toEqual([null]);
      expect(handler.closings[0]?.code).toBe('connection-lost');
      handler.requests[0].responder.ok(Buffer.alloc(1)); // safe
      let late: TidelineError | null | undefined;
      connection.onClose((error) => (late = error));
      await world.until(() => late === null);
    });

    test('what was sent before close arrives', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect();
      for (let i = 0; i < 50; i++) connection.post(1, Buffer.alloc(20_000, 97));
      connection.close();
      await world.until(() => handler.posts.length === 50 && handler.closings.length === 1);
    });

    test('on a closed connection nothing is sent and everything says so', async () => {
      const { world, connect } = await open();
      const connection = await connect();
      connection.close();
      const { error } = await world.run(ask(connection, Buffer.from('q')));
      expect(error).toMatchObject({ code: 'connection-lost', outcome: 'rejected' });
      expect(connection.post(1, Buffer.from('p'))).toBe(false);
      const stream = new Stream(connection, 10);
      await world.until(() => stream.ends.length === 1);
      expect(stream.ends[0]?.code).toBe('connection-lost');
    });

    test('more requests than may be in flight are refused, and only those', async () => {
      const { world, handler, connect } = await open();
      handler.answer = null;
      const connection = await connect({ limits: { inflightRequestsMax: 3 } });
      const answers = Array.from({ length: 4 }, (_, i) => ask(connection, Buffer.from(`${i}`)));
      expect((await world.run(answers[3])).error).toMatchObject({ code: 'overloaded', outcome: 'rejected' });
      await world.until(() => handler.requests.length === 3);
      for (const { responder } of handler.requests) responder.ok(Buffer.alloc(0));
      const got = await world.run(Promise.all(answers.slice(0, 3)));
      expect(got.map(({ error }) => error)).toEqual([null, null, null]);
    });

    test('the accepting side keeps its own limits on requests and streams', async () => {
      const { world, handler, connect } = await open({ limits: { inflightRequestsMax: 2, streamsMax: 1 } });
      handler.answer = null;
      const connection = await connect();
      const answers = Array.from({ length: 3 }, (_, i) => ask(connection, Buffer.from(`${i}`)));
      expect((await world.run(answers[2])).error).toMatchObject({ code: 'overloaded', outcome: 'rejected' });
      const streams = [new Stream(connection, 10), new Stream(connection, 10)];
      await world.until(() => streams[1].ends.length === 1);
      expect(streams[1].ends[0]?.code).toBe('overloaded');
      expect(streams[0].ends.length).toBe(0);
    });

    test('what does not fit in a frame is refused before it is sent', async () => {
      const { world, connect } = await open();
      const connection = await connect({ limits: { frameBytesMax: 1000 } });
      const { error } = await world.run(ask(connection, Buffer.alloc(1000)));
      expect(error).toMatchObject({ code: 'request-too-large', outcome: 'rejected', details: { limit: 1000 } });
      expect(connection.post(1, Buffer.alloc(1000))).toBe(false);
      expect((await world.run(ask(connection, Buffer.alloc(900)))).error).toBeNull();
    });

    test('a frame larger than the receiver takes ends the connection', async () => {
      const { world, connect } = await open({ limits: { frameBytesMax: 1000 } });
      const connection = await connect();
      const { error } = await world.run(ask(connection, Buffer.alloc(5000)));
      expect(error?.code).toBe('connection-lost');
      expect(connection.isOpen).toBe(false);
    });

    test('an answer that does not fit in a frame becomes an error', async () => {
      const { world, handler, connect } = await open({ limits: { frameBytesMax: 1000 } });
      handler.answer = (_payload, responder) => responder.ok(Buffer.alloc(5000));
      const { error } = await world.run(ask(await connect(), Buffer.from('q')));
      expect(error).toMatchObject({ code: 'request-too-large', outcome: 'unknown' });
    });

    test('posts are dropped and requests refused while too much waits to be sent', async () => {
      const { world, handler, connect } = await open();
      const connection = await connect({ limits: { bufferedBytesMax: 100_000 } });
      let sent = 0;
      while (connection.post(1, Buffer.alloc(10_000, 97)) && sent < 1000) sent++;
      expect(sent).toBeLessThan(20);
      expect((await world.run(ask(connection, Buffer.from('q')))).error).toMatchObject({
        code: 'overloaded',
        outcome: 'rejected',
      });
      await world.until(() => handler.posts.length === sent && connection.bufferedBytes === 0);
      expect(connection.post(1, Buffer.from('again'))).toBe(true);
    });

    test('a connection to another cluster is refused on either side', async () => {
      const { world, client, listener } = await open().then((opened) => ({ ...opened, client: opened.world.client }));
      const attempt = client.connect(listener.address, helloOf({ clusterId: 'other' }), null);
      expect((await world.run(refusal(attempt))).code).toBe('cluster-mismatch');
      await world.until(() => listener.connections === 0);
    });

    test('nobody there is a rejection', async () => {
      const { world, listener } = await open();
      const { address } = listener;
      await world.run(listener.close());
      const attempt = world.client.connect(address, helloOf(), null, { timeoutMs: 2000 });
      expect(await world.run(refusal(attempt))).toMatchObject({ code: 'connection-lost', outcome: 'rejected' });
      const nonsense = world.client.connect('no address', helloOf(), null);
      expect((await world.run(refusal(nonsense))).code).toBe('bad-option');
    });

    test('an attempt that is given up is not heard of again', async () => {
      const { world, handler, listener } = await open();
      let called = 0;
      world.client.dial(listener.address, helloOf(), null, {}, () => called++)();
      const connection = await world.run(world.client.connect(listener.address, helloOf(), null));
      await world.run(ask(connection, Buffer.from('q')));
      expect(called).toBe(0);
      expect(handler.connections.length).toBe(1);
      connection.close();
    });

    test('an address is listened on once', async () => {
      const { world, listener } = await open();
      expect(listener.port).toBeGreaterThan(0);
      expect(listener.address).toBe(`127.0.0.1:${listener.port}`);
      const second = world.server.listen({ host: '127.0.0.1', port: listener.port }, helloOf(), new Handler());
      expect((await world.run(refusal(second))).code).toBe('address-in-use');
    });

    test('more connections than allowed are refused, and there is room again when one goes', async () => {
      const { world, listener, connect } = await open({ limits: { connectionsMax: 2 } });
      const first = await connect();
      await connect();
      const third = world.client.connect(listener.address, helloOf(), null);
      expect((await world.run(refusal(third))).code).toBe('overloaded');
      first.close();
      await world.until(() => listener.connections === 1);
      await connect();
      expect(listener.connections).toBe(2);
    });

    test('closing a listener ends its connections and says why', async () => {
      const { world, listener, connect } = await open();
      const connection = await connect();
      const closings: (TidelineError | null)[] = [];
      connection.onClose((error) => closings.push(error));
      await world.run(listener.close());
      await world.until(() => closings.length === 1);
      expect(closings[0]?.code).toBe('shutting-down');
      expect(listener.connections).toBe(0);
    });

    test('an idle connection stays open: each side hears the other', async () => {
      const limits = { idlePingMs: 100 };
      const { world, connect } = await open({ limits });
      const connection = await connect({ limits });
      await world.passTime(700);
      expect(connection.isOpen).toBe(true);
      expect((await world.run(ask(connection, Buffer.from('q')))).error).toBeNull();
    });
  });
};
