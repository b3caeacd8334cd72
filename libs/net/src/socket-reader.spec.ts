import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { SocketReader, readingBy } from './socket-reader.js';

/** Takes `frameBytes` at a time, each in memory of its own, as a decoder that knows how long a payload is. */
class Gathering {
  readonly payloads: Buffer[] = [];
  readonly chunks: Buffer[] = [];
  inPlaceBytes = 0;
  private payload: Buffer | null = null;
  private at = 0;

  constructor(private readonly frameBytes: number) {}

  readonly sink = {
    data: (chunk: Buffer): void => {
      this.chunks.push(chunk);
      let from = 0;
      while (from < chunk.length) {
        this.payload ??= Buffer.alloc(this.frameBytes);
        const count = chunk.copy(this.payload, this.at, from);
        from += count;
        this.took(count);
      }
    },
    room: (): Buffer | null => this.payload?.subarray(this.at) ?? null,
    filled: (count: number): void => {
      this.inPlaceBytes += count;
      this.took(count);
    },
  };

  private took(count: number): void {
    this.at += count;
    if (this.at < this.frameBytes) return;
    this.payloads.push(this.payload!);
    this.payload = null;
    this.at = 0;
  }
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
};

const frame = (bytes: number, seed: number): Buffer =>
  Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => i * 31 + seed));

describe('socket reader', () => {
  const ends: (() => void)[] = [];
  afterEach(() => {
    for (const end of ends.splice(0)) end();
  });

  const listen = async (accept: (socket: Socket) => void): Promise<Server> => {
    const server = createServer(accept);
    ends.push(() => server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return server;
  };

  /** Both ends of a connection; what the dialled one writes, `gathering` takes at the accepted one. */
  const pair = async (
    gathering: Gathering,
  ): Promise<{ readonly server: Server; readonly dialled: Socket; readonly read: Socket }> => {
    let read: Socket | null = null;
    const server = await listen((accepted) => {
      const reader = new SocketReader();
      read = readingBy(reader, accepted);
      reader.begin(gathering.sink);
    });
    const dialled = connect((server.address() as AddressInfo).port, '127.0.0.1');
    ends.push(() => dialled.destroy());
    await until(() => read !== null);
    return { server, dialled, read: read! };
  };

  test.each([10, 5000, 20_000, 70_000, 300_000])('frames of %d bytes arrive as they were sent', async (bytes) => {
    const gathering = new Gathering(bytes);
    const { dialled } = await pair(gathering);
    const sent = Array.from({ length: 20 }, (_, i) => frame(bytes, i));
    for (const each of sent) dialled.write(each);
    await until(() => gathering.payloads.length === sent.length);
    expect(gathering.payloads.every((payload, i) => payload.equals(sent[i]))).toBe(true);
  });

  test('most of a large payload is read to where it belongs', async () => {
    const gathering = new Gathering(1_000_000);
    const { dialled } = await pair(gathering);
    for (let i = 0; i < 5; i++) dialled.write(frame(1_000_000, i));
    await until(() => gathering.payloads.length === 5);
    expect(gathering.inPlaceBytes).toBeGreaterThan(0.8 * 5_000_000);
  });

  test('what was given to a sink stays as it was while other sockets are read', async () => {
    const one = new Gathering(100);
    const other = new Gathering(100);
    const { dialled } = await pair(one);
    const second = await pair(other);
    for (let i = 0; i < 50; i++) {
      dialled.write(Buffer.alloc(100, 1));
      second.dialled.write(Buffer.alloc(100, 2));
    }
    await until(() => one.payloads.length === 50 && other.payloads.length === 50);
    expect(one.chunks.every((chunk) => chunk.every((byte) => byte === 1))).toBe(true);
    expect(other.chunks.every((chunk) => chunk.every((byte) => byte === 2))).toBe(true);
  });

  test('a socket that dials reads the same way', async () => {
    const gathering = new Gathering(300_000);
    const reader = new SocketReader();
    reader.begin(gathering.sink);
    const sent = frame(300_000, 7);
    const server = await listen((accepted) => accepted.end(sent));
    const { port } = server.address() as AddressInfo;
    const dialled = connect({ port, host: '127.0.0.1', onread: reader.onread });
    ends.push(() => dialled.destroy());
    await until(() => gathering.payloads.length === 1);
    expect(gathering.payloads[0].equals(sent)).toBe(true);
    expect(gathering.inPlaceBytes).toBeGreaterThan(0);
  });

  test('the server that accepted a connection counts it until it ends', async () => {
    const { server, dialled } = await pair(new Gathering(10));
    const counted = (): Promise<number> =>
      new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));
    expect(await counted()).toBe(1);
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    expect(await counted()).toBe(1);
    dialled.destroy();
    await closed;
    expect(await counted()).toBe(0);
  });

  test('an accepted connection whose handle cannot be read by is left as it is', () => {
    const accepted = { _handle: { readStart: () => undefined } } as unknown as Socket;
    expect(readingBy(new SocketReader(), accepted)).toBe(accepted);
  });
});
