import {
  ARGS_UNLIMITED,
  type Command,
  type CommandEffect,
  type CommandRecord,
  type CommandState,
  type DataType,
} from '../../data-type.js';
import { decimalOf, integerOf, nothingWrong, isInteger } from '../arguments.js';
import { answer, change, refuse } from '../effects.js';
import { elementOf, elementText, elementTexts, readElements, writeElements } from '../elements.js';

const fieldsOf = (state: CommandState | null): Map<string, string> => {
  const fields = new Map<string, string>();
  const elements = state ? readElements(state.value) : [];
  for (let i = 0; i < elements.length; i += 2) fields.set(elements[i], elements[i + 1]);
  return fields;
};

/** Ascending by the field's bytes, whatever order they came in. */
const valueOf = (fields: ReadonlyMap<string, string>): Buffer =>
  writeElements([...fields.keys()].sort().flatMap((field) => [field, fields.get(field)!]));

const textOrNull = (value: string | undefined): string => (value === undefined ? 'null' : elementText(value));

const hset: Command = {
  arity: { min: 2, max: ARGS_UNLIMITED },
  validate: (args) => (args.length % 2 === 0 ? null : 'hset takes pairs of field and value'),
  apply: (state, args, record) => {
    const fields = fieldsOf(state);
    const before = fields.size;
    for (let i = 0; i < args.length; i += 2) fields.set(elementOf(args[i]), elementOf(args[i + 1]));
    return change(state, record, valueOf(fields), String(fields.size - before));
  },
};

const hsetnx: Command = {
  arity: { min: 2, max: 2 },
  validate: nothingWrong,
  apply: (state, [field, value], record) => {
    const fields = fieldsOf(state);
    if (fields.has(elementOf(field))) return answer('0');
    fields.set(elementOf(field), elementOf(value));
    return change(state, record, valueOf(fields), '1');
  },
};

const hget: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [field]) => answer(textOrNull(fieldsOf(state).get(elementOf(field)))),
};

const hmget: Command = {
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args) => {
    const fields = fieldsOf(state);
    return answer(`[${args.map((field) => textOrNull(fields.get(elementOf(field)))).join(',')}]`);
  },
};

const hgetall: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(`[${[...fieldsOf(state)].map(elementTexts).join(',')}]`),
};

const hdel: Command = {
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args, record) => {
    const fields = fieldsOf(state);
    let removed = 0;
    for (const field of args) if (fields.delete(elementOf(field))) removed++;
    if (removed === 0) return answer('0');
    if (fields.size === 0) return { effect: 'delete', result: String(removed) };
    return change(state, record, valueOf(fields), String(removed));
  },
};

const hexists: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [field]) => answer(fieldsOf(state).has(elementOf(field)) ? '1' : '0'),
};

const hlen: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(String(fieldsOf(state).size)),
};

const hkeys: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(elementTexts([...fieldsOf(state).keys()])),
};

const hvals: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(elementTexts([...fieldsOf(state).values()])),
};

const hstrlen: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [field]) => answer(String(fieldsOf(state).get(elementOf(field))?.length ?? 0)),
};

/** Adds to the number that is a field's value; `sum` says null when it cannot. */
const add = (
  state: CommandState | null,
  field: Buffer,
  record: CommandRecord,
  parts: {
    readonly read: (bytes: Buffer) => number | null;
    readonly by: number;
    readonly fits: (sum: number) => boolean;
  },
): CommandEffect => {
  const fields = fieldsOf(state);
  const old = fields.get(elementOf(field));
  const before = old === undefined ? 0 : parts.read(Buffer.from(old, 'latin1'));
  if (before === null) return refuse('wrong-type', 'the value of the field is not a number that can be added to');
  const after = before + parts.by + 0;
  if (!parts.fits(after)) return refuse('bad-request', 'the sum would be out of range');
  fields.set(elementOf(field), String(after));
  return change(state, record, valueOf(fields), String(after));
};

const hincrby: Command = {
  arity: { min: 2, max: 2 },
  validate: ([, by]) => (isInteger(by) ? null : 'increment is a whole number of at most 2^53 − 1 either way'),
  apply: (state, [field, by], record) =>
    add(state, field, record, { read: integerOf, by: integerOf(by)!, fits: Number.isSafeInteger }),
};

const hincrbyfloat: Command = {
  arity: { min: 2, max: 2 },
  validate: ([, by]) => (decimalOf(by) === null ? 'increment is a decimal number' : null),
  apply: (state, [field, by], record) =>
    add(state, field, record, { read: decimalOf, by: decimalOf(by)!, fits: Number.isFinite }),
};

/** State: elements (elements.ts), field and value in turn, ascending by the field's bytes. A hash without fields is no entry. */
export const hashType: DataType = {
  name: 'hash',
  contentType: 'application/vnd.tideline.hash',
  commands: { hset, hsetnx, hget, hmget, hgetall, hdel, hexists, hlen, hkeys, hvals, hstrlen, hincrby, hincrbyfloat },
};
