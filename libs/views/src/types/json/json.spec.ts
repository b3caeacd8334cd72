import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TypedEntry } from '../../testing/typed-entry.js';
import { BUILT_IN_TYPES } from '../built-in-types.js';

const json = (value: unknown): string => JSON.stringify(value);
const document = (value?: unknown): TypedEntry => {
  const e = new TypedEntry(BUILT_IN_TYPES);
  if (value !== undefined) e.run('json.set', '', json(value));
  return e;
};

describe('merge', () => {
  /** Appendix A of RFC 7386. */
  test.each([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    [undefined, { a: { toString: 1, b: null } }, { a: { toString: 1 } }],
  ])('%j with %j is %j', (original, patch, result) => {
    const e = document(original);
    expect(e.run('json.merge', '', json(patch))).toBe(true);
    expect(e.run('json.get')).toEqual(result);
  });

  test('at a path', () => {
    const e = document({ a: [{ b: 1 }] });
    e.run('json.merge', '/a/0', '{"b":null,"c":2}');
    expect(e.run('json.get')).toEqual({ a: [{ c: 2 }] });
  });
});

test('what was set is what is got, and what GET gives is its JSON text', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), fc.string(), (value, name) => {
      fc.pre(!/^(__proto__|constructor|prototype)$/.test(name) && !/__proto__|constructor|prototype/.test(json(value)));
      const e = document({ before: 1 });
      const path = `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
      fc.pre(Buffer.from(name).toString() === name);
      const expected = JSON.parse(json(value)) as unknown;
      expect(e.run('json.set', path, json(value))).toBe(true);
      expect(e.run('json.get', path)).toEqual(expected);
      expect(JSON.parse(e.entry!.value.toString())).toEqual({
        before: name === 'before' ? expected : 1,
        [name]: expected,
      });
      expect(e.entry!.contentType).toBe('application/json');
    }),
    { numRuns: 200 },
  );
});

test('paths lead into objects and arrays', () => {
  const e = document({ a: [1, { 'm/n': 'x' }], n: 5 });
  expect([e.run('json.get', '/a/1/m~1n'), e.run('json.get', '/a/9'), e.run('json.get', '/n', '/no')]).toEqual([
    'x',
    null,
    [5, null],
  ]);
  expect([
    e.run('json.set', '/a/-', '7'),
    e.run('json.set', '/a/0', 'true'),
    e.run('json.del', '/a/1'),
    e.run('json.get'),
  ]).toEqual([true, true, 1, { a: [true, 7], n: 5 }]);
  expect([
    e.run('json.set', '/x/y', '1'),
    e.run('json.set', '/a/9', '1'),
    e.run('json.del', '/x'),
    e.run('json.get', '/toString'),
  ]).toEqual(['bad-request', 'bad-request', 0, null]);
  expect([
    e.run('json.type', '/a'),
    e.run('json.type', '/n'),
    e.run('json.objkeys'),
    e.run('json.numincrby', '/n', '0.5'),
  ]).toEqual(['array', 'integer', ['a', 'n'], 5.5]);
  expect([e.run('json.del'), e.entry]).toEqual([1, null]);
});

test('arrays are appended to, inserted into and taken from', () => {
  const e = document({ a: [1] });
  expect([
    e.run('json.arrappend', '/a', '2', '"3"'),
    e.run('json.arrinsert', '/a', -1, 'null', '[]'),
    e.run('json.get', '/a'),
  ]).toEqual([3, 5, [1, 2, null, [], '3']]);
  expect([
    e.run('json.arrpop', '/a'),
    e.run('json.arrpop', '/a', 0),
    e.run('json.arrlen', '/a'),
    e.run('json.arrlen'),
  ]).toEqual(['3', 1, 3, 'wrong-type']);
  expect([e.run('json.arrappend', '/b', '1'), e.run('json.arrpop', '/a/1')]).toEqual(['bad-request', 'wrong-type']);
});

test('only safe, finite JSON of a bounded depth is taken, as an argument and as a document', () => {
  const deep = '['.repeat(65) + ']'.repeat(65);
  for (const text of [
    'x',
    '',
    '{"__proto__":1}',
    '[{"constructor":1}]',
    deep,
    '1e999',
    '['.repeat(200_000),
    '\ud800',
  ]) {
    const e = new TypedEntry(BUILT_IN_TYPES);
    expect(e.problem('json.set', '', text === '\ud800' ? Buffer.from([0xff]) : text)).toBe('bad-request');
    if (text !== '\ud800') {
      e.put(text);
      expect([e.run('json.get'), e.run('json.set', '/a', '1')]).toEqual(['wrong-type', 'wrong-type']);
    }
  }
  const e = document(JSON.parse('['.repeat(64) + ']'.repeat(64)));
  expect(e.run('json.set', '/0', '['.repeat(64) + ']'.repeat(64))).toBe('too-deep');
  expect(e.problem('json.get', '/__proto__')).toBe('bad-request');
  expect(e.problem('json.get', 'a')).toBe('bad-request');
});
