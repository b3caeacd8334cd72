import { asLogTime, asOffset, asPartitionId } from '#kernel';
import type { ArchiveEntry } from './archive.js';
import { wholeNumber } from './whole-number.js';

/**
 * Entries on their way to the archive's thread. Keys and values are in one array, which is handed over: what is copied to a thread is the
 * whole memory a Buffer is part of, and of small ones that is a pool of 8 KiB each.
 */
export interface ArchiveMessage {
  /** Of the answer, too. */
  readonly id: number;
  readonly archivedAt: number;
  /** View and content type of each entry. */
  readonly texts: readonly (string | null)[];
  /** offset, partition, logTime, expiresAt, evicted, length of the key, length of the value: of each entry. */
  readonly numbers: Float64Array<ArrayBuffer>;
  /** Key and value of each entry. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** How many entries were new, or what the database said. */
export type ArchiveAnswer =
  | { readonly id: number; readonly written: number }
  | { readonly id: number; readonly code?: string; readonly message: string };

const NUMBERS = 7;

export function messageOf(entries: readonly ArchiveEntry[], about: { id: number; archivedAt: number }): ArchiveMessage {
  const texts: (string | null)[] = [];
  const numbers = new Float64Array(entries.length * NUMBERS);
  const bytes = new Uint8Array(entries.reduce((sum, { key, value }) => sum + key.length + value.length, 0));
  let at = 0;
  let number = 0;
  for (const { view, contentType, offset, partition, logTime, expiresAt, evicted, key, value } of entries) {
    texts.push(view, contentType ?? null);
    numbers[number++] = wholeNumber(offset);
    numbers[number++] = wholeNumber(partition);
    numbers[number++] = wholeNumber(logTime);
    numbers[number++] = wholeNumber(expiresAt);
    numbers[number++] = evicted ? 1 : 0;
    numbers[number++] = key.length;
    numbers[number++] = value.length;
    bytes.set(key, at);
    bytes.set(value, at + key.length);
    at += key.length + value.length;
  }
  return { ...about, texts, numbers, bytes };
}

export function entriesOf({ texts, numbers, bytes }: ArchiveMessage): ArchiveEntry[] {
  const entries: ArchiveEntry[] = [];
  let at = 0;
  for (let number = 0; number < numbers.length; number += NUMBERS) {
    const [offset, partition, logTime, expiresAt, evicted, keyLength, valueLength] = numbers.subarray(number);
    const [view, contentType] = [texts[entries.length * 2]!, texts[entries.length * 2 + 1]];
    entries.push({
      view,
      offset: asOffset(offset),
      partition: asPartitionId(partition),
      logTime: asLogTime(logTime),
      expiresAt: asLogTime(expiresAt),
      evicted: evicted === 1,
      key: bytes.subarray(at, at + keyLength),
      value: bytes.subarray(at + keyLength, at + keyLength + valueLength),
      ...(contentType !== null && { contentType }),
    });
    at += keyLength + valueLength;
  }
  return entries;
}
