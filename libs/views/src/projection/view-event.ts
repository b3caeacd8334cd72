import { asLogTime, type LogTime, type Offset } from '#kernel';
import type { RecordCursor } from '#wire';
import { parseJson } from '../types/json/json-text.js';

/** An event as a projection's methods see it: a record of the topic that carries no command of a data type. */
export interface ViewEvent<Value = unknown> {
  /** As the producer named it; null for a record without one. */
  readonly type: string | null;
  /** The record's key as text; null for none. */
  readonly key: string | null;
  readonly keyBytes: Buffer | null;
  /** Parsed when the content type says JSON, else the bytes; null for a tombstone. */
  readonly value: Value;
  readonly bytes: Buffer | null;
  /** By name; the last one wins. */
  readonly headers: Readonly<Record<string, string>>;
  /** Lifetime that the record asks for, ms. */
  readonly ttlMs: number | null;
  readonly partition: number;
  readonly offset: Offset;
  /** The only time a projection may go by: it is the same on every host. */
  readonly logTime: LogTime;
  /** The producer's, ms since the epoch. */
  readonly timestamp: number;
}

const isJsonType = (contentType: string): boolean => {
  const type = contentType.split(';', 1)[0].trim().toLowerCase();
  return type === 'application/json' || type.endsWith('+json');
};

/** The record at the cursor; bytes are copies, nothing a method does to them reaches a view. `problem`: it says JSON and is not. */
export const eventOf = (
  cursor: RecordCursor,
  at: { readonly partition: number; readonly logTime: number },
): { readonly event: ViewEvent } | { readonly problem: string } => {
  // A header may be called __proto__.
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  let contentType = '';
  for (const { name, value } of cursor.headers) {
    headers[name] = (value as Buffer).toString();
    if (name.toLowerCase() === 'content-type') contentType = headers[name];
  }
  const { key, value } = cursor;
  const keyBytes = key === null ? null : Buffer.from(key);
  const bytes = value === null ? null : Buffer.from(value);
  let parsed: unknown = bytes;
  if (bytes !== null && isJsonType(contentType)) {
    const json = parseJson(bytes);
    if ('problem' in json) return { problem: `the value is called JSON and ${json.problem}` };
    parsed = json.value;
  }
  return {
    event: {
      type: cursor.type ?? null,
      key: keyBytes === null ? null : keyBytes.toString(),
      keyBytes,
      value: parsed,
      bytes,
      headers,
      ttlMs: cursor.ttlMs < 0 ? null : cursor.ttlMs,
      partition: at.partition,
      offset: cursor.offset,
      logTime: asLogTime(at.logTime),
      timestamp: cursor.timestamp,
    },
  };
};
