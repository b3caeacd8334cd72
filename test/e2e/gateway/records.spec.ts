import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({
    topics: ['default', 'round', 'lines', 'empty', 'waits', 'times']
      .map((name) => ({ name }))
      .concat([{ name: 'wide', partitions: 4 } as never]),
  });
});
afterAll(async () => {
  await gateway.stop();
});

const url = (topic = 'default'): string => `/v1/topics/${topic}/records`;
const append = (body: unknown, topic?: string) =>
  request(gateway.server)
    .post(url(topic))
    .send(body as object);
const read = (query: Record<string, unknown> = {}, topic?: string) =>
  request(gateway.server).get(url(topic)).query(query);
const appendLines = (lines: string, topic = 'lines') =>
  request(gateway.server).post(url(topic)).set('content-type', 'application/x-ndjson').send(lines);

describe('append and fetch', () => {
  test('give back what was given, in order, each with its offset', async () => {
    const records = [
      { key: 'a', value: 'text' },
      { key: 'b', value: { n: 1, list: [true, null] } },
      { key: 'c', value: null },
      { value: 12.5, type: 'reading', ttlMs: 60_000 },
      { keyBase64: '/wA=', valueBase64: '/v8=' },
      { key: 'd', value: 'x', headers: { one: '1', many: ['2', '3'], raw: { base64: '/w==' } } },
      { key: 'e', value: '' },
    ];
    const answer = await append({ records }, 'round').expect(200);
    const { firstOffset, lastOffset } = answer.body;
    expect(answer.body).toEqual({ partition: 0, firstOffset: expect.any(Number), lastOffset: firstOffset + 6 });
    expect(answer.headers['tideline-offset']).toBe(String(lastOffset));
    const got = await read({ from: firstOffset }, 'round').expect(200);
    expect(got.body).toMatchObject({ partition: 0, nextOffset: lastOffset + 1, commitOffset: lastOffset });
    expect(got.body.records.map((record: { offset: number }) => record.offset)).toEqual(
      records.map((_, i) => firstOffset + i),
    );
    expect(got.body.records).toMatchObject([
      { key: 'a', value: 'text' },
      { key: 'b', value: { n: 1, list: [true, null] }, headers: { 'content-type': 'application/json' } },
      { key: 'c', value: null },
      { key: null, value: 12.5, type: 'reading', ttlMs: 60_000 },
      { keyBase64: '/wA=', valueBase64: '/v8=' },
      { key: 'd', value: 'x', headers: { one: '1', many: ['2', '3'], raw: { base64: '/w==' } } },
      { key: 'e', value: '' },
    ]);
  });

  test('JSON that was stored as text with a content type keeps every digit', async () => {
    const text = '{"n": 12345678901234567890.12}';
    await request(gateway.server)
      .put('/v1/views/round/entries/digits')
      .set('content-type', 'application/json')
      .send(text);
    const got = await read({ from: 1 }, 'round').expect(200);
    expect(got.text).toContain(`"value":${text}`);
  });

  test('records of several partitions go where their keys belong, and the answer says where', async () => {
    const records = Array.from({ length: 20 }, (_, n) => ({ key: `k${n}`, value: String(n) }));
    const answer = await append({ records }, 'wide').expect(200);
    expect(answer.body.partitions.length).toBeGreaterThan(1);
    expect(answer.body).toMatchObject({ partition: answer.body.partitions[0].partition });
    const total = answer.body.partitions.reduce(
      (sum: number, part: { firstOffset: number; lastOffset: number }) => sum + part.lastOffset - part.firstOffset + 1,
      0,
    );
    expect(total).toBe(20);
    const keys = new Set<string>();
    for (const { partition, firstOffset } of answer.body.partitions) {
      const got = await read({ partition, from: firstOffset }, 'wide').expect(200);
      for (const record of got.body.records) keys.add(record.key);
    }
    expect(keys.size).toBe(20);
  });

  test('acks: none is sent, applied brings what the view made of each record', async () => {
    await request(gateway.server)
      .post(`${url()}?acks=leader`)
      .send({ records: [{ key: 'a', value: '1' }] })
      .expect(200);
    const none = await request(gateway.server)
      .post(`${url()}?acks=none`)
      .send({ records: [{ key: 'a', value: '1' }] });
    expect([200, 202]).toContain(none.status);
    const applied = await request(gateway.server)
      .post(`${url()}?acks=applied`)
      .send({
        records: [
          { key: 'count', op: { name: 'incrby', args: [2] } },
          { key: 'count', op: { name: 'incrby', args: [3] } },
          { key: 'count', op: { name: 'fly' } },
          { key: 'plain', value: 'x' },
        ],
      })
      .expect(200);
    expect(applied.body.results).toEqual([
      { ok: true, result: 2 },
      { ok: true, result: 5 },
      { ok: false, code: 'unknown-command', message: expect.any(String) },
      { ok: true, result: null },
    ]);
  });

  test('a retry with the same Idempotency-Key appends once and gets the same answer, also over several partitions', async () => {
    const records = Array.from({ length: 10 }, (_, n) => ({ key: `i${n}`, value: String(n) })).concat({
      value: 'no key',
    } as never);
    const post = () => request(gateway.server).post(url('wide')).set('idempotency-key', 'order-1').send({ records });
    const first = await post().expect(200);
    const second = await post().expect(200);
    expect(second.body).toEqual(first.body);
    const conflict = await request(gateway.server)
      .post(url('wide'))
      .set('idempotency-key', 'order-1')
      .send({ records: [...records.slice(1), { key: 'i0', value: 'other' }] })
      .expect(504);
    // Some partitions got the same records as before and have them: the request as a whole is in doubt.
    expect(conflict.body).toMatchObject({ code: 'idempotency-conflict', outcome: 'unknown' });
  });

  test('limit and maxBytes end a page, nextOffset goes on', async () => {
    const records = Array.from({ length: 25 }, (_, n) => ({ value: `v${n}` }));
    const { body } = await append({ records }).expect(200);
    const seen: string[] = [];
    for (let from = body.firstOffset; from <= body.lastOffset;) {
      const page = await read({ from, limit: 10, maxBytes: 1 }).expect(200);
      expect(page.body.records.length).toBeLessThanOrEqual(10);
      seen.push(...page.body.records.map((record: { value: string }) => record.value));
      from = page.body.nextOffset;
    }
    expect(seen).toEqual(records.map((record) => record.value));
  });

  test('a fetch waits for the first record when asked to', async () => {
    const empty = await read({ from: 'latest' }, 'waits').expect(200);
    expect(empty.body.records).toEqual([]);
    const waiting = read({ from: empty.body.nextOffset, waitMs: 20_000 }, 'waits').then((got) => got);
    await append({ records: [{ value: 'late' }] }, 'waits').expect(200);
    expect((await waiting).body.records).toMatchObject([{ value: 'late' }]);
    const gone = await read({ from: 'latest', waitMs: 10 }, 'waits').expect(200);
    expect(gone.body.records).toEqual([]);
  });

  test('from takes earliest, an offset, 0 and a time', async () => {
    await append({ records: [{ value: 'one' }] }, 'times').expect(200);
    const first = await read({ from: 'earliest' }, 'times').expect(200);
    expect(first.body.records[0].value).toBe('one');
    expect((await read({ from: 0 }, 'times').expect(200)).body.records).toEqual(first.body.records);
    expect((await read({}, 'times').expect(200)).body.records).toEqual(first.body.records);
    expect((await read({ from: '2020-01-01T00:00:00Z' }, 'times').expect(200)).body.records).toEqual(
      first.body.records,
    );
    expect((await read({ from: '2100-01-01' }, 'times').expect(200)).body.records).toEqual([]);
  });
});

test('below the start of a trimmed log there is nothing to read; earliest is where it begins now', async () => {
  const { body } = await append({ records: Array.from({ length: 5 }, (_, n) => ({ value: `t${n}` })) }, 'times').expect(
    200,
  );
  await append({ records: [{ value: 'kept' }] }, 'times').expect(200);
  gateway.log.cluster.log('times').trimBefore((body.lastOffset + 1) as never);
  const below = await read({ from: 1 }, 'times').expect(400);
  expect(below.body.code).toBe('offset-out-of-range');
  for (const from of ['earliest', '0']) {
    const got = await read({ from }, 'times').expect(200);
    expect(got.body.records).toMatchObject([{ value: 'kept' }]);
    expect(got.body.logStartOffset).toBe(body.lastOffset + 1);
  }
});

describe('lines', () => {
  test('are records, whatever ends them; empty lines are not', async () => {
    const answer = await appendLines('{"value":"a"}\n\n{"value":"b"}\r\n  \n{"value":"c"}').expect(200);
    expect(answer.body.lastOffset - answer.body.firstOffset).toBe(2);
  });

  test('a bad line is named and nothing of the request is appended', async () => {
    const before = gateway.log.cluster.log('lines').lastOffset;
    const answer = await appendLines('{"value":"a"}\n\n{"value":\n{"value":"b"}\n').expect(400);
    expect(answer.body).toMatchObject({ code: 'malformed-json', outcome: 'rejected', details: { line: 3 } });
    expect(answer.body.detail).toMatch(/^line 3: /);
    expect(gateway.log.cluster.log('lines').lastOffset).toBe(before);
  });

  test.each([
    ['{"key":5,"value":"x"}', 'bad-request', 'key'],
    ['{"key":"","value":"x"}', 'bad-request', 'key'],
    ['{"value":"x","vlaue":"y"}', 'bad-request', 'vlaue'],
    ['{"key":"k"}', 'bad-request', 'value'],
    ['[1]', 'bad-request', 'object'],
    ['"text"', 'bad-request', 'object'],
    ['{"value":"x","ttlMs":-1}', 'bad-request', 'ttlMs'],
    ['{"value":"x","ttlMs":1.5}', 'bad-request', 'ttlMs'],
    ['{"value":"x","ttlMs":"1s"}', 'bad-request', 'ttlMs'],
    ['{"value":"x","type":7}', 'bad-request', 'type'],
    ['{"value":"x","headers":[]}', 'bad-request', 'headers'],
    ['{"value":"x","headers":{"a":5}}', 'bad-request', 'headers.a'],
    ['{"value":"x","valueBase64":"AA=="}', 'bad-request', 'valueBase64'],
    ['{"valueBase64":"?"}', 'bad-request', 'valueBase64'],
    ['{"key":"a","keyBase64":"AA==","value":"x"}', 'bad-request', 'keyBase64'],
    ['{"key":"\\ud800","value":"x"}', 'bad-request', 'key'],
    ['{"value":"x","op":{"name":"incr"}}', 'bad-request', 'op'],
    ['{"key":"k","op":"incr"}', 'bad-request', 'op'],
    [`{"key":"${'k'.repeat(4097)}","value":"x"}`, 'key-too-large', '4096'],
    [`{"value":"${'v'.repeat(1024 * 1024 + 1)}"}`, 'record-too-large', '1048576'],
    [`{"value":"x","headers":{"a":"${'h'.repeat(16 * 1024)}"}}`, 'record-too-large', 'headers'],
    [`{"value":${'['.repeat(100)}${']'.repeat(100)}}`, 'too-deep', '64'],
    ['{"value":{"__proto__":{"a":1}}}', 'unsafe-key', '__proto__'],
    ['{"value":{"constructor":1}}', 'unsafe-key', 'constructor'],
    ['{"value":NaN}', 'malformed-json', 'line 2'],
  ])('%.60s is refused with %s, naming %s', async (line, code, says) => {
    const answer = await appendLines(`{"value":"good"}\n${line}\n`);
    expect(answer.status).toBe(code.endsWith('too-large') ? 413 : 400);
    expect(answer.body).toMatchObject({ code, outcome: 'rejected', details: { line: 2 } });
    expect(JSON.stringify(answer.body)).toContain(says);
  });

  test('bytes that are not UTF-8 are refused', async () => {
    const answer = await request(gateway.server)
      .post(url('lines'))
      .set('content-type', 'application/x-ndjson')
      .send(Buffer.concat([Buffer.from('{"value":"'), Buffer.from([0xff]), Buffer.from('"}')]))
      .expect(400);
    expect(answer.body).toMatchObject({ code: 'malformed-json', details: { line: 1 } });
  });
});

describe('bad requests', () => {
  test.each([
    [{}, 'records'],
    [[], 'records'],
    [{ records: {} }, 'records'],
    [{ records: [] }, 'no records'],
    [{ records: [{ value: 'x' }], ack: 'none' }, 'ack'],
    [{ records: [{ value: 'x' }, { value: 'y', key: 1 }] }, 'record 1'],
  ])('%j is refused', async (body, says) => {
    const answer = await append(body, 'empty').expect(400);
    expect(answer.body).toMatchObject({ code: 'bad-request', outcome: 'rejected' });
    expect(answer.body.detail).toContain(says);
    expect(gateway.log.cluster.log('empty').lastOffset).toBe(1);
  });

  test('JSON that is none, too deep or unsafe is refused', async () => {
    const post = (text: string) =>
      request(gateway.server).post(url('empty')).set('content-type', 'application/json').send(text);
    expect((await post('{"records":').expect(400)).body.code).toBe('malformed-json');
    expect((await post(`{"records":[{"value":${'['.repeat(200_000)}`).expect(400)).body.code).toBe('too-deep');
    expect((await post('{"records":[{"__proto__":{}}]}').expect(400)).body.code).toBe('unsafe-key');
    expect((await post('').expect(400)).body.code).toMatch(/bad-request|malformed-json/);
  });

  test('a content type that is none of ours is 415', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/xml']) {
      const answer = await request(gateway.server).post(url()).set('content-type', type).send('a=b').expect(415);
      expect(answer.body).toMatchObject({ code: 'unsupported-media-type', outcome: 'rejected' });
    }
  });

  test('a request beyond the limit is 413', async () => {
    const answer = await request(gateway.server)
      .post(url())
      .set('content-type', 'application/x-ndjson')
      .send(Buffer.alloc(16 * 1024 * 1024 + 1, 0x20))
      .expect(413);
    expect(answer.body).toMatchObject({ code: 'request-too-large', outcome: 'rejected' });
  });

  test.each(['acks=most', 'acks=quorum&acks=none', 'akcs=none'])('?%s is refused', async (query) => {
    const answer = await request(gateway.server)
      .post(`${url()}?${query}`)
      .send({ records: [{ value: 'x' }] })
      .expect(400);
    expect(answer.body.details.parameter).toBe(query.split('=')[0]);
  });

  test.each([
    'from=yesterday',
    'from=-1',
    'from=99999999999999999999',
    'from=2020-13-45',
    'limit=0',
    'limit=10001',
    'limit=abc',
    'maxBytes=0',
    'maxBytes=1e3',
    'waitMs=60001',
    'partition=x',
    'offset=1',
  ])('a fetch with ?%s is refused, naming it', async (query) => {
    const answer = await request(gateway.server).get(`${url()}?${query}`).expect(400);
    expect(answer.body.code).toBe('bad-request');
    expect(answer.body.details.parameter).toBe(query.split('=')[0]);
    expect(answer.body).not.toHaveProperty('outcome');
  });

  test('unknown topics and partitions are 404', async () => {
    expect((await append({ records: [{ value: 'x' }] }, 'nowhere').expect(404)).body.code).toBe('unknown-topic');
    expect((await read({}, 'nowhere').expect(404)).body.code).toBe('unknown-topic');
    expect((await read({}, '__meta').expect(404)).body.code).toBe('unknown-topic');
    expect((await read({ partition: 1 }).expect(404)).body.code).toBe('unknown-partition');
  });

  test('another method is 405 with Allow', async () => {
    const answer = await request(gateway.server).put(url()).send({}).expect(405);
    expect(answer.headers['allow'].split(', ').sort()).toEqual(['GET', 'HEAD', 'POST']);
  });
});

describe('when the log fails', () => {
  test('no leader is 503 and rejected; a lost answer is 504 and unknown', async () => {
    const own = await startTestGateway({ argv: ['--request-timeout-ms', '200'] });
    try {
      await request(own.server)
        .post(url())
        .send({ records: [{ value: 'x' }] })
        .expect(200);
      own.log.cluster.elect(0 as never);
      const rejected = await request(own.server)
        .post(url())
        .send({ records: [{ value: 'x' }] });
      expect(rejected.status).toBe(503);
      expect(rejected.body).toMatchObject({ code: 'no-leader', outcome: 'rejected' });
      own.log.cluster.elect(own.log.node.id);
      own.log.cluster.log('default').commitLimit = 0;
      const unknown = await request(own.server)
        .put('/v1/views/default/entries/k')
        .set('idempotency-key', 'k')
        .send('x');
      expect(unknown.status).toBe(504);
      expect(unknown.body).toMatchObject({ code: 'timeout', outcome: 'unknown' });
    } finally {
      await own.stop();
    }
  });
});
