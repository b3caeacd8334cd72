import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TypedEntry } from '../../testing/typed-entry.js';
import { sortedSetType } from './sorted-set.js';

const member = fc.constantFrom('a', 'b', 'ab', 'é', '');
const score = fc.constantFrom(-1, 0, 0.1, 0.2, 1, 3e20);
const flags = fc.constantFrom([], ['nx'], ['xx'], ['gt'], ['LT'], ['xx', 'gt'], ['ch']);
const step = fc.oneof(
  fc.record({
    name: fc.constant('zadd' as const),
    flags,
    pairs: fc.array(fc.tuple(score, member), { minLength: 1, maxLength: 3 }),
  }),
  fc.record({ name: fc.constant('zincrby' as const), by: score, member }),
  fc.record({ name: fc.constant('zrem' as const), member }),
);

test('members are ordered by score, then by bytes', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), score, score, (steps, min, max) => {
      const e = new TypedEntry([sortedSetType]);
      const model = new Map<string, number>();
      for (const each of steps) {
        if (each.name === 'zadd') {
          const asked = new Set(each.flags.map((flag) => flag.toLowerCase()));
          let added = 0;
          let changed = 0;
          for (const [value, name] of each.pairs) {
            const old = model.get(name);
            if (
              old === undefined
                ? asked.has('xx')
                : asked.has('nx') || (asked.has('gt') && value <= old) || (asked.has('lt') && value >= old)
            )
              continue;
            if (old === undefined) added++;
            else if (old !== value) changed++;
            model.set(name, value);
          }
          expect(e.run('zadd', ...each.flags, ...each.pairs.flat())).toBe(asked.has('ch') ? added + changed : added);
        } else if (each.name === 'zincrby') {
          const sum = (model.get(each.member) ?? 0) + each.by;
          model.set(each.member, sum);
          expect(e.run('zincrby', each.by, each.member)).toBe(sum);
        } else expect(e.run('zrem', each.member)).toBe(Number(model.delete(each.member)));

        const members = [...model].sort(([a, x], [b, y]) => x - y || Buffer.compare(Buffer.from(a), Buffer.from(b)));
        expect(e.run('zrange', 0, -1, 'withscores')).toEqual(members);
        expect(e.run('zrevrange', 0, 1)).toEqual(
          members
            .map(([name]) => name)
            .reverse()
            .slice(0, 2),
        );
        expect(e.run('zrank', 'ab')).toBe(model.has('ab') ? members.findIndex(([name]) => name === 'ab') : null);
        const within = members.filter(([, value]) => value > min && value <= max);
        expect(e.run('zrangebyscore', `(${min}`, max, 'WITHSCORES')).toEqual(within);
        expect(e.run('zcount', `(${min}`, max)).toBe(within.length);
        expect([e.run('zcard'), e.run('zmscore', 'a', 'é')]).toEqual([
          model.size,
          [model.get('a') ?? null, model.get('é') ?? null],
        ]);
        expect(e.entry === null).toBe(model.size === 0);
      }
    }),
    { numRuns: 150 },
  );
});

test('members are taken from either end and removed by score and position', () => {
  const e = new TypedEntry([sortedSetType]);
  e.run('zadd', 1, 'a', 2, 'b', 3, 'c', 4, 'd', 5, 'e', 6, 'f');
  expect([e.run('zpopmin'), e.run('zpopmax', 2), e.run('zrevrank', 'b')]).toEqual([
    [['a', 1]],
    [
      ['f', 6],
      ['e', 5],
    ],
    2,
  ]);
  expect([e.run('zremrangebyscore', '(2', 3), e.run('zremrangebyrank', 1, -1), e.run('zrange', 0, -1)]).toEqual([
    1,
    1,
    ['b'],
  ]);
  expect([e.run('zpopmin', 9), e.run('zpopmin'), e.entry]).toEqual([[['b', 2]], [], null]);
});

test('scores may be infinite, never NaN, and zero has no sign', () => {
  const e = new TypedEntry([sortedSetType]);
  e.run('zadd', '-inf', 'low', 'inf', 'high', '-0', 'zero');
  expect(e.run('zrange', 0, -1, 'withscores')).toEqual([
    ['low', '-inf'],
    ['zero', 0],
    ['high', 'inf'],
  ]);
  const { value } = e.entry!;
  expect(e.run('zincrby', '-inf', 'high')).toBe('bad-request');
  expect(e.run('zadd', '0', 'zero')).toBe(0);
  expect(e.entry!.value).toEqual(value);
  expect(e.run('zrangebyscore', '-inf', '(inf')).toEqual(['low', 'zero']);
});

test('what zadd cannot mean is refused before it is appended', () => {
  const e = new TypedEntry([sortedSetType]);
  const refused = [
    ['nx', 'gt', 1, 'a'],
    ['gt', 'lt', 1, 'a'],
    [1, 'a', 2],
    ['nan', 'a'],
    ['nx', 'xx'],
    ['1e999', 'a'],
  ];
  for (const args of refused) expect(e.problem('zadd', ...args)).toBe('bad-request');
  expect(e.problem('zadd', 'gt', 'ch', '1.5', 'a')).toBeNull();
});
