import type { Command, CommandEffect, CommandRecord, CommandState, DataType } from '../../data-type.js';
import { decimalOf, integerOf, integersAt, nothingWrong } from '../arguments.js';
import { change, refuse } from '../effects.js';

const add = (state: CommandState | null, by: number, record: CommandRecord): CommandEffect => {
  const before = state ? integerOf(state.value) : 0;
  if (before === null) return refuse('wrong-type', 'the value is not a whole number of at most 2^53 − 1 either way');
  const after = before + by;
  if (!Number.isSafeInteger(after)) return refuse('bad-request', 'the counter would be beyond 2^53 − 1');
  return change(state, record, Buffer.from(String(after)), String(after));
};

const incr: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state, _args, record) => add(state, 1, record),
};

const decr: Command = { ...incr, apply: (state, _args, record) => add(state, -1, record) };

const incrby: Command = {
  arity: { min: 1, max: 1 },
  validate: integersAt([0, 'increment']),
  apply: (state, [by], record) => add(state, integerOf(by)!, record),
};

const decrby: Command = { ...incrby, apply: (state, [by], record) => add(state, -integerOf(by)!, record) };

const incrbyfloat: Command = {
  arity: { min: 1, max: 1 },
  validate: ([by]) => (decimalOf(by) === null ? 'increment is a decimal number' : null),
  apply: (state, [by], record) => {
    const before = state ? decimalOf(state.value) : 0;
    if (before === null) return refuse('wrong-type', 'the value is not a decimal number');
    const after = before + decimalOf(by)! + 0;
    if (!Number.isFinite(after)) return refuse('bad-request', 'the sum would not be finite');
    return change(state, record, Buffer.from(String(after)), String(after));
  },
};

/** The value is the number's decimal text, so a counter may be PUT, and a GET reads it. */
export const counterType: DataType = {
  name: 'counter',
  entries: 'plain',
  commands: { incr, decr, incrby, decrby, incrbyfloat },
};
