import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import request from 'supertest';
import { ViewExportReader } from '#client';
import { ViewHost } from '#apps/materializer';
import { systemClock, systemScheduler } from '#kernel';
import { main } from '../../../apps/cli/src/main.js';
import { SnapshotStore } from '../../../apps/materializer/src/snapshot-store.js';
import { InMemorySnapshotCatalog } from '../../../libs/catalog/src/testing/index.js';
import { MemoryFileSystem } from '../../../libs/storage/src/testing/index.js';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';
import { serveOverTcp, type ViewHostOverTcp } from '../support/view-host-over-tcp.js';

const HOST = 'here:7420';
let gateway: TestGateway;
let served: ViewHostOverTcp;

beforeAll(async () => {
  gateway = await startTestGateway({
    viewQuery: async (log) => {
      const store = new SnapshotStore({
        fileSystem: new MemoryFileSystem(),
        catalog: new InMemorySnapshotCatalog(),
        directory: '/snapshots',
        host: HOST,
        kept: 2,
        clock: systemClock,
        report: () => undefined,
      });
      const host = new ViewHost({
        log,
        clock: systemClock,
        scheduler: systemScheduler,
        snapshots: { store, intervalMs: 3_600_000 },
      });
      served = await serveOverTcp(host);
      return served.query;
    },
  });
  for (let n = 0; n < 20; n++) {
    await request(gateway.server).put(`/v1/views/wide/entries/k${n}?acks=applied`).send(`value ${n}`).expect(200);
  }
});
afterAll(async () => {
  await gateway.stop();
  await served.close();
});

const get = (path: string) => request(gateway.server).get(path);
const post = (path: string) => request(gateway.server).post(path);

/** What the command printed. */
const cli = async (...args: string[]): Promise<string> => {
  const lines: string[] = [];
  const log = jest.spyOn(console, 'log').mockImplementation((line: unknown) => void lines.push(String(line)));
  const progress = jest.spyOn(process.stderr, 'write').mockReturnValue(true);
  const before = process.exitCode;
  process.exitCode = undefined;
  try {
    await main(['node', 'tideline', ...args, '--http', gateway.url.slice('http://'.length)]);
    lines.push(`exit ${process.exitCode ?? 0}`);
  } finally {
    process.exitCode = before;
    log.mockRestore();
    progress.mockRestore();
  }
  return lines.join('\n');
};

describe('snapshots over REST and the command line', () => {
  test('are taken of each partition, listed, and a view is built from one', async () => {
    expect((await get('/v1/views/wide/snapshots').expect(200)).body).toEqual({ snapshots: [] });
    const created = await post('/v1/views/wide/snapshots').expect(201);
    expect(created.body.snapshots).toHaveLength(4);
    expect(created.body.snapshots[2]).toMatchObject({ host: HOST, view: 'wide', partition: 2, verified: true });
    const entries = created.body.snapshots.reduce((sum: number, each: { entries: number }) => sum + each.entries, 0);
    expect(entries).toBe(20);
    const listed = await get('/v1/views/wide/snapshots').expect(200);
    expect(listed.body).toEqual(created.body);
    expect((await get('/v1/views/wide/snapshots?host=elsewhere').expect(200)).body).toEqual({ snapshots: [] });

    const [first] = created.body.snapshots;
    const restored = await post(`/v1/views/wide/snapshots/restore?partition=0&offset=${first.offset}`).expect(202);
    expect(restored.body.restored).toEqual([
      { partition: 0, source: `snapshot at offset ${first.offset} on this host`, offset: first.offset },
    ]);
    for (let n = 0; n < 20; n++) expect((await get(`/v1/views/wide/entries/k${n}`)).text).toBe(`value ${n}`);
    expect((await get('/v1/views/wide').expect(200)).body.restoring).toEqual([]);
  });

  test('refuse what makes no sense', async () => {
    expect((await post('/v1/views/nowhere/snapshots').expect(404)).body.code).toBe('unknown-view');
    expect((await post('/v1/views/wide/snapshots?partition=9').expect(404)).body.code).toBe('unknown-partition');
    expect((await post('/v1/views/wide/snapshots/restore?partition=0&offset=1').expect(404)).body.code).toBe(
      'not-found',
    );
    expect((await post('/v1/views/wide/snapshots/restore?offset=1').expect(400)).body.code).toBe('bad-request');
    expect((await get('/v1/views/wide/snapshots?slot=1').expect(400)).body.detail).toContain('slot');
  });

  test('have commands', async () => {
    await request(gateway.server).put('/v1/views/wide/entries/more?acks=applied').send('x').expect(200);
    const created = await cli('snapshot', 'create', '--view', 'wide', '--output', 'json');
    expect(created).toContain('exit 0');
    expect(created).toContain('"verified": true');
    const table = await cli('snapshot', 'list', '--view', 'wide');
    expect(table.split('\n')[0]).toMatch(/^partition +offset +host +entries/);
    expect(table).toContain(HOST);
    const restored = await cli('snapshot', 'restore', '--view', 'wide');
    expect(restored).toContain('on this host');
    expect(await cli('snapshot', 'restore', '--view', 'wide', '--offset', '3')).toBe('exit 2');
    expect(await cli('snapshot', 'list', '--view', 'nowhere')).toBe('exit 1');
  });
});

describe('a view in one file', () => {
  let directory: string;
  const [from, to] = ['wide', 'default'];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'tideline-export-'));
    const puts = request(gateway.server);
    await puts.put(`/v1/views/${from}/entries/typed`).type('text/x-poem').send('roses').expect(200);
    await puts.put(`/v1/views/${from}/entries/timed?ttl=1h`).send('gone in an hour').expect(200);
    await puts.put(`/v1/views/${from}/entries/short?ttl=1ms`).send('gone at once').expect(200);
    for (const op of ['one', 'two']) {
      await puts
        .post(`/v1/views/${from}/entries/list/commands`)
        .send({ op: 'rpush', args: [op] })
        .expect(200);
    }
    await puts.put(`/v1/views/${from}/entries/last?acks=applied`).send('x').expect(200);
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const file = (name: string): string => join(directory, name);
  const address = (): string => `127.0.0.1:${gateway.nativePort}`;
  const importFile = (name: string): Promise<string> => cli('import', file(name), '--view', to, '--address', address());

  test('comes back in another view: values, types, times to live and the states of data types', async () => {
    expect(await cli('export', from, file('all'))).toMatch(/2\d entries of wide written/);
    expect(readdirSync(directory)).toEqual(['all']);
    const imported = await importFile('all');
    expect(imported).toMatch(/entries appended to default[^]*exit 0/);
    await request(gateway.server).put(`/v1/views/${to}/entries/z?acks=applied`).send('x').expect(200);
    for (let n = 0; n < 20; n++) expect((await get(`/v1/views/${to}/entries/k${n}`)).text).toBe(`value ${n}`);
    const typed = await get(`/v1/views/${to}/entries/typed`).expect(200);
    expect(typed.headers['content-type']).toContain('text/x-poem');
    const timed = await get(`/v1/views/${to}/entries/timed`).expect(200);
    const left = Date.parse(timed.headers['tideline-expires-at']) - Date.now();
    expect(left).toBeGreaterThan(3_000_000);
    expect(left).toBeLessThanOrEqual(3_600_000);
    await get(`/v1/views/${to}/entries/short`).expect(404);
    const list = await post(`/v1/views/${to}/entries/list/commands`)
      .send({ op: 'lrange', args: ['0', '-1'] })
      .expect(200);
    expect(list.body.result).toEqual(['one', 'two']);
  });

  test('that is damaged, cut off or something else appends nothing, and the byte is named', async () => {
    const whole = readFileSync(file('all'));
    const end = async (): Promise<number> => (await get(`/v1/topics/${to}`)).body.partitions[0].commitOffset as number;
    const before = await end();
    const flipped = Buffer.from(whole);
    flipped[whole.length >> 1] ^= 1;
    for (const [name, bytes] of Object.entries({
      flipped,
      cut: whole.subarray(0, whole.length - 7),
      more: Buffer.concat([whole, Buffer.from('more')]),
      empty: Buffer.alloc(0),
      other: Buffer.from('{"this": "is JSON"}'),
    })) {
      writeFileSync(file(name), bytes);
      const errors: string[] = [];
      const error = jest.spyOn(process.stderr, 'write').mockImplementation((text) => errors.push(String(text)) > 0);
      expect(await importFile(name)).toBe('exit 2');
      error.mockRestore();
    }
    expect(await end()).toBe(before);
    expect(() => {
      const reader = new ViewExportReader();
      reader.push(flipped);
      reader.finish();
    }).toThrow(/damaged at byte \d+/);
  });

  test('is not made of what is not there', async () => {
    expect(await cli('export', 'nowhere', file('nowhere'))).toBe('exit 1');
    expect(readdirSync(directory)).not.toContain('nowhere');
  });
});
