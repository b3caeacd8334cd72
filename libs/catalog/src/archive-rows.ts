import type BetterSqlite3 from 'better-sqlite3';
import { keyDigest, type ArchiveEntry } from './archive.js';
import { wholeNumber } from './whole-number.js';

export const ARCHIVE_TABLE = 'tideline_archive';

const COLUMNS = [
  'view',
  'key_digest',
  '"offset"',
  'partition',
  'key',
  'value',
  'content_type',
  'log_time',
  'expires_at',
  'archived_at',
  'evicted',
] as const;
const INSERT = `INSERT INTO ${ARCHIVE_TABLE} (${COLUMNS.join(', ')})`;
const IDEMPOTENT = 'ON CONFLICT (view, partition, "offset", key_digest) DO NOTHING';

const SQLITE_INSERT = `${INSERT} VALUES (${COLUMNS.map(() => '?').join(', ')}) ${IDEMPOTENT}`;
/** One parameter a column, however many rows: the statement is the same for every batch. */
export const POSTGRES_INSERT =
  `${INSERT} SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::integer[], $5::bytea[], $6::bytea[], ` +
  `$7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::integer[]) ${IDEMPOTENT} RETURNING 1`;

/** In the order of the columns. */
export type ArchiveParameters = [
  view: string,
  keyDigest: Buffer,
  offset: number,
  partition: number,
  key: Uint8Array,
  value: Uint8Array,
  contentType: string | null,
  logTime: number,
  expiresAt: number,
  archivedAt: number,
  evicted: 0 | 1,
];

export const parametersOf = (entry: ArchiveEntry, archivedAt: number): ArchiveParameters => [
  entry.view,
  keyDigest(entry.key),
  wholeNumber(entry.offset),
  wholeNumber(entry.partition),
  asBuffer(entry.key),
  asBuffer(entry.value),
  entry.contentType ?? null,
  wholeNumber(entry.logTime),
  wholeNumber(entry.expiresAt),
  wholeNumber(archivedAt),
  entry.evicted ? 1 : 0,
];

/** By the primary key: an index grows at its end, and two hosts that write the same rows at the same time wait for each other in one order. */
export const inOrder = (rows: readonly ArchiveParameters[]): ArchiveParameters[] => rows.toSorted(byPrimaryKey);

const byPrimaryKey = (a: ArchiveParameters, b: ArchiveParameters): number => {
  if (a[0] !== b[0]) return a[0] < b[0] ? -1 : 1;
  return a[3] - b[3] || a[2] - b[2] || Buffer.compare(a[1], b[1]);
};

export const columnsOf = (rows: readonly ArchiveParameters[]): unknown[][] =>
  COLUMNS.map((_, column) => rows.map((row) => row[column]));

/** pg writes other typed arrays as text. The bytes are not copied. */
const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Writes rows in one transaction, synced when it returns; says of each list how many were new. */
export type SqliteInsert = (lists: readonly (readonly ArchiveParameters[])[]) => number[];

export const sqliteInsert = (database: BetterSqlite3.Database): SqliteInsert => {
  const statement = database.prepare<ArchiveParameters>(SQLITE_INSERT);
  const insertList = (rows: readonly ArchiveParameters[]): number => {
    let written = 0;
    for (const row of inOrder(rows)) written += statement.run(...row).changes;
    return written;
  };
  const insert = database.transaction((lists: Parameters<SqliteInsert>[0]) => lists.map(insertList));
  return (lists) => insert.immediate(lists);
};
