import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { ClientTCP } from '@nestjs/microservices';
import request from 'supertest';
import { firstValueFrom } from 'rxjs';
import { ViewHost } from '#apps/materializer';
import type { ArchiveEntry } from '#catalog';
import { TidelineError, systemClock, systemScheduler } from '#kernel';
import { InMemoryArchive } from '../../../libs/catalog/src/testing/index.js';
import { untilTrue } from '../../support/until-true.js';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';
import { serveOverTcp, type ViewHostOverTcp } from '../support/view-host-over-tcp.js';

const VIEW = 'sessions';

/** An archive whose database can be away. */
class AbsentArchive extends InMemoryArchive {
  away = true;

  override async write(entries: readonly ArchiveEntry[]): Promise<number> {
    this.mustBeThere();
    return super.write(entries);
  }

  override async latest(view: string, key: Uint8Array): ReturnType<InMemoryArchive['latest']> {
    this.mustBeThere();
    return super.latest(view, key);
  }

  private mustBeThere(): void {
    if (this.away) throw new TidelineError('not-ready', 'the archive is away');
  }
}

let archive: AbsentArchive;
let gateway: TestGateway;
let served: ViewHostOverTcp;
let nest: ClientTCP;
beforeAll(async () => {
  archive = new AbsentArchive();
  gateway = await startTestGateway({
    topics: [{ name: 'default' }, { name: VIEW, partitions: 2, view: { archive: true } }],
    limits: { readTimeoutMs: 2000 },
    viewQuery: async (log) => {
      served = await serveOverTcp(new ViewHost({ log, clock: systemClock, scheduler: systemScheduler, archive }));
      return served.query;
    },
  });
  nest = new ClientTCP({ host: '127.0.0.1', port: gateway.nestPort });
  await nest.connect();
});
afterAll(async () => {
  nest.close();
  await gateway.stop();
  await served.close();
});
beforeEach(() => {
  archive.away = true;
});

const path = (key: string): string => `/v1/views/${VIEW}/entries/${key}`;
const put = (key: string, value: string, query: object = {}) =>
  request(gateway.server).put(path(key)).query(query).set('content-type', 'text/plain').send(value).expect(200);
const get = (key: string, query: object = { archived: true }) => request(gateway.server).get(path(key)).query(query);
/** Written, and not live any more. */
const expired = async (key: string, value: string): Promise<void> => {
  await put(key, value, { ttl: '1ms' });
  await untilTrue(`${key} to expire`, async () => (await get(key, {})).status === 404);
};

describe('an entry that has expired while the archive is away', () => {
  test('is answered from memory, and later from the archive', async () => {
    await expired('a', 'one');
    const waiting = await get('a').expect(200);
    expect(waiting.text).toBe('one');
    expect(waiting.headers).toMatchObject({
      'content-type': 'text/plain',
      'tideline-departed': 'expired',
      'tideline-expires-at': expect.any(String),
    });
    expect(waiting.headers['tideline-archived-at']).toBeUndefined();
    await get('a', {}).expect(404);
    archive.away = false;
    await untilTrue(
      'the archive',
      async () => (await get('a').expect(200)).headers['tideline-archived-at'] !== undefined,
    );
    const archived = await get('a').expect(200);
    expect(archived.text).toBe('one');
    expect(archived.headers).toMatchObject({ 'tideline-departed': 'expired', etag: waiting.headers['etag'] });
  });

  test('is answered at every consistency, and to HEAD', async () => {
    await expired('b', 'one');
    for (const asked of [{ consistency: 'stale' }, { consistency: 'session' }, { consistency: 'bounded', maxLagMs: 1 }])
      expect((await get('b', { ...asked, archived: true }).expect(200)).text).toBe('one');
    await request(gateway.server).head(path('b')).query({ archived: true }).expect(200);
  });

  test('is answered though it was deleted or overwritten since, and the one that expired last is', async () => {
    await expired('c', 'one');
    await request(gateway.server).delete(path('c')).expect(200);
    expect((await get('c').expect(200)).text).toBe('one');
    await expired('c', 'two');
    expect((await get('c').expect(200)).text).toBe('two');
    await put('c', 'three');
    const live = await get('c').expect(200);
    expect([live.text, live.headers['tideline-departed']]).toEqual(['three', undefined]);
    await request(gateway.server).delete(path('c')).expect(200);
    expect((await get('c').expect(200)).text).toBe('two');
  });

  test('is answered to Nest, told from a live one and from one that is archived', async () => {
    const asked = { view: VIEW, key: 'd', archived: true };
    const ask = () => firstValueFrom(nest.send<Record<string, unknown>>({ cmd: 'get' }, asked));
    await expired('d', 'one');
    expect(await ask()).toMatchObject({
      value: 'one',
      archivedAt: null,
      reason: 'expired',
      expiresAt: expect.anything(),
    });
    archive.away = false;
    await untilTrue('the archive', async () => (await ask())['archivedAt'] !== null);
    await put('d', 'two');
    expect(Object.keys(await ask())).not.toContain('archivedAt');
  });

  test('is not in the list of what is archived', async () => {
    await expired('e', 'one');
    const { body } = await request(gateway.server).get(`/v1/views/${VIEW}/archive`).query({ key: 'e' }).expect(200);
    expect(body).toEqual({ entries: [], cursor: null });
  });
});

test('a key of which memory has nothing is not known to be in the archive or not while that is away', async () => {
  expect((await get('never', { archived: true }).expect(503)).body.code).toBe('not-ready');
  archive.away = false;
  await get('never').expect(404);
});
