import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(async () => {
  await gateway.stop();
});

const entry = (key: string, view = 'default'): string => `/v1/views/${view}/entries/${key}`;
let next = 0;
const freshKey = (): string => `key-${next++}`;
const valueOf = async (key: string): Promise<string> => (await fetch(gateway.url + entry(key))).text();

describe('an entry', () => {
  test('comes back as it was sent, with its content type and the offset as its ETag', async () => {
    const key = freshKey();
    const put = await request(gateway.server)
      .put(entry(key))
      .set('content-type', 'text/x-thing')
      .send('some text')
      .expect(200);
    expect(put.body).toEqual({ partition: 0, offset: expect.any(Number) });
    expect(put.headers['etag']).toBe(`"${put.body.offset}"`);
    const got = await request(gateway.server).get(entry(key)).expect(200);
    expect(got.headers['content-type']).toBe('text/x-thing');
    expect(got.headers['etag']).toBe(put.headers['etag']);
    expect(await valueOf(key)).toBe('some text');
    for (const name of ['tideline-offset', 'tideline-term', 'tideline-node']) {
      expect(put.headers[name]).toMatch(/^\d+$/);
      expect(got.headers[name]).toMatch(/^\d+$/);
    }
    expect(Number(got.headers['tideline-offset'])).toBeGreaterThanOrEqual(put.body.offset);
  });

  test('may be any bytes, none included', async () => {
    for (const bytes of [Buffer.alloc(0), Buffer.from([0, 255, 254, 0x0a]), Buffer.alloc(100_000, 7)]) {
      const key = freshKey();
      await request(gateway.server)
        .put(entry(key))
        .set('content-type', 'application/octet-stream')
        .send(bytes)
        .expect(200);
      const got = await (await fetch(gateway.url + entry(key))).arrayBuffer();
      expect(Buffer.compare(Buffer.from(got), bytes)).toBe(0);
    }
  });

  test('may be put without a content type', async () => {
    const key = freshKey();
    await fetch(gateway.url + entry(key), { method: 'PUT', body: Buffer.from('x') });
    const got = await request(gateway.server).get(entry(key)).expect(200);
    expect(got.headers['content-type']).toBe('application/octet-stream');
    expect(got.headers['x-content-type-options']).toBe('nosniff');
  });

  test('has a key of any text or bytes', async () => {
    for (const key of ['a/b', 'ключ', '100%', 'a b+c?d#e', '%2F', '...']) {
      const url = entry(encodeURIComponent(key));
      await fetch(gateway.url + url, { method: 'PUT', body: key });
      expect(await (await fetch(gateway.url + url)).text()).toBe(key);
      const page = await request(gateway.server).get('/v1/views/default/entries').query({ prefix: key });
      expect(page.body.entries[0].key).toBe(key);
    }
    const bytes = Buffer.from([0xff, 0x00, 0x80]);
    const url = `${entry(bytes.toString('base64url'))}?keyEncoding=base64url`;
    await request(gateway.server).put(url).send('raw').expect(200);
    await request(gateway.server).get(url).expect(200);
  });

  test('that is not there is 404 and says which offset that is known for', async () => {
    const got = await request(gateway.server).get(entry('nobody')).expect(404);
    expect(got.headers['content-type']).toContain('application/problem+json');
    expect(got.body).toMatchObject({ code: 'unknown-entry', status: 404 });
    expect(got.headers['tideline-offset']).toMatch(/^\d+$/);
    await request(gateway.server).head(entry('nobody')).expect(404);
  });

  test('answers HEAD with the headers of GET and no body', async () => {
    const key = freshKey();
    await request(gateway.server).put(entry(key)).set('content-type', 'text/plain').send('12345').expect(200);
    const head = await request(gateway.server).head(entry(key)).expect(200);
    expect(head.headers['content-length']).toBe('5');
    expect(head.headers['etag']).toMatch(/^"\d+"$/);
    expect(head.text ?? '').toBe('');
  });

  test('goes with DELETE, which may be repeated', async () => {
    const key = freshKey();
    await request(gateway.server).put(entry(key)).send('x').expect(200);
    const first = await request(gateway.server).delete(entry(key)).expect(200);
    expect(first.body.offset).toBeGreaterThan(0);
    await request(gateway.server).get(entry(key)).expect(404);
    await request(gateway.server).delete(entry(key)).expect(200);
  });

  test('with a time to live says when it goes, and goes', async () => {
    const key = freshKey();
    const before = Date.now();
    await request(gateway.server)
      .put(`${entry(key)}?ttl=1h`)
      .send('x')
      .expect(200);
    const got = await request(gateway.server).get(entry(key)).expect(200);
    const expires = Date.parse(got.headers['tideline-expires-at']);
    expect(expires).toBeGreaterThanOrEqual(before + 3_600_000);
    expect(expires).toBeLessThan(before + 3_700_000);
    await request(gateway.server)
      .put(`${entry(key)}?ttl=1ms`)
      .send('x')
      .expect(200);
    // Log time moves on with each write and each barrier: the next reads are later than 1 ms.
    for (;;) {
      const status = (await request(gateway.server).get(entry(key))).status;
      if (status === 404) break;
    }
  });
});

describe('conditions', () => {
  test('If-None-Match: * puts only what is not there', async () => {
    const key = freshKey();
    const first = await request(gateway.server).put(entry(key)).set('if-none-match', '*').send('1').expect(200);
    const second = await request(gateway.server).put(entry(key)).set('if-none-match', '*').send('2').expect(412);
    expect(second.body).toMatchObject({
      code: 'condition-failed',
      outcome: 'rejected',
      details: { entryOffset: first.body.offset },
    });
    expect(await valueOf(key)).toBe('1');
  });

  test('If-Match puts and deletes only what the caller has seen', async () => {
    const key = freshKey();
    const first = await request(gateway.server).put(entry(key)).send('1').expect(200);
    const second = await request(gateway.server)
      .put(entry(key))
      .set('if-match', first.headers['etag'])
      .send('2')
      .expect(200);
    await request(gateway.server).put(entry(key)).set('if-match', first.headers['etag']).send('3').expect(412);
    await request(gateway.server).delete(entry(key)).set('if-match', first.headers['etag']).expect(412);
    await request(gateway.server).delete(entry(key)).set('if-match', second.headers['etag']).expect(200);
    await request(gateway.server).get(entry(key)).expect(404);
    await request(gateway.server).put(entry(key)).set('if-match', '*').send('4').expect(412);
  });

  test('If-None-Match of a read answers 304 to a caller who has it', async () => {
    const key = freshKey();
    const put = await request(gateway.server).put(entry(key)).send('1').expect(200);
    await request(gateway.server).get(entry(key)).set('if-none-match', put.headers['etag']).expect(304);
    await request(gateway.server).get(entry(key)).set('if-none-match', 'W/"1", "2"').expect(200);
    await request(gateway.server).get(entry(key)).set('if-none-match', '*').expect(304);
  });

  test.each([
    ['if-match', 'abc'],
    ['if-match', '"1", "2"'],
    ['if-match', '"99999999999999999999"'],
    ['if-none-match', '"1"'],
  ])('%s: %s is refused', async (name, value) => {
    const answer = await request(gateway.server).put(entry('k')).set(name, value).send('x').expect(400);
    expect(answer.body.code).toBe('bad-request');
    expect(answer.body.details.parameter.toLowerCase()).toBe(name);
  });
});

describe('idempotency', () => {
  test('a retried PUT takes effect once and gets the same answer', async () => {
    const key = freshKey();
    const put = () => request(gateway.server).put(entry(key)).set('idempotency-key', `put-${key}`).send('1');
    const first = await put().expect(200);
    await request(gateway.server).put(entry(key)).send('2').expect(200);
    const second = await put().expect(200);
    expect(second.body).toEqual(first.body);
    expect(await valueOf(key)).toBe('2');
  });

  test('a retried condition gets its first result', async () => {
    const key = freshKey();
    const put = () =>
      request(gateway.server).put(entry(key)).set('idempotency-key', `c-${key}`).set('if-none-match', '*').send('1');
    const first = await put().expect(200);
    const second = await put().expect(200);
    expect(second.body).toEqual(first.body);
    const refused = () =>
      request(gateway.server).put(entry(key)).set('idempotency-key', `d-${key}`).set('if-none-match', '*').send('1');
    await refused().expect(412);
    await request(gateway.server).delete(entry(key)).expect(200);
    await refused().expect(412);
  });

  test('the same key for another request is a conflict', async () => {
    const key = freshKey();
    await request(gateway.server).put(entry(key)).set('idempotency-key', `e-${key}`).send('1').expect(200);
    const second = await request(gateway.server)
      .put(entry(key))
      .set('idempotency-key', `e-${key}`)
      .send('2')
      .expect(409);
    expect(second.body).toMatchObject({ code: 'idempotency-conflict', outcome: 'rejected' });
  });

  test('a retried DELETE and command get the same answer', async () => {
    const key = freshKey();
    const increment = () =>
      request(gateway.server)
        .post(`${entry(key)}/commands`)
        .set('idempotency-key', `i-${key}`)
        .send({ op: 'incrby', args: [5] });
    const first = await increment().expect(200);
    expect((await increment().expect(200)).body).toEqual(first.body);
    const remove = () => request(gateway.server).delete(entry(key)).set('idempotency-key', `r-${key}`);
    const removed = await remove().expect(200);
    expect((await remove().expect(200)).body).toEqual(removed.body);
  });

  test('an empty or overlong key is refused', async () => {
    await request(gateway.server).put(entry('k')).set('idempotency-key', 'x'.repeat(256)).send('1').expect(400);
  });
});

describe('commands', () => {
  test('answer with their result', async () => {
    const key = freshKey();
    const command = () =>
      request(gateway.server)
        .post(`${entry(key)}/commands`)
        .send({ op: 'incrby', args: [5] });
    expect((await command().expect(200)).body).toEqual({ result: 5, partition: 0, offset: expect.any(Number) });
    expect((await command().expect(200)).body.result).toBe(10);
  });

  test('that the type does not have are refused', async () => {
    const answer = await request(gateway.server)
      .post(`${entry('k')}/commands`)
      .send({ op: 'fly' })
      .expect(400);
    expect(answer.body).toMatchObject({ code: 'unknown-command', outcome: 'rejected' });
  });

  test.each([
    [[], 'a JSON object'],
    [{}, 'op'],
    [{ op: '' }, 'op'],
    [{ op: 5, args: [] }, 'unknown-command'],
    [{ op: 'incrby', args: 5 }, 'args'],
    [{ op: 'incrby', argz: [] }, 'argz'],
  ])('%j is refused', async (body, says) => {
    const answer = await request(gateway.server)
      .post(`${entry('k')}/commands`)
      .send(body)
      .expect(400);
    expect(JSON.stringify(answer.body)).toContain(says);
  });
});

describe('consistency', () => {
  test('a session read waits for the offset it is given', async () => {
    const key = freshKey();
    const put = await request(gateway.server).put(entry(key)).send('1').expect(200);
    const got = await request(gateway.server)
      .get(entry(key))
      .query({ consistency: 'session', minOffset: put.body.offset })
      .expect(200);
    expect(Number(got.headers['tideline-offset'])).toBeGreaterThanOrEqual(put.body.offset);
    const late = await request(gateway.server)
      .get(entry(key))
      .query({ consistency: 'session', minOffset: put.body.offset + 1000, timeoutMs: 20 })
      .expect(504);
    expect(late.body.code).toBe('timeout');
  });

  test('bounded reads share a barrier that is young enough', async () => {
    const key = freshKey();
    await request(gateway.server).put(entry(key)).send('1').expect(200);
    await request(gateway.server).get(entry(key)).expect(200);
    const { barrier } = gateway.log.node.calls;
    await request(gateway.server).get(entry(key)).query({ consistency: 'bounded', maxLagMs: 600_000 }).expect(200);
    expect(gateway.log.node.calls.barrier).toBe(barrier);
    await request(gateway.server).get(entry(key)).query({ consistency: 'bounded', maxLagMs: 0 }).expect(200);
    expect(gateway.log.node.calls.barrier).toBe(barrier + 1);
  });

  test('stale reads ask nobody', async () => {
    const { barrier } = gateway.log.node.calls;
    await request(gateway.server).get(entry('k')).query({ consistency: 'stale' });
    expect(gateway.log.node.calls.barrier).toBe(barrier);
  });

  test.each([
    ['consistency=strong', 'consistency'],
    ['consistency=session&minOffset=-1', 'minOffset'],
    ['consistency=session&minOffset=x:1', 'minOffset'],
    ['consistency=bounded', 'maxLagMs'],
    ['consistency=bounded&maxLagMs=soon', 'maxLagMs'],
    ['minOffset=5', 'minOffset'],
    ['maxLagMs=5', 'maxLagMs'],
    ['timeoutMs=0', 'timeoutMs'],
    ['consistensy=stale', 'consistensy'],
    ['consistency=stale&consistency=stale', 'consistency'],
  ])('?%s is refused, naming %s', async (query, name) => {
    const answer = await request(gateway.server)
      .get(`${entry('k')}?${query}`)
      .expect(400);
    expect(answer.body).toMatchObject({ code: 'bad-request', details: { parameter: name } });
  });
});

describe('bad input', () => {
  test.each(['ttl=soon', 'ttl=-1s', 'ttl=0', 'ttl=9999999d', 'acks=all', 'keyEncoding=hex'])(
    'PUT with ?%s is refused',
    async (query) => {
      const answer = await request(gateway.server)
        .put(`${entry('k')}?${query}`)
        .send('x')
        .expect(400);
      expect(answer.body.code).toBe('bad-request');
      expect(answer.body.outcome).toBe('rejected');
      expect(answer.body.detail).toContain(query.split('=')[0]);
    },
  );

  test('a key longer than the limit is 413', async () => {
    for (const key of ['k'.repeat(4097), 'ü'.repeat(2049), 'k'.repeat(13_000)]) {
      const answer = await request(gateway.server)
        .put(entry(encodeURIComponent(key)))
        .send('x')
        .expect(413);
      expect(answer.body).toMatchObject({ code: 'key-too-large', outcome: 'rejected' });
    }
    await request(gateway.server)
      .put(entry('k'.repeat(4096)))
      .send('x')
      .expect(200);
  });

  test('a value longer than the limit is 413', async () => {
    const answer = await request(gateway.server)
      .put(entry('large'))
      .set('content-type', 'application/octet-stream')
      .send(Buffer.alloc(1024 * 1024 + 1))
      .expect(413);
    expect(answer.body).toMatchObject({
      code: 'record-too-large',
      outcome: 'rejected',
      details: { limit: 1024 * 1024 },
    });
    await request(gateway.server).get(entry('large')).expect(404);
  });

  test('an unknown view is 404', async () => {
    for (const view of ['nowhere', '__meta']) {
      const answer = await request(gateway.server).get(entry('k', view)).expect(404);
      expect(answer.body.code).toBe('unknown-view');
      await request(gateway.server).put(entry('k', view)).send('x').expect(404);
    }
  });

  test('a path that is not UTF-8 is 400', async () => {
    const answer = await fetch(`${gateway.url}${entry('%FF%FE')}`);
    expect(answer.status).toBe(400);
    expect(((await answer.json()) as { code: string }).code).toBe('bad-request');
  });

  test('another method is 405 with Allow', async () => {
    const answer = await request(gateway.server).patch(entry('k')).send('x').expect(405);
    expect(answer.body.code).toBe('method-not-allowed');
    expect(answer.headers['allow'].split(', ').sort()).toEqual(['DELETE', 'GET', 'HEAD', 'PUT']);
  });
});

describe('a scan', () => {
  beforeAll(async () => {
    for (let n = 0; n < 30; n++) {
      const name = String(n).padStart(2, '0');
      await request(gateway.server)
        .put(entry(`scan/${name}`.replace('/', '%2F'), 'wide'))
        .set('content-type', 'application/json')
        .send(JSON.stringify({ n }));
    }
  });
  const scan = (query: Record<string, unknown>) => request(gateway.server).get('/v1/views/wide/entries').query(query);

  test('goes through all partitions in key order, page by page, each entry once', async () => {
    const keys: string[] = [];
    let cursor: string | null = null;
    do {
      const page: request.Response = await scan({
        prefix: 'scan/',
        limit: 7,
        ...(cursor === null ? {} : { cursor }),
      }).expect(200);
      expect(page.body.entries.length).toBeLessThanOrEqual(7);
      keys.push(...page.body.entries.map((found: { key: string }) => found.key));
      cursor = page.body.cursor;
    } while (cursor !== null);
    expect(keys).toEqual(Array.from({ length: 30 }, (_, n) => `scan/${String(n).padStart(2, '0')}`));
  });

  test('gives values when asked, JSON as JSON', async () => {
    const page = await scan({ prefix: 'scan/0', values: true, limit: 2 }).expect(200);
    expect(page.body.entries).toMatchObject([
      { key: 'scan/00', value: { n: 0 }, contentType: 'application/json', offset: expect.any(Number) },
      { key: 'scan/01', value: { n: 1 } },
    ]);
    expect(page.headers['tideline-offset']).toMatch(/^0:\d+,1:\d+,2:\d+,3:\d+$/);
    expect((await scan({ prefix: 'scan/0', limit: 1 }).expect(200)).body.entries[0]).not.toHaveProperty('value');
  });

  test('of one partition gives that one', async () => {
    let found = 0;
    for (let partition = 0; partition < 4; partition++) {
      found += (await scan({ prefix: 'scan/', partition }).expect(200)).body.entries.length;
    }
    expect(found).toBe(30);
    expect((await scan({ partition: 4 }).expect(404)).body.code).toBe('unknown-partition');
  });

  test.each([
    'limit=0',
    'limit=10001',
    'limit=ten',
    'limit=1.5',
    'cursor=!!',
    'values=maybe',
    'partition=-1',
    'prefix=a&prefix=b',
  ])('with ?%s is refused', async (query) => {
    const answer = await request(gateway.server).get(`/v1/views/wide/entries?${query}`).expect(400);
    expect(answer.body.details.parameter).toBe(query.split('=')[0]);
  });
});

describe('a plain path, which is answered past the router, and the same path escaped', () => {
  /** `key` as it is, and with its first letter escaped. */
  const paths = (key: string): string[] =>
    [key, `%${key.charCodeAt(0).toString(16)}${key.slice(1)}`].map((k) => entry(k));

  interface Answer {
    readonly status: number;
    readonly headers: Record<string, string>;
    readonly body: string;
  }

  const answerOf = async (path: string, init: RequestInit = {}): Promise<Answer> => {
    const response = await fetch(gateway.url + path, init);
    const headers = Object.fromEntries(response.headers);
    delete headers['date'];
    return { status: response.status, headers, body: await response.text() };
  };

  test('read the same', async () => {
    const key = freshKey();
    const absent = freshKey();
    await fetch(gateway.url + entry(key), { method: 'PUT', body: 'value', headers: { 'content-type': 'text/x' } });
    const { offset } = (await (
      await fetch(`${gateway.url + entry(key)}?ttl=1h`, { method: 'PUT', body: Buffer.from([0, 200, 255]) })
    ).json()) as { offset: number };
    const asked: [key: string, query: string, init?: RequestInit][] = [
      [key, ''],
      [key, '?consistency=stale'],
      [key, `?consistency=session&minOffset=${offset}`],
      [key, '?consistency=bounded&maxLagMs=1000'],
      [key, '?archived=true'],
      [key, '?consistency=never'],
      [key, '?nonsense=1'],
      [key, '?consistency=stale&consistency=stale'],
      [key, '?timeoutMs=0'],
      [key, '?keyEncoding=base64url'],
      [key, '', { headers: { 'if-none-match': `"${offset}"` } }],
      [key, '', { headers: { 'if-none-match': '"1"' } }],
      [absent, ''],
      [absent, '?consistency=stale'],
      [key, '', { method: 'HEAD' }],
    ];
    for (const [name, query, init] of asked) {
      const [plain, escaped] = await Promise.all(paths(name).map((path) => answerOf(path + query, init)));
      expect({ query, ...plain }).toEqual({ query, ...escaped });
    }
    expect((await answerOf(entry(key))).headers['tideline-expires-at']).toBeDefined();
    expect((await answerOf('/v1/views/nowhere/entries/k')).body).toEqual(
      (await answerOf('/v1/views/nowhere/entries/%6b')).body,
    );
  });

  test('write the same, but for the offset', async () => {
    const puts: [query: string, init: RequestInit][] = [
      ['', { body: 'value' }],
      ['', { body: Buffer.alloc(300_000, 9), headers: { 'content-type': 'image/x' } }],
      ['', { body: '' }],
      ['?ttl=30s&acks=leader', { body: 'value' }],
      ['?acks=applied', { body: 'value' }],
      ['?acks=never', { body: 'value' }],
      ['?ttl=soon', { body: 'value' }],
      ['', { body: 'value', headers: { 'if-match': '"1"' } }],
      ['', { body: 'value', headers: { 'if-match': '"x"' } }],
      ['', { body: 'value', headers: { 'if-none-match': '*' } }],
      ['', { body: 'value', headers: { 'idempotency-key': 'k'.repeat(2000) } }],
      ['', { body: 'value', headers: { 'content-type': 'x'.repeat(300) } }],
      ['', { body: Buffer.alloc(1024 * 1024 + 1) }],
    ];
    const offsetless = ({ status, headers, body }: Answer): Answer => {
      const { etag, ['tideline-offset']: offset, ['content-length']: _length, ...rest } = headers;
      expect(etag === undefined).toBe(offset === undefined);
      return { status, headers: rest, body: body.replace(/"offset":\d+|offset \d+/g, '"offset"') };
    };
    for (const [query, init] of puts) {
      const answers: Answer[] = [];
      for (const path of paths(freshKey())) {
        answers.push(offsetless(await answerOf(path + query, { ...init, method: 'PUT' })));
        await fetch(gateway.url + path, { method: 'DELETE' });
      }
      expect({ query, ...answers[0] }).toEqual({ query, ...answers[1] });
    }
  });

  test('keep what was put, whichever way it came', async () => {
    const key = freshKey();
    const [plain, escaped] = paths(key);
    const bytes = Buffer.from(Array.from({ length: 20_000 }, (_, i) => (i * 7) & 255));
    for (const [put, get] of [
      [plain, escaped],
      [escaped, plain],
    ]) {
      await fetch(gateway.url + put, { method: 'PUT', body: bytes.subarray(0, put === plain ? 20_000 : 700) });
      const got = Buffer.from(await (await fetch(gateway.url + get)).arrayBuffer());
      expect(got.equals(bytes.subarray(0, put === plain ? 20_000 : 700))).toBe(true);
    }
  });

  test('count in the same series of the metrics', async () => {
    const key = freshKey();
    for (const path of paths(key)) await fetch(gateway.url + path);
    const text = await (await fetch(`${gateway.url}/metrics`)).text();
    const series = text
      .split('\n')
      .filter(
        (line) =>
          line.startsWith('tideline_gateway_request_seconds_count') &&
          line.includes('GET /v1/views/:view/entries/:key'),
      );
    expect(series.length).toBeGreaterThan(0);
    expect(new Set(series.map((line) => line.replace(/ \d+$/, ''))).size).toBe(series.length);
  });
});
