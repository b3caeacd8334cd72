import { describe, expect, test } from '@jest/globals';
import { checkCounter, checkList } from './command-load.js';

const at = (invokedAt: number, returnedAt: number) => ({ invokedAt, returnedAt });
const ok = (result: unknown) => ({ kind: 'ok' as const, value: { result, offset: 1 } });
const unknown = { kind: 'unknown' as const, code: 'timeout' };
const rejected = { kind: 'rejected' as const, code: 'no-leader' };

describe('increments', () => {
  const incr = (fate: ReturnType<typeof ok> | typeof unknown | typeof rejected, time = at(0, 100)) => ({
    key: 'c',
    value: '',
    fate,
    ...time,
  });

  test('that took effect once pass, whether or not one of unknown outcome did', () => {
    const history = [incr(ok(1), at(0, 1)), incr(ok(2), at(2, 3)), incr(unknown), incr(rejected)];
    expect(checkCounter('c', history, 2)).toEqual([]);
    expect(checkCounter('c', history, 3)).toEqual([]);
  });

  test('of which one was lost, or took effect twice, are told by the sum', () => {
    expect(checkCounter('c', [incr(ok(1)), incr(ok(2))], 1).join()).toMatch(/is 1 after 2 acknowledged/);
    expect(checkCounter('c', [incr(ok(1)), incr(ok(2))], 3).join()).toMatch(/is 3 after 2 acknowledged/);
    expect(checkCounter('c', [incr(ok(1)), incr(rejected)], 2)).toHaveLength(1);
  });

  test('with one answer for two are told', () => {
    expect(checkCounter('c', [incr(ok(1)), incr(ok(1))], 2)).toEqual(['c: two increments were answered with 1']);
  });

  test('with a smaller number than one that was answered before are told', () => {
    const history = [incr(ok(2), at(0, 1)), incr(ok(1), at(2, 3))];
    expect(checkCounter('c', history, 2)).toEqual(['c: the increment to 2 was answered before the one to 1 began']);
    expect(checkCounter('c', [incr(ok(2), at(0, 3)), incr(ok(1), at(2, 3))], 2)).toEqual([]);
  });
});

describe('pushes', () => {
  const push = (value: string, fate: ReturnType<typeof ok> | typeof unknown | typeof rejected) => ({
    key: 'l',
    value,
    fate,
    ...at(0, 1),
  });

  test('that are where their answers said pass', () => {
    const history = [push('a', ok(1)), push('b', unknown), push('c', ok(3)), push('d', rejected)];
    expect(checkList('l', history, ['a', 'b', 'c'])).toEqual([]);
  });

  test('that are missing, elsewhere, twice, refused or nobody’s are told', () => {
    expect(checkList('l', [push('a', ok(1))], null).join()).toMatch(/number 1 and is missing/);
    expect(checkList('l', [push('a', ok(1)), push('b', ok(2))], ['b', 'a'])).toHaveLength(2);
    expect(checkList('l', [push('a', unknown)], ['a', 'a']).join()).toMatch(/a is there twice, at 0 and 1/);
    expect(checkList('l', [push('a', rejected)], ['a']).join()).toMatch(/was refused and is there/);
    expect(checkList('l', [], ['a']).join()).toMatch(/was never pushed/);
  });
});
