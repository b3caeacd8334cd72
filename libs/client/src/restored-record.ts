import { RESTORE_ENTRY, type ExportedEntry } from '#wire';
import type { RecordToAppend } from './client-requests.js';

const CONTENT_TYPE_HEADER = 'content-type';

/** The record that brings an exported entry back, with what is left of its time to live; null: it has expired. */
export const restoredRecord = (entry: ExportedEntry, nowMs: number): RecordToAppend | null => {
  const { key, value, expiresAt, contentType, dataType } = entry;
  if (expiresAt !== null && expiresAt <= nowMs) return null;
  return {
    key,
    value,
    ...(expiresAt !== null && { ttlMs: expiresAt - nowMs }),
    ...(contentType !== null && { headers: { [CONTENT_TYPE_HEADER]: contentType } }),
    ...(dataType !== null && { op: { name: RESTORE_ENTRY, args: [Buffer.from(dataType)] } }),
  };
};
