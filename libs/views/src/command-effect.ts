import { asLogTime, asOffset, assert } from '#kernel';
import type { Op, RecordCursor } from '#wire';
import {
  COMPUTED_VALUE_BYTES_MAX,
  RESULT_LENGTH_MAX,
  wrongArity,
  type CommandEffect,
  type CommandRecord,
  type CommandState,
  type DataType,
  type FoundCommand,
} from './data-type.js';
import type { StoredEntry } from './stored-entry.js';

/** Which entries the commands of a type are for. */
export type CommandEntries = NonNullable<DataType['entries']>;

export type PutEffect = Extract<CommandEffect, { readonly effect: 'put' }>;

/** The entry that a command meets. */
export interface CommandTarget {
  /** Null: there is none that is live. */
  readonly live: StoredEntry | null;
  /** Number of the type that entries of the command have; −1: they are plain. */
  readonly dataType: number;
  /** Data types by number. */
  readonly names: readonly string[];
}

export const entriesOf = (type: DataType): CommandEntries => type.entries ?? (type.name === '' ? 'any' : 'own');

/** A type gets bytes of its own: one with a defect cannot write to the batch or to the entries. */
const getsCopies = (entries: CommandEntries): boolean => entries !== 'any';

export const recordOfCommand = (cursor: RecordCursor, logTime: number, entries: CommandEntries): CommandRecord => {
  const copied = getsCopies(entries);
  return {
    key: copied ? Buffer.from(cursor.key!) : cursor.key!,
    value: copied && cursor.value !== null ? Buffer.from(cursor.value) : cursor.value,
    offset: cursor.offset,
    logTime: asLogTime(logTime),
    expiresAt: cursor.ttlMs < 0 ? null : asLogTime(logTime + cursor.ttlMs),
  };
};

/** What the command makes of the entry; a defect of its type is told to `failed`, and refuses it on every host alike. */
export const effectOf = (
  { type, command }: FoundCommand,
  op: Op,
  record: CommandRecord,
  { live, dataType, names }: CommandTarget,
  failed: (error: unknown) => void,
): CommandEffect => {
  const entries = entriesOf(type);
  if (op.args.length < command.arity.min || op.args.length > command.arity.max) {
    return { effect: 'refuse', code: 'bad-request', message: wrongArity(op.name, command, op.args.length) };
  }
  if (live !== null && entries !== 'any' && live.dataType !== dataType) {
    const held = live.dataType < 0 ? 'plain' : `a ${names[live.dataType]}`;
    return { effect: 'refuse', code: 'wrong-type', message: `${op.name} is not for this entry, which is ${held}` };
  }
  const copied = getsCopies(entries);
  const args = copied ? op.args.map((arg) => Buffer.from(arg)) : op.args;
  try {
    const problem = command.validate(args, record);
    if (problem !== null) return { effect: 'refuse', code: 'bad-request', message: problem };
    const state = live === null ? null : commandState(live, copied);
    return checkEffect(command.apply(state, args, record), live !== null);
  } catch (error) {
    // The same on every host since commands are pure; but the words of an engine's error may not be.
    failed(error);
    return { effect: 'refuse', code: 'internal', message: `the data type failed on ${op.name}` };
  }
};

const commandState = ({ value, offset, logTime, ttlEnd }: StoredEntry, copied: boolean): CommandState => ({
  value: copied ? Buffer.from(value) : value,
  offset: asOffset(offset),
  logTime: asLogTime(logTime),
  expiresAt: ttlEnd === Infinity ? null : asLogTime(ttlEnd),
});

const KNOWN_EFFECTS: ReadonlySet<string> = new Set<CommandEffect['effect']>([
  'put',
  'renew',
  'delete',
  'none',
  'refuse',
]);

/** What a data type gave back, if the view can work with it; what is too large is refused. @throws AssertionError */
const checkEffect = (effect: CommandEffect, live: boolean): CommandEffect => {
  const { effect: kind } = effect;
  assert(KNOWN_EFFECTS.has(kind), 'a command has no such effect');
  assert(kind !== 'renew' || live, 'a command renewed what is not there');
  if (kind === 'refuse') return effect;
  assert(kind !== 'put' || Buffer.isBuffer(effect.value), 'a command put something else than a buffer');
  assert(effect.result === undefined || typeof effect.result === 'string', 'a result is JSON text');
  if (kind === 'put' && effect.value.length > COMPUTED_VALUE_BYTES_MAX) {
    const message = `the entry would have ${effect.value.length} bytes, the limit is ${COMPUTED_VALUE_BYTES_MAX}`;
    return { effect: 'refuse', code: 'record-too-large', message };
  }
  if (effect.result !== undefined && effect.result.length > RESULT_LENGTH_MAX) {
    return { effect: 'refuse', code: 'record-too-large', message: 'the result is too long; ask for less' };
  }
  return effect;
};
