import type { Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { FastifyInstance } from 'fastify';
import { eventLoopTurn, systemClock } from '#kernel';
import { DirectAnswers, type DirectAnswer } from './direct-answers.js';
import { createHttpEdge, type HttpEdge } from './http-adapter.js';

const LIMITS = { requestBytesMax: 4096, keyBytesMax: 64, jsonDepthMax: 8, connectionsMax: 100 };
const BODY_BYTES_MAX = 100_000;
/** 32 of them are more than the kernel takes for a client that does not read. */
const HUGE = Buffer.alloc(2 * 1024 * 1024);
const HOST = 'Host: a.example\r\n';

/** Timers that run when told to, by the second. */
class ManualScheduler {
  #nowMs = 0;
  #timers: { dueMs: number; task: () => void }[] = [];

  defer(task: () => void): void {
    eventLoopTurn.defer(task);
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { dueMs: this.#nowMs + delayMs, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  get isIdle(): boolean {
    return this.#timers.length === 0;
  }

  pass(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.#nowMs += 1000;
      const due = this.#timers.filter(({ dueMs }) => dueMs <= this.#nowMs);
      this.#timers = this.#timers.filter(({ dueMs }) => dueMs > this.#nowMs);
      for (const { task } of due) task();
    }
  }
}

interface TestServer {
  readonly edge: HttpEdge;
  readonly fastify: FastifyInstance;
  readonly server: Server;
  readonly port: number;
  readonly scheduler: ManualScheduler;
  /** Requests that Node's server has seen. */
  readonly onNode: string[];
  /** Requests that were answered directly, or are about to be. */
  readonly direct: string[];
  /** Paths whose answers are held back. */
  readonly held: ReadonlySet<string>;
  release(path: string): void;
  /** Of the connections made to it. */
  readonly sockets: Socket[];
}

const started: TestServer[] = [];

/**
 * Direct: GET and PUT under /d/. `/d/large/…` answers with 200 kB, `/d/huge` with 2 MiB, `/d/late/N` N turns later, `/d/held/…` when told to, `/d/fastify/…` not at all.
 * All else is Fastify's: the same paths with other methods, and /f.
 */
const start = async (front: boolean): Promise<TestServer> => {
  const scheduler = new ManualScheduler();
  const time = { clock: systemClock, scheduler, atEnd: (task: () => void) => eventLoopTurn.atEnd(task) };
  const edge = createHttpEdge(LIMITS, { front, time });
  const fastify = edge.adapter.getInstance() as unknown as FastifyInstance;
  const onNode: string[] = [];
  const sockets: Socket[] = [];
  const asked: string[] = [];
  const held = new Map<string, () => void>();
  const release = (path: string): void => {
    const send = held.get(path)!;
    held.delete(path);
    send();
  };
  const answer = (method: 'GET' | 'PUT', bodyBytesMax: number | null): DirectAnswer<string> => ({
    method,
    bodyBytesMax,
    asked: ({ url }) => (/^\/d\/(?!fastify)/.test(url!) ? url! : null),
    answer: (url, head, body, reply) => {
      asked.push(url);
      const send = (): void => {
        const headers = ['x-method', method, 'x-tag', head.headers['if-match'] ?? 'none'];
        if (url.startsWith('/d/none')) reply.send(304, headers, null);
        else if (url.startsWith('/d/large')) reply.send(200, headers, Buffer.alloc(200_000, 'l'));
        else if (url.startsWith('/d/huge')) reply.send(200, headers, HUGE);
        else if (url.startsWith('/d/text')) reply.send(404, headers, `nichts für ${url}: ${body.toString('latin1')}`);
        else reply.send(200, headers, Buffer.concat([Buffer.from(url), Buffer.from([0, 255]), body]));
      };
      const [, , kind, turns] = url.split('/');
      if (kind === 'held') held.set(url, send);
      else if (kind === 'late')
        void (async () => {
          for (let i = 0; i < Number(turns); i++) await turn();
          send();
        })();
      else send();
    },
  });
  const direct = DirectAnswers.of(fastify)!;
  direct.add(answer('GET', null));
  direct.add(answer('PUT', BODY_BYTES_MAX));
  fastify.setErrorHandler((error, request, reply) => edge.filter.answer(error, request, reply));
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  fastify.all('/*', (request, reply) =>
    reply.send(
      `fastify ${request.method} ${request.url} ${String((request.body as Buffer | undefined)?.toString('latin1'))}`,
    ),
  );
  fastify.server.on('request', ({ method, url }) => onNode.push(`${method} ${url}`));
  fastify.server.on('connection', (socket) => sockets.push(socket));
  await fastify.listen({ port: 0, host: '127.0.0.1' });
  const { server } = fastify;
  const { port } = server.address() as AddressInfo;
  const made = {
    edge,
    fastify,
    server,
    port,
    scheduler,
    onNode,
    direct: asked,
    held: held as unknown as ReadonlySet<string>,
    release,
    sockets,
  };
  started.push(made);
  return made;
};

afterEach(async () => {
  for (const { fastify, held, release, scheduler } of started.splice(0)) {
    for (const path of held.keys()) release(path);
    const closed = fastify.close();
    await turn();
    scheduler.pass(60);
    await closed;
  }
});

/** Another end of a connection, as bytes. */
class Client {
  received = '';
  isEnded = false;
  isClosed = false;
  #changed: () => void = () => undefined;

  private constructor(readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (bytes: Buffer) => {
      this.received += bytes.toString('latin1');
      this.#changed();
    });
    socket.on('end', () => {
      this.isEnded = true;
      this.#changed();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      this.#changed();
    });
  }

  static async to({ port, sockets }: TestServer): Promise<Client> {
    const before = sockets.length;
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const client = new Client(socket);
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    await until(() => sockets.length > before);
    return client;
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  /** Sends the pieces in turns of their own. */
  async sendInPieces(pieces: readonly string[]): Promise<void> {
    for (const piece of pieces) {
      if (this.isEnded || this.isClosed) return;
      this.send(piece);
      await turn();
      await turn();
    }
  }

  async until(condition: (client: this) => boolean): Promise<void> {
    while (!condition(this)) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  /** How many there are, apart from preliminary ones. */
  get answers(): number {
    return this.statuses.filter((status) => status !== '100').length;
  }

  get statuses(): string[] {
    return [...this.received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => status);
  }
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await turn();
};

const cutAt = (text: string, where: readonly number[]): string[] => {
  const at = [...where.map((part) => Math.floor(part * text.length)), 0, text.length].sort((x, y) => x - y);
  const pieces = at.slice(1).map((end, i) => text.slice(at[i], end));
  return pieces.filter((piece) => piece !== '');
};

const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\n${HOST}${more}\r\n`;
const put = (path: string, body: string, more = ''): string =>
  `PUT ${path} HTTP/1.1\r\n${HOST}${more}Content-Length: ${body.length}\r\n\r\n${body}`;
const LAST = get('/f/last', 'Connection: close\r\n');

describe('answers are the same, byte by byte, with and without the front', () => {
  let withFront: TestServer;
  let without: TestServer;
  beforeEach(async () => {
    withFront = await start(true);
    without = await start(false);
  });

  const answersOf = async (server: TestServer, pieces: readonly string[]): Promise<string> => {
    const client = await Client.to(server);
    await client.sendInPieces(pieces);
    return allOf(client);
  };

  const allOf = async (client: Client): Promise<string> => {
    await client.until(({ isEnded, isClosed }) => isEnded || isClosed);
    client.socket.destroy();
    return client.received.replace(/\r\n(date): [^\r]*/gi, '\r\n$1: now');
  };

  /**
   * What Node's server answers when each request waits for the answer to the one before. It tells of a mistake at once, and forgets the answers it owes;
   * the front does not.
   */
  const answersInTurn = async (requests: readonly string[]): Promise<string> => {
    const client = await Client.to(without);
    for (const request of requests) {
      const before = client.answers;
      client.send(request);
      await client.until(({ answers, isEnded }) => isEnded || answers > before);
    }
    return allOf(client);
  };

  const PLAIN = [
    get('/d/a'),
    get('/d/none', 'If-Match: "7"\r\n'),
    get('/d/text/1', 'User-Agent: me\r\nAccept: */*\r\n'),
    get('/d/late/3'),
    get('/d/large'),
    put('/d/b', 'body\r\n\r\nGET /d/not-this HTTP/1.1\r\n\r\n'),
    put('/d/late/2', '\xff\0'.repeat(50)),
    put('/d/empty', ''),
    put('/d/b', 'x'.repeat(20_000), 'Connection: keep-alive\r\n'),
  ];
  const OTHER = [
    get('/f'),
    get('/d/fastify'),
    get('/d/a', 'Content-Length: 0\r\n'),
    `HEAD /d/a HTTP/1.1\r\n${HOST}\r\n`,
    `POST /f HTTP/1.1\r\n${HOST}Content-Type: x/y\r\nContent-Length: 3\r\n\r\nabc`,
    `PUT /d/chunked HTTP/1.1\r\n${HOST}Content-Type: x/y\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
    put('/d/expects', 'abc', 'Content-Type: x/y\r\nExpect: 100-continue\r\n'),
    get('/d/a', `X: ${'z'.repeat(5000)}\r\n`),
    get('/d/a', 'X: a\tb \r\n'),
    `\r\n${get('/d/a')}`,
    get('/d/a', 'If-Match: "1"\r\nIf-Match: "2"\r\n'),
  ];
  /** After these the connection ends. */
  const ENDING = [
    LAST,
    `PUT /d/a HTTP/1.1\r\n${HOST}Content-Type: x/y\r\nContent-Length: ${BODY_BYTES_MAX + 1}\r\n\r\n`,
    'GET /d/a HTTP/1.0\r\n\r\n',
    get('/d/a').replace(HOST, ''),
    get('/d/a', 'X : y\r\n'),
    put('/d/a', 'abc', 'Content-Length: 4\r\n'),
    put('/d/a', 'abc', 'Transfer-Encoding: chunked\r\n'),
    put('/d/a', 'abc').replace('Length: ', 'Length: +'),
    get('/d/a').replace('\r\n', '\n'),
    get('/d/a', `X: ${'z'.repeat(20_000)}\r\n`),
    'nonsense\r\n\r\n',
    '\x16\x03\x01\r\n\r\n',
  ];

  test('at every position where one stream may be cut', async () => {
    const stream = `${get('/d/a')}${put('/d/b', 'abc\r\n')}${get('/d/late/1')}${get('/d/fastify', 'X:y\r\n')}${put('/d/c', 'de')}${LAST}`;
    const expected = await answersOf(without, [stream]);
    expect(expected.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(6);
    for (let at = 0; at < stream.length; at++) {
      expect(await answersOf(withFront, [stream.slice(0, at), stream.slice(at)])).toBe(expected);
    }
    expect(withFront.onNode).not.toContain('GET /d/a');
    expect(withFront.onNode).toContain('PUT /d/c');
  }, 60_000);

  test('for any requests, cut anyhow', async () => {
    const request = fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...PLAIN) },
      { weight: 1, arbitrary: fc.constantFrom(...OTHER) },
    );
    const streams = fc.tuple(fc.array(request, { maxLength: 8 }), fc.constantFrom(...ENDING));
    const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(streams, cuts, async ([requests, ending], where) => {
        const allPlain = requests.every((each) => PLAIN.includes(each));
        const client = await Client.to(withFront);
        await client.sendInPieces(cutAt(allPlain ? requests.join('') + ending : requests.join(''), where));
        if (!allPlain) {
          // Once it is Node's, mistakes cost the answers before.
          await client.until(({ answers, isEnded }) => isEnded || answers === requests.length);
          await client.sendInPieces(cutAt(ending, where));
        }
        expect(await allOf(client)).toBe(await answersInTurn([...requests, ending]));
      }),
      { numRuns: 150 },
    );
    expect(withFront.onNode.length).toBeLessThan(without.onNode.length);
  }, 60_000);

  test('for each that is not plain, alone and after a plain one', async () => {
    for (const text of [...OTHER, ...ENDING]) {
      const ending = ENDING.includes(text) ? [] : [LAST];
      for (const requests of [
        [text, ...ending],
        [get('/d/late/2'), text, ...ending],
      ]) {
        expect(await answersOf(withFront, [requests.join('')])).toBe(await answersInTurn(requests));
      }
    }
  }, 60_000);
});

describe('a connection of plain requests', () => {
  test('never reaches Node’s server', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    for (let i = 1; i <= 3; i++) {
      client.send(i % 2 ? get('/d/a') : put('/d/b', 'abc'));
      await client.until(({ statuses }) => statuses.length === i);
    }
    expect(server.onNode).toEqual([]);
    expect(client.received).toMatch(
      /^HTTP\/1\.1 200 OK\r\nx-method: GET\r\nx-tag: none\r\ncontent-length: 6\r\nDate: \w{3}, /,
    );
    expect(client.received).toContain('\r\nConnection: keep-alive\r\nKeep-Alive: timeout=72\r\n\r\n/d/a');
  });

  test('has its answers in the order asked, those of one turn in one write', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    const [socket] = server.sockets;
    let writes = 0;
    const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
    socket.write = ((...args: unknown[]) => {
      writes++;
      return write(...args);
    }) as Socket['write'];
    client.send(get('/d/held/1') + get('/d/2') + get('/d/held/3') + get('/d/4'));
    await until(() => server.direct.length === 4);
    server.release('/d/held/3');
    await turn();
    await turn();
    expect(client.received).toBe('');
    server.release('/d/held/1');
    await client.until(({ statuses }) => statuses.length === 4);
    expect([...client.received.matchAll(/\r\n\r\n(\/d\/[a-z\d/]+)/g)].map(([, path]) => path)).toEqual([
      '/d/held/1',
      '/d/2',
      '/d/held/3',
      '/d/4',
    ]);
    expect(writes).toBe(1);
  });

  test('is given over only after the answers before, and then stays so', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.send(get('/d/held/1') + get('/f') + get('/d/a'));
    await until(() => server.direct.length === 1);
    await turn();
    await turn();
    expect(server.onNode).toEqual([]);
    server.release('/d/held/1');
    await client.until(({ statuses }) => statuses.length === 3);
    expect(server.onNode).toEqual(['GET /f', 'GET /d/a']);
    expect(client.received.indexOf('/d/held/1')).toBeLessThan(client.received.indexOf('fastify GET /f'));
  });

  test('has a limit to what is answered at the same time, and goes on behind it', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    const paths = Array.from({ length: 100 }, (_, i) => `/d/held/${i}`);
    client.send(paths.map((path) => get(path)).join(''));
    await until(() => server.sockets[0].isPaused());
    expect(server.direct.length).toBe(32);
    for (let done = 0; done < 100;) {
      await until(() => server.direct.length > done);
      for (; done < server.direct.length; done++) server.release(paths[done]);
    }
    await client.until(({ statuses }) => statuses.length === 100);
  });

  test('is not read while the client does not take his answers', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    let bytes = 0;
    client.socket.removeAllListeners('data').pause();
    client.send(get('/d/huge').repeat(64));
    await until(() => server.sockets[0].writableNeedDrain);
    await turn();
    expect([server.direct.length, server.sockets[0].isPaused()]).toEqual([32, true]);
    client.socket.on('data', (chunk: Buffer) => (bytes += chunk.length)).resume();
    await until(() => bytes > 64 * HUGE.length);
    expect(server.direct.length).toBe(64);
  }, 30_000);

  test('whose client goes away has no answer, and nobody minds', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.send(get('/d/held/1') + get('/d/held/2') + put('/d/never', 'abc').slice(0, -1));
    await until(() => server.direct.length === 2);
    server.release('/d/held/1');
    client.socket.resetAndDestroy();
    await until(() => server.sockets[0].destroyed);
    server.release('/d/held/2');
    await turn();
    expect(server.direct).toEqual(['/d/held/1', '/d/held/2']);
    await until(() => server.scheduler.isIdle);
  });

  test('half closed is answered what it asked, and then closed', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.send(get('/d/held/1'));
    client.socket.end();
    await until(() => server.direct.length === 1 && server.sockets[0].readableEnded);
    server.release('/d/held/1');
    await client.until(({ isEnded }) => isEnded);
    expect(client.statuses).toEqual(['200']);
    await until(() => server.sockets[0].destroyed);
  });

  test('half closed within a request is told so, as by Node’s server', async () => {
    const answers: string[] = [];
    for (const front of [true, false]) {
      const server = await start(front);
      const client = await Client.to(server);
      client.send(put('/d/never', 'abc').slice(0, -1));
      client.socket.end();
      await client.until(({ isEnded }) => isEnded);
      answers.push(client.received);
      expect(server.direct).toEqual([]);
    }
    expect(answers[0]).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answers[0]).toBe(answers[1]);
  });

  test('whose body is longer than a direct answer takes is refused by Fastify, before the body is there', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.send(`PUT /d/a HTTP/1.1\r\n${HOST}Content-Type: x/y\r\nContent-Length: ${BODY_BYTES_MAX + 1}\r\n\r\n`);
    await client.until(({ statuses }) => statuses.length === 1);
    expect(client.statuses).toEqual(['413']);
  });
});

describe('time is limited', () => {
  test.each([
    ['a connection that says nothing', ''],
    ['a head that does not end', get('/d/a').slice(0, 20)],
    ['a body that does not end', put('/d/a', 'abc').slice(0, -1)],
  ])('for %s: 408 after thirty seconds', async (_what, sent) => {
    const server = await start(true);
    const client = await Client.to(server);
    if (sent !== '') await client.sendInPieces([sent.slice(0, 5), sent.slice(5)]);
    server.scheduler.pass(30);
    await turn();
    await turn();
    expect(client.received).toBe('');
    server.scheduler.pass(1);
    await client.until(({ isEnded }) => isEnded);
    expect(client.received).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
    expect(client.received).toContain('did not arrive in time');
    await until(() => server.sockets[0].destroyed);
  });

  test('for a request in pieces, from its first one', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.send(get('/d/a'));
    await client.until(({ statuses }) => statuses.length === 1);
    server.scheduler.pass(20);
    for (const piece of get('/d/b').slice(0, 31)) {
      await client.sendInPieces([piece]);
      server.scheduler.pass(1);
    }
    await client.until(({ isEnded }) => isEnded);
    expect(client.statuses).toEqual(['200', '408']);
  });

  test('for a connection without requests: closed after 72 s, without a word', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.send(get('/d/a'));
    await client.until(({ statuses }) => statuses.length === 1);
    server.scheduler.pass(72);
    await turn();
    await turn();
    client.send(get('/d/b'));
    await client.until(({ statuses }) => statuses.length === 2);
    server.scheduler.pass(73);
    await client.until(({ isClosed, isEnded }) => isEnded || isClosed);
    expect(client.statuses).toEqual(['200', '200']);
    expect(server.scheduler.isIdle).toBe(true);
  });

  test('and not for an answer', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.send(get('/d/held/1'));
    await until(() => server.direct.length === 1);
    server.scheduler.pass(1000);
    server.release('/d/held/1');
    await client.until(({ statuses }) => statuses.length === 1);
    expect(client.statuses).toEqual(['200']);
  });
});

describe('a stop', () => {
  test('leaves new requests to Fastify, which refuses them, and answers those under way', async () => {
    const server = await start(true);
    const [idle, busy, partial] = [await Client.to(server), await Client.to(server), await Client.to(server)];
    idle.send(get('/d/a'));
    await idle.until(({ statuses }) => statuses.length === 1);
    busy.send(get('/d/held/1'));
    await until(() => server.held.size === 1);
    await partial.sendInPieces([put('/d/a', 'abc', 'Content-Type: x/y\r\n').slice(0, -1)]);
    server.edge.drain();
    idle.send(get('/d/b'));
    partial.send('c');
    server.release('/d/held/1');
    await busy.until(({ statuses }) => statuses.length === 1);
    busy.send(get('/d/b'));
    for (const client of [idle, busy, partial]) await client.until(({ isEnded }) => isEnded);
    expect([idle.statuses, busy.statuses, partial.statuses]).toEqual([['200', '503'], ['200', '503'], ['503']]);
    expect((await Client.to(server)).isEnded).toBe(false);
  });

  test('closes idle connections at once and waits for the answers of the others', async () => {
    const server = await start(true);
    const [idle, busy, silent] = [await Client.to(server), await Client.to(server), await Client.to(server)];
    idle.send(get('/d/a'));
    await idle.until(({ statuses }) => statuses.length === 1);
    busy.send(get('/d/held/1') + get('/d/held/2'));
    await until(() => server.held.size === 2);
    let isClosed = false;
    const closed = server.fastify.close().then(() => {
      isClosed = true;
    });
    await idle.until(({ isEnded }) => isEnded);
    await silent.until(({ isEnded }) => isEnded);
    for (const client of [idle, silent]) client.socket.end();
    expect([isClosed, busy.isEnded]).toEqual([false, false]);
    server.release('/d/held/1');
    server.release('/d/held/2');
    await busy.until(({ isEnded }) => isEnded);
    expect(busy.statuses).toEqual(['200', '200']);
    await closed;
    expect(server.scheduler.isIdle).toBe(true);
  });

  test('waits ten seconds at most for who does not take his answers', async () => {
    const server = await start(true);
    const client = await Client.to(server);
    client.socket.removeAllListeners('data').pause();
    client.send(get('/d/huge').repeat(64));
    await until(() => server.sockets[0].writableNeedDrain);
    const closed = server.fastify.close();
    await turn();
    await turn();
    server.scheduler.pass(9);
    expect(server.sockets[0].destroyed).toBe(false);
    server.scheduler.pass(1);
    await closed;
    expect(server.sockets[0].destroyed).toBe(true);
    client.socket.destroy();
  });
});
