import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TypedEntry } from '../../testing/typed-entry.js';
import { setType } from './set.js';

const member = fc.constantFrom('', 'a', 'b', 'ab', 'ä', '\u0000', 'z'.repeat(200));
const step = fc.oneof(
  fc.tuple(fc.constant('sadd' as const), fc.array(member, { minLength: 1, maxLength: 4 })),
  fc.tuple(fc.constant('srem' as const), fc.array(member, { minLength: 1, maxLength: 4 })),
);

test('it holds what was added and not removed, each once, ascending by bytes', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const e = new TypedEntry([setType]);
      const model = new Set<string>();
      for (const [name, args] of steps) {
        const before = model.size;
        for (const arg of args)
          if (name === 'sadd') model.add(arg);
          else model.delete(arg);
        expect(e.run(name, ...args)).toBe(Math.abs(model.size - before));
        const members = [...model].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        expect(e.run('smembers')).toEqual(members);
        expect(e.run('scard')).toBe(model.size);
        expect(e.entry === null).toBe(model.size === 0);
        expect(e.run('smismember', 'a', 'ä')).toEqual([Number(model.has('a')), Number(model.has('ä'))]);
        expect(e.run('sismember', 'ab')).toBe(Number(model.has('ab')));
      }
    }),
    { numRuns: 100 },
  );
});

test('adding what is there leaves the entry as it is', () => {
  const e = new TypedEntry([setType]);
  e.run('sadd', 'a', 'b');
  const { offset } = e.entry!;
  expect([e.run('sadd', 'b'), e.run('srem', 'c'), e.entry?.offset]).toEqual([0, 0, offset]);
  expect(e.entry?.contentType).toBe('application/vnd.tideline.set');
});
