import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import request from 'supertest';
import { asLogTime, asOffset } from '#kernel';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';

const ARCHIVED_AT = Date.parse('2026-03-01T10:00:00Z');

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
  const entry = (key: Buffer, value: string, expires: string, contentType: string | null = null) => ({
    view: 'wide',
    partition: 2,
    key,
    value: Buffer.from(value),
    contentType,
    offset: asOffset(7),
    logTime: asLogTime(ARCHIVED_AT - 5000),
    expiresAt: asLogTime(Date.parse(expires)),
    archivedAt: ARCHIVED_AT,
    evicted: false,
  });
  gateway.views.archived.push(
    entry(Buffer.from('a'), 'one', '2026-03-01T09:00:00Z', 'text/plain'),
    entry(Buffer.from('b'), '{"n":1.10}', '2026-03-01T09:30:00Z', 'application/json'),
    entry(Buffer.from([0xff]), 'raw', '2026-03-01T09:45:00Z'),
  );
});
afterAll(async () => {
  await gateway.stop();
});

const archive = (query: Record<string, string | number> = {}, view = 'wide') =>
  request(gateway.server).get(`/v1/views/${view}/archive`).query(query);
const keys = (body: { entries: { key?: string; keyBase64?: string }[] }): unknown[] =>
  body.entries.map(({ key, keyBase64 }) => key ?? keyBase64);

describe('the archive of a view', () => {
  test('gives entries as they were, with when they expired and were archived', async () => {
    const { body, text } = await archive().expect(200);
    expect(body.entries[0]).toEqual({
      key: 'a',
      value: 'one',
      contentType: 'text/plain',
      partition: 2,
      offset: 7,
      logTime: ARCHIVED_AT - 5000,
      expiresAt: '2026-03-01T09:00:00.000Z',
      archivedAt: '2026-03-01T10:00:00.000Z',
      reason: 'expired',
    });
    expect(text).toContain('"value":{"n":1.10}');
    expect(keys(body)).toEqual(['a', 'b', '/w==']);
    expect(body.cursor).toBeNull();
  });

  test('is asked by key and by time', async () => {
    expect(keys((await archive({ key: 'b' }).expect(200)).body)).toEqual(['b']);
    expect(keys((await archive({ key: '_w', keyEncoding: 'base64url' }).expect(200)).body)).toEqual(['/w==']);
    expect(keys((await archive({ from: '2026-03-01T09:30:00Z' }).expect(200)).body)).toEqual(['b', '/w==']);
    expect(keys((await archive({ to: Date.parse('2026-03-01T09:30:00Z') }).expect(200)).body)).toEqual(['a']);
  });

  test('comes page by page', async () => {
    const first = await archive({ limit: 2 }).expect(200);
    expect(keys(first.body)).toEqual(['a', 'b']);
    const second = await archive({ limit: 2, cursor: first.body.cursor }).expect(200);
    expect(keys(second.body)).toEqual(['/w==']);
    expect(second.body.cursor).toBeNull();
  });

  test('is empty when nothing was archived, and not there for a view that is not there', async () => {
    expect((await archive({}, 'default').expect(200)).body).toEqual({ entries: [], cursor: null });
    expect((await archive({}, 'nowhere').expect(404)).body.code).toBe('unknown-view');
  });

  test('stands in for an entry that is not there, when asked to', async () => {
    const get = (key: string, query: object = {}) =>
      request(gateway.server).get(`/v1/views/wide/entries/${key}`).query(query);
    await get('a').expect(404);
    const found = await get('a', { archived: true }).expect(200);
    expect(found.text).toBe('one');
    expect(found.headers).toMatchObject({
      'content-type': 'text/plain',
      etag: '"7"',
      'tideline-expires-at': '2026-03-01T09:00:00.000Z',
      'tideline-archived-at': '2026-03-01T10:00:00.000Z',
      'tideline-departed': 'expired',
      'tideline-offset': expect.stringMatching(/^\d+$/),
    });
    await request(gateway.server).head('/v1/views/wide/entries/a').query({ archived: true }).expect(200);
    expect((await get('nothing', { archived: true }).expect(404)).body.code).toBe('unknown-entry');
    await request(gateway.server).put('/v1/views/wide/entries/a').send('two').expect(200);
    const live = await get('a', { archived: true }).expect(200);
    expect(live.headers).not.toHaveProperty('tideline-departed');
    expect(live.headers).not.toHaveProperty('tideline-archived-at');
    expect((await get('a', { archived: 'maybe' }).expect(400)).body.details.parameter).toBe('archived');
  });

  test('refuses what it does not understand and names it', async () => {
    const cases = {
      limit: 1001,
      from: 'yesterday',
      to: '-1',
      keyEncoding: 'hex',
      cursor: 'x'.repeat(300),
      prefix: 'a',
    };
    for (const [name, value] of Object.entries(cases)) {
      const { body } = await archive({ [name]: value }).expect(400);
      expect(body).toMatchObject({ code: 'bad-request', details: { parameter: name } });
    }
  });
});
