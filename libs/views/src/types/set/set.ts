import { ARGS_UNLIMITED, type Command, type CommandState, type DataType } from '../../data-type.js';
import { nothingWrong } from '../arguments.js';
import { answer, change } from '../effects.js';
import { elementOf, elementTexts, placeOf, readElements, writeElements } from '../elements.js';

/** Members, ascending by bytes. */
const membersOf = (state: CommandState | null): string[] => (state ? readElements(state.value) : []);
const has = (members: readonly string[], member: string): boolean => members[placeOf(members, member)] === member;

const sadd: Command = {
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args, record) => {
    const members = membersOf(state);
    const all = new Set(members);
    for (const arg of args) all.add(elementOf(arg));
    const added = all.size - members.length;
    return added === 0 ? answer('0') : change(state, record, writeElements([...all].sort()), String(added));
  },
};

const srem: Command = {
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args, record) => {
    const members = membersOf(state);
    const gone = new Set(args.map(elementOf));
    const left = members.filter((member) => !gone.has(member));
    const removed = members.length - left.length;
    if (removed === 0) return answer('0');
    if (left.length === 0) return { effect: 'delete', result: String(removed) };
    return change(state, record, writeElements(left), String(removed));
  },
};

const sismember: Command = {
  arity: { min: 1, max: 1 },
  validate: nothingWrong,
  apply: (state, [member]) => answer(has(membersOf(state), elementOf(member)) ? '1' : '0'),
};

const smismember: Command = {
  arity: { min: 1, max: ARGS_UNLIMITED },
  validate: nothingWrong,
  apply: (state, args) => {
    const members = membersOf(state);
    return answer(`[${args.map((arg) => (has(members, elementOf(arg)) ? '1' : '0')).join(',')}]`);
  },
};

const smembers: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(elementTexts(membersOf(state))),
};

const scard: Command = {
  arity: { min: 0, max: 0 },
  validate: nothingWrong,
  apply: (state) => answer(String(membersOf(state).length)),
};

/** State: elements (elements.ts), ascending by bytes, none twice. A set without members is no entry. */
export const setType: DataType = {
  name: 'set',
  contentType: 'application/vnd.tideline.set',
  commands: { sadd, srem, sismember, smismember, smembers, scard },
};
