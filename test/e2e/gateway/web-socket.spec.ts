import { createHash, randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

let gateway: TestGateway;
const sockets: TestSocket[] = [];
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  await gateway.stop();
});

/** The client's end of a WebSocket, as far as these tests need one. */
class TestSocket {
  head = '';
  readonly messages: string[] = [];
  readonly frames: { opcode: number; payload: Buffer }[] = [];
  ended = false;
  readonly key = randomBytes(16).toString('base64');
  private buffer: Buffer = Buffer.alloc(0);
  private waiters: (() => void)[] = [];
  readonly socket: Socket;

  constructor(path: string, headers: Record<string, string> = {}, on = gateway) {
    const { hostname, port, host } = new URL(on.url);
    const all: Record<string, string> = {
      host,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': this.key,
      ...headers,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    this.socket = connect(Number(port), hostname, () =>
      this.socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`),
    );
    this.socket.on('data', (chunk) => this.take(chunk));
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.ended = true;
      this.wake();
    });
    sockets.push(this);
  }

  private take(chunk: Buffer): void {
    this.buffer = Buffer.concat([this.buffer, chunk]);
    if (this.head === '') {
      const end = this.buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.buffer.toString('latin1', 0, end);
      this.buffer = this.buffer.subarray(end + 4);
    }
    if (this.head.startsWith('HTTP/1.1 101')) this.parse();
    this.wake();
  }

  private parse(): void {
    for (;;) {
      const { buffer } = this;
      if (buffer.length < 2) return;
      const short = buffer[1] & 0x7f;
      const head = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (buffer.length < head) return;
      const length = short === 127 ? buffer.readUInt32BE(6) : short === 126 ? buffer.readUInt16BE(2) : short;
      if (buffer.length < head + length) return;
      const payload = buffer.subarray(head, head + length);
      this.frames.push({ opcode: buffer[0] & 0x0f, payload });
      if ((buffer[0] & 0x0f) === 1) this.messages.push(payload.toString());
      this.buffer = buffer.subarray(head + length);
    }
  }

  send(opcode: number, payload: Buffer, masked = true): void {
    const mask = Buffer.from([1, 2, 3, 4]);
    const body = Buffer.from(payload.map((byte, i) => (masked ? byte ^ mask[i & 3] : byte)));
    const head = Buffer.from([0x80 | opcode, (masked ? 0x80 : 0) | payload.length]);
    this.socket.write(Buffer.concat(masked ? [head, mask, body] : [head, body]));
  }

  get body(): string {
    return this.buffer.toString();
  }

  private wake(): void {
    for (const waiter of this.waiters.splice(0)) waiter();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.ended) throw new Error(`the socket ended before: ${this.head}`);
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  async untilEnded(): Promise<void> {
    while (!this.ended) await new Promise<void>((resolve) => this.waiters.push(resolve));
  }

  destroy(): void {
    this.socket.destroy();
  }
}

const append = (records: object[]) =>
  request(gateway.server).post('/v1/topics/default/records').send({ records }).expect(200);
const opened = async (path: string, headers?: Record<string, string>): Promise<TestSocket> => {
  const socket = new TestSocket(path, headers);
  await socket.until(() => socket.head !== '');
  expect(socket.head).toMatch(/^HTTP\/1.1 101 /);
  return socket;
};

describe('a tail over WebSocket', () => {
  test('answers the handshake and sends records with their position', async () => {
    const socket = await opened('/v1/topics/default/tail?from=latest');
    const accept = createHash('sha1').update(`${socket.key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    expect(socket.head.toLowerCase()).toContain(`sec-websocket-accept: ${accept.toLowerCase()}`);
    const long = 'x'.repeat(70_000);
    const { body } = await append([{ key: 'a', value: { n: 1 } }, { value: 'y'.repeat(200) }, { value: long }]);
    await socket.until(() => socket.messages.length >= 3);
    expect(JSON.parse(socket.messages[0])).toMatchObject({
      position: `0:${body.firstOffset}`,
      record: { key: 'a', value: { n: 1 } },
    });
    expect(JSON.parse(socket.messages[2]).record.value).toBe(long);
    const again = await opened(`/v1/topics/default/tail?lastEventId=0:${body.firstOffset + 1}`);
    await again.until(() => again.messages.length >= 1);
    expect(JSON.parse(again.messages[0]).record.offset).toBe(body.lastOffset);
  });

  test('answers pings and closes when asked to, and its work ends', async () => {
    const socket = await opened('/v1/topics/default/tail');
    socket.send(9, Buffer.from('hello'));
    await socket.until(() =>
      socket.frames.some(({ opcode, payload }) => opcode === 10 && payload.toString() === 'hello'),
    );
    socket.send(1, Buffer.from('nobody reads this'));
    socket.send(8, Buffer.from([0x03, 0xe8]));
    await socket.untilEnded();
    expect(socket.frames.at(-1)).toMatchObject({ opcode: 8 });
    for (const other of sockets.splice(0)) other.destroy();
    for (;;) {
      const { text } = await request(gateway.server).get('/metrics');
      if (/tideline_tail_subscribers\{[^}]*kind="gateway"[^}]*\} 0/.test(text)) break;
    }
  });

  test('ends a client that breaks the protocol', async () => {
    const plain = await opened('/v1/topics/default/tail');
    plain.send(1, Buffer.from('not masked'), false);
    await plain.untilEnded();
    expect(plain.frames.at(-1)!.payload.readUInt16BE(0)).toBe(1002);
    const large = await opened('/v1/topics/default/tail');
    large.socket.write(Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
    await large.untilEnded();
    expect(large.frames.at(-1)!.payload.readUInt16BE(0)).toBe(1009);
  });

  test.each([
    ['/v1/topics/nowhere/tail', {}, 404, 'unknown-topic'],
    ['/v1/topics/default/tail?from=whenever', {}, 400, 'bad-request'],
    ['/v1/topics/default/tail?from=1&from=2', {}, 400, 'bad-request'],
    ['/v1/topics/%FF/tail', {}, 400, 'bad-request'],
    ['/v1/topics', {}, 404, 'not-found'],
    ['/v1/topics/default/tail', { 'sec-websocket-version': '8' }, 400, 'bad-request'],
    ['/v1/topics/default/tail', { 'sec-websocket-key': 'short' }, 400, 'bad-request'],
    ['/v1/topics/default/tail', { origin: 'https://elsewhere.example' }, 403, 'forbidden'],
  ])('%s with %j is refused with %i', async (path, headers, status, code) => {
    const socket = new TestSocket(path, headers as Record<string, string>);
    await socket.untilEnded();
    expect(socket.head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(socket.body).toContain(`"${code}"`);
  });

  test('a page of the same origin may open one', async () => {
    await opened('/v1/topics/default/tail', { origin: gateway.url });
  });

  test('says why it ends when the gateway stops', async () => {
    const own = await startTestGateway();
    const socket = new TestSocket('/v1/topics/default/tail', {}, own);
    await socket.until(() => socket.head !== '');
    await own.stop();
    await socket.untilEnded();
    expect(JSON.parse(socket.messages.at(-1)!).end.code).toBe('shutting-down');
    expect(socket.frames.at(-1)!.payload.readUInt16BE(0)).toBe(1001);
  });
});

test('a request that asks for another protocol is answered as if it had not, body and all', async () => {
  const { hostname, port, host } = new URL(gateway.url);
  const said = await new Promise<string>((resolve) => {
    let text = '';
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `PUT /v1/views/default/entries/h2c HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n` +
          'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello',
      );
      setImmediate(() => socket.write(' there'));
    });
    socket.on('data', (chunk) => {
      text += chunk.toString();
      if (text.includes('"offset"')) socket.end();
    });
    socket.on('close', () => resolve(text));
  });
  expect(said).toMatch(/^HTTP\/1.1 200 /);
  expect(await (await fetch(`${gateway.url}/v1/views/default/entries/h2c`)).text()).toBe('hello there');
});
