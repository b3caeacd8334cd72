import { ByteReader, ByteWriter, TidelineError } from '#kernel';

/**
 * The op of a record: a command of a data type, version 1.
 *
 *     op = u8 version (1)
 *          varint length, name (UTF-8)
 *          varint count, then count × (varint length, argument bytes)
 *
 * Names that every map view knows:
 *
 *     put-if   the record's value replaces the entry if the condition holds
 *     del-if   the entry goes if the condition holds
 *
 * whose one argument is a condition: u8 kind (1 absent · 2 present · 3 offset is), then u64 offset for kind 3.
 * Other names belong to the data types of libs/views.
 */
export const OP_VERSION = 1;

export interface Op {
  readonly name: string;
  readonly args: readonly Buffer[];
}

export type EntryCondition =
  | { readonly kind: 'absent' }
  | { readonly kind: 'present' }
  | { readonly kind: 'offset'; readonly offset: number };

export const encodeOp = (name: string, args: readonly Uint8Array[]): Buffer => {
  const writer = new ByteWriter(64).u8(OP_VERSION).string(name).varint(args.length);
  for (const arg of args) writer.lengthPrefixed(arg);
  return writer.finish();
};

/** @throws TidelineError `malformed-frame` | `unsupported-version` */
export const decodeOp = (bytes: Uint8Array): Op => {
  const reader = new ByteReader(bytes);
  const version = reader.u8();
  if (version !== OP_VERSION) throw new TidelineError('unsupported-version', `op version ${version}`);
  const name = reader.string();
  const count = reader.varint();
  if (count > reader.remaining) throw new TidelineError('malformed-frame', `${count} arguments do not fit`);
  const args: Buffer[] = [];
  for (let i = 0; i < count; i++) args.push(reader.lengthPrefixed());
  return { name, args };
};

export const PUT_IF = 'put-if';
export const DEL_IF = 'del-if';
/** The record's value is the state of the data type that the argument names: an entry that was exported. */
export const RESTORE_ENTRY = 'restore-entry';

export const encodeConditionalOp = (name: typeof PUT_IF | typeof DEL_IF, condition: EntryCondition): Buffer => {
  const arg = new ByteWriter(9);
  if (condition.kind === 'absent') arg.u8(1);
  else if (condition.kind === 'present') arg.u8(2);
  else arg.u8(3).u64(condition.offset);
  return encodeOp(name, [arg.finish()]);
};

/** @throws TidelineError `malformed-frame` */
export const decodeCondition = (arg: Uint8Array): EntryCondition => {
  const reader = new ByteReader(arg);
  const kind = reader.u8();
  if (kind === 1) return { kind: 'absent' };
  if (kind === 2) return { kind: 'present' };
  if (kind === 3) return { kind: 'offset', offset: reader.u64() };
  throw new TidelineError('malformed-frame', `condition kind ${kind}`);
};
