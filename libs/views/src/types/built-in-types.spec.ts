import { describe, expect, test } from '@jest/globals';
import { dataTypeConformance } from '../testing/data-type.conformance.js';
import { TypedEntry } from '../testing/typed-entry.js';
import { BUILT_IN_TYPES, validateCommand } from './built-in-types.js';

describe.each([...BUILT_IN_TYPES])('the type $name', (type) => {
  dataTypeConformance(type);
});

test('an entry of one type is refused by the commands of the others, and by all types when it is plain bytes of another kind', () => {
  const e = new TypedEntry(BUILT_IN_TYPES);
  e.run('sadd', 'a');
  const { offset } = e.entry!;
  const strangers: readonly (readonly [string, ...string[]])[] = [
    ['hset', 'f', 'v'],
    ['lpush', 'a'],
    ['zadd', '1', 'a'],
    ['get'],
    ['incr'],
    ['getbit', '1'],
    ['json.get'],
  ];
  for (const [name, ...args] of strangers)
    expect(e.apply(name, args)).toMatchObject({ code: 'wrong-type', entryOffset: offset });
  e.put('plain');
  for (const name of ['scard', 'hlen', 'llen', 'zcard', 'incr', 'json.get']) expect(e.run(name)).toBe('wrong-type');
});

test('what no type knows, or takes so many arguments of, is refused before the append with what is allowed', () => {
  expect(validateCommand('fly', [])).toMatchObject({ code: 'unknown-command', outcome: 'rejected' });
  expect(validateCommand('hget', [])?.message).toBe('hget takes 1 argument, not 0');
  expect(validateCommand('sadd', [])?.message).toBe('sadd takes at least 1 argument, not 0');
  expect(validateCommand('zrange', [])?.message).toBe('zrange takes 2 to 3 arguments, not 0');
  expect(validateCommand('toString', [])).toMatchObject({ code: 'unknown-command' });
  expect(validateCommand('incrby', [Buffer.from('5')])).toBeNull();
});
