import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import request from 'supertest';
import { GatewayModule } from '#apps/gateway';
import { systemClock, systemScheduler } from '#kernel';
import { createHttpEdge, loadOptions } from '#platform';
import { ViewHost } from '../../../apps/materializer/src/view-host.js';
import { MemoryCommandLog } from '../../../libs/command-log/src/testing/index.js';

/** A gateway over the views as a materializer hosts them. */
const start = async () => {
  const options = loadOptions({
    app: 'gateway',
    argv: ['--base-port', '0', '--log-nodes', '127.0.0.1:1', '--log-level', 'silent'],
    env: {},
    readFile: () => '',
  });
  const log = new MemoryCommandLog({ topics: [{ name: 'default' }] });
  const host = new ViewHost({ log, clock: systemClock, scheduler: systemScheduler });
  const edge = createHttpEdge(options);
  const app = await NestFactory.create<NestFastifyApplication>(
    GatewayModule.forRoot({ options, commandLog: { useValue: log }, viewQuery: { useValue: host } }),
    edge.adapter,
    { logger: false },
  );
  app.useGlobalFilters(edge.filter);
  await log.topic('default');
  await app.listen(0, '127.0.0.1');
  return {
    log,
    server: app.getHttpServer(),
    stop: async () => {
      await app.close();
      host.close();
      await log.close();
    },
  };
};

let gateway: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  gateway = await start();
});
afterAll(() => gateway.stop());

const path = (key: string): string => `/v1/views/default/entries/${key}`;
const send = (key: string, op: string, args: readonly unknown[] = []) =>
  request(gateway.server)
    .post(`${path(key)}/commands`)
    .send({ op, args });
const run = async (key: string, op: string, ...args: readonly unknown[]): Promise<unknown> =>
  (await send(key, op, args).expect(200)).body.result;

describe('over the views of a materializer', () => {
  test('every data type answers', async () => {
    expect(await run('counter', 'incrby', 5)).toBe(5);
    expect(await run('counter', 'incrby', 5)).toBe(10);
    expect(await run('string', 'append', 'abc')).toBe(3);
    expect(await run('bitmap', 'setbit', 7, 1)).toBe(0);
    expect(await run('bitmap', 'bitcount')).toBe(1);
    expect(await run('hash', 'hset', 'name', 'Ada', 'age', 36)).toBe(2);
    expect(await run('hash', 'hgetall')).toEqual([
      ['age', '36'],
      ['name', 'Ada'],
    ]);
    expect(await run('list', 'rpush', 'a', 'b')).toBe(2);
    expect(await run('list', 'lpop')).toBe('a');
    expect(await run('set', 'sadd', 'x', 'y', 'x')).toBe(2);
    expect(await run('sorted', 'zadd', 1.5, 'a', 1, 'b')).toBe(2);
    expect(await run('sorted', 'zrange', 0, -1, 'withscores')).toEqual([
      ['b', 1],
      ['a', 1.5],
    ]);
    expect(await run('document', 'json.set', '', { tags: [] })).toBe(true);
    expect(await run('document', 'json.arrappend', '/tags', '"red"', { n: 1 })).toBe(2);
  });

  test('a document and a counter are what GET gives and PUT wrote', async () => {
    await request(gateway.server).put(path('doc')).set('content-type', 'application/json').send('{"a":1}').expect(200);
    expect(await run('doc', 'json.merge', '', { b: [2], a: null })).toBe(true);
    const got = await request(gateway.server).get(path('doc')).expect(200);
    expect([got.headers['content-type'], got.body]).toEqual([expect.stringContaining('application/json'), { b: [2] }]);
    await request(gateway.server).put(path('n')).set('content-type', 'text/plain').send('41').expect(200);
    expect(await run('n', 'incr')).toBe(42);
    expect((await request(gateway.server).get(path('n')).expect(200)).text).toBe('42');
  });

  test('a retry with the same Idempotency-Key gets the first result', async () => {
    const once = () => send('once', 'incrby', [3]).set('idempotency-key', 'once').expect(200);
    const first = await once();
    expect(first.body).toEqual({ result: 3, partition: 0, offset: expect.any(Number) });
    expect((await once()).body).toEqual(first.body);
    expect(await run('once', 'incrby', 1)).toBe(4);
  });

  test('an entry of another type is refused when it is applied', async () => {
    await run('typed', 'sadd', 'a');
    const answer = await send('typed', 'hset', ['f', 'v']);
    expect(answer.body).toMatchObject({ code: 'wrong-type', outcome: 'rejected' });
    expect((await send('typed', 'incr')).body).toMatchObject({ code: 'wrong-type' });
  });

  test('what is wrong whatever the entry is never gets into the log', async () => {
    const { offset } = (await send('last', 'incr').expect(200)).body as { offset: number };
    const refused = [
      await send('last', 'fly'),
      await send('last', 'incrby'),
      await send('last', 'incrby', ['x']),
      await send('last', 'json.set', ['', 'text without quotes']),
    ];
    expect(refused.map(({ status, body }) => [status, body.code])).toEqual([
      [400, 'unknown-command'],
      [400, 'bad-request'],
      [400, 'bad-request'],
      [400, 'bad-request'],
    ]);
    expect((await send('last', 'incr').expect(200)).body.offset).toBe(offset + 1);
  });
});
