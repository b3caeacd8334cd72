import { RECORD_BYTES_MAX, TidelineError, type ErrorCode, type LogTime, type Offset } from '#kernel';
import { conditions } from './conditions.js';
import { lifetime } from './lifetime.js';
import { restoredEntry } from './restored-entry.js';

/**
 * A data type: commands that records carry as their op. Everything in it is a pure function of its arguments, or replicas differ: no
 * clock, no randomness, no state of its own, no iteration order that is not defined. State is bytes: what `put` returned the last time.
 * docs/data-types.md shows how to write one.
 */
export interface DataType {
  /** Kept with the entries its commands make, and so part of the snapshot format: it never changes. '' as for entries `any`. */
  readonly name: string;
  /**
   * Which entries its commands work on; others are `wrong-type`.
   *
   *     own (default)   those its own commands made; they carry its name
   *     plain           those that a PUT makes, of no type, and so what a GET gives are the bytes a command left
   *     any             all; what is put is a plain entry
   */
  readonly entries?: 'own' | 'plain' | 'any';
  /** Of the entries its commands put, unless the record gives one. Null or left out: a plain entry keeps the one it has. */
  readonly contentType?: string | null;
  readonly commands: Readonly<Record<string, Command>>;
}

export interface Command {
  /** Number of arguments, inclusive. */
  readonly arity: { readonly min: number; readonly max: number };
  /** What is wrong with the arguments, whatever the state; null: nothing. Asked before the record is appended, and when it is applied. */
  validate(args: readonly Buffer[], record: CommandInput): string | null;
  /** `state` is null when there is no live entry. Must not change what it is given, and must not throw (`internal` is the result if it does). */
  apply(state: CommandState | null, args: readonly Buffer[], record: CommandRecord): CommandEffect;
}

/** The live entry under the record's key. */
export interface CommandState {
  readonly value: Buffer;
  readonly offset: Offset;
  readonly logTime: LogTime;
  /** By its TTL; null: it has none. A view's idle time is not in it. */
  readonly expiresAt: LogTime | null;
}

/** What is known of a record before it is in the log. */
export interface CommandInput {
  readonly key: Buffer;
  readonly value: Buffer | null;
}

/** The record the command came with; the context of its application. */
export interface CommandRecord extends CommandInput {
  readonly offset: Offset;
  readonly logTime: LogTime;
  /** From the record's TTL; null: none given. */
  readonly expiresAt: LogTime | null;
}

export type CommandEffect =
  /**
   * The entry gets this value; the record's expiry unless another is given. `result` is JSON text. Where that is no expiry, a new entry, or
   * one whose expiry the effect leaves out, gets the view's default.
   */
  | {
      readonly effect: 'put';
      readonly value: Buffer;
      readonly expiresAt?: LogTime | null;
      readonly result?: string;
      /** Of the entry from now on; left out: the command's own. */
      readonly dataType?: string;
    }
  /** The live entry stays as it is, but was used now and has this expiry; left out: the one it has. */
  | { readonly effect: 'renew'; readonly expiresAt?: LogTime | null; readonly result?: string }
  | { readonly effect: 'delete'; readonly result?: string }
  | { readonly effect: 'none'; readonly result?: string }
  | { readonly effect: 'refuse'; readonly code: ErrorCode; readonly message: string };

/** What a command may make of an entry; more is `record-too-large`. */
export const COMPUTED_VALUE_BYTES_MAX = RECORD_BYTES_MAX;
/** JSON text of a result, in UTF-16 units. Longer is refused: results are kept in memory and in snapshots. */
export const RESULT_LENGTH_MAX = 8 * 1024 * 1024;

export interface FoundCommand {
  readonly type: DataType;
  readonly command: Command;
}

/** Commands by name; names are unique over all types of a view. */
export class CommandTable {
  private readonly commands = new Map<string, FoundCommand>();

  constructor(types: readonly DataType[]) {
    for (const type of [conditions, lifetime, restoredEntry(types), ...types]) {
      for (const [name, command] of Object.entries(type.commands)) {
        if (this.commands.has(name)) throw new RangeError(`two commands are called ${name}`);
        this.commands.set(name, { type, command });
      }
    }
  }

  find(name: string): FoundCommand | undefined {
    return this.commands.get(name);
  }

  /**
   * What is wrong with a command whatever the entry is, so that it can be refused before it is appended. Null: nothing, or a defect of the
   * type, which is the view's to report. Codes: `unknown-command` · `bad-request`.
   */
  check(name: string, args: readonly Buffer[], record: CommandInput): TidelineError | null {
    const found = this.commands.get(name);
    if (!found) return new TidelineError('unknown-command', unknownCommand(name));
    const { command } = found;
    if (args.length < command.arity.min || args.length > command.arity.max)
      return new TidelineError('bad-request', wrongArity(name, command, args.length));
    try {
      const problem = command.validate(args, record);
      return problem === null ? null : new TidelineError('bad-request', problem);
    } catch {
      return null;
    }
  }
}

export const unknownCommand = (name: string): string => `no command ${JSON.stringify(name.slice(0, 64))}`;

export const wrongArity = (name: string, { arity: { min, max } }: Command, given: number): string => {
  const allowed = min === max ? String(min) : max >= ARGS_UNLIMITED ? `at least ${min}` : `${min} to ${max}`;
  return `${name} takes ${allowed} argument${allowed === '1' || allowed === 'at least 1' ? '' : 's'}, not ${given}`;
};

/** For commands of as many arguments as a record holds. */
export const ARGS_UNLIMITED = 2 ** 20;
