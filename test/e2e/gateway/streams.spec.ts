import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { EventReader } from '../support/event-source.js';
import { SteppedTime } from '../support/stepped-time.js';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

const SLOW_READER_MS = 300;

let gateway: TestGateway;
const readers: EventReader[] = [];
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterEach(() => {
  for (const reader of readers.splice(0)) reader.close();
});
afterAll(async () => {
  await gateway.stop();
});

const open = (path: string, headers: Record<string, string> = {}, on = gateway): EventReader => {
  const reader = new EventReader(on.url + path, headers);
  readers.push(reader);
  return reader;
};
const append = async (topic: string, records: object[], on = gateway): Promise<{ firstOffset: number }> => {
  const answer = await request(on.server).post(`/v1/topics/${topic}/records`).send({ records }).expect(200);
  return answer.body as { firstOffset: number };
};
const values = (reader: EventReader): unknown[] =>
  reader.events.filter((event) => event.event === 'record').map((event) => JSON.parse(event.data).value as unknown);
const put = (key: string, body: string, view = 'default', on = gateway) =>
  request(on.server).put(`/v1/views/${view}/entries/${key}`).set('content-type', 'text/plain').send(body).expect(200);

describe('a tail', () => {
  test('gives records with their position as id, and says how to retry', async () => {
    const tail = open('/v1/topics/default/tail');
    await tail.opened();
    expect(tail.headers['content-type']).toContain('text/event-stream');
    expect(tail.headers['tideline-offset']).toMatch(/^0:\d+$/);
    const { firstOffset } = await append('default', [{ key: 'a', value: 'one', type: 't' }, { value: { two: '2\n' } }]);
    const [first, second] = await tail.first(2);
    expect(tail.retry).toBe(1000);
    expect(first).toMatchObject({ event: 'record', id: `0:${firstOffset}` });
    expect(JSON.parse(first.data)).toMatchObject({
      partition: 0,
      offset: firstOffset,
      key: 'a',
      value: 'one',
      type: 't',
    });
    expect(second.id).toBe(`0:${firstOffset + 1}`);
    expect(JSON.parse(second.data).value).toEqual({ two: '2\n' });
  });

  test('resumes after Last-Event-ID without loss or repetition, whatever from says', async () => {
    const { firstOffset } = await append(
      'default',
      [1, 2, 3, 4, 5].map((n) => ({ value: `r${n}` })),
    );
    const first = open(`/v1/topics/default/tail?from=${firstOffset}`);
    await first.until(() => values(first).length >= 2);
    first.close();
    const second = open('/v1/topics/default/tail?from=earliest', { 'last-event-id': `0:${firstOffset + 1}` });
    await second.first(3);
    expect(values(second)).toEqual(['r3', 'r4', 'r5']);
    const third = open(`/v1/topics/default/tail?lastEventId=0:${firstOffset + 3}`);
    await third.first(1);
    expect(values(third)).toEqual(['r5']);
  });

  test('starts at earliest, a time, or now', async () => {
    await append('default', [{ value: 'past' }]);
    const earliest = open('/v1/topics/default/tail?from=earliest');
    await earliest.until(() => values(earliest).includes('past'));
    const time = open('/v1/topics/default/tail?from=2020-01-01T00:00:00Z');
    await time.until(() => values(time).includes('past'));
    const latest = open('/v1/topics/default/tail?from=latest');
    await latest.opened();
    await append('default', [{ value: 'future' }]);
    await latest.first(1);
    expect(values(latest)).toEqual(['future']);
  });

  test('lets through what the filters want', async () => {
    const byKey = open('/v1/topics/default/tail?keyPrefix=user/');
    const byType = open('/v1/topics/default/tail?type=b');
    await Promise.all([byKey.opened(), byType.opened()]);
    await append('default', [
      { key: 'user/1', value: 'u1', type: 'a' },
      { key: 'use', value: 'no' },
      { value: 'no key', type: 'b' },
      { key: 'user/2', value: 'u2', type: 'b' },
    ]);
    await Promise.all([byKey.first(2), byType.first(2)]);
    expect(values(byKey)).toEqual(['u1', 'u2']);
    expect(values(byType)).toEqual(['no key', 'u2']);
  });

  test('of a topic with several partitions merges them; its id resumes all of them', async () => {
    const all = open('/v1/topics/wide/tail?from=earliest');
    await all.opened();
    const records = Array.from({ length: 40 }, (_, n) => ({ key: `w${n}`, value: n }));
    await append('wide', records);
    await all.first(20);
    const seen = all.events.slice(0, 20);
    const { id } = seen[19];
    expect(id).toMatch(/^0:\d+,1:\d+,2:\d+,3:\d+$/);
    const rest = open('/v1/topics/wide/tail', { 'last-event-id': id! });
    await rest.first(20);
    await append('wide', [{ key: 'w0', value: 'end' }]);
    await rest.until(() => values(rest).includes('end'));
    const got = [...seen.map((event) => JSON.parse(event.data).value as unknown), ...values(rest)];
    expect(got.filter((value) => value !== 'end').toSorted((a, b) => Number(a) - Number(b))).toEqual(
      records.map((record) => record.value),
    );
    const one = open('/v1/topics/wide/tail?from=earliest&partition=2');
    await one.until(() => values(one).length > 0);
    expect(one.events.every((event) => event.id!.startsWith('2:'))).toBe(true);
  });

  test.each([
    ['/v1/topics/nowhere/tail', 404, 'unknown-topic'],
    ['/v1/topics/default/tail?partition=1', 404, 'unknown-partition'],
    ['/v1/topics/default/tail?from=whenever', 400, 'from'],
    ['/v1/topics/wide/tail?from=5', 400, 'partition'],
    ['/v1/topics/default/tail?lastEventId=5', 400, 'Last-Event-ID'],
    ['/v1/topics/default/tail?lastEventId=7:5', 404, 'unknown-partition'],
    ['/v1/topics/default/tail?filter=x', 400, 'filter'],
  ])('%s is %i', async (path, status, says) => {
    const answer = await request(gateway.server).get(path).expect(status);
    expect(answer.headers['content-type']).toContain('application/problem+json');
    expect(JSON.stringify(answer.body)).toContain(says);
  });

  test('below the start of the log ends with a problem', async () => {
    const own = await startTestGateway();
    try {
      await append(
        'default',
        [1, 2, 3].map((n) => ({ value: n })),
        own,
      );
      const { firstOffset } = await append('default', [{ value: 'kept' }], own);
      own.log.cluster.log('default').trimBefore(firstOffset as never);
      const tail = open('/v1/topics/default/tail?from=1', {}, own);
      const [end] = await tail.first(1);
      expect(end.event).toBe('end');
      expect(JSON.parse(end.data)).toMatchObject({ code: 'offset-out-of-range', status: 400 });
      await tail.untilEnded();
    } finally {
      await own.stop();
    }
  });

  test('says something when it is quiet, and where it is when a filter leaves everything out', async () => {
    const own = await startTestGateway({ limits: { heartbeatMs: 20 } });
    try {
      const tail = open('/v1/topics/default/tail?type=none', {}, own);
      await tail.until(() => tail.comments.length >= 2);
      const { firstOffset } = await append('default', [{ value: 'x', type: 'other' }], own);
      await tail.until(() => tail.lastEventId === `0:${firstOffset}`);
      expect(tail.events).toEqual([]);
    } finally {
      await own.stop();
    }
  });

  test('of a reader that does not read stops reading the log, and is dropped with a word and a position to resume from', async () => {
    const time = new SteppedTime();
    const own = await startTestGateway({
      time,
      limits: { slowReaderMs: SLOW_READER_MS, streamBufferBytesMax: 64 * 1024, tailCreditBytes: 256 * 1024 },
    });
    try {
      const value = 'v'.repeat(100_000);
      const tail = open('/v1/topics/default/tail?from=earliest', {}, own);
      await tail.opened();
      tail.pause();
      for (let n = 0; n < 200; n++) await append('default', [{ key: String(n), value }], own);
      await request(own.server).get('/metrics').expect(200);
      // What the system's socket buffers hold still arrives; then the last word.
      await time.passUntil(async () => {
        const { text } = await request(own.server).get('/metrics');
        return /tideline_tail_subscribers\{[^}]*kind="gateway"[^}]*\} 0/.test(text);
      }, SLOW_READER_MS / 4);
      tail.resume();
      await tail.untilEnded();
      const last = tail.events.at(-1)!;
      expect(last.event).toBe('end');
      const problem = JSON.parse(last.data);
      expect(problem.code).toBe('too-slow');
      expect(values(tail).length).toBeLessThan(200);
      expect(problem.details.position).toBe(tail.lastEventId);
      const rest = open('/v1/topics/default/tail', { 'last-event-id': tail.lastEventId! }, own);
      const missing = 200 - values(tail).length;
      await rest.first(missing);
      expect(JSON.parse(rest.events[missing - 1].data).key).toBe('199');
    } finally {
      await own.stop();
    }
  });

  test('stops its work on the server when the reader goes', async () => {
    const tail = open('/v1/topics/default/tail');
    await tail.opened();
    const subscribers = async (): Promise<number> => {
      const { text } = await request(gateway.server).get('/metrics');
      return Number(/tideline_tail_subscribers\{[^}]*kind="gateway"[^}]*\} (\d+)/.exec(text)![1]);
    };
    expect(await subscribers()).toBeGreaterThan(0);
    tail.close();
    for (const reader of readers.splice(0)) reader.close();
    while ((await subscribers()) > 0);
  });

  test('beyond the limit is refused', async () => {
    const own = await startTestGateway({ limits: { streamsMax: 1 } });
    try {
      await open('/v1/topics/default/tail', {}, own).opened();
      const answer = await request(own.server).get('/v1/topics/default/tail').expect(429);
      expect(answer.body.code).toBe('overloaded');
      expect(answer.headers['retry-after']).toBe('1');
    } finally {
      await own.stop();
    }
  });

  test('ends with a word when the gateway stops', async () => {
    const own = await startTestGateway();
    const tail = open('/v1/topics/default/tail', {}, own);
    await tail.opened();
    await own.stop();
    await tail.untilEnded();
    expect(JSON.parse(tail.events.at(-1)!.data).code).toBe('shutting-down');
  });
});

describe('a watch', () => {
  test('gives the current entries, then live, then changes', async () => {
    await put('watch.1', 'one');
    await put('watch.2', 'two');
    await put('other', 'x');
    await request(gateway.server).get('/v1/views/default/entries').expect(200);
    const watch = open('/v1/views/default/watch?prefix=watch.');
    await watch.until(() => watch.events.some((event) => event.event === 'live'));
    const before = watch.events.slice(0, -1);
    expect(before.map((event) => [event.event, JSON.parse(event.data).key, JSON.parse(event.data).value])).toEqual([
      ['put', 'watch.1', 'one'],
      ['put', 'watch.2', 'two'],
    ]);
    expect(JSON.parse(watch.events.at(-1)!.data).position).toMatch(/^0:\d+$/);
    const count = watch.events.length;
    await put('other', 'y');
    const third = await put('watch.3', 'three');
    const gone = await request(gateway.server).delete('/v1/views/default/entries/watch.1').expect(200);
    await watch.first(count + 2);
    const [added, removed] = watch.events.slice(count);
    expect(added).toMatchObject({ event: 'put', id: `0:${third.body.offset}` });
    expect(removed).toMatchObject({ event: 'delete', id: `0:${gone.body.offset}` });
    expect(JSON.parse(removed.data)).toEqual({ key: 'watch.1', offset: gone.body.offset });
  });

  test('of several partitions is live once', async () => {
    for (let n = 0; n < 10; n++) await put(`all.${n}`, 'x', 'wide');
    await request(gateway.server).get('/v1/views/wide/entries').expect(200);
    const watch = open('/v1/views/wide/watch?prefix=all.');
    await watch.first(11);
    expect(watch.events.slice(0, 10).every((event) => event.event === 'put')).toBe(true);
    expect(watch.events[10].event).toBe('live');
    expect(JSON.parse(watch.events[10].data).position).toMatch(/^0:\d+,1:\d+,2:\d+,3:\d+$/);
  });

  test('of a view or partition that is not there is 404', async () => {
    expect((await request(gateway.server).get('/v1/views/nowhere/watch').expect(404)).body.code).toBe('unknown-view');
    expect((await request(gateway.server).get('/v1/views/default/watch?partition=9').expect(404)).body.code).toBe(
      'unknown-partition',
    );
    await request(gateway.server).get('/v1/views/default/watch?prefx=a').expect(400);
  });
});
