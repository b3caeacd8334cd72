import 'reflect-metadata';
import type { AddressInfo, Server as NetServer } from 'node:net';
import { connect as connectSocket, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { Controller, type INestMicroservice } from '@nestjs/common';
import {
  ClientTCP,
  Ctx,
  EventPattern,
  MessagePattern,
  Payload,
  RpcException,
  type MicroserviceOptions,
} from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { Observable, firstValueFrom, lastValueFrom, of, take, throwError, toArray } from 'rxjs';
import { TidelineError } from '#kernel';
import {
  TidelineClientProxy,
  TidelineJsonClient,
  TidelineJsonTcpServer,
  TidelineRpcContext,
  TidelineRpcExceptionFilter,
  TidelineServer,
  paced,
  type TidelineJsonTcpOptions,
  type TidelineServerOptions,
} from './index.js';

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
};

/** What the handlers did, to look at from outside. */
class Log {
  subscribed = 0;
  tornDown = 0;
  pulled = 0;
  returned = 0;
  echoed = 0;
  events: unknown[] = [];
  emit: ((item: unknown) => void) | null = null;
}
let log = new Log();

@Controller()
class Patterns {
  @MessagePattern({ cmd: 'echo' })
  echo(@Payload() data: unknown): unknown {
    log.echoed++;
    return data;
  }

  @MessagePattern({ cmd: 'later' })
  async later(@Payload() data: unknown): Promise<unknown> {
    await new Promise((resolve) => setImmediate(resolve));
    return { got: data };
  }

  @MessagePattern({ cmd: 'nothing' })
  nothing(): void {}

  @MessagePattern({ cmd: 'three' })
  three(): Observable<number> {
    return of(1, 2, 3);
  }

  @MessagePattern({ cmd: 'none' })
  none(): Observable<never> {
    return of();
  }

  /** Goes on until it is torn down; the test pushes into it. */
  @MessagePattern({ cmd: 'tail' })
  tail(): Observable<unknown> {
    return new Observable((subscriber) => {
      log.subscribed++;
      log.emit = (item) => subscriber.next(item);
      subscriber.next('first');
      return () => {
        log.tornDown++;
      };
    });
  }

  @MessagePattern({ cmd: 'paced' })
  paced(@Payload() size: number, @Ctx() context: TidelineRpcContext): Observable<unknown> {
    // A source with one item of credit: the next comes when this one was taken.
    return new Observable<string>((subscriber) => {
      log.emit = () => {
        log.pulled++;
        subscriber.next('x'.repeat(size));
      };
      return () => {
        log.tornDown++;
      };
    }).pipe(paced(context));
  }

  @MessagePattern({ cmd: 'pull' })
  async *pull(@Payload() options: { size: number; count: number }): AsyncGenerator<string> {
    try {
      for (let i = 0; i < options.count; i++) {
        log.pulled++;
        yield 'x'.repeat(options.size);
      }
    } finally {
      log.returned++;
    }
  }

  @MessagePattern({ cmd: 'never' })
  never(): Promise<never> {
    return new Promise(() => undefined);
  }

  @MessagePattern({ cmd: 'tideline-error' })
  refuse(): never {
    throw new TidelineError('not-leader', 'ask node 3', { outcome: 'rejected', details: { leader: 3 } });
  }

  @MessagePattern({ cmd: 'stream-error' })
  breakOff(): Observable<unknown> {
    return throwError(() => new TidelineError('offset-out-of-range', 'trimmed'));
  }

  @MessagePattern({ cmd: 'rpc-exception' })
  rpc(): never {
    throw new RpcException({ mine: true, message: 'my own' });
  }

  @MessagePattern({ cmd: 'defect' })
  defect(): never {
    throw new TypeError('the password is 1234');
  }

  @MessagePattern({ cmd: 'bigint' })
  bigint(): unknown {
    return { big: 12345678901234567890n, bytes: Buffer.from([1, 2, 255]) };
  }

  @MessagePattern({ cmd: 'circular' })
  circular(): unknown {
    const loop: Record<string, unknown> = {};
    loop['self'] = loop;
    return loop;
  }

  @EventPattern('happened')
  happened(@Payload() data: unknown): void {
    log.events.push(data);
  }
}

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  log = new Log();
});

const start = async (strategy: TidelineJsonTcpServer | TidelineServer): Promise<INestMicroservice> => {
  const module = await Test.createTestingModule({ controllers: [Patterns] }).compile();
  module.useLogger(false);
  const app = module.createNestMicroservice<MicroserviceOptions>({ strategy, logger: false } as MicroserviceOptions);
  app.useGlobalFilters(new TidelineRpcExceptionFilter());
  await app.listen();
  ends.push(() => app.close());
  return app;
};

/** What the tests use of Nest's ClientProxy, whose event types differ from client to client. */
interface Client {
  connect(): Promise<unknown>;
  send<T = unknown>(pattern: unknown, data: unknown): Observable<T>;
  emit(pattern: unknown, data: unknown): unknown;
}

interface World {
  readonly server: { readonly callCount: number };
  readonly client: Client;
  /** Ends the client's connection without a word. */
  cut(): void;
}

const json = async (options: Partial<TidelineJsonTcpOptions> = {}, Client: typeof ClientTCP = ClientTCP) => {
  const server = new TidelineJsonTcpServer({ host: '127.0.0.1', port: 0, ...options });
  await start(server);
  const { port } = server.unwrap<NetServer>().address() as AddressInfo;
  const client = new Client({ host: '127.0.0.1', port });
  ends.push(() => client.close());
  return { server, client, port, cut: () => client.unwrap<Socket>().destroy() };
};

const framed = async (options: Partial<TidelineServerOptions> = {}, creditBytes?: number) => {
  const server = new TidelineServer({ host: '127.0.0.1', port: 0, ...options });
  await start(server);
  const client = new TidelineClientProxy({
    address: `127.0.0.1:${server.port}`,
    ...(creditBytes === undefined ? {} : { creditBytes }),
  });
  ends.push(() => client.close());
  return { server, client, cut: () => client.close() };
};

const failure = (result: Observable<unknown>): Promise<Record<string, unknown>> =>
  lastValueFrom(result).then(
    (value) => {
      throw new Error(`answered ${JSON.stringify(value)}`);
    },
    (error: unknown) => error as Record<string, unknown>,
  );

const strategies: [string, () => Promise<World>][] = [
  ['JSON server with a stock client', () => json()],
  ['JSON server with our client', () => json({}, TidelineJsonClient)],
  ['framed server and client', () => framed()],
];

describe.each(strategies)('%s', (_name, makeWorld) => {
  const ask = (client: Client, cmd: string, data: unknown = {}): Observable<unknown> => client.send({ cmd }, data);

  test('answers values, promises and nothing', async () => {
    const { client, server } = await makeWorld();
    expect(await lastValueFrom(ask(client, 'echo', { a: [1, 'ä', null] }))).toEqual({ a: [1, 'ä', null] });
    expect(await lastValueFrom(ask(client, 'later', 5))).toEqual({ got: 5 });
    await lastValueFrom(ask(client, 'nothing'), { defaultValue: 'empty' });
    await until(() => server.callCount === 0);
  });

  test('answers streams, to the end', async () => {
    const { client } = await makeWorld();
    expect(await lastValueFrom(ask(client, 'three').pipe(toArray()))).toEqual([1, 2, 3]);
    expect(await lastValueFrom(ask(client, 'none').pipe(toArray()))).toEqual([]);
    const pulled = await lastValueFrom(ask(client, 'pull', { size: 3, count: 4 }).pipe(toArray()));
    expect(pulled).toEqual(['xxx', 'xxx', 'xxx', 'xxx']);
  });

  test('answers many at once, each its own', async () => {
    const { client } = await makeWorld();
    const all = await Promise.all(Array.from({ length: 200 }, (_, i) => lastValueFrom(ask(client, 'later', i))));
    expect(all).toEqual(Array.from({ length: 200 }, (_, i) => ({ got: i })));
  });

  test('takes events', async () => {
    const { client } = await makeWorld();
    await client.connect();
    client.emit('happened', { n: 1 });
    await until(() => log.events.length === 1);
    expect(log.events).toEqual([{ n: 1 }]);
  });

  test('errors arrive with code, outcome and details; defects keep their message to themselves', async () => {
    const { client } = await makeWorld();
    expect(await failure(ask(client, 'tideline-error'))).toEqual({
      status: 'error',
      code: 'not-leader',
      outcome: 'rejected',
      message: 'ask node 3',
      details: { leader: 3 },
    });
    expect(await failure(ask(client, 'stream-error'))).toMatchObject({ code: 'offset-out-of-range' });
    expect(await failure(ask(client, 'rpc-exception'))).toEqual({ mine: true, message: 'my own' });
    const defect = await failure(ask(client, 'defect'));
    expect(defect).toMatchObject({ code: 'internal', outcome: 'unknown' });
    expect(JSON.stringify(defect)).not.toContain('1234');
    expect(await failure(ask(client, 'no-such-thing'))).toMatchObject({ code: 'not-found', outcome: 'rejected' });
  });

  test('a response that cannot be written is an error, not silence', async () => {
    const { client } = await makeWorld();
    expect(await failure(ask(client, 'circular'))).toMatchObject({ code: 'internal', outcome: 'unknown' });
    expect(await lastValueFrom(ask(client, 'echo', 'still here'))).toBe('still here');
  });

  test('when the client disconnects, its producers are torn down and its calls forgotten', async () => {
    const { client, server, cut } = await makeWorld();
    const seen: unknown[] = [];
    const errors: unknown[] = [];
    for (let i = 0; i < 3; i++) {
      ask(client, 'tail').subscribe({ next: (item) => seen.push(item), error: (error) => errors.push(error) });
    }
    ask(client, 'never').subscribe({ error: (error) => errors.push(error) });
    await until(() => seen.length === 3 && server.callCount === 4);
    cut();
    await until(() => log.tornDown === 3 && server.callCount === 0);
    await until(() => errors.length === 4);
  });

  test('a response that completes is torn down once', async () => {
    const { client, server } = await makeWorld();
    await lastValueFrom(ask(client, 'pull', { size: 1, count: 2 }));
    await until(() => server.callCount === 0);
    expect(log.returned).toBe(1);
  });
});

describe.each(strategies.slice(1))('%s', (_name, makeWorld) => {
  test('unsubscribing tears the producer down while the connection goes on', async () => {
    const { client, server } = await makeWorld();
    await firstValueFrom(client.send({ cmd: 'tail' }, {}));
    await until(() => log.tornDown === 1 && server.callCount === 0);
    expect(log.subscribed).toBe(1);
    await firstValueFrom(client.send({ cmd: 'pull' }, { size: 1, count: 1000 }));
    await until(() => log.returned === 1);
    const ticks = client.send<number>({ cmd: 'three' }, {}).pipe(take(2), toArray());
    expect(await lastValueFrom(ticks)).toEqual([1, 2]);
    await until(() => server.callCount === 0);
  });
});

test('bytes and bigints go through the framed transport as they are, and through JSON as text', async () => {
  const { client } = await framed();
  const value = { bytes: Buffer.from([1, 2, 255]), big: 12345678901234567890n, tag: { $bytes: 'no bytes' } };
  expect(await lastValueFrom(client.send({ cmd: 'echo' }, value))).toEqual(value);
  const stock = await json();
  expect(await lastValueFrom(stock.client.send({ cmd: 'bigint' }, {}))).toEqual({
    big: '12345678901234567890',
    bytes: { type: 'Buffer', data: [1, 2, 255] },
  });
});

test('an address in use is said by both', async () => {
  const { port } = await json();
  const second = new TidelineJsonTcpServer({ host: '127.0.0.1', port });
  const app = Test.createTestingModule({ controllers: [] }).compile();
  const listen = async (strategy: TidelineJsonTcpServer | TidelineServer): Promise<unknown> =>
    (await app).createNestMicroservice({ strategy, logger: false } as MicroserviceOptions).listen();
  await expect(listen(second)).rejects.toMatchObject({ code: 'address-in-use' });
  await expect(listen(new TidelineServer({ host: '127.0.0.1', port }))).rejects.toMatchObject({
    code: 'address-in-use',
  });
});

test('the framed client connects again after the connection went', async () => {
  const { client } = await framed();
  expect(await lastValueFrom(client.send({ cmd: 'echo' }, 1))).toBe(1);
  client.close();
  expect(await lastValueFrom(client.send({ cmd: 'echo' }, 2))).toBe(2);
  const lonely = new TidelineClientProxy({ address: '127.0.0.1:1' });
  expect(await failure(lonely.send({ cmd: 'echo' }, 1))).toMatchObject({
    code: 'connection-lost',
    outcome: 'rejected',
  });
});

/* ---- readers that do not read, and strangers ---- */

/** A JSON client made of a bare socket. */
const rawJson = async (port: number) => {
  let last = '';
  let items = 0;
  let answers = 0;
  let closed = false;
  const socket = await new Promise<Socket>((resolve) => {
    const connecting = connectSocket({ port, host: '127.0.0.1' }, () => resolve(connecting));
  });
  // Counts as it goes: what comes is too much to search again and again.
  const count = (text: string, mark: string): number => text.split(mark).length - 1;
  socket.on('data', (chunk) => {
    const fresh = last.slice(-20) + chunk.toString();
    items += count(fresh, '"response"') - count(last.slice(-20), '"response"');
    answers += count(fresh, '"isDisposed":true') - count(last.slice(-20), '"isDisposed":true');
    last = (last + chunk.toString()).slice(-10_000);
  });
  socket.on('error', () => undefined);
  socket.on('close', () => (closed = true));
  ends.push(() => socket.destroy());
  const send = (packet: unknown): void => {
    const body = JSON.stringify(packet);
    socket.write(`${body.length}#${body}`);
  };
  return { socket, send, text: () => last, items: () => items, answers: () => answers, closed: () => closed };
};

const still = async (value: () => number): Promise<void> => {
  for (let quiet = 0, before = -1; quiet < 10; quiet = before === value() ? quiet + 1 : 0) {
    before = value();
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  }
};

describe('a reader of the JSON server that does not read', () => {
  test('is pulled for no more than its buffers hold, and gets the rest when it reads again', async () => {
    const { port, server } = await json({ sendBufferBytesMax: 64 * 1024 });
    const raw = await rawJson(port);
    raw.socket.pause();
    raw.send({ id: '1', pattern: { cmd: 'pull' }, data: { size: 10_000, count: 5000 } });
    await until(() => log.pulled > 10);
    await still(() => log.pulled);
    expect(log.pulled).toBeLessThan(5000);
    raw.socket.resume();
    await until(() => log.returned === 1 && server.callCount === 0);
    await until(() => raw.answers() === 1);
    expect(raw.items()).toBe(5000);
  });

  test('pushes back on a source that can wait', async () => {
    const { port } = await json({ sendBufferBytesMax: 64 * 1024 });
    const raw = await rawJson(port);
    raw.socket.pause();
    raw.send({ id: '1', pattern: { cmd: 'paced' }, data: 100_000 });
    await until(() => log.emit !== null);
    for (let i = 0; i < 200; i++) log.emit!(null);
    await still(raw.items);
    raw.socket.resume();
    await until(() => raw.items() === 200);
  });

  test('is dropped from a stream that cannot wait, with a clear error', async () => {
    const { port, server } = await json({ sendBufferBytesMax: 64 * 1024, streamQueueBytesMax: 256 * 1024 });
    const raw = await rawJson(port);
    raw.socket.pause();
    raw.send({ id: '1', pattern: { cmd: 'tail' }, data: {} });
    await until(() => log.emit !== null);
    let sent = 0;
    while (log.tornDown === 0 && sent < 100_000) {
      log.emit!('x'.repeat(10_000));
      sent++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(log.tornDown).toBe(1);
    expect(sent).toBeLessThan(2000);
    await until(() => server.callCount === 0);
    raw.socket.resume();
    await until(() => raw.text().includes('"code":"too-slow"'));
    raw.send({ id: '2', pattern: { cmd: 'echo' }, data: 'and goes on' });
    await until(() => raw.text().endsWith('{"id":"2","response":"and goes on","isDisposed":true}'));
  });

  test('is disconnected when nothing moves for long', async () => {
    const { port, server } = await json({ sendBufferBytesMax: 64 * 1024, stallMs: 50 });
    const raw = await rawJson(port);
    raw.socket.pause();
    raw.send({ id: '1', pattern: { cmd: 'pull' }, data: { size: 10_000, count: 1_000_000 } });
    await until(() => log.returned === 1 && server.callCount === 0);
  });

  test('asks no more while its answers wait', async () => {
    const { port } = await json({ sendBufferBytesMax: 64 * 1024 });
    const raw = await rawJson(port);
    raw.socket.pause();
    const text = 'x'.repeat(50_000);
    const count = 1000;
    for (let i = 0; i < count; i++) raw.send({ id: `${i}`, pattern: { cmd: 'echo' }, data: text });
    await still(() => log.echoed);
    expect(log.echoed).toBeLessThan(count);
    raw.socket.resume();
    await until(() => raw.answers() === count);
  });
});

describe('a stranger at the JSON server', () => {
  const works = async (client: Client): Promise<void> => {
    expect(await lastValueFrom(client.send({ cmd: 'echo' }, 'works'))).toBe('works');
  };

  test.each([
    ['HTTP', 'GET / HTTP/1.1\r\nHost: example.org\r\n\r\n', 'malformed-frame'],
    ['noise without an end', 'x'.repeat(100), 'malformed-frame'],
    ['a negative length', '-5#{}', 'malformed-frame'],
    ['a length in another notation', '1e3#{}', 'malformed-frame'],
    ['a huge length', '9999999999#{', 'request-too-large'],
    ['no JSON', '3#{a}', 'malformed-json'],
    ['deep JSON', `200#${'['.repeat(200)}`, 'too-deep'],
  ])('that sends %s is told why and closed, and others go on', async (_name, text, code) => {
    const { port, client } = await json();
    const raw = await rawJson(port);
    raw.socket.write(text);
    await until(() => raw.closed());
    expect(raw.text()).toContain(`"code":"${code}"`);
    await works(client);
  });

  test.each(['null', '5', '"x"', '[]', '{}', '{"id":null}', '{"pattern":null,"id":{}}', '{"isDisposed":true}'])(
    'that sends %s harms nobody',
    async (text) => {
      const { port, client } = await json();
      const raw = await rawJson(port);
      raw.socket.write(`${text.length}#${text}`);
      raw.send({ id: 'a', pattern: { cmd: 'echo' }, data: 1 });
      await until(() => raw.text().includes('"id":"a","response":1'));
      await works(client);
    },
  );

  test('gets characters beyond the first plane and messages cut anywhere right', async () => {
    const { port } = await json();
    const raw = await rawJson(port);
    const body = JSON.stringify({ id: '😀', pattern: { cmd: 'echo' }, data: 'ß😀'.repeat(50) });
    for (const byte of Buffer.from(`${body.length}#${body}`)) raw.socket.write(Buffer.from([byte]));
    await until(() => raw.text().includes('isDisposed'));
    expect(raw.text()).toContain('ß😀ß😀');
  });

  test('may not use an id twice, nor call without end', async () => {
    const { port } = await json({ callsMax: 2 });
    const raw = await rawJson(port);
    raw.send({ id: '1', pattern: { cmd: 'never' }, data: 1 });
    raw.send({ id: '1', pattern: { cmd: 'never' }, data: 1 });
    await until(() => raw.text().includes('"code":"bad-request"'));
    raw.send({ id: '2', pattern: { cmd: 'never' }, data: 1 });
    raw.send({ id: '3', pattern: { cmd: 'never' }, data: 1 });
    await until(() => raw.text().includes('"code":"overloaded"'));
  });
});

test('the framed server drops a pushed stream whose reader gives no credit', async () => {
  const { client, server } = await framed({ streamQueueBytesMax: 100_000 }, 1000);
  const connection = await client.connect();
  const ended: (TidelineError | null)[] = [];
  const payload = Buffer.from(JSON.stringify({ pattern: { cmd: 'tail' }, data: {} }));
  connection.openStream(0x0501, payload, { creditBytes: 100 }, { item: () => 0, end: (error) => ended.push(error) });
  await until(() => log.emit !== null);
  for (let i = 0; i < 50 && log.tornDown === 0; i++) log.emit!('x'.repeat(10_000));
  await until(() => ended.length === 1);
  expect(ended[0]?.code).toBe('too-slow');
  expect([log.tornDown, server.callCount]).toEqual([1, 0]);
});

test('the framed server answers messages that are none with an error', async () => {
  const { client } = await framed();
  const connection = await client.connect();
  const codes: (string | undefined)[] = [];
  for (const text of ['', '5', '{}', '{nonsense', '{"pattern":{"$bytes":5}}', `{"pattern":${'['.repeat(100)}`]) {
    connection.openStream(
      0x0501,
      Buffer.from(text),
      { creditBytes: 10 },
      {
        item: () => undefined,
        end: (error) => codes.push(error?.code),
      },
    );
  }
  connection.openStream(
    0x9999,
    Buffer.alloc(0),
    { creditBytes: 10 },
    {
      item: () => undefined,
      end: (error) => codes.push(error?.code),
    },
  );
  await until(() => codes.length === 7);
  expect(codes).toEqual([
    'bad-request',
    'bad-request',
    'bad-request',
    'malformed-json',
    'malformed-json',
    'too-deep',
    'bad-request',
  ]);
  expect(await lastValueFrom(client.send({ cmd: 'echo' }, 1))).toBe(1);
});
