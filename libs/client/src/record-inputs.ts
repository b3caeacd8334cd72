import { TidelineError } from '#kernel';
import { DEL_IF, PUT_IF, encodeConditionalOp, encodeOp, type EntryCondition, type RecordInput } from '#wire';
import type { DeleteOptions, RecordToAppend, SetOptions } from './client-requests.js';
import {
  CONTENT_TYPE_HEADER,
  TypedValue,
  keyBytes,
  passingKeyBytes,
  valueBytes,
  type KeyInput,
  type ValueInput,
} from './values.js';

export const NO_OPTIONS: SetOptions = {};

const conditionOf = ({ ifOffset, ifAbsent, ifPresent }: SetOptions): EntryCondition | null => {
  const given = Number(ifOffset !== undefined) + Number(ifAbsent === true) + Number(ifPresent === true);
  if (given > 1) throw new TidelineError('bad-request', 'ifOffset, ifAbsent and ifPresent exclude each other');
  if (ifAbsent) return { kind: 'absent' };
  if (ifPresent) return { kind: 'present' };
  return ifOffset === undefined ? null : { kind: 'offset', offset: ifOffset };
};

export const isConditional = ({ ifOffset, ifAbsent, ifPresent }: SetOptions): boolean =>
  ifOffset !== undefined || ifAbsent === true || ifPresent === true;

/** For a producer that copies it at once. */
export const setRecord = (key: KeyInput, value: ValueInput, options: SetOptions): RecordInput => {
  // What most records are.
  if (options === NO_OPTIONS && !(value instanceof TypedValue)) {
    return { key: passingKeyBytes(key), value: valueBytes(value) };
  }
  const contentType = options.contentType ?? (value instanceof TypedValue ? value.contentType : undefined);
  const condition = conditionOf(options);
  return {
    key: passingKeyBytes(key),
    value: valueBytes(value),
    ...(options.ttlMs !== undefined && { ttlMs: options.ttlMs }),
    ...(contentType !== undefined && { headers: [{ name: CONTENT_TYPE_HEADER, value: Buffer.from(contentType) }] }),
    ...(condition && { op: encodeConditionalOp(PUT_IF, condition) }),
  };
};

export const deleteRecord = (key: KeyInput, options: DeleteOptions): RecordInput => {
  const condition = conditionOf(options);
  return { key: passingKeyBytes(key), value: null, ...(condition && { op: encodeConditionalOp(DEL_IF, condition) }) };
};

export const recordInput = (record: RecordToAppend): RecordInput =>
  isEncoded(record) ? record : encodedRecord(record);

/** Bytes already, and so taken as it is: an object less for each record of a large batch. */
const isEncoded = (record: RecordToAppend): record is RecordToAppend & RecordInput =>
  record.headers === undefined && record.op === undefined && isBytesOrNone(record.key) && isBytesOrNone(record.value);

const isBytesOrNone = (field: unknown): boolean => field instanceof Uint8Array || field === undefined || field === null;

const encodedRecord = (record: RecordToAppend): RecordInput => {
  const { key, value, headers, ttlMs, type, timestamp, op } = record;
  const list = Object.entries(headers ?? {}).map(([name, text]) => ({
    name,
    value: typeof text === 'string' ? Buffer.from(text) : text,
  }));
  if (value instanceof TypedValue) list.push({ name: CONTENT_TYPE_HEADER, value: Buffer.from(value.contentType) });
  return {
    key: key === undefined || key === null ? null : keyBytes(key),
    value: value === undefined || value === null ? null : valueBytes(value),
    ...(list.length > 0 && { headers: list }),
    ...(ttlMs !== undefined && { ttlMs }),
    ...(type !== undefined && { type }),
    ...(timestamp !== undefined && { timestamp }),
    ...(op !== undefined && { op: encodeOp(op.name, op.args) }),
  };
};
