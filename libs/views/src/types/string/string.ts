import { COMPUTED_VALUE_BYTES_MAX, type Command, type DataType } from '../../data-type.js';
import { integerOf, integersAt, nothingWrong, rangeOf } from '../arguments.js';
import { answer, change, refuse, textOf } from '../effects.js';

const NO_BYTES = Buffer.alloc(0);

const get: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(state ? textOf(state.value) : 'null'),
};

/** The record's TTL or none, as in Redis. */
const set: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (_state, [value]) => ({ effect: 'put', value, result: 'true' }),
};

const setnx: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [value]) => (state ? answer('0') : { effect: 'put', value, result: '1' }),
};

const getset: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [value]) => ({ effect: 'put', value, result: state ? textOf(state.value) : 'null' }),
};

const getdel: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => (state ? { effect: 'delete', result: textOf(state.value) } : answer('null')),
};

const append: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [more], record) => {
    const value = state ? Buffer.concat([state.value, more]) : more;
    return change(state, record, value, String(value.length));
  },
};

const strlen: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(String(state?.value.length ?? 0)),
};

const getrange: Command = {
  arity: { min: 2, max: 2 },
  validate: integersAt([0, 'start'], [1, 'end']),
  apply: (state, [start, end]) => {
    const value = state?.value ?? NO_BYTES;
    const { from, to } = rangeOf(start, end, value.length);
    return answer(textOf(value.subarray(from, to)));
  },
};

const setrange: Command = {
  arity: { min: 2, max: 2 },
  validate: ([at]) => {
    const offset = integerOf(at);
    return offset !== null && offset >= 0 && offset < COMPUTED_VALUE_BYTES_MAX
      ? null
      : `offset is a whole number from 0 to ${COMPUTED_VALUE_BYTES_MAX - 1}`;
  },
  apply: (state, [at, bytes], record) => {
    const old = state?.value ?? NO_BYTES;
    if (bytes.length === 0) return answer(String(old.length));
    const offset = integerOf(at)!;
    const length = Math.max(old.length, offset + bytes.length);
    if (length > COMPUTED_VALUE_BYTES_MAX)
      return refuse(
        'record-too-large',
        `the string would have ${length} bytes, the limit is ${COMPUTED_VALUE_BYTES_MAX}`,
      );
    const value = Buffer.alloc(length);
    old.copy(value);
    bytes.copy(value, offset);
    return change(state, record, value, String(length));
  },
};

/** Bytes: the entry's value itself, and so what PUT writes and GET reads. */
export const stringType: DataType = {
  name: 'string',
  entries: 'plain',
  commands: { get, set, setnx, getset, getdel, append, strlen, getrange, setrange },
};
