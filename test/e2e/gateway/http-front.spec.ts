import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

let withFront: TestGateway;
let without: TestGateway;
const sockets: Socket[] = [];
beforeAll(async () => {
  withFront = await startTestGateway();
  without = await startTestGateway({ edge: { front: false } });
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  await withFront.stop();
  await without.stop();
});

/** A connection that says what it is told to and keeps what it hears. */
class RawClient {
  received = '';
  private changed: () => void = () => undefined;
  private readonly socket: Socket;

  constructor({ url }: TestGateway) {
    const { hostname, port } = new URL(url);
    this.socket = connect(Number(port), hostname);
    this.socket.on('data', (bytes: Buffer) => {
      this.received += bytes.toString('latin1');
      this.changed();
    });
    sockets.push(this.socket);
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  async hears(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.received)) await new Promise<void>((resolve) => (this.changed = resolve));
  }

  /** A request and its answer, whole. */
  async ask(text: string): Promise<string> {
    this.received = '';
    this.send(text);
    await this.hears(/\r\n\r\n/);
    const length = Number(/content-length: (\d+)/i.exec(this.received)?.[1] ?? 0);
    const end = this.received.indexOf('\r\n\r\n') + 4 + (text.startsWith('HEAD') ? 0 : length);
    while (this.received.length < end) await new Promise<void>((resolve) => (this.changed = resolve));
    return this.received;
  }
}

const HOST = 'Host: gateway.example\r\n';
const entry = (key: string): string => `/v1/views/default/entries/${key}`;
const get = (path: string, more = ''): string => `GET ${path} HTTP/1.1\r\n${HOST}${more}\r\n`;
const put = (path: string, body: string, more = ''): string =>
  `PUT ${path} HTTP/1.1\r\n${HOST}${more}Content-Length: ${Buffer.byteLength(body, 'latin1')}\r\n\r\n${body}`;

const IN_TURN: readonly string[] = [
  put(entry('a'), 'value of a', 'Content-Type: text/plain; charset=utf-8\r\n'),
  get(entry('a')),
  get(`${entry('a')}?consistency=stale`),
  get(`${entry('a')}?consistency=session&minOffset=1`),
  get(`${entry('a')}?consistency=bounded&maxLagMs=600000`),
  get(entry('a'), 'If-None-Match: "1"\r\n'),
  get(entry('a'), 'If-None-Match: *\r\n'),
  get(entry('not-there')),
  get('/v1/views/gr%C3%BCn/entries/a'),
  get('/v1/views/nowhere/entries/a'),
  put('/v1/views/nowhere/entries/a', 'x'),
  put(entry('a'), 'x', 'If-None-Match: *\r\n'),
  put(entry('a'), 'y', 'If-Match: "1"\r\n'),
  put(entry('a'), 'y', 'If-Match: "1"\r\n'),
  put(entry('a'), 'y', 'If-Match: nonsense\r\n'),
  put(entry('b'), '', 'Idempotency-Key: once\r\n'),
  put(entry('b'), '', 'Idempotency-Key: once\r\n'),
  put(entry('b'), 'other', 'Idempotency-Key: once\r\n'),
  get(entry('b')),
  put(`${entry('c')}?acks=applied&ttl=3600s`, '\0\xff'.repeat(10_000)),
  put(`${entry('d')}?acks=leader`, 'z'),
  put(`${entry('d')}?acks=none`, 'z'),
  put(`${entry('d')}?acks=perhaps`, 'z'),
  put(`${entry('d')}?nonsense=1`, 'z'),
  get(`${entry('d')}?consistency=never`),
  get(entry('k'.repeat(1100))),
  put(entry('d'), 'z', `Content-Type: text/${'x'.repeat(300)}\r\n`),
  put(entry('d'), 'z'.repeat(1024 * 1024)),
  `HEAD ${entry('b')} HTTP/1.1\r\n${HOST}\r\n`,
  `DELETE ${entry('b')} HTTP/1.1\r\n${HOST}\r\n`,
  get(entry('b')),
  get('/v1/views/default/entries/'),
  get('/v1/nowhere'),
];

/** Times differ, and nothing else does. */
const timeless = (answer: string): string =>
  answer
    .replace(/(date|last-modified|tideline-expires-at): [^\r]+/gi, '$1: then')
    .replace(/"(logTime|expiresAt)":(\d+|"[^"]+")/g, '"$1":0');

describe('the front of the gateway', () => {
  test('answers as Node’s server and Fastify do, one connection a request or one for all', async () => {
    const gateways = [withFront, without];
    const ofAll = gateways.map((gateway) => new RawClient(gateway));
    for (const request of IN_TURN) {
      const [ours, nodes] = await Promise.all(gateways.map((gateway) => new RawClient(gateway).ask(request)));
      expect(timeless(ours)).toBe(timeless(nodes));
      const [oursAgain, nodesAgain] = await Promise.all(ofAll.map((client) => client.ask(request)));
      expect(timeless(oursAgain)).toBe(timeless(nodesAgain));
    }
  });

  test('gives a connection over to a WebSocket, whose first frame may already be there', async () => {
    const client = new RawClient(withFront);
    await client.ask(put(entry('ws'), 'x'));
    const upgrade =
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
    // A ping, masked with zeros; its pong has the same two bytes.
    client.send(`${get(entry('ws'))}${get('/v1/topics/default/tail', upgrade)}\x89\x82\0\0\0\0hi`);
    await client.hears(/\r\n\r\nxHTTP\/1\.1 101 [^]*\r\n\r\n\x8a[^]hi/);
  });

  test('gives a connection over to a stream of events', async () => {
    const client = new RawClient(withFront);
    client.send(put(entry('sse'), 'x') + get('/v1/topics/default/tail?from=earliest', 'Accept: text/event-stream\r\n'));
    await client.hears(/HTTP\/1\.1 200 OK[^]*HTTP\/1\.1 200 OK[^]*text\/event-stream[^]*data: /);
  });

  test('counts what it answers', async () => {
    await new RawClient(withFront).ask(get(entry('counted')));
    const metrics = await (await fetch(`${withFront.url}/metrics`)).text();
    expect(metrics).toMatch(
      /tideline_gateway_request_seconds_count\{.*route="GET \/v1\/views\/:view\/entries\/:key",outcome="rejected".*\} [1-9]/,
    );
  });
});
