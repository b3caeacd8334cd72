import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TypedEntry } from '../../testing/typed-entry.js';
import { hashType } from './hash.js';

const text = fc.constantFrom('', 'a', 'b', 'ö', '__proto__', '7', 'y'.repeat(130));
const step = fc.oneof(
  fc.record({
    name: fc.constant('hset' as const),
    pairs: fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 3 }),
  }),
  fc.record({
    name: fc.constantFrom('hsetnx' as const, 'hdel' as const),
    pairs: fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 1 }),
  }),
);

test('it is a map of fields, ascending by bytes', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const e = new TypedEntry([hashType]);
      const model = new Map<string, string>();
      for (const { name, pairs } of steps) {
        const before = model.size;
        for (const [field, value] of pairs) {
          if (name === 'hdel') model.delete(field);
          else if (name === 'hset' || !model.has(field)) model.set(field, value);
        }
        const args = name === 'hdel' ? [pairs[0][0]] : pairs.flat();
        expect(e.run(name, ...args)).toBe(Math.abs(model.size - before));
        const fields = [...model].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        expect(e.run('hgetall')).toEqual(fields);
        expect(e.run('hkeys')).toEqual(fields.map(([field]) => field));
        expect(e.run('hvals')).toEqual(fields.map(([, value]) => value));
        expect(e.run('hlen')).toBe(model.size);
        expect(e.run('hmget', 'a', '__proto__')).toEqual([model.get('a') ?? null, model.get('__proto__') ?? null]);
        expect(e.run('hget', 'ö')).toBe(model.get('ö') ?? null);
        expect(e.run('hexists', 'b')).toBe(Number(model.has('b')));
        expect(e.run('hstrlen', '7')).toBe(Buffer.byteLength(model.get('7') ?? ''));
        expect(e.entry === null).toBe(model.size === 0);
      }
    }),
    { numRuns: 100 },
  );
});

test('numbers in fields are added to', () => {
  const e = new TypedEntry([hashType]);
  expect([e.run('hincrby', 'n', 5), e.run('hincrby', 'n', -7), e.run('hincrbyfloat', 'n', '0.5')]).toEqual([
    5, -2, -1.5,
  ]);
  e.run('hset', 't', 'text', 'max', Number.MAX_SAFE_INTEGER);
  expect([
    e.run('hincrby', 't', 1),
    e.run('hincrby', 'n', 1),
    e.run('hincrby', 'max', 1),
    e.run('hincrby', 'n', 'x'),
  ]).toEqual(['wrong-type', 'wrong-type', 'bad-request', 'bad-request']);
});

test('hset wants pairs', () => {
  const e = new TypedEntry([hashType]);
  expect([e.problem('hset', 'a'), e.problem('hset', 'a', 'b', 'c'), e.problem('hset', 'a', 'b')]).toEqual([
    'bad-request',
    'bad-request',
    null,
  ]);
});
