import { expect, test } from '@jest/globals';
import { TypedEntry } from '../../testing/typed-entry.js';
import { BUILT_IN_TYPES } from '../built-in-types.js';

const entry = (): TypedEntry => new TypedEntry(BUILT_IN_TYPES);

test('a string is the value of the entry, so that PUT and GET and commands see the same bytes', () => {
  const e = entry();
  e.put('Hello', 'text/plain');
  expect([e.run('get'), e.run('append', ' World'), e.run('strlen')]).toEqual(['Hello', 11, 11]);
  expect(e.entry?.value.toString()).toBe('Hello World');
  expect(e.entry?.contentType).toBe('text/plain');
  expect([e.run('getrange', 0, 4), e.run('getrange', -5, -1), e.run('getrange', 5, 2)]).toEqual(['Hello', 'World', '']);
  expect([e.run('setrange', 6, 'Redis'), e.run('get')]).toEqual([11, 'Hello Redis']);
});

test('set, setnx, getset and getdel answer as in Redis', () => {
  const e = entry();
  expect([e.run('get'), e.run('setnx', 'a'), e.run('setnx', 'b'), e.run('getset', 'c'), e.run('get')]).toEqual([
    null,
    1,
    0,
    'a',
    'c',
  ]);
  expect([e.run('set', 'd'), e.run('getdel'), e.run('getdel'), e.entry]).toEqual([true, 'd', null, null]);
});

test('bytes that are no text come as Base64', () => {
  const e = entry();
  e.run('set', Buffer.from([0xff, 0]));
  expect(e.run('get')).toEqual({ base64: '/wA=' });
});

test('append keeps the time to live, set does not, and a TTL of the record goes before both', () => {
  const e = entry();
  e.apply('set', ['a'], 1000);
  const { expiresAt } = e.entry!;
  expect(expiresAt).toBe(e.view.logTime + 1000);
  e.run('append', 'b');
  expect(e.entry?.expiresAt).toBe(expiresAt);
  e.apply('append', ['c'], 5000);
  expect(e.entry?.expiresAt).toBe(e.view.logTime + 5000);
  e.run('set', 'd');
  expect(e.entry?.expiresAt).toBeNull();
});

test('a string that would be larger than a record is refused and stays as it was', () => {
  const e = entry();
  const limit = 1024 * 1024;
  expect(e.run('setrange', limit - 1, 'x')).toBe(limit);
  const before = e.view.digest;
  expect([e.run('append', 'x'), e.run('setrange', limit - 1, 'xy')]).toEqual(['record-too-large', 'record-too-large']);
  expect([e.problem('setrange', limit, 'x'), e.problem('setrange', -1, 'x'), e.problem('getrange', 'a', 1)]).toEqual(
    Array(3).fill('bad-request'),
  );
  expect(e.view.digest).toBe(before);
});
