import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ClientTCP } from '@nestjs/microservices';
import { firstValueFrom, take, toArray, lastValueFrom, tap } from 'rxjs';
import { TidelineJsonClient } from '#net/nest';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

let gateway: TestGateway;
let stock: ClientTCP;
let ours: TidelineJsonClient;
beforeAll(async () => {
  gateway = await startTestGateway();
  const options = { host: '127.0.0.1', port: gateway.nestPort };
  stock = new ClientTCP(options);
  ours = new TidelineJsonClient(options);
  await Promise.all([stock.connect(), ours.connect()]);
});
afterAll(async () => {
  stock.close();
  ours.close();
  await gateway.stop();
});

const send = <T = Record<string, unknown>>(cmd: string, payload: unknown): Promise<T> =>
  firstValueFrom(stock.send<T>({ cmd }, payload));
const failing = async (cmd: string, payload: unknown): Promise<Record<string, unknown>> => {
  try {
    await send(cmd, payload);
  } catch (error) {
    return error as Record<string, unknown>;
  }
  throw new Error('it did not fail');
};

describe('a stock Nest TCP client', () => {
  test('appends and fetches', async () => {
    const appended = await send<{ firstOffset: number }>('append', {
      records: [
        { key: 'a', value: { n: 1 } },
        { value: 'text', type: 't' },
      ],
    });
    expect(appended).toEqual({ partition: 0, firstOffset: expect.any(Number), lastOffset: expect.any(Number) });
    const page = await send('fetch', { from: appended.firstOffset, limit: 2 });
    expect(page['records']).toMatchObject([
      { key: 'a', value: { n: 1 } },
      { value: 'text', type: 't' },
    ]);
  });

  test('sets, gets, scans and deletes, at another view too', async () => {
    const written = await send<{ offset: number }>('set', { view: 'wide', key: 'k', value: { a: [1] }, ttl: '1h' });
    expect(written.offset).toBeGreaterThan(0);
    const got = await send('get', { view: 'wide', key: 'k' });
    expect(got).toMatchObject({ key: 'k', value: { a: [1] }, offset: written.offset, contentType: 'application/json' });
    expect(got['expiresAt']).toEqual(expect.any(String));
    await send('set', { view: 'wide', key: 'l', value: 'plain', contentType: 'text/plain' });
    const page = await send<{ entries: { key: string }[] }>('scan', { view: 'wide', values: true });
    expect(page.entries.map((entry) => entry.key)).toEqual(['k', 'l']);
    await send('del', { view: 'wide', key: 'k' });
    expect(await send('get', { view: 'wide', key: 'k' })).toBeNull();
  });

  test('writes under conditions and once', async () => {
    const first = await send<{ offset: number }>('set', {
      key: 'c',
      value: '1',
      ifNoneMatch: '*',
      idempotencyKey: 'once',
    });
    expect(await send('set', { key: 'c', value: '1', ifNoneMatch: '*', idempotencyKey: 'once' })).toEqual(first);
    expect(await failing('set', { key: 'c', value: '2', ifNoneMatch: '*' })).toMatchObject({
      code: 'condition-failed',
      outcome: 'rejected',
    });
    await send('set', { key: 'c', value: '2', ifMatch: first.offset });
    expect(await failing('del', { key: 'c', ifMatch: first.offset })).toMatchObject({ code: 'condition-failed' });
  });

  test('runs commands', async () => {
    expect(await send('command', { key: 'n', op: 'incrby', args: [5] })).toMatchObject({ result: 5 });
    expect(await failing('command', { key: 'n', op: 'fly' })).toMatchObject({ code: 'unknown-command' });
  });

  test.each([
    ['append', 5, 'bad-request'],
    ['append', {}, 'bad-request'],
    ['append', { records: [{ value: 'x', extra: 1 }] }, 'bad-request'],
    ['append', { topic: 'nowhere', records: [{ value: 'x' }] }, 'unknown-topic'],
    ['append', { topic: '__meta', records: [{ value: 'x' }] }, 'unknown-topic'],
    ['fetch', { limit: 0 }, 'bad-request'],
    ['fetch', { form: 5 }, 'bad-request'],
    ['get', {}, 'bad-request'],
    ['get', { key: 5 }, 'bad-request'],
    ['get', { key: 'k', view: 'nowhere' }, 'unknown-view'],
    ['get', { key: 'k'.repeat(4097) }, 'key-too-large'],
    ['set', { key: 'k' }, 'bad-request'],
    ['set', { key: 'k', value: null }, 'bad-request'],
    ['set', { key: 'k', value: 'x', ttl: 'soon' }, 'bad-request'],
    ['set', { key: 'k', value: JSON.parse('{"__proto__":1}') as unknown }, 'unsafe-key'],
    ['del', { key: 'k', ifMatch: 'x' }, 'bad-request'],
    ['command', { key: 'k' }, 'bad-request'],
    ['scan', { cursor: '??' }, 'bad-request'],
    ['tail', { from: 'whenever' }, 'bad-request'],
    ['tail', { topic: 'nowhere' }, 'unknown-topic'],
    ['watch', { view: 'nowhere' }, 'unknown-view'],
  ])('gets an error with its code: %s %j', async (cmd, payload, code) => {
    expect(await failing(cmd, payload)).toMatchObject({ code, outcome: 'rejected', message: expect.any(String) });
  });
});

describe('a stream', () => {
  interface Item {
    readonly position: string;
    readonly record: { readonly value: unknown; readonly offset: number };
  }

  test('tails, resumes after a position, and stops its producer when the client leaves', async () => {
    const { firstOffset } = await send<{ firstOffset: number }>('append', {
      records: [1, 2, 3, 4].map((n) => ({ value: `s${n}` })),
    });
    const two = await firstValueFrom(
      ours.send<Item>({ cmd: 'tail' }, { from: String(firstOffset) }).pipe(take(2), toArray()),
    );
    expect(two.map((item) => item.record.value)).toEqual(['s1', 's2']);
    const rest = await firstValueFrom(
      ours.send<Item>({ cmd: 'tail' }, { lastEventId: two[1].position }).pipe(take(2), toArray()),
    );
    expect(rest.map((item) => item.record.value)).toEqual(['s3', 's4']);
    const subscribers = async (): Promise<string> => {
      const text = await (await fetch(`${gateway.url}/metrics`)).text();
      return /tideline_tail_subscribers\{[^}]*kind="gateway"[^}]*\} (\d+)/.exec(text)![1];
    };
    while ((await subscribers()) !== '0');
  });

  test('watches', async () => {
    await send('set', { key: 'w.1', value: 'one' });
    await send('get', { key: 'w.1' });
    const got: { event: string; entry?: { key: string } }[] = [];
    let live: () => void = () => undefined;
    const isLive = new Promise<void>((resolve) => (live = resolve));
    const changes = lastValueFrom(
      ours.send<{ event: string; entry?: { key: string } }>({ cmd: 'watch' }, { prefix: 'w.' }).pipe(
        tap((event) => {
          got.push(event);
          if (event.event === 'live') live();
        }),
        take(4),
      ),
    );
    await isLive;
    await send('set', { key: 'w.2', value: 'two' });
    await send('set', { key: 'w.3', value: 'three' });
    await changes;
    expect(got.map(({ event, entry }) => `${event} ${entry?.key ?? ''}`.trim())).toEqual([
      'put w.1',
      'live',
      'put w.2',
      'put w.3',
    ]);
  });
});
