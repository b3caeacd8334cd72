import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import request from 'supertest';
import { NativeEndpoint } from '#apps/gateway';
import { InjectView, ViewHandle, type ViewStateChange } from '#apps/materializer';
import { StandaloneModule } from '#apps/standalone';
import { TidelineClient } from '#client';
import { PlatformModule, TidelineLogger, createHttpEdge, loadOptions } from '#platform';
import { View } from '#views';
import { firstValueFrom, take, toArray } from 'rxjs';
import { main } from '../../../apps/cli/src/main.js';
import { EventReader } from '../support/event-source.js';
import { OrderTotals, type OrderTotal } from './order-totals.js';
import { untilTrue } from '../../support/until-true.js';

/** A service of the user's own that reads the view in the process that hosts it. */
@Injectable()
class OrderDesk {
  constructor(@InjectView('order-totals') readonly orders: ViewHandle<OrderTotal>) {}
}

const startApp = async (directory: string, views: readonly (new () => object)[]) => {
  const argv = ['--base-port', '0', '--data-dir', directory, '--topics', 'orders:2', '--log-level', 'silent'];
  const options = loadOptions({ app: 'standalone', argv, env: {}, readFile: () => '' });
  const logger = new TidelineLogger({ ...options, fields: {} });
  PlatformModule.forRoot(options, { logger });
  const edge = createHttpEdge(options);
  @Module({ imports: [StandaloneModule.forRoot(options, logger, { views })], providers: [OrderDesk] })
  class ShopModule {}
  const app = await NestFactory.create<NestFastifyApplication>(ShopModule, edge.adapter, {
    logger: false,
    abortOnError: false,
  });
  app.useGlobalFilters(edge.filter);
  await app.listen(0, '127.0.0.1');
  const server = app.getHttpServer();
  return { app, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
};

describe("a projection in a user's own app", () => {
  let directory: string;
  let running: Awaited<ReturnType<typeof startApp>>;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'tideline-projections-'));
    running = await startApp(directory, [OrderTotals]);
    await until(async () => (await request(running.server).get('/readyz')).status === 200);
  });
  afterAll(async () => {
    await running.app.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const append = (...records: object[]) =>
    request(running.server).post('/v1/topics/orders/records').send({ records }).expect(200);
  const added = (key: string, customer: string, cents: unknown) => ({
    key,
    type: 'item-added',
    value: { customer, cents },
  });
  const get = (path: string) => request(running.server).get(path);
  const view = '/v1/views/order-totals';
  const keysOf = (body: { entries: { key: string }[] }): string[] => body.entries.map(({ key }) => key);

  test('is read by key as soon as its event is acknowledged', async () => {
    await append(added('o1', 'ann', 500), added('o2', 'bob', 250), added('o1', 'ann', 70));
    const answer = await get(`${view}/entries/o1`).expect(200);
    expect(answer.body).toEqual({ customer: 'ann', status: 'open', cents: 570 });
    expect(answer.headers).toMatchObject({ 'content-type': 'application/json' });
    expect(Number(answer.headers['tideline-offset'])).toBeGreaterThan(0);
    await get(`${view}/entries/nobody`).expect(404);
    await get(`${view}/entries/o1?consistency=stale`).expect(200);
  });

  test('is scanned, and looked up by index in pages of a stable order', async () => {
    await append(
      ...Array.from({ length: 25 }, (_, n) => added(`s${String(n).padStart(2, '0')}`, n % 2 ? 'sue' : 'sam', n)),
    );
    const page = await get(`${view}/entries?prefix=s&limit=5&values=true`).expect(200);
    expect(page.body.entries[3]).toMatchObject({ key: 's03', value: { customer: 'sue', cents: 3 } });
    const found: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const { body } = await get(`${view}/entries?index=customer&value=sue&limit=5&cursor=${cursor}`).expect(200);
      found.push(...keysOf(body));
      ({ cursor } = body as { cursor: string | null });
      await append(added(`t${found.length}`, 'sam', 1));
    }
    expect(found).toEqual(Array.from({ length: 12 }, (_, n) => `s${String(2 * n + 1).padStart(2, '0')}`));
    await append({ key: 's01', type: 'paid', value: {} });
    expect(keysOf((await get(`${view}/entries?index=status&value=paid`).expect(200)).body)).toEqual(['s01']);
    const refused = await get(`${view}/entries?index=colour&value=red`).expect(400);
    expect(refused.body.detail).toContain('there are customer, status');
    await get(`${view}/entries?index=status`).expect(400);
    await get(`${view}/entries?index=status&value=x&prefix=a`).expect(400);
    expect((await get('/v1/views/orders/entries?index=status&value=x').expect(400)).body.detail).toContain('has none');
  });

  test('is watched by whoever is outside, and inside', async () => {
    await append(added('w1', 'wim', 1));
    const outside = new EventReader(`${running.url}${view}/watch?prefix=w`);
    const { orders } = running.app.get(OrderDesk);
    const inside: ViewStateChange<OrderTotal>[] = [];
    const subscription = orders.changes('w').subscribe((change) => inside.push(change));
    await outside.until(() => outside.events.some(({ event }) => event === 'live'));
    await append(added('w1', 'wim', 2), { key: 'w1', type: 'cancelled', value: null });
    await outside.until(() => outside.events.some(({ event }) => event === 'delete'));
    expect(outside.events.map(({ event }) => event)).toEqual(['put', 'live', 'put', 'delete']);
    await until(() => Promise.resolve(inside.some(({ type }) => type === 'delete')));
    expect(inside.filter(({ type }) => type !== 'live')).toMatchObject([
      { type: 'put', key: 'w1', state: { cents: 1 } },
      { type: 'put', key: 'w1', state: { cents: 3 } },
      { type: 'delete', key: 'w1' },
    ]);
    outside.close();
    subscription.unsubscribe();
  });

  test("is read by the user's own code", async () => {
    const { orders } = running.app.get(OrderDesk);
    await append(...Array.from({ length: 30 }, (_, n) => added(`u${n}`, 'uma', n)));
    expect(await orders.get('u7')).toEqual({ customer: 'uma', status: 'open', cents: 7 });
    expect(await orders.get('nobody')).toBeNull();
    const keys: string[] = [];
    let cursor: string | null = null;
    do {
      const page = await orders.lookup('customer', 'uma', { limit: 7, cursor });
      keys.push(...page.entries.map(({ key }) => key));
      ({ cursor } = page);
    } while (cursor !== null);
    expect(keys).toEqual(Array.from({ length: 30 }, (_, n) => `u${n}`).sort());
    expect((await orders.scan('u2', { stale: true })).entries).toHaveLength(11);
    const seen: string[] = [];
    for await (const change of orders.changes('u')) {
      if (change.type === 'put') seen.push(change.key);
      if (seen.length === 30) break;
    }
    expect(seen.sort()).toEqual(keys);
  });

  test('gives a state up when its time is over', async () => {
    const reserved = (forMs: number) => ({ key: 'e1', type: 'reserved', value: { forMs } });
    await append(added('e1', 'eve', 1), reserved(3_600_000));
    const answer = await get(`${view}/entries/e1`).expect(200);
    expect(answer.headers['tideline-expires-at']).toBeDefined();
    await append(reserved(1));
    await until(async () => (await get(`${view}/entries/e1`)).status === 404);
    expect(keysOf((await get(`${view}/entries?index=customer&value=eve`).expect(200)).body)).toEqual([]);
  });

  test('cannot be written to but by events', async () => {
    const put = await request(running.server).put(`${view}/entries/x`).send('{}').expect(405);
    expect(put.body).toMatchObject({ code: 'method-not-allowed', detail: expect.stringContaining('topic orders') });
    const command = { op: 'incr', args: [] };
    await request(running.server).post(`${view}/entries/x/commands`).send(command).expect(405);
  });

  test('sets aside what it cannot apply: counted, listed, tried again', async () => {
    await append(added('p1', 'pia', 'a lot'), added('p2', 'pia', 'more'), added('p1', 'pia', 5));
    expect((await get(`${view}/entries/p1`).expect(200)).body).toMatchObject({ cents: 5 });
    const { body } = await get(`${view}/parked?limit=1`).expect(200);
    expect(body.events).toHaveLength(1);
    const rest = await get(`${view}/parked?cursor=${body.cursor}`).expect(200);
    expect(rest.body).toMatchObject({ cursor: null });
    const all = [...body.events, ...rest.body.events] as { position: string; key: string }[];
    expect(all.map(({ key }) => key).sort()).toEqual(['p1', 'p2']);
    expect(body.events[0]).toMatchObject({
      type: 'item-added',
      value: { customer: 'pia' },
      error: expect.stringContaining('is no price'),
      attempts: 1,
    });
    expect((await get(view).expect(200)).body).toMatchObject({ parked: 2, state: 'live' });
    expect((await get('/metrics').expect(200)).text).toMatch(
      /tideline_view_parked\{[^}]*view="order-totals@1"[^}]*\} [12]/,
    );
    const { position } = all[0];
    const replay = await request(running.server).post(`${view}/parked/${position}/replay`).expect(200);
    expect(replay.body).toMatchObject({ applied: false, error: expect.stringContaining('is no price') });
    await request(running.server).post(`${view}/parked/0:99999/replay`).expect(404);
    const everything = await request(running.server).post(`${view}/parked/replay`).expect(200);
    expect(everything.body).toMatchObject({ parked: 2, replays: [{ partition: 0 }, { partition: 1 }] });
    await request(running.server).get('/readyz').expect(200);
  });

  test('lists and replays by the command what it has set aside', async () => {
    const http = running.url.slice('http://'.length);
    const cli = async (...args: string[]): Promise<{ printed: string; exit: unknown }> => {
      const lines: string[] = [];
      const log = jest.spyOn(console, 'log').mockImplementation((line: unknown) => void lines.push(String(line)));
      const complaint = jest.spyOn(process.stderr, 'write').mockReturnValue(true);
      const before = process.exitCode;
      process.exitCode = undefined;
      try {
        await main(['node', 'tideline', '--http', http, 'view', ...args]);
        return { printed: lines.join('\n'), exit: process.exitCode ?? 0 };
      } finally {
        process.exitCode = before;
        log.mockRestore();
        complaint.mockRestore();
      }
    };
    const listed = await cli('parked', 'order-totals', '--json');
    const events = JSON.parse(listed.printed) as { position: string; key: string; error: string }[];
    expect(events.map(({ key }) => key).sort()).toEqual(['p1', 'p2']);
    const table = await cli('parked', 'order-totals', '--limit', '1');
    expect(table.printed).toMatch(/^position +type +key +attempts +error\n\d:\d+ +item-added +p\d +\d+ +.*is no price/);
    expect(table.printed.split('\n')).toHaveLength(2);
    // What cannot be applied as yet stays, and the command says so to scripts as well.
    const one = await cli('replay', 'order-totals', '--offset', events[0].position, '--json');
    expect([JSON.parse(one.printed), one.exit]).toEqual([
      expect.objectContaining({ applied: false, error: expect.stringContaining('is no price') }),
      1,
    ]);
    expect(await cli('replay', 'order-totals', '--all')).toEqual({ printed: 'still parked  2', exit: 1 });
    expect(JSON.parse((await cli('parked', 'order-totals', '-o', 'json')).printed)).toHaveLength(2);
    for (const wrong of [[], ['--all', '--offset', '0:1'], ['--offset', 'first']])
      expect((await cli('replay', 'order-totals', ...wrong)).exit).toBe(2);
    expect((await cli('replay', 'order-totals', '--offset', '99999')).exit).toBe(1);
    expect((await cli('parked', 'nowhere')).exit).toBe(1);
  });

  test('is described with its version', async () => {
    expect((await get(view).expect(200)).body).toMatchObject({
      view: 'order-totals',
      kind: 'projection',
      topic: 'orders',
      version: 1,
      state: 'live',
      building: null,
      indexes: ['customer', 'status'],
      lag: expect.any(Number),
    });
    const { body } = await get('/v1/views').expect(200);
    expect((body.views as { view: string; kind: string }[]).map(({ view: name, kind }) => `${name} ${kind}`)).toEqual(
      expect.arrayContaining(['orders map', 'default map', 'order-totals projection']),
    );
  });

  test('is read through the SDK as any view', async () => {
    const port = running.app.get(NativeEndpoint, { strict: false }).port;
    const client = await TidelineClient.connect({ addresses: [`127.0.0.1:${port}`] });
    try {
      await append(added('c1', 'cid', 9));
      const entry = await client.get('order-totals', 'c1');
      expect(JSON.parse(Buffer.from(entry!.value).toString())).toMatchObject({ cents: 9 });
      const events = await firstValueFrom(client.watch('order-totals', { prefix: 'c1' }).pipe(take(1), toArray()));
      expect(events[0]).toMatchObject({ type: 'put' });
      const views = await client.views();
      expect(views.find(({ view: name }) => name === 'order-totals')).toMatchObject({
        kind: 'projection',
        topic: 'orders',
        projection: { version: 1, state: 'live', indexes: ['customer', 'status'] },
        stats: { entries: expect.any(Number) },
      });
    } finally {
      await client.close();
    }
  });

  test('is listed and described by the command', async () => {
    const printed: string[] = [];
    const log = jest.spyOn(console, 'log').mockImplementation((text) => void printed.push(String(text)));
    const address = `127.0.0.1:${running.app.get(NativeEndpoint, { strict: false }).port}`;
    try {
      await main(['node', 'tideline', '-a', address, 'view', 'list']);
      await main(['node', 'tideline', '-a', address, '-o', 'json', 'view', 'describe', 'order-totals']);
      await main(['node', 'tideline', '-a', address, 'view', 'describe', 'order-totals']);
    } finally {
      log.mockRestore();
    }
    const [head, ...rows] = printed;
    expect(head).toMatch(/^view +kind +topic +version +state +building +entries +bytes +lag +parked$/);
    expect(rows.find((row) => row.startsWith('order-totals'))).toMatch(/projection +orders +1 +live +– +\d+/);
    const json = printed.find((text) => text.startsWith('{'))!;
    expect(JSON.parse(json)).toMatchObject({ view: 'order-totals', version: 1, building: null, partitions: [{}, {}] });
    expect(printed.some((text) => /^indexes +customer, status$/m.test(text))).toBe(true);
  });

  test('keeps what it has over a restart', async () => {
    await append(added('r1', 'rex', 9));
    await get(`${view}/entries/r1`).expect(200);
    await running.app.close();
    running = await startApp(directory, [OrderTotals]);
    await until(async () => (await get(`${view}/entries/r1`)).status === 200);
    expect((await get(view).expect(200)).body).toMatchObject({ parked: 2 });
    expect(keysOf((await get(`${view}/entries?index=customer&value=rex`).expect(200)).body)).toEqual(['r1']);
  });
});

test('a view that halts, and one that cannot be right, say so in /readyz; the others go on', async () => {
  @View<OrderTotal>({ topic: 'orders', name: 'strict-totals', version: 1, onError: 'halt' })
  class StrictTotals extends OrderTotals {}
  @View<OrderTotal>({
    topic: 'orders',
    name: 'by-customer',
    version: 1,
    key: ({ headers }) => headers['customer'] ?? null,
  })
  class ByCustomer extends OrderTotals {}
  const directory = mkdtempSync(join(tmpdir(), 'tideline-halts-'));
  const { app, server } = await startApp(directory, [OrderTotals, StrictTotals, ByCustomer]);
  try {
    const record = (cents: unknown) => ({ key: 'o', type: 'item-added', value: { customer: 'c', cents } });
    const append = (...records: object[]) => request(server).post('/v1/topics/orders/records').send({ records });
    await until(async () => (await append(record(1))).status === 200);
    await until(async () => (await request(server).get('/v1/views/strict-totals/entries/o')).status === 200);
    await append(record('x'), record(5)).expect(200);
    const read = await request(server).get('/v1/views/strict-totals/entries/o').expect(503);
    expect(read.body).toMatchObject({
      code: 'view-halted',
      detail: expect.stringContaining('RangeError: x is no price'),
    });
    await request(server).get('/v1/views/strict-totals/entries/o?consistency=stale').expect(200);
    const described = await request(server).get('/v1/views/strict-totals').expect(200);
    expect(described.body).toMatchObject({
      state: 'halted',
      halted: [{ reason: 'version 1: RangeError: x is no price' }],
    });
    expect((await request(server).get('/v1/views/order-totals/entries/o').expect(200)).body).toMatchObject({
      cents: 6,
    });
    const ready = await request(server).get('/readyz').expect(503);
    const { detail } = (ready.body.checks as { name: string; detail: string }[]).find(
      ({ name }) => name === 'projections',
    )!;
    expect(detail).toMatch(/view strict-totals halted at \d:\d+: version 1: RangeError/);
    expect(detail).toContain(
      'view by-customer is not hosted: its states have other keys than the records of topic orders',
    );
    const refused = await request(server).get('/v1/views/by-customer/entries/c').expect(503);
    expect(refused.body.detail).toContain('which has 2 partitions');
  } finally {
    await app.close();
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a view that cannot be hosted stops the start, and says why', async () => {
  @View({ topic: 'orders', name: 'orders', version: 1 })
  class Clash extends OrderTotals {}
  const directory = join(tmpdir(), 'tideline-never-made');
  await expect(startApp(directory, [Clash])).rejects.toThrow('view orders: topic orders has a map view of that name');
  await expect(startApp(directory, [OrderTotals, OrderTotals])).rejects.toThrow('two classes of version 1');
  expect(existsSync(directory)).toBe(false);
});

const until = (condition: () => Promise<boolean>): Promise<void> => untilTrue('what the test waits for', condition);
