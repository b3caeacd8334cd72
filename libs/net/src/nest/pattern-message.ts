import { JSON_DEPTH_MAX, TidelineError } from '#kernel';
import type { Hello } from '#wire';
import { jsonIsDeeperThan } from './json-depth.js';

/**
 * Nest messages over framed connections, version 1. A call is a stream (the caller does not know whether one value or many will come),
 * an event is a post.
 *
 *     0x0501 call (stream)   message → items: value
 *     0x0502 event (post)    message
 *
 *     message = value {"pattern": …, "data": …, "metadata": …}
 *     value   = JSON text (UTF-8; empty for undefined), in which
 *               bytes are {"$bytes": base64}, a bigint is {"$bigint": decimal text}, and an object whose only member is
 *               called $bytes, $bigint or $object is {"$object": that object}
 */
export const patternCallsV1 = { call: { method: 0x0501 }, event: { method: 0x0502 } } as const;

export const patternHello = (changes: Partial<Hello> = {}): Hello => ({
  nodeId: 0,
  clusterId: '',
  service: 'nest',
  software: 'tideline',
  addresses: {},
  ...changes,
});

export interface PatternMessage {
  readonly pattern: unknown;
  readonly data: unknown;
  readonly metadata?: unknown;
}

const TAGS: readonly string[] = ['$bytes', '$bigint', '$object'];

/** The only member's name, if it is one of the tags. */
const tagOf = (value: object): string | null => {
  const [only, second] = Object.keys(value);
  return second === undefined && only !== undefined && TAGS.includes(only) ? only : null;
};

const mapMembers = (value: object, map: (member: unknown) => unknown): Record<string, unknown> =>
  // fromEntries defines members, whatever they are called; assignment would not do that for __proto__.
  Object.fromEntries(Object.entries(value).map(([key, member]) => [key, map(member)]));

const toPlain = (value: unknown): unknown => {
  if (typeof value === 'bigint') return { $bigint: value.toString() };
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) {
    return { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') };
  }
  if (Array.isArray(value)) return value.map(toPlain);
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') return value;
  const plain = mapMembers(value, toPlain);
  return tagOf(plain) === null ? plain : { $object: plain };
};

const fromPlain = (value: unknown): unknown => {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(fromPlain);
  const tag = tagOf(value);
  if (tag === null) return mapMembers(value, fromPlain);
  const inner = (value as Record<string, unknown>)[tag];
  if (tag === '$bytes' && typeof inner === 'string') return Buffer.from(inner, 'base64');
  if (tag === '$bigint' && typeof inner === 'string' && BIGINT_TEXT.test(inner)) return BigInt(inner);
  if (tag === '$object' && typeof inner === 'object' && inner !== null) return mapMembers(inner, fromPlain);
  throw new TidelineError('malformed-json', `${tag} holds something else`);
};

/** More digits take more than linear time to read. */
const BIGINT_TEXT = /^-?\d{1,400}$/;

/** Throws what JSON.stringify throws for a value that has no JSON. */
export const encodeValue = (value: unknown): Buffer => {
  const text = JSON.stringify(toPlain(value)) as string | undefined;
  return Buffer.from(text ?? '');
};

/** @throws TidelineError `malformed-json` | `too-deep` */
export const decodeValue = (payload: Buffer): unknown => {
  if (payload.length === 0) return undefined;
  const text = payload.toString('utf8');
  if (jsonIsDeeperThan(text, JSON_DEPTH_MAX)) {
    throw new TidelineError('too-deep', `the JSON is nested deeper than ${JSON_DEPTH_MAX}`);
  }
  let plain: unknown;
  try {
    plain = JSON.parse(text);
  } catch (error) {
    throw new TidelineError('malformed-json', 'the message is not JSON', { cause: error });
  }
  return fromPlain(plain);
};
