import type { ErrorCode, LogTime, Offset } from '#kernel';
import { conditions } from './conditions.js';

/**
 * A data type: commands that records carry as their op. Everything in it is a pure function of its arguments, or replicas differ: no
 * clock, no randomness, no state of its own, no iteration order that is not defined. State is bytes: what `put` returned the last time.
 */
export interface DataType {
  /** Kept with the entries its commands make, and so part of the snapshot format. '' for commands that act on plain entries of any type. */
  readonly name: string;
  readonly commands: Readonly<Record<string, Command>>;
}

export interface Command {
  /** Number of arguments, inclusive. */
  readonly arity: { readonly min: number; readonly max: number };
  /** What is wrong with the arguments, whatever the state; null: nothing. */
  validate(args: readonly Buffer[], record: CommandRecord): string | null;
  /** `state` is null when there is no live entry. Must not change what it is given, and must not throw (`internal` is the result if it does). */
  apply(state: CommandState | null, args: readonly Buffer[], record: CommandRecord): CommandEffect;
}

/** The live entry under the record's key. */
export interface CommandState {
  readonly value: Buffer;
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly expiresAt: LogTime | null;
}

/** The record the command came with; the context of its application. */
export interface CommandRecord {
  readonly key: Buffer;
  readonly value: Buffer | null;
  readonly offset: Offset;
  readonly logTime: LogTime;
  /** From the record's TTL; null: none given. */
  readonly expiresAt: LogTime | null;
}

export type CommandEffect =
  /** The entry gets this value; the record's content type; the record's expiry unless another is given. `result` is JSON text. */
  | { readonly effect: 'put'; readonly value: Buffer; readonly expiresAt?: LogTime | null; readonly result?: string }
  | { readonly effect: 'delete'; readonly result?: string }
  | { readonly effect: 'none'; readonly result?: string }
  | { readonly effect: 'refuse'; readonly code: ErrorCode; readonly message: string };

export interface FoundCommand {
  readonly type: DataType;
  readonly command: Command;
}

/** Commands by name; names are unique over all types of a view. */
export class CommandTable {
  private readonly commands = new Map<string, FoundCommand>();

  constructor(types: readonly DataType[]) {
    for (const type of [conditions, ...types]) {
      for (const [name, command] of Object.entries(type.commands)) {
        if (this.commands.has(name)) throw new RangeError(`two commands are called ${name}`);
        this.commands.set(name, { type, command });
      }
    }
  }

  find(name: string): FoundCommand | undefined {
    return this.commands.get(name);
  }
}
