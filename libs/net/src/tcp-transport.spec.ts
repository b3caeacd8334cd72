import { connect as connectSocket, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TidelineError } from '#kernel';
import { FrameDecoder, FrameType, decodeError, encodeFrame, encodeHello } from '#wire';
import type {
  Connection,
  ConnectionHandler,
  Hello,
  Listener,
  NetLimits,
  Responder,
  StreamProducer,
} from './connection.js';
import { STREAM_BUFFERED_BYTES_MAX } from './net-limits.js';
import { tcpTransport } from './tcp-transport.js';
import { transportConformance } from './testing/transport.conformance.js';

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
};

transportConformance('TCP', () => ({
  server: tcpTransport,
  client: tcpTransport,
  until,
  run: (promise) => promise,
  passTime: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
}));

const hello: Hello = { nodeId: 0, clusterId: '', service: '', software: 'raw', addresses: {} };
const frame = (type: FrameType, options: { id?: number; argument?: number; method?: number; payload?: Buffer } = {}) =>
  encodeFrame(
    { type, id: options.id ?? 0, argument: options.argument ?? 0, method: options.method ?? 0 },
    options.payload,
  );
const helloFrame = frame(FrameType.Hello, { payload: encodeHello(hello) });

/** A peer that says what the test wants, byte by byte. */
class RawPeer {
  readonly frames: { type: number; id: number; payload: Buffer }[] = [];
  ended = false;
  private readonly decoder = new FrameDecoder(
    {
      frame: (type, _method, id, _argument, payload) => this.frames.push({ type, id, payload }),
      malformed: (error) => {
        throw error;
      },
    },
    64 << 20,
  );

  private constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => this.decoder.push(chunk));
    socket.on('error', () => undefined);
    socket.on('end', () => (this.ended = true));
    socket.on('close', () => (this.ended = true));
  }

  static to(port: number): Promise<RawPeer> {
    return new Promise((resolve) => {
      const socket = connectSocket({ port, host: '127.0.0.1' }, () => resolve(new RawPeer(socket)));
    });
  }

  get goaway(): TidelineError | null {
    const last = this.frames.find(({ type }) => type === FrameType.Goaway);
    return last === undefined ? null : decodeError(last.payload);
  }
}

describe('TCP transport against strangers', () => {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  const listen = async (options: { limits?: Partial<NetLimits>; handler?: Partial<ConnectionHandler> } = {}) => {
    const listener: Listener = await tcpTransport.listen(
      { host: '127.0.0.1', port: 0 },
      hello,
      {
        request: (_method: number, payload: Buffer, responder: Responder) => responder.ok(payload),
        stream: (_method: number, _payload: Buffer, producer: StreamProducer) => producer.end(null),
        post: () => undefined,
        ...options.handler,
      },
      options.limits,
    );
    ends.push(() => listener.close());
    const raw = async (): Promise<RawPeer> => {
      const peer = await RawPeer.to(listener.port);
      ends.push(() => peer.socket.destroy());
      return peer;
    };
    const works = async (): Promise<void> => {
      const connection: Connection = await tcpTransport.connect(listener.address, hello, null);
      const answer = await new Promise((resolve) => {
        connection.request(1, Buffer.from('still here?'), { timeoutMs: 5000 }, (error, payload) =>
          resolve(error ?? payload.toString()),
        );
      });
      expect(answer).toBe('still here?');
      connection.close();
    };
    return { listener, raw, works };
  };

  test.each([
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), 'unsupported-version'],
    ['zeros', Buffer.alloc(100), 'unsupported-version'],
    ['a huge length', Buffer.from('ffffffff01020000', 'hex'), 'malformed-frame'],
    ['a length below a header', Buffer.from('0300000001020000', 'hex'), 'malformed-frame'],
    ['a request before hello', frame(FrameType.Request, { id: 1 }), 'malformed-frame'],
    ['a hello that does not parse', frame(FrameType.Hello, { payload: Buffer.from([1]) }), 'malformed-frame'],
    ['a second hello', Buffer.concat([helloFrame, helloFrame]), 'malformed-frame'],
    ['an unknown frame type', Buffer.concat([helloFrame, frame(99 as FrameType)]), 'malformed-frame'],
    [
      'an id twice',
      Buffer.concat([helloFrame, frame(FrameType.StreamOpen, { id: 1 }), frame(FrameType.Request, { id: 1 })]),
      'malformed-frame',
    ],
    [
      'an error that does not parse',
      Buffer.concat([helloFrame, frame(FrameType.Goaway, { payload: Buffer.from([9]) })]),
      'malformed-frame',
    ],
  ])('%s gets its reason and the end, and the server goes on', async (_name, bytes, code) => {
    // A stream that stays open, so that its id stays in use.
    const { raw, works, listener } = await listen({ handler: { stream: () => undefined } });
    const peer = await raw();
    peer.socket.write(bytes);
    await until(() => peer.ended);
    expect(peer.goaway?.code).toBe(code);
    await until(() => listener.connections === 0);
    await works();
  });

  test('a hello gets less room than other frames', async () => {
    const { raw } = await listen();
    const peer = await raw();
    peer.socket.write(frame(FrameType.Hello, { payload: Buffer.alloc(70_000) }));
    await until(() => peer.ended);
    expect(peer.goaway?.code).toBe('malformed-frame');
  });

  test('a connection that says nothing is closed', async () => {
    const { raw, listener } = await listen({ limits: { helloTimeoutMs: 30 } });
    const peer = await raw();
    await until(() => peer.ended);
    expect(peer.goaway?.code).toBe('timeout');
    await until(() => listener.connections === 0);
  });

  test('a peer that falls silent is asked, and closed when it does not answer', async () => {
    const { raw, listener } = await listen({ limits: { idlePingMs: 30 } });
    const peer = await raw();
    peer.socket.write(helloFrame);
    await until(() => peer.ended);
    // On a slow machine it may be asked more than once before it is given up.
    const [hello, ...asked] = peer.frames.map(({ type }) => type);
    expect(hello).toBe(FrameType.Hello);
    expect(new Set(asked)).toEqual(new Set([FrameType.Ping]));
    await until(() => listener.connections === 0);
  });

  test('a half frame and then the end is only an end', async () => {
    const { raw, works, listener } = await listen();
    const peer = await raw();
    peer.socket.write(Buffer.concat([helloFrame, frame(FrameType.Request, { id: 1 }).subarray(0, 9)]));
    await until(() => peer.frames.length === 1);
    peer.socket.destroy();
    await until(() => listener.connections === 0);
    await works();
  });

  test('answers to what nobody asked are nothing', async () => {
    const { raw } = await listen();
    const peer = await raw();
    peer.socket.write(
      Buffer.concat([
        helloFrame,
        frame(FrameType.Response, { id: 77 }),
        frame(FrameType.StreamItem, { id: 78 }),
        frame(FrameType.StreamEnd, { id: 79 }),
        frame(FrameType.Credit, { id: 80, argument: 5 }),
        frame(FrameType.Cancel, { id: 81 }),
        frame(FrameType.Pong),
        frame(FrameType.Request, { id: 2, payload: Buffer.from('q') }),
      ]),
    );
    await until(() => peer.frames.length === 2);
    expect(peer.frames[1]).toMatchObject({ type: FrameType.Response, id: 2, payload: Buffer.from('q') });
  });

  test('a consumer that is sent more than it granted ends the connection', async () => {
    const server = await listen();
    let far: Connection | null = null;
    const listener = await tcpTransport.listen({ host: '127.0.0.1', port: 0 }, hello, {
      request: () => undefined,
      stream: () => undefined,
      post: () => undefined,
      opened: (connection) => (far = connection),
    });
    ends.push(() => listener.close(), server.listener.close.bind(server.listener));
    const peer = await RawPeer.to(listener.port);
    ends.push(() => peer.socket.destroy());
    peer.socket.write(helloFrame);
    await until(() => far !== null);
    const reasons: (string | undefined)[] = [];
    far!.openStream(1, Buffer.alloc(0), { creditBytes: 10 }, { item: () => 0, end: (e) => reasons.push(e?.code) });
    await until(() => peer.frames.length === 2);
    const { id } = peer.frames[1];
    const item = frame(FrameType.StreamItem, { id, payload: Buffer.alloc(10) });
    peer.socket.write(Buffer.concat([item, item]));
    await until(() => peer.ended);
    expect(peer.goaway?.code).toBe('malformed-frame');
    expect(reasons).toEqual(['connection-lost']);
  });

  test('a reader that grants much and reads nothing costs no more than the stream buffer', async () => {
    let producer: StreamProducer | null = null;
    const connections: Connection[] = [];
    const { raw } = await listen({
      handler: {
        stream: (_method, _payload, source, connection) => {
          producer = source;
          connections.push(connection);
        },
      },
    });
    const peer = await raw();
    peer.socket.write(Buffer.concat([helloFrame, frame(FrameType.StreamOpen, { id: 1, argument: 0xffff_ffff })]));
    peer.socket.pause();
    await until(() => producer !== null);
    const item = Buffer.alloc(64 * 1024);
    const [connection] = connections;
    let sent = 0;
    let highest = 0;
    const go = (): void => {
      while (producer!.credit > 0 && sent < 2000) {
        producer!.item(item);
        sent++;
        highest = Math.max(highest, connection.bufferedBytes);
      }
    };
    producer!.onCredit(go);
    go();
    // The kernel has its own buffers; when they are full nothing moves any more.
    for (let still = 0, before = -1; still < 20; still = before === sent ? still + 1 : 0) {
      before = sent;
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(sent).toBeLessThan(2000);
    expect(highest).toBeLessThan(STREAM_BUFFERED_BYTES_MAX + 2 * item.length);
    // It reads again: the producer hears of it and goes on to the end.
    peer.socket.resume();
    await until(() => sent === 2000);
  });

  test('a peer that asks and does not read is not read from any more, and ended when nothing moves', async () => {
    let asked = 0;
    const { raw, listener } = await listen({
      limits: { bufferedBytesMax: 4 << 20, idlePingMs: 50 },
      handler: {
        request: (_method, _payload, responder) => {
          asked++;
          responder.ok(Buffer.alloc(100_000));
        },
      },
    });
    const peer = await raw();
    peer.socket.write(helloFrame);
    peer.socket.pause();
    const requests = 20_000;
    for (let id = 1; id <= requests; id++)
      peer.socket.write(frame(FrameType.Request, { id, payload: Buffer.alloc(500) }));
    await until(() => listener.connections === 0);
    expect(asked).toBeLessThan(requests);
  });

  test('no sequence of frames, however odd, and no noise stops the server', async () => {
    const { raw, works, listener } = await listen({
      handler: {
        stream: (_method, _payload, producer) => {
          const send = (): void => {
            if (producer.credit > 0) producer.item(Buffer.from('item'));
          };
          producer.onCredit(send);
          send();
        },
      },
    });
    const anyFrame = fc
      .record({
        type: fc.integer({ min: 1, max: 14 }),
        method: fc.integer({ min: 0, max: 0xffff }),
        id: fc.integer({ min: 0, max: 5 }),
        argument: fc.constantFrom(0, 1, 100, 0xffff_ffff),
        payload: fc.uint8Array({ maxLength: 30 }),
      })
      .map(({ payload, ...header }) => encodeFrame(header as never, payload));
    const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
    await fc.assert(
      fc.asyncProperty(
        fc.boolean(),
        fc.array(fc.oneof({ weight: 6, arbitrary: anyFrame }, { weight: 1, arbitrary: noise }), { maxLength: 20 }),
        async (polite, parts) => {
          const peer = await raw();
          if (polite) peer.socket.write(helloFrame);
          peer.socket.write(Buffer.concat(parts));
          peer.socket.end();
          await until(() => peer.ended);
          peer.socket.destroy();
        },
      ),
      { numRuns: 150 },
    );
    await until(() => listener.connections === 0);
    await works();
  });
});
