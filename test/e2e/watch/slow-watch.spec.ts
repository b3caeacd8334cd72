import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import request from 'supertest';
import { ViewHost } from '#apps/materializer';
import { TidelineClient, type ViewWatchEvent } from '#client';
import { systemClock, systemScheduler } from '#kernel';
import { encodeBatch } from '#wire';
import { EventReader } from '../support/event-source.js';
import { SteppedTime } from '../support/stepped-time.js';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

/** More than the buffers of two sockets hold. */
const ENTRIES = 200;
const VALUE = 'v'.repeat(100_000);
const SLOW_READER_MS = 300;
const keyOf = (n: number): string => `key-${String(n).padStart(4, '0')}`;

const time = new SteppedTime();
let gateway: TestGateway;
let host: ViewHost;

const put = (key: string, value: string): Promise<unknown> =>
  gateway.log.append(
    { topic: 'default', partition: 0 },
    encodeBatch([{ key: Buffer.from(key), value: Buffer.from(value) }], { createTime: 1 }),
    { acks: 'quorum' },
  );

const openWatches = async (): Promise<number> => {
  const { text } = await request(gateway.server).get('/metrics');
  return Number(/tideline_tail_subscribers\{[^}]*kind="gateway"[^}]*\} (\d+)/.exec(text)?.[1] ?? Number.NaN);
};

beforeAll(async () => {
  gateway = await startTestGateway({
    time,
    limits: { slowReaderMs: SLOW_READER_MS, streamBufferBytesMax: 64 * 1024 },
    viewQuery: (log) => (host = new ViewHost({ log, clock: systemClock, scheduler: systemScheduler })),
  });
  for (let n = 0; n < ENTRIES; n++) await put(keyOf(n), VALUE);
});
afterAll(async () => {
  await gateway.stop();
  host.close();
});

test('a watch whose reader takes nothing ends with a word, and can be opened again; another goes on meanwhile', async () => {
  const other = new EventReader(`${gateway.url}/v1/views/default/watch?prefix=other`);
  const slow = new EventReader(`${gateway.url}/v1/views/default/watch`);
  try {
    await slow.opened();
    slow.pause();
    await other.until(() => other.events.length > 0);
    const before = other.events.length;
    // Until it is dropped: the other one is told of each change.
    let told = 0;
    await time.passUntil(async () => {
      await put('other', String(told++));
      await other.until(() => other.events.length >= before + told);
      return (await openWatches()) === 1;
    }, SLOW_READER_MS / 4);
    slow.resume();
    await slow.untilEnded();
    const last = slow.events.at(-1)!;
    expect(last.event).toBe('end');
    expect(JSON.parse(last.data)).toMatchObject({ code: 'too-slow', status: 503 });
    expect(slow.events.length).toBeLessThan(ENTRIES);
    await put('other', 'still');
    await other.until(() => other.events.at(-1)!.data.includes('still'));
    const again = new EventReader(`${gateway.url}/v1/views/default/watch`);
    await again.until(() => again.events.at(-1)?.event === 'live');
    expect(again.events).toHaveLength(ENTRIES + 2);
    again.close();
  } finally {
    slow.close();
    other.close();
  }
});

/** Bytes go through it both ways until the answers are held back. */
const startProxy = async (
  port: number,
): Promise<{ server: Server; port: number; hold(held: boolean): void; sockets: Socket[] }> => {
  const sockets: Socket[] = [];
  const answers: Socket[] = [];
  const server = createServer((down) => {
    const up = connect(port, '127.0.0.1');
    up.on('error', () => down.destroy());
    down.on('error', () => up.destroy());
    down.pipe(up);
    up.pipe(down);
    sockets.push(up, down);
    answers.push(up);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const hold = (held: boolean): void => {
    for (const up of answers) {
      if (held) up.unpipe();
      else up.pipe(sockets[sockets.indexOf(up) + 1]);
    }
  };
  return { server, port: (server.address() as AddressInfo).port, hold, sockets };
};

test('through the SDK it starts over when the reader is back, and is told so; another goes on meanwhile', async () => {
  const proxy = await startProxy(gateway.nativePort);
  const slow = await TidelineClient.connect({ addresses: [`127.0.0.1:${proxy.port}`] });
  const quick = await TidelineClient.connect({ addresses: [`127.0.0.1:${gateway.nativePort}`] });
  const follow = (client: TidelineClient, prefix: string) => {
    const events: ViewWatchEvent['type'][] = [];
    const failures: unknown[] = [];
    let wake: () => void = () => undefined;
    const subscription = client.watch('default', { prefix, creditBytes: 256 * 1024 }).subscribe({
      next: ({ type }) => {
        events.push(type);
        wake();
      },
      error: (error) => {
        failures.push(error);
        wake();
      },
    });
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) {
        if (failures.length > 0) throw failures[0];
        await new Promise<void>((resolve) => (wake = resolve));
      }
    };
    return { events, until, stop: () => subscription.unsubscribe() };
  };
  const watching = follow(slow, 'key-');
  const other = follow(quick, 'sdk');
  try {
    await other.until(() => other.events.includes('live'));
    await watching.until(() => watching.events.length > 0);
    proxy.hold(true);
    let told = 0;
    await time.passUntil(async () => {
      await put('sdk', String(told++));
      await other.until(() => other.events.filter((type) => type === 'put').length >= told);
      return (await openWatches()) === 1;
    }, SLOW_READER_MS / 4);
    proxy.hold(false);
    await watching.until(() => watching.events.at(-1) === 'live');
    const restart = watching.events.lastIndexOf('restart');
    expect(restart).toBeGreaterThan(0);
    expect(watching.events.slice(restart + 1)).toEqual([...Array.from({ length: ENTRIES }, () => 'put'), 'live']);
    expect(other.events).not.toContain('restart');
  } finally {
    watching.stop();
    other.stop();
    await slow.close();
    await quick.close();
    for (const socket of proxy.sockets) socket.destroy();
    await new Promise((resolve) => proxy.server.close(resolve));
  }
});
