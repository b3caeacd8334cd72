import { isTidelineError } from '#kernel';
import { DEL_IF, PUT_IF, decodeCondition } from '#wire';
import type { Command, CommandState, DataType } from './data-type.js';

const conditionHolds = (state: CommandState | null, arg: Buffer): boolean => {
  const condition = decodeCondition(arg);
  if (condition.kind === 'absent') return state === null;
  if (condition.kind === 'present') return state !== null;
  return state !== null && state.offset === condition.offset;
};

const conditionProblem = (arg: Buffer): string | null => {
  try {
    decodeCondition(arg);
    return null;
  } catch (error) {
    if (isTidelineError(error)) return error.message;
    throw error;
  }
};

const failed = (state: CommandState | null) =>
  ({
    effect: 'refuse',
    code: 'condition-failed',
    message: state === null ? 'there is no entry' : `the entry was last written at offset ${state.offset}`,
  }) as const;

const putIf: Command = {
  arity: { min: 1, max: 1 },
  validate: ([condition], record) => (record.value === null ? 'there is no value to put' : conditionProblem(condition)),
  apply: (state, [condition], record) =>
    conditionHolds(state, condition) ? { effect: 'put', value: record.value! } : failed(state),
};

const delIf: Command = {
  arity: { min: 1, max: 1 },
  validate: ([condition]) => conditionProblem(condition),
  apply: (state, [condition]) => (conditionHolds(state, condition) ? { effect: 'delete' } : failed(state)),
};

/** Conditional put and delete of plain entries: the commands every map view knows (op-v1.ts). */
export const conditions: DataType = { name: '', commands: { [PUT_IF]: putIf, [DEL_IF]: delIf } };
