import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TypedEntry } from '../../testing/typed-entry.js';
import { BUILT_IN_TYPES } from '../built-in-types.js';

const entry = (): TypedEntry => new TypedEntry(BUILT_IN_TYPES);

test('a counter begins at 0 and is text that GET reads and PUT writes', () => {
  const e = entry();
  expect([e.run('incr'), e.run('incrby', 5), e.run('decrby', 8), e.run('decr'), e.run('incrby', -1)]).toEqual([
    1, 6, -2, -3, -4,
  ]);
  expect(e.entry?.value.toString()).toBe('-4');
  e.put('41');
  expect(e.run('incr')).toBe(42);
});

test('beyond 2^53 − 1 it is refused and stays as it was', () => {
  const e = entry();
  e.put(String(Number.MAX_SAFE_INTEGER));
  expect([e.run('incr'), e.run('incrby', Number.MAX_SAFE_INTEGER), e.run('get')]).toEqual([
    'bad-request',
    'bad-request',
    '9007199254740991',
  ]);
  expect(e.run('decr')).toBe(9007199254740990);
});

test.each(['x', '', '1.5', ' 1', '0x10', '9007199254740993', '-0', '01', '1e3'])('%j is no whole number', (text) => {
  const e = entry();
  expect(e.problem('incrby', text)).toBe('bad-request');
  expect(e.run('incrby', text)).toBe('bad-request');
  e.put(text);
  expect(e.run('incr')).toBe('wrong-type');
});

test('doubles are added as this runtime adds and writes them, and never become infinite', () => {
  const e = entry();
  expect([e.run('incrbyfloat', '0.1'), e.run('incrbyfloat', '0.2'), e.run('incrbyfloat', '5.0e3')]).toEqual([
    0.1, 0.30000000000000004, 5000.3,
  ]);
  e.put('1e308');
  expect([e.run('incrbyfloat', '1e308'), e.run('incrbyfloat', 'inf'), e.run('incr')]).toEqual([
    'bad-request',
    'bad-request',
    'wrong-type',
  ]);
});

test('it is the sum of what was added', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), { maxLength: 30 }), (steps) => {
      const e = entry();
      let sum = 0;
      for (const by of steps) expect(e.run(by % 2 ? 'incrby' : 'decrby', by)).toBe((sum += by % 2 ? by : -by) + 0);
    }),
    { numRuns: 50 },
  );
});
