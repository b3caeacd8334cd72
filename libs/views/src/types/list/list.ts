import {
  ARGS_UNLIMITED,
  type Command,
  type CommandEffect,
  type CommandRecord,
  type CommandState,
  type DataType,
} from '../../data-type.js';
import { integerOf, integersAt, isWord, nothingWrong, rangeOf } from '../arguments.js';
import { answer, change, refuse } from '../effects.js';
import { elementOf, elementText, elementTexts, readElements, writeElements } from '../elements.js';

const elementsOf = (state: CommandState | null): string[] => (state ? readElements(state.value) : []);

const keep = (
  state: CommandState | null,
  record: CommandRecord,
  elements: readonly string[],
  result: string,
): CommandEffect =>
  elements.length === 0 ? { effect: 'delete', result } : change(state, record, writeElements(elements), result);

const push = (left: boolean, onlyIfThere: boolean): Command => ({
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args, record) => {
    if (onlyIfThere && state === null) return answer('0');
    const old = elementsOf(state);
    const more = args.map(elementOf);
    const elements = left ? more.reverse().concat(old) : old.concat(more);
    return keep(state, record, elements, String(elements.length));
  },
});

const pop = (left: boolean): Command => ({
  arity: { min: 0, max: 1 },
  validate: ([count]) =>
    count === undefined || (integerOf(count) ?? -1) >= 0 ? null : 'count is a whole number from 0 on',
  apply: (state, [count], record) => {
    if (state === null) return answer('null');
    const elements = elementsOf(state);
    const taken = count === undefined ? 1 : Math.min(integerOf(count)!, elements.length);
    if (taken === 0) return answer('[]');
    const popped = left ? elements.splice(0, taken) : elements.splice(elements.length - taken).reverse();
    return keep(state, record, elements, count === undefined ? elementText(popped[0]) : elementTexts(popped));
  },
});

const llen: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(String(elementsOf(state).length)),
};

const lrange: Command = {
  arity: { min: 2, max: 2 },
  validate: integersAt([0, 'start'], [1, 'stop']),
  apply: (state, [start, stop]) => {
    const elements = elementsOf(state);
    const { from, to } = rangeOf(start, stop, elements.length);
    return answer(elementTexts(elements.slice(from, to)));
  },
};

const lindex: Command = {
  arity: { min: 1, max: 1 },
  validate: integersAt([0, 'index']),
  apply: (state, [index]) => {
    const element = elementsOf(state).at(integerOf(index)!);
    return answer(element === undefined ? 'null' : elementText(element));
  },
};

const lset: Command = {
  arity: { min: 2, max: 2 },
  validate: integersAt([0, 'index']),
  apply: (state, [index, element], record) => {
    const elements = elementsOf(state);
    const asked = integerOf(index)!;
    const at = asked < 0 ? asked + elements.length : asked;
    if (state === null) return refuse('unknown-entry', 'there is no list');
    if (at < 0 || at >= elements.length) return refuse('bad-request', `the list has ${elements.length} elements`);
    elements[at] = elementOf(element);
    return keep(state, record, elements, 'true');
  },
};

const linsert: Command = {
  arity: { min: 3, max: 3 },
  validate: ([where]) => (isWord(where, 'before') || isWord(where, 'after') ? null : 'linsert says before or after'),
  apply: (state, [where, pivot, element], record) => {
    if (state === null) return answer('0');
    const elements = elementsOf(state);
    const at = elements.indexOf(elementOf(pivot));
    if (at < 0) return answer('-1');
    elements.splice(isWord(where, 'before') ? at : at + 1, 0, elementOf(element));
    return keep(state, record, elements, String(elements.length));
  },
};

/** count > 0: so many from the left; < 0: from the right; 0: all. */
const lrem: Command = {
  arity: { min: 2, max: 2 },
  validate: integersAt([0, 'count']),
  apply: (state, [countArg, elementArg], record) => {
    const count = integerOf(countArg)!;
    const element = elementOf(elementArg);
    const elements = elementsOf(state);
    if (count < 0) elements.reverse();
    let left = count === 0 ? Infinity : Math.abs(count);
    const kept = elements.filter((one) => one !== element || left-- <= 0);
    if (count < 0) kept.reverse();
    const removed = elements.length - kept.length;
    return removed === 0 ? answer('0') : keep(state, record, kept, String(removed));
  },
};

const ltrim: Command = {
  arity: { min: 2, max: 2 },
  validate: integersAt([0, 'start'], [1, 'stop']),
  apply: (state, [start, stop], record) => {
    if (state === null) return answer('true');
    const elements = elementsOf(state);
    const { from, to } = rangeOf(start, stop, elements.length);
    return keep(state, record, elements.slice(from, to), 'true');
  },
};

/** State: elements (elements.ts), in order. A list without elements is no entry. */
export const listType: DataType = {
  name: 'list',
  contentType: 'application/vnd.tideline.list',
  commands: {
    lpush: push(true, false),
    rpush: push(false, false),
    lpushx: push(true, true),
    rpushx: push(false, true),
    lpop: pop(true),
    rpop: pop(false),
    llen,
    lrange,
    lindex,
    lset,
    linsert,
    lrem,
    ltrim,
  },
};
