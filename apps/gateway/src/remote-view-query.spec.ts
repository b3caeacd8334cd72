import { afterEach, describe, expect, test } from '@jest/globals';
import { ByteWriter, TidelineError, asLogTime, asOffset, systemClock, systemRng, systemScheduler } from '#kernel';
import { tcpTransport, type ConnectionHandler, type Listener } from '#net';
import type { WatchEvent } from '#views';
import { readAllFound, viewServiceV1, writeFound } from '#wire';
import { firstValueFrom, toArray } from 'rxjs';
import { RemoteViewQuery } from './remote-view-query.js';

const position = { offset: asOffset(5), logTime: asLogTime(9) };
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

interface FakeHost {
  readonly address: string;
  readonly asked: number[];
  refuse: TidelineError | null;
  stop(): Promise<void>;
}

/** A materializer that has one entry everywhere. */
const host = async (name: string): Promise<FakeHost> => {
  const asked: number[] = [];
  const entry = {
    key: Buffer.from('k'),
    value: Buffer.from(name),
    contentType: null,
    offset: asOffset(3),
    logTime: asLogTime(2),
    expiresAt: null,
  };
  const handler: ConnectionHandler = {
    request: (method, payload, responder) => {
      asked.push(method);
      if (fake.refuse) return responder.fail(fake.refuse);
      if (method === viewServiceV1.get.method) responder.ok(viewServiceV1.get.encodeResponse({ entry, position }));
      else if (method === viewServiceV1.getMany.method) {
        const { keys } = viewServiceV1.getMany.decodeRequest(payload);
        const writer = new ByteWriter();
        for (const key of keys) writeFound(writer, key.equals(entry.key) ? entry : null);
        responder.ok(viewServiceV1.getMany.encodeResponse({ found: writer.finish(), position }));
      } else if (method === viewServiceV1.archive.method) {
        const { key, limit } = viewServiceV1.archive.decodeRequest(payload);
        const archived = { ...entry, key: key!, expiresAt: asLogTime(7), partition: 2, archivedAt: 8, evicted: true };
        responder.ok(viewServiceV1.archive.encodeResponse({ entries: [archived], cursor: `after ${limit}` }));
      } else responder.fail(new TidelineError('unknown-view', 'no such view'));
    },
    stream: (_method, _payload, producer) => {
      const events: WatchEvent[] = [
        { type: 'put', partition: 0, entry },
        { type: 'live', partition: 0, offset: asOffset(5) },
      ];
      producer.item(viewServiceV1.watch.encodeItem(events));
      producer.end(new TidelineError('shutting-down', 'bye'));
    },
    post: () => undefined,
  };
  const hello = { nodeId: 0, clusterId: '', service: 'view', software: 'test', addresses: {} };
  const listener: Listener = await tcpTransport.listen({ host: '127.0.0.1', port: 0 }, hello, handler);
  cleanups.push(() => listener.close());
  const fake: FakeHost = { address: `127.0.0.1:${listener.port}`, asked, refuse: null, stop: () => listener.close() };
  return fake;
};

const queryOver = (...addresses: string[]): RemoteViewQuery => {
  const query = new RemoteViewQuery({
    transport: tcpTransport,
    addresses,
    clock: systemClock,
    scheduler: systemScheduler,
    rng: systemRng,
  });
  cleanups.push(() => query.close());
  return query;
};

const get = async (query: RemoteViewQuery, timeoutMs = 5000): Promise<string> => {
  const request = {
    view: 'v',
    partition: 0,
    key: Buffer.from('k'),
    at: { offset: asOffset(5), time: null },
    timeoutMs,
  };
  return String((await query.get(request)).entry?.value);
};

describe('views elsewhere', () => {
  test('are asked of one host as long as it answers, then of the next', async () => {
    const [a, b] = [await host('a'), await host('b')];
    const query = queryOver(a.address, b.address);
    const first = await get(query);
    for (let i = 0; i < 5; i++) expect(await get(query)).toBe(first);
    const [asked, other] = first === 'a' ? [a, b] : [b, a];
    expect(other.asked).toHaveLength(0);
    await asked.stop();
    expect(await get(query)).toBe(first === 'a' ? 'b' : 'a');
  });

  test('are asked of the next when a host is not ready', async () => {
    const [a, b] = [await host('a'), await host('b')];
    a.refuse = new TidelineError('not-ready', 'starting');
    const query = queryOver(a.address, b.address);
    while (query.connected < 2) await get(query);
    for (let i = 0; i < 3; i++) expect(await get(query)).toBe('b');
  });

  test('are asked for many keys at once', async () => {
    const query = queryOver((await host('a')).address);
    const keys = ['k', 'none', 'k'].map((key) => Buffer.from(key));
    const at = { offset: asOffset(5), time: null };
    const read = await query.getMany({ view: 'v', partition: 0, keys, bytesMax: 1000, at, timeoutMs: 5000 });
    expect(readAllFound(read.found, keys.length).map((entry) => entry && String(entry.value))).toEqual([
      'a',
      null,
      'a',
    ]);
    expect(read.position).toEqual(position);
  });

  test('an answer that is an error is an answer', async () => {
    const [a, b] = [await host('a'), await host('b')];
    const query = queryOver(a.address, b.address);
    await get(query);
    const results = query.results({
      view: 'v',
      partition: 0,
      firstOffset: asOffset(1),
      lastOffset: asOffset(1),
      timeoutMs: 1000,
    });
    await expect(results).rejects.toMatchObject({ code: 'unknown-view' });
    expect(a.asked.length + b.asked.length).toBe(2);
  });

  test('without any host the time is waited for, then it is not ready', async () => {
    const query = queryOver('127.0.0.1:1');
    await expect(get(query, 30)).rejects.toMatchObject({ code: 'not-ready', outcome: 'rejected' });
    await expect(
      firstValueFrom(query.watch({ view: 'v', partition: 0, prefix: Buffer.alloc(0) })),
    ).rejects.toMatchObject({ code: 'not-ready' });
  });

  test('are watched at one host; its end is told', async () => {
    const a = await host('a');
    const query = queryOver(a.address);
    await get(query);
    const watched = query.watch({ view: 'v', partition: 0, prefix: Buffer.alloc(0) });
    const { events, release } = await firstValueFrom(watched);
    release();
    expect(events.map((event) => event.type)).toEqual(['put', 'live']);
    await expect(firstValueFrom(watched.pipe(toArray()))).rejects.toMatchObject({ code: 'shutting-down' });
  });

  test('are asked for their archive', async () => {
    const query = queryOver((await host('one')).address);
    const asked = {
      view: 'v',
      key: Buffer.from('old'),
      from: null,
      to: asLogTime(9),
      limit: 5,
      cursor: null,
    };
    const { entries, cursor } = await query.archive(asked);
    expect(entries).toEqual([
      expect.objectContaining({ key: Buffer.from('old'), partition: 2, expiresAt: 7, archivedAt: 8, evicted: true }),
    ]);
    expect(cursor).toBe('after 5');
  });
});
