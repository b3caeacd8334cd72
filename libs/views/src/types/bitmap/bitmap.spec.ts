import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TypedEntry } from '../../testing/typed-entry.js';
import { BUILT_IN_TYPES } from '../built-in-types.js';

const entry = (): TypedEntry => new TypedEntry(BUILT_IN_TYPES);

test('it is a row of bits that grows, the first being the highest of the first byte', () => {
  const step = fc.tuple(fc.nat(60), fc.constantFrom(0, 1));
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 20 }),
      fc.integer({ min: -9, max: 9 }),
      fc.integer({ min: -70, max: 70 }),
      (steps, start, bit) => {
        const e = entry();
        let bits: number[] = [];
        for (const [at, value] of steps) {
          expect(e.run('setbit', at, value)).toBe(bits[at] ?? 0);
          while (bits.length <= at) bits = bits.concat(Array(8).fill(0));
          bits[at] = value;
        }
        const from = Math.max(0, start < 0 ? start + bits.length / 8 : start) * 8;
        const ones = (part: readonly number[]): number => part.filter((one) => one === 1).length;
        expect(e.run('bitcount')).toBe(ones(bits));
        expect(e.run('bitcount', start, -1)).toBe(ones(bits.slice(from)));
        expect(e.run('bitcount', bit, -1, 'bit')).toBe(
          ones(bits.slice(Math.max(0, bit < 0 ? bit + bits.length : bit))),
        );
        expect(e.run('bitpos', 1)).toBe(bits.indexOf(1));
        expect(e.run('bitpos', 1, start, -1)).toBe(bits.indexOf(1, from));
        expect(e.run('bitpos', 0)).toBe(bits.includes(0) ? bits.indexOf(0) : bits.length);
        expect(e.run('getbit', steps[0][0])).toBe(bits[steps[0][0]]);
        expect(e.run('getbit', 4000)).toBe(0);
      },
    ),
    { numRuns: 150 },
  );
});

test('a string is a bitmap', () => {
  const e = entry();
  e.put('foobar');
  expect([e.run('bitcount'), e.run('bitcount', 1, 1), e.run('bitcount', 5, 30, 'BIT')]).toEqual([26, 6, 17]);
  e.run('setbit', 7, 1);
  expect(e.run('get')).toBe('goobar');
});

test('bits beyond the largest entry and other values than 0 and 1 are refused', () => {
  const e = entry();
  expect([
    e.problem('setbit', 2 ** 23, 1),
    e.problem('setbit', -1, 1),
    e.problem('setbit', 1, 2),
    e.problem('bitcount', 1),
  ]).toEqual(Array(4).fill('bad-request'));
  expect(e.run('setbit', 2 ** 23 - 1, 1)).toBe(0);
  expect([e.run('strlen'), e.run('bitcount'), e.run('bitpos', 1)]).toEqual([2 ** 20, 1, 2 ** 23 - 1]);
});
