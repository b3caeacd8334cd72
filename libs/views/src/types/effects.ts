import { isUtf8 } from 'node:buffer';
import type { ErrorCode } from '#kernel';
import type { CommandEffect, CommandRecord, CommandState } from '../data-type.js';

/** The entry stays as it is. `result` is JSON text. */
export const answer = (result: string): CommandEffect => ({ effect: 'none', result });

/** The entry gets this value and keeps its expiry, unless the record has a TTL. */
export const change = (
  state: CommandState | null,
  record: CommandRecord,
  value: Buffer,
  result: string,
): CommandEffect => ({
  effect: 'put',
  value,
  expiresAt: record.expiresAt ?? state?.expiresAt ?? null,
  result,
});

export const refuse = (code: ErrorCode, message: string): CommandEffect => ({ effect: 'refuse', code, message });

/** Bytes in a result: text if they are UTF-8, else `{"base64":"…"}`. */
export const textOf = (bytes: Buffer): string =>
  isUtf8(bytes) ? JSON.stringify(bytes.toString()) : `{"base64":"${bytes.toString('base64')}"}`;

/** A double in a result; JSON has no infinity. */
export const numberText = (value: number): string =>
  value === Infinity ? '"inf"' : value === -Infinity ? '"-inf"' : String(value);
