import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { openApiDocument } from '#apps/gateway';
import { VIEW_DEFAULTS } from '#kernel';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(async () => {
  await gateway.stop();
});

const get = (path: string) => request(gateway.server).get(path);

describe('the description', () => {
  test('has every route there is and no other', () => {
    const described = Object.entries(openApiDocument.paths).flatMap(([path, item]) =>
      ['get', 'post', 'put', 'delete']
        .filter((method) => method in item)
        .map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`),
    );
    const registered = new Set(gateway.routes.filter((route) => /^(GET|POST|PUT|DELETE|PATCH) /.test(route)));
    expect([...registered].toSorted()).toEqual(described.toSorted());
  });

  test('is served as JSON and as a page that loads nothing', async () => {
    const json = await get('/openapi.json').expect(200);
    expect(json.body).toEqual(JSON.parse(JSON.stringify(openApiDocument)));
    expect(json.body.openapi).toBe('3.1.0');
    const page = await get('/docs').expect(200);
    expect(page.headers['content-type']).toContain('text/html');
    expect(page.text).toContain('/v1/topics/{topic}/records');
    expect(page.text).not.toMatch(/<script|src=|href="http/);
    expect(page.headers['content-security-policy']).toContain("default-src 'none'");
  });

  test('refers to nothing that is not there', () => {
    for (const [, name] of JSON.stringify(openApiDocument).matchAll(/#\/components\/schemas\/(\w+)/g)) {
      expect(openApiDocument.components.schemas).toHaveProperty(name);
    }
    const ids = [...JSON.stringify(openApiDocument).matchAll(/"operationId":"(\w+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});

describe('topics, views and the cluster', () => {
  test('are listed and described', async () => {
    const topics = await get('/v1/topics').expect(200);
    expect(topics.body.topics.map((topic: { name: string }) => topic.name)).toEqual(['default', 'wide']);
    const wide = await get('/v1/topics/wide').expect(200);
    expect(wide.body).toMatchObject({ name: 'wide', view: { kind: 'map', ...VIEW_DEFAULTS } });
    expect(wide.body.partitions).toHaveLength(4);
    expect((await get('/v1/topics/nowhere').expect(404)).body.code).toBe('unknown-topic');
    const views = await get('/v1/views').expect(200);
    expect(views.body.views.map((view: { view: string }) => view.view)).toEqual(['default', 'wide']);
    const view = await get('/v1/views/default').expect(200);
    expect(view.body).toMatchObject({ kind: 'map', topic: 'default', lag: expect.any(Number), slots: 256 });
    expect(view.body.settings).toEqual(VIEW_DEFAULTS);
    expect((await get('/v1/views/nowhere').expect(404)).body.code).toBe('unknown-view');
    const cluster = await get('/v1/cluster').expect(200);
    expect(cluster.body.topics[0].partitions[0]).toMatchObject({
      partition: 0,
      leader: 1,
      commitOffset: expect.any(Number),
    });
  });

  test('leadership is handed over to a member and to nobody else', async () => {
    const path = '/v1/cluster/partitions/wide/2/leader';
    const moved = await request(gateway.server).post(path).send({ node: 1 }).expect(200);
    expect(moved.body).toEqual({ topic: 'wide', partition: 2, leader: 1 });
    expect((await request(gateway.server).post(path).send({ node: 9 }).expect(404)).body.code).toBe('not-a-member');
    for (const body of [{}, { node: 0 }, { node: 'one' }, { nod: 1 }, []]) {
      expect((await request(gateway.server).post(path).send(body).expect(400)).body.code).toBe('bad-request');
    }
    for (const where of ['wide/4', 'wide/x', 'nowhere/0']) {
      await request(gateway.server).post(`/v1/cluster/partitions/${where}/leader`).send({ node: 1 }).expect(404);
    }
  });
});

describe('probes', () => {
  test('say whether the process lives, is ready, and how it does', async () => {
    await get('/livez').expect(200);
    const ready = await get('/readyz?verbose').expect(200);
    expect(ready.body.checks.map((check: { name: string }) => check.name)).toContain('routing');
    await request(gateway.server).put('/v1/views/default/entries/m').send('x').expect(200);
    await get('/v1/views/default/entries/nobody').expect(404);
    const metrics = await get('/metrics').expect(200);
    expect(metrics.text).toMatch(
      /tideline_gateway_request_seconds_count\{[^}]*route="PUT \/v1\/views\/:view\/entries\/:key"[^}]*outcome="ok"[^}]*\} \d/,
    );
    expect(metrics.text).toMatch(/outcome="rejected"/);
  });

  test('a partition without a leader makes it not ready', async () => {
    const own = await startTestGateway();
    try {
      own.log.cluster.elect(0 as never);
      for (;;) {
        const ready = await request(own.server).get('/readyz');
        if (ready.status === 503) {
          expect(ready.body.checks[0].detail).toContain('no leader of default/0');
          break;
        }
      }
    } finally {
      await own.stop();
    }
  });
});

describe('requests that fit no route', () => {
  test('an unknown path is 404', async () => {
    for (const path of ['/', '/v1', '/v2/topics', '/v1/views/default/entries/a/b', '/v1/topics/default/records/1']) {
      const answer = await get(path).expect(404);
      expect(answer.headers['content-type']).toContain('application/problem+json');
      expect(answer.body.code).toBe('not-found');
    }
  });

  test.each([
    ['delete', '/v1/topics/default/records', 'GET, HEAD, POST'],
    ['post', '/v1/views/default/watch', 'GET'],
    ['post', '/v1/topics/default/tail', 'GET'],
    ['put', '/v1/topics', 'GET, HEAD'],
    ['get', '/v1/views/default/entries/k/commands', 'POST'],
    ['get', '/v1/cluster/partitions/default/0/leader', 'POST'],
    ['post', '/livez', 'GET, HEAD'],
  ] as const)('%s %s is 405, allowed are %s', async (method, path, allow) => {
    const answer = await request(gateway.server)[method](path).expect(405);
    expect(answer.body.code).toBe('method-not-allowed');
    expect(answer.headers['allow'].split(', ').sort().join(', ')).toBe(allow);
  });

  test('headers that are too large are 431', async () => {
    const answer = await get('/v1/topics').set('x-large', 'x'.repeat(17 * 1024));
    expect(answer.status).toBe(431);
    expect(answer.body.code).toBe('request-too-large');
  });

  test('bytes that are no HTTP are 400 and end that connection only', async () => {
    const said = await new Promise<string>((resolve) => {
      const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1', () =>
        socket.write('\x00\x01garbage\r\n\r\n'),
      );
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk.toString();
      });
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(text));
    });
    expect(said).toMatch(/^HTTP\/1.1 400 /);
    expect(said).toContain('"bad-request"');
    await get('/livez').expect(200);
  });

  test('a body that is not JSON where JSON is asked for is refused', async () => {
    const path = '/v1/cluster/partitions/default/0/leader';
    const post = (type: string, text: string) =>
      request(gateway.server).post(path).set('content-type', type).send(text);
    expect((await post('application/json', '{"node":').expect(400)).body.code).toBe('malformed-json');
    expect((await post('application/json', '{"__proto__":1}').expect(400)).body.code).toBe('unsafe-key');
    expect((await post('text/csv', 'node').expect(415)).body.code).toBe('unsupported-media-type');
  });
});
