/**
 * Who sent a batch, as its header says it in 16 bytes.
 *
 * A *session* is opened by a control batch; its id is that batch's offset, its high half is 0, and its batches are numbered
 * 1, 2, 3 … without a gap. An *idempotency key* (what a caller sends as Idempotency-Key) becomes two 53-bit numbers of its
 * SHA-256, the high one never 0; its one batch has sequence 1.
 */
import { createHash } from 'node:crypto';
import { readU64, writeU64 } from '#kernel';
import type { BatchSession } from './record-batch-v1.js';

export const idempotencySession = (key: string): BatchSession => {
  const digest = createHash('sha256').update(key).digest();
  digest[6] &= 0x1f;
  digest[7] = 0;
  digest[14] &= 0x1f;
  digest[15] = 0;
  return { low: readU64(digest, 0), high: readU64(digest, 8) || 1, sequence: 1 };
};

export const isIdempotencyKey = (sessionHigh: number): boolean => sessionHigh !== 0;

/** Key of a session table: a number for sessions, 16 characters for idempotency keys. */
export const sessionTableKey = (low: number, high: number): number | string => {
  if (high === 0) return low;
  const bytes = Buffer.allocUnsafe(16);
  writeU64(bytes, 0, low);
  writeU64(bytes, 8, high);
  return bytes.toString('latin1');
};
