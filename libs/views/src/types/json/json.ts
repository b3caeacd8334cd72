import { JSON_DEPTH_MAX } from '#kernel';
import {
  ARGS_UNLIMITED,
  type Command,
  type CommandEffect,
  type CommandRecord,
  type CommandState,
  type DataType,
} from '../../data-type.js';
import { decimalOf, integerOf, isInteger } from '../arguments.js';
import { answer, change, refuse } from '../effects.js';
import { indexOf, pointerOf, valueAt } from './json-pointer.js';
import { depthOfValue, isObject, parseJson, type Json, type JsonObject } from './json-text.js';

const POINTER = 'a path is a JSON Pointer (RFC 6901): "" for the whole document, /a/0 …';

const pointerProblem = (bytes: Buffer | undefined): string | null =>
  bytes === undefined || pointerOf(bytes) !== null ? null : POINTER;

const valueProblem = (bytes: Buffer): string | null => {
  const parsed = parseJson(bytes);
  return 'problem' in parsed ? `the value ${parsed.problem}` : null;
};

/** An argument that was validated. */
const valueOf = (bytes: Buffer): Json => {
  const parsed = parseJson(bytes);
  if ('problem' in parsed) throw new Error(parsed.problem);
  return parsed.value;
};

const pathOf = (bytes: Buffer | undefined): string[] => (bytes === undefined ? [] : pointerOf(bytes)!);

/** Puts the document, or says why it cannot be one. */
const keep = (state: CommandState | null, record: CommandRecord, document: Json, result: string): CommandEffect =>
  depthOfValue(document) > JSON_DEPTH_MAX
    ? refuse('too-deep', `the document would be nested deeper than ${JSON_DEPTH_MAX}`)
    : change(state, record, Buffer.from(JSON.stringify(document)), result);

/** A command of the document; undefined: there is none. */
const command = (
  arity: Command['arity'],
  validate: Command['validate'],
  apply: (
    document: Json | undefined,
    args: readonly Buffer[],
    state: CommandState | null,
    record: CommandRecord,
  ) => CommandEffect,
): Command => ({
  arity,
  validate,
  apply: (state, args, record) => {
    if (state === null) return apply(undefined, args, state, record);
    const parsed = parseJson(state.value);
    if ('problem' in parsed) return refuse('wrong-type', `the entry is no JSON document: it ${parsed.problem}`);
    return apply(parsed.value, args, state, record);
  },
});

const text = (value: Json | undefined): string => (value === undefined ? 'null' : JSON.stringify(value));

const get = command(
  { min: 0, max: ARGS_UNLIMITED },
  (args) => args.map(pointerProblem).find((problem) => problem !== null) ?? null,
  (document, args) =>
    args.length <= 1
      ? answer(text(valueAt(document, pathOf(args[0]))))
      : answer(`[${args.map((path) => text(valueAt(document, pathOf(path)))).join(',')}]`),
);

/** `value` at the path, in place. False: its parent is not there, or an array that has no such place. */
const place = (document: Json, path: readonly string[], value: Json): boolean => {
  const parent = valueAt(document, path.slice(0, -1));
  const last = path[path.length - 1];
  if (Array.isArray(parent)) {
    const index = last === '-' ? parent.length : indexOf(last);
    if (index === null || index > parent.length) return false;
    parent[index] = value;
    return true;
  }
  if (!isObject(parent)) return false;
  parent[last] = value;
  return true;
};

const nowhere = (): CommandEffect => refuse('bad-request', 'the path leads to nothing in the document');

const set = command(
  { min: 2, max: 2 },
  ([path, value]) => pointerProblem(path) ?? valueProblem(value),
  (document, [pathArg, valueArg], state, record) => {
    const path = pathOf(pathArg);
    const value = valueOf(valueArg);
    if (path.length === 0) return keep(state, record, value, 'true');
    if (document === undefined || !place(document, path, value)) return nowhere();
    return keep(state, record, document, 'true');
  },
);

/** RFC 7386. */
const patched = (target: Json | undefined, patch: Json): Json => {
  if (!isObject(patch)) return patch;
  const result: JsonObject = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = patched(result[name], value);
  }
  return result;
};

const merge = command(
  { min: 2, max: 2 },
  ([path, patch]) => pointerProblem(path) ?? valueProblem(patch),
  (document, [pathArg, patchArg], state, record) => {
    const path = pathOf(pathArg);
    const patch = valueOf(patchArg);
    if (path.length === 0) return keep(state, record, patched(document, patch), 'true');
    if (document === undefined || !place(document, path, patched(valueAt(document, path), patch))) return nowhere();
    return keep(state, record, document, 'true');
  },
);

const del = command(
  { min: 0, max: 1 },
  ([path]) => pointerProblem(path),
  (document, [pathArg], state, record) => {
    const path = pathOf(pathArg);
    if (document === undefined || valueAt(document, path) === undefined) return answer('0');
    if (path.length === 0) return { effect: 'delete', result: '1' };
    const parent = valueAt(document, path.slice(0, -1));
    const last = path[path.length - 1];
    if (Array.isArray(parent)) parent.splice(indexOf(last)!, 1);
    else delete (parent as JsonObject)[last];
    return keep(state, record, document, '1');
  },
);

const typeOf = (value: Json): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'array'
      : typeof value === 'number'
        ? Number.isInteger(value)
          ? 'integer'
          : 'number'
        : typeof value;

const type = command(
  { min: 0, max: 1 },
  ([path]) => pointerProblem(path),
  (document, [path]) => {
    const value = valueAt(document, pathOf(path));
    return answer(value === undefined ? 'null' : JSON.stringify(typeOf(value)));
  },
);

const numincrby = command(
  { min: 2, max: 2 },
  ([path, by]) => pointerProblem(path) ?? (decimalOf(by) === null ? 'increment is a decimal number' : null),
  (document, [pathArg, by], state, record) => {
    const path = pathOf(pathArg);
    const value = valueAt(document, path);
    if (document === undefined || value === undefined) return nowhere();
    if (typeof value !== 'number') return refuse('wrong-type', `at the path is ${typeOf(value)}, not a number`);
    const sum = value + decimalOf(by)! + 0;
    if (!Number.isFinite(sum)) return refuse('bad-request', 'the sum would not be finite');
    if (path.length === 0) return keep(state, record, sum, String(sum));
    place(document, path, sum);
    return keep(state, record, document, String(sum));
  },
);

/** A command of the array at a path. `change` gets the array and gives the result's text; null: the array stays as it is. */
const arrayCommand = (
  arity: Command['arity'],
  validate: Command['validate'],
  change: (array: Json[], args: readonly Buffer[]) => { readonly result: string; readonly changed: boolean },
): Command =>
  command(
    arity,
    (args, record) => pointerProblem(args[0]) ?? validate(args, record),
    (document, args, state, record) => {
      const array = valueAt(document, pathOf(args[0]));
      if (document === undefined || array === undefined) return nowhere();
      if (!Array.isArray(array)) return refuse('wrong-type', `at the path is ${typeOf(array)}, not an array`);
      const { result, changed } = change(array, args);
      return changed ? keep(state, record, document, result) : answer(result);
    },
  );

const valuesProblem = (values: readonly Buffer[]): string | null =>
  values.map(valueProblem).find((problem) => problem !== null) ?? null;

const arrappend = arrayCommand(
  { min: 2, max: ARGS_UNLIMITED },
  ([, ...values]) => valuesProblem(values),
  (array, [, ...values]) => {
    for (const value of values) array.push(valueOf(value));
    return { result: String(array.length), changed: true };
  },
);

/** Before the index; from the end if negative; beyond the ends it is the end. */
const arrinsert = arrayCommand(
  { min: 3, max: ARGS_UNLIMITED },
  ([, index, ...values]) => (isInteger(index) ? valuesProblem(values) : 'index is a whole number'),
  (array, [, index, ...values]) => {
    const inserted = values.map(valueOf);
    const kept = array.splice(integerOf(index)!);
    for (const value of [...inserted, ...kept]) array.push(value);
    return { result: String(array.length), changed: true };
  },
);

const arrpop = arrayCommand(
  { min: 0, max: 2 },
  ([, index]) => (index === undefined || isInteger(index) ? null : 'index is a whole number'),
  (array, [, index]) => {
    if (array.length === 0) return { result: 'null', changed: false };
    const asked = index === undefined ? -1 : integerOf(index)!;
    const at = Math.min(array.length - 1, Math.max(0, asked < 0 ? asked + array.length : asked));
    return { result: text(array.splice(at, 1)[0]), changed: true };
  },
);

const arrlen = arrayCommand(
  { min: 0, max: 1 },
  () => null,
  (array) => ({ result: String(array.length), changed: false }),
);

const objkeys = command(
  { min: 0, max: 1 },
  ([path]) => pointerProblem(path),
  (document, [path]) => {
    const value = valueAt(document, pathOf(path));
    return answer(isObject(value) ? JSON.stringify(Object.keys(value)) : 'null');
  },
);

/** The value is the document's JSON text: what is PUT as JSON is one, and a GET reads one. */
export const jsonType: DataType = {
  name: 'json',
  entries: 'plain',
  contentType: 'application/json',
  commands: {
    'json.get': get,
    'json.set': set,
    'json.merge': merge,
    'json.del': del,
    'json.type': type,
    'json.numincrby': numincrby,
    'json.arrappend': arrappend,
    'json.arrinsert': arrinsert,
    'json.arrpop': arrpop,
    'json.arrlen': arrlen,
    'json.objkeys': objkeys,
  },
};
