import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TypedEntry } from '../../testing/typed-entry.js';
import { listType } from './list.js';

const element = fc.constantFrom('a', 'b', 'c', '', 'ü');
const position = fc.integer({ min: -6, max: 6 });
const step = fc.oneof(
  fc.tuple(fc.constantFrom('lpush', 'rpush', 'lpushx', 'rpushx'), fc.array(element, { minLength: 1, maxLength: 3 })),
  fc.tuple(fc.constantFrom('lpop', 'rpop'), fc.array(fc.nat(3), { maxLength: 1 })),
  fc.tuple(fc.constant('lrem'), fc.tuple(fc.integer({ min: -2, max: 2 }), element)),
  fc.tuple(fc.constant('ltrim'), fc.tuple(position, position)),
  fc.tuple(fc.constant('lset'), fc.tuple(position, element)),
  fc.tuple(fc.constant('linsert'), fc.tuple(fc.constantFrom('before', 'AFTER'), element, element)),
);

const slice = (list: readonly string[], start: number, stop: number): string[] =>
  list.filter((_, i) => i >= (start < 0 ? start + list.length : start) && i <= (stop < 0 ? stop + list.length : stop));

/** As plainly as can be: the new list and the result. */
const model = (list: readonly string[], name: string, args: readonly (string | number)[]): [string[], unknown] => {
  const texts = args.map(String);
  if (name.endsWith('x') && list.length === 0) return [[], 0];
  if (name.startsWith('lpush')) return [[...texts].reverse().concat(list), list.length + texts.length];
  if (name.startsWith('rpush')) return [list.concat(texts), list.length + texts.length];
  if (name === 'lpop' || name === 'rpop') {
    if (list.length === 0) return [[], null];
    const count = args.length === 0 ? 1 : Number(args[0]);
    const order = name === 'lpop' ? [...list] : [...list].reverse();
    const popped = order.slice(0, count);
    const rest = order.slice(count);
    return [name === 'lpop' ? rest : rest.reverse(), args.length === 0 ? popped[0] : popped];
  }
  if (name === 'lrem') {
    const count = Number(args[0]);
    const rest = [...list];
    let removed = 0;
    for (let i = 0; i < (count === 0 ? list.length : Math.abs(count)); i++) {
      const at = count < 0 ? rest.lastIndexOf(texts[1]) : rest.indexOf(texts[1]);
      if (at < 0) break;
      rest.splice(at, 1);
      removed++;
    }
    return [rest, removed];
  }
  if (name === 'ltrim') return [slice(list, Number(args[0]), Number(args[1])), true];
  if (name === 'lset') {
    const at = Number(args[0]) < 0 ? Number(args[0]) + list.length : Number(args[0]);
    if (list.length === 0) return [[], 'unknown-entry'];
    if (at < 0 || at >= list.length) return [[...list], 'bad-request'];
    return [list.map((one, i) => (i === at ? texts[1] : one)), true];
  }
  const at = list.indexOf(texts[1]);
  if (at < 0) return [[...list], list.length === 0 ? 0 : -1];
  const place = texts[0] === 'before' ? at : at + 1;
  return [[...list.slice(0, place), texts[2], ...list.slice(place)], list.length + 1];
};

test('it is a list with two ends', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), position, position, (steps, start, stop) => {
      const e = new TypedEntry([listType]);
      let list: string[] = [];
      for (const [name, args] of steps) {
        const [next, result] = model(list, name, args);
        expect(e.run(name, ...args)).toEqual(result);
        list = next;
        expect(e.run('lrange', 0, -1)).toEqual(list);
        expect(e.run('lrange', start, stop)).toEqual(slice(list, start, stop));
        expect(e.run('lindex', start)).toBe(list.at(start) ?? null);
        expect(e.run('llen')).toBe(list.length);
        expect(e.entry === null).toBe(list.length === 0);
      }
    }),
    { numRuns: 150 },
  );
});

test('what is no position is refused before it is appended', () => {
  const e = new TypedEntry([listType]);
  expect([
    e.problem('lrange', 'a', 1),
    e.problem('lpop', -1),
    e.problem('linsert', 'beside', 'a', 'b'),
    e.problem('lset', '1.0', 'a'),
    e.problem('lpush'),
  ]).toEqual(Array(5).fill('bad-request'));
});
