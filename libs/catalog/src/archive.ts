import { createHash } from 'node:crypto';
import { TidelineError, type LogTime, type Offset, type PartitionId } from '#kernel';

/** An entry that expired or was evicted, as it was: written here before it leaves the map. */
export interface ArchiveEntry {
  readonly view: string;
  readonly partition: PartitionId;
  readonly key: Uint8Array;
  /** Of the record that gave the entry its last value. */
  readonly offset: Offset;
  readonly value: Uint8Array;
  readonly contentType?: string;
  readonly logTime: LogTime;
  readonly expiresAt: LogTime;
  /** It had to make room while it was alive; `expiresAt` is when. */
  readonly evicted: boolean;
}

export interface ArchivedEntry extends ArchiveEntry {
  /** Milliseconds since the Unix epoch, by the clock of whoever was first to write it. */
  readonly archivedAt: number;
}

export interface ArchiveQuery {
  readonly view: string;
  /** All of them, if it is not said. */
  readonly partition?: PartitionId;
  readonly key?: Uint8Array;
  /** Expired at this time or later. */
  readonly from?: LogTime;
  /** Expired before this time. */
  readonly to?: LogTime;
  /** 1 … ARCHIVE_QUERY_ENTRIES_MAX. */
  readonly limit: number;
  /** Of keys and values; ARCHIVE_QUERY_BYTES_MAX, if it is not said. A page has at least one entry. */
  readonly bytesMax?: number;
  /** From an earlier page of the same query. */
  readonly cursor?: string;
}

export interface ArchivePage {
  /** In the order in which they expired; then by partition, offset and key. */
  readonly entries: ArchivedEntry[];
  /** Where the next page begins; absent on the last. */
  readonly cursor?: string;
}

/** The store that receives expired entries. */
export interface Archive {
  /**
   * Durable when it resolves. Idempotent by view, key and offset: the hosts of a slot all write what expires, and a
   * failed write is simply repeated. A large batch may be written in part when it fails. Returns how many were new.
   */
  write(entries: readonly ArchiveEntry[]): Promise<number>;
  query(query: ArchiveQuery): Promise<ArchivePage>;
  /** The entry of the key that was written last (highest offset). */
  latest(view: string, key: Uint8Array): Promise<ArchivedEntry | undefined>;
}

export const ARCHIVE_QUERY_ENTRIES_MAX = 1000;
/** A page ends early when its keys and values reach this size. */
export const ARCHIVE_QUERY_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Stands for the key in indexes: a Postgres index entry holds 2.7 kB at most, and a key may be longer. SHA-256,
 * because on a collision the second entry would be taken for a repetition and lost.
 */
export const keyDigest = (key: Uint8Array): Buffer => createHash('sha256').update(key).digest();

/** A place in the order of a query. */
export interface ArchivePosition {
  readonly expiresAt: number;
  readonly partition: number;
  readonly offset: number;
  readonly keyDigest: Buffer;
}

export const encodeCursor = (at: ArchivePosition): string =>
  `${at.expiresAt}.${at.partition}.${at.offset}.${at.keyDigest.toString('base64url')}`;

export function decodeCursor(cursor: string): ArchivePosition {
  const match = /^(\d{1,16})\.(\d{1,10})\.(\d{1,16})\.([A-Za-z0-9_-]{43})$/.exec(cursor);
  const [expiresAt, partition, offset] = (match ?? []).slice(1, 4).map(Number);
  if (!match || !Number.isSafeInteger(expiresAt) || !Number.isSafeInteger(offset)) {
    throw new TidelineError('bad-request', 'the cursor is not one this server gave out');
  }
  return { expiresAt, partition, offset, keyDigest: Buffer.from(match[4], 'base64url') };
}

/** Throws `bad-request` for a limit nobody should ask for. */
export function checkLimit(limit: number): void {
  if (!Number.isInteger(limit) || limit < 1 || limit > ARCHIVE_QUERY_ENTRIES_MAX) {
    throw new TidelineError('bad-request', `limit must be a whole number from 1 to ${ARCHIVE_QUERY_ENTRIES_MAX}`, {
      details: { limit: ARCHIVE_QUERY_ENTRIES_MAX },
    });
  }
}

/** How many entries of these sizes make a page. */
export function pageLength(sizes: readonly number[], bytesMax = ARCHIVE_QUERY_BYTES_MAX): number {
  let bytes = 0;
  for (const [index, size] of sizes.entries()) {
    bytes += size;
    if (bytes > bytesMax) return Math.max(1, index);
  }
  return sizes.length;
}
