import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import request from 'supertest';
import { RemoteViewQuery } from '#apps/gateway';
import { ViewHost, serveViewQuery } from '#apps/materializer';
import { systemClock, systemRng, systemScheduler } from '#kernel';
import { tcpTransport } from '#net';
import { main } from '../../../apps/cli/src/main.js';
import { SnapshotStore } from '../../../apps/materializer/src/snapshot-store.js';
import { InMemorySnapshotCatalog } from '../../../libs/catalog/src/testing/index.js';
import { MemoryFileSystem } from '../../../libs/storage/src/testing/index.js';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

const HOST = 'here:7420';
let gateway: TestGateway;
const closing: (() => unknown)[] = [];

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
      const hello = { nodeId: 0, clusterId: '', service: 'view', software: 'test', addresses: {} };
      const listener = await tcpTransport.listen({ host: '127.0.0.1', port: 0 }, hello, serveViewQuery(host));
      const query = new RemoteViewQuery({
        transport: tcpTransport,
        addresses: [`127.0.0.1:${listener.port}`],
        clock: systemClock,
        scheduler: systemScheduler,
        rng: systemRng,
      });
      closing.push(
        () => listener.close(),
        () => host.close(),
        () => query.close(),
      );
      return query;
    },
  });
  for (let n = 0; n < 20; n++) {
    await request(gateway.server).put(`/v1/views/wide/entries/k${n}?acks=applied`).send(`value ${n}`).expect(200);
  }
});
afterAll(async () => {
  await gateway.stop();
  for (const close of closing.toReversed()) await close();
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
