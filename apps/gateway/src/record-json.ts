import { isUtf8 } from 'node:buffer';
import { toUSVString } from 'node:util';
import { TidelineError, type ErrorCode } from '#kernel';
import { encodeOp, type LogRecord, type RecordHeader, type RecordInput } from '#wire';
import type { DepartedEntry, Entry, ParkedEvent } from '#views';
import type { GatewayLimits } from './gateway-options.js';

/**
 * Records and entries as JSON, and back.
 *
 *     record = { "key": string | null   or "keyBase64": string        (absent: no key)
 *                "value": any JSON      or "valueBase64": string       null: a tombstone
 *                "headers": { name: string | {"base64": string} | [of these] }
 *                "ttlMs": number, "type": string, "op": {"name": string, "args": [any JSON]} }
 *
 * A string value is its UTF-8 bytes. Other JSON is its compact text, under the header content-type: application/json.
 * Going out, bytes are JSON when that header says so and they parse, else a string when they are UTF-8, else Base64.
 */
export const CONTENT_TYPE = 'content-type';
export const JSON_TYPE = 'application/json';

const TYPE_BYTES_MAX = 256;
const HEADERS_MAX = 64;
const HEADER_NAME_BYTES_MAX = 256;
export const OP_ARGS_MAX = 1024;
const OP_NAME_BYTES_MAX = 64;
/** A hundred years. */
export const TTL_MS_MAX = 100 * 366 * 24 * 3600 * 1000;

const MEMBERS = new Set(['key', 'keyBase64', 'value', 'valueBase64', 'headers', 'ttlMs', 'type', 'op']);

const fail = (message: string, member: string, code: ErrorCode = 'bad-request'): never => {
  throw new TidelineError(code, message, { details: { member } });
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

/** Base64 or base64url, with or without padding. @throws TidelineError `bad-request` */
export const bytesOfBase64 = (text: unknown, member: string): Buffer => {
  if (typeof text !== 'string' || !BASE64.test(text)) return fail(`${member} is not Base64`, member);
  return Buffer.from(text, 'base64');
};

export const isJsonType = (contentType: string | null | undefined): boolean => {
  if (!contentType) return false;
  const type = contentType.split(';', 1)[0].trim().toLowerCase();
  return type === JSON_TYPE || type.endsWith('+json');
};

/** A string with half a surrogate pair has no UTF-8: written as it is it would become another one. @throws TidelineError `bad-request` */
export const utf8Bytes = (text: string, member: string): Buffer => {
  if (toUSVString(text) !== text) fail(`${member} holds half a surrogate pair, which UTF-8 cannot`, member);
  return Buffer.from(text);
};

/** @throws TidelineError `key-too-large` | `bad-request` */
export const checkKey = (key: Buffer, limits: GatewayLimits): Buffer => {
  if (key.length === 0) fail('a key has at least one byte', 'key');
  if (key.length > limits.keyBytesMax) {
    throw new TidelineError('key-too-large', `the key has ${key.length} bytes, the limit is ${limits.keyBytesMax}`, {
      details: { limit: limits.keyBytesMax, size: key.length },
    });
  }
  return key;
};

/** @throws TidelineError `record-too-large` */
export const checkRecordBytes = (bytes: number, limits: GatewayLimits): void => {
  if (bytes > limits.recordBytesMax) {
    throw new TidelineError(
      'record-too-large',
      `the record has ${bytes} bytes, the limit is ${limits.recordBytesMax}`,
      {
        details: { limit: limits.recordBytesMax, size: bytes },
      },
    );
  }
};

const keyOf = (record: Record<string, unknown>, limits: GatewayLimits): Buffer | null => {
  const { key, keyBase64 } = record;
  if (keyBase64 !== undefined) {
    if (key !== undefined) fail('key and keyBase64 cannot both be given', 'keyBase64');
    return checkKey(bytesOfBase64(keyBase64, 'keyBase64'), limits);
  }
  if (key === undefined || key === null) return null;
  if (typeof key !== 'string') return fail(`key is a string, not ${describeJson(key)}`, 'key');
  return checkKey(utf8Bytes(key, 'key'), limits);
};

const describeJson = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'an array'
      : typeof value === 'object'
        ? 'an object'
        : `a ${typeof value}`;

const headerValues = (name: string, value: unknown, into: RecordHeader[]): void => {
  if (typeof value === 'string') into.push({ name, value: Buffer.from(value) });
  else if (Array.isArray(value)) for (const one of value) headerValues(name, one, into);
  else if (isObject(value) && Object.keys(value).length === 1 && 'base64' in value) {
    into.push({ name, value: bytesOfBase64(value['base64'], `headers.${name}`) });
  } else fail(`header ${name} is a string, not ${describeJson(value)}`, `headers.${name}`);
  if (into.length > HEADERS_MAX) fail(`a record has at most ${HEADERS_MAX} headers`, 'headers');
};

const headersOf = (headers: unknown): RecordHeader[] => {
  if (headers === undefined || headers === null) return [];
  if (!isObject(headers)) return fail(`headers is an object, not ${describeJson(headers)}`, 'headers');
  const list: RecordHeader[] = [];
  for (const [name, value] of Object.entries(headers)) {
    const bytes = Buffer.byteLength(name);
    if (bytes === 0 || bytes > HEADER_NAME_BYTES_MAX) {
      fail(`a header name has 1 to ${HEADER_NAME_BYTES_MAX} bytes`, 'headers');
    }
    headerValues(name, value, list);
  }
  return list;
};

/** An argument of a command as bytes: a string is itself, everything else its JSON text. */
const argumentBytes = (value: unknown): Buffer =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

/** @throws TidelineError `bad-request` */
export const opOfJson = (name: unknown, args: unknown, member: string): Buffer => {
  if (typeof name !== 'string' || name === '' || Buffer.byteLength(name) > OP_NAME_BYTES_MAX) {
    return fail(`${member} is the name of a command, 1 to ${OP_NAME_BYTES_MAX} bytes`, member);
  }
  if (args !== undefined && !Array.isArray(args)) return fail(`args is an array, not ${describeJson(args)}`, 'args');
  const list = args ?? [];
  if (list.length > OP_ARGS_MAX) fail(`a command has at most ${OP_ARGS_MAX} arguments`, 'args');
  return encodeOp(name, list.map(argumentBytes));
};

/** @throws TidelineError `bad-request` */
export const checkTtlMs = (ttlMs: unknown, name: string): number => {
  if (typeof ttlMs === 'number' && Number.isInteger(ttlMs) && ttlMs >= 1 && ttlMs <= TTL_MS_MAX) return ttlMs;
  return fail(`${name} is a whole number of milliseconds from 1 to ${TTL_MS_MAX}`, name);
};

const hasContentType = (headers: readonly RecordHeader[]): boolean =>
  headers.some((header) => header.name.toLowerCase() === CONTENT_TYPE);

/**
 * One record of a request.
 * @throws TidelineError `bad-request` | `key-too-large` | `record-too-large`, with the member's name in details
 */
export const recordOfJson = (json: unknown, limits: GatewayLimits): RecordInput => {
  if (!isObject(json)) throw new TidelineError('bad-request', `a record is an object, not ${describeJson(json)}`);
  for (const member of Object.keys(json))
    if (!MEMBERS.has(member)) fail(`a record has no member ${member.slice(0, 80)}`, member);
  const key = keyOf(json, limits);
  const headers = headersOf(json['headers']);
  const { value, valueBase64, ttlMs, type, op } = json;
  let bytes: Buffer | null = null;
  if (valueBase64 !== undefined) {
    if (value !== undefined) fail('value and valueBase64 cannot both be given', 'valueBase64');
    bytes = bytesOfBase64(valueBase64, 'valueBase64');
  } else if (typeof value === 'string') {
    bytes = utf8Bytes(value, 'value');
  } else if (value !== undefined && value !== null) {
    bytes = Buffer.from(JSON.stringify(value));
    if (!hasContentType(headers)) headers.push({ name: CONTENT_TYPE, value: Buffer.from(JSON_TYPE) });
  } else if (value === undefined && op === undefined) {
    fail('a record has a value (null deletes the key)', 'value');
  }
  if (type !== undefined && (typeof type !== 'string' || type === '' || Buffer.byteLength(type) > TYPE_BYTES_MAX)) {
    fail(`type is a string of 1 to ${TYPE_BYTES_MAX} bytes`, 'type');
  }
  let opBytes: Buffer | undefined;
  if (op !== undefined) {
    if (!isObject(op)) return fail(`op is an object, not ${describeJson(op)}`, 'op');
    if (key === null) fail('a record with an op has a key', 'op');
    opBytes = opOfJson(op['name'], op['args'], 'op.name');
  }
  let size = (key?.length ?? 0) + (bytes?.length ?? 0) + (opBytes?.length ?? 0);
  let headerBytes = 0;
  for (const header of headers) headerBytes += header.name.length + header.value.length;
  if (headerBytes > limits.headerBytesMax) {
    throw new TidelineError(
      'record-too-large',
      `the headers have ${headerBytes} bytes, the limit is ${limits.headerBytesMax}`,
      {
        details: { member: 'headers', limit: limits.headerBytesMax, size: headerBytes },
      },
    );
  }
  size += headerBytes;
  checkRecordBytes(size, limits);
  return {
    key,
    value: bytes,
    headers,
    ...(ttlMs === undefined || ttlMs === null ? {} : { ttlMs: checkTtlMs(ttlMs, 'ttlMs') }),
    ...(type === undefined ? {} : { type: type as string }),
    ...(opBytes ? { op: opBytes } : {}),
  };
};

/* ---- going out: text, put together by hand, so that a JSON value passes through as it was written ---- */

/** Whether the text may stand inside an answer as JSON. Given in, so that the limit on depth is the gateway's. */
export type JsonCheck = (text: string) => boolean;

const bytesMember = (name: string, bytes: Buffer): string =>
  isUtf8(bytes) ? `"${name}":${JSON.stringify(bytes.toString())}` : `"${name}Base64":"${bytes.toString('base64')}"`;

/** Outside strings JSON text may have line ends; inside them it cannot. In a line of a stream they would end it. */
const oneLine = (text: string): string => (/[\r\n]/.test(text) ? text.replace(/[\r\n]+/g, ' ') : text);

const valueMember = (value: Buffer, contentType: string | null, isJson: JsonCheck): string => {
  if (isJsonType(contentType) && value.length > 0 && isUtf8(value)) {
    const text = value.toString();
    if (isJson(text)) return `"value":${oneLine(text)}`;
  }
  return bytesMember('value', value);
};

const headerText = (value: Uint8Array): string => {
  const bytes = value as Buffer;
  return isUtf8(bytes) ? JSON.stringify(bytes.toString()) : `{"base64":"${bytes.toString('base64')}"}`;
};

const headersMember = (headers: readonly RecordHeader[]): string => {
  const byName = new Map<string, string[]>();
  for (const { name, value } of headers) {
    const values = byName.get(name);
    if (values) values.push(headerText(value));
    else byName.set(name, [headerText(value)]);
  }
  let text = '';
  for (const [name, values] of byName) {
    text += `${text === '' ? '' : ','}${JSON.stringify(name)}:${values.length === 1 ? values[0] : `[${values.join(',')}]`}`;
  }
  return `"headers":{${text}}`;
};

const contentTypeOf = (headers: readonly RecordHeader[]): string | null => {
  for (const { name, value } of headers) if (name.toLowerCase() === CONTENT_TYPE) return (value as Buffer).toString();
  return null;
};

/** A record of a log as JSON text. */
export const recordToJson = (record: LogRecord, partition: number, isJson: JsonCheck): string => {
  let text = `{"partition":${partition},"offset":${record.offset},"timestamp":${record.timestamp},"logTime":${record.logTime}`;
  text += record.key === null ? ',"key":null' : `,${bytesMember('key', record.key)}`;
  text +=
    record.value === null ? ',"value":null' : `,${valueMember(record.value, contentTypeOf(record.headers), isJson)}`;
  if (record.headers.length > 0) text += `,${headersMember(record.headers)}`;
  if (record.ttlMs !== undefined) text += `,"ttlMs":${record.ttlMs}`;
  if (record.type !== undefined) text += `,"type":${JSON.stringify(record.type)}`;
  if (record.op !== undefined) text += `,"opBase64":"${record.op.toString('base64')}"`;
  return `${text}}`;
};

export const keyToJson = (key: Buffer): string => bytesMember('key', key);

/** An entry of a view as JSON text. */
export const entryToJson = (entry: Entry, isJson: JsonCheck, withValue = true): string => {
  let text = `{${keyToJson(entry.key)},"offset":${entry.offset},"logTime":${entry.logTime}`;
  if (entry.contentType !== null) text += `,"contentType":${JSON.stringify(entry.contentType)}`;
  if (entry.expiresAt !== null) text += `,"expiresAt":${JSON.stringify(isoTime(entry.expiresAt))}`;
  if (withValue) text += `,${valueMember(entry.value, entry.contentType, isJson)}`;
  return `${text}}`;
};

/** Why an entry went. */
export const reasonOf = ({ evicted }: DepartedEntry): 'evicted' | 'expired' => (evicted ? 'evicted' : 'expired');

/** An entry that expired or was evicted: as it was, where, why, and when it was archived; null: not yet. */
export const departedToJson = (entry: DepartedEntry, isJson: JsonCheck): string => {
  const { partition, archivedAt } = entry;
  const archived = archivedAt === null ? 'null' : JSON.stringify(isoTime(archivedAt));
  const more = `"partition":${partition},"archivedAt":${archived},"reason":"${reasonOf(entry)}"`;
  return `${entryToJson(entry, isJson).slice(0, -1)},${more}}`;
};

/** An event that a projection set aside: where it is, what it is, what went wrong. */
export const parkedEventToJson = (event: ParkedEvent, isJson: JsonCheck): string => {
  const { partition, offset, logTime, type, key, value, contentType, error, attempts } = event;
  let text = `{"position":"${partition}:${offset}","partition":${partition},"offset":${offset},"logTime":${logTime}`;
  text += `,"type":${JSON.stringify(type)}`;
  text += key === null ? ',"key":null' : `,${bytesMember('key', key)}`;
  text += value === null ? ',"value":null' : `,${valueMember(value, contentType, isJson)}`;
  return `${text},"error":${JSON.stringify(error)},"attempts":${attempts}}`;
};

/** The largest time a Date can hold; later is written as that. */
const DATE_MS_MAX = 8.64e15;

export const isoTime = (ms: number): string => new Date(Math.min(ms, DATE_MS_MAX)).toISOString();
