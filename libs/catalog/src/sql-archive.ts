import type BetterSqlite3 from 'better-sqlite3';
import type { DataSource, Repository, SelectQueryBuilder } from 'typeorm';
import { TidelineError, isTidelineError, systemClock, type Clock } from '#kernel';
import {
  checkLimit,
  decodeCursor,
  encodeCursor,
  keyDigest,
  pageLength,
  type Archive,
  type ArchivedEntry,
  type ArchiveEntry,
  type ArchivePage,
  type ArchiveQuery,
} from './archive.js';
import { archiveSchema, ARCHIVE_TABLE, type ArchiveRow, type Dialect } from './entities.js';
import { wholeNumber } from './whole-number.js';

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
const IDEMPOTENT = 'ON CONFLICT (view, key_digest, "offset") DO NOTHING';

const SQLITE_INSERT = `${INSERT} VALUES (${COLUMNS.map(() => '?').join(', ')}) ${IDEMPOTENT}`;
/** One parameter a column, however many rows: the statement is the same for every batch. */
const POSTGRES_INSERT =
  `${INSERT} SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::integer[], $5::bytea[], $6::bytea[], ` +
  `$7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::integer[]) ${IDEMPOTENT} RETURNING 1`;

/** One transaction holds so many entries or so many bytes: on SQLite nothing else runs meanwhile, some 15 ms. */
const TRANSACTION_ENTRIES_MAX = 500;
const TRANSACTION_BYTES_MAX = 4 * 1024 * 1024;

type Parameters = [
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

/**
 * The archive in SQLite or Postgres. Writing goes past TypeORM's entities, which cost more than the database does:
 * on SQLite to its driver, in synchronous transactions that nothing can interleave with.
 */
export class SqlArchive implements Archive {
  readonly #rows: Repository<ArchiveRow>;
  readonly #insert: (rows: readonly Parameters[]) => Promise<number>;
  readonly #clock: Clock;

  constructor(dataSource: DataSource, dialect: Dialect, clock: Clock = systemClock) {
    // The same name as the schema the data source was opened with.
    this.#rows = dataSource.getRepository<ArchiveRow>(archiveSchema(dialect).options.name);
    this.#insert = dialect === 'sqlite' ? sqliteInsert(dataSource) : postgresInsert(dataSource);
    this.#clock = clock;
  }

  write(entries: readonly ArchiveEntry[]): Promise<number> {
    return inWords('written', () => this.#write(entries));
  }

  async #write(entries: readonly ArchiveEntry[]): Promise<number> {
    const archivedAt = this.#clock.wallMs();
    let written = 0;
    let rows: Parameters[] = [];
    let bytes = 0;
    for (const entry of entries) {
      const size = entry.key.length + entry.value.length;
      if (rows.length > 0 && (rows.length === TRANSACTION_ENTRIES_MAX || bytes + size > TRANSACTION_BYTES_MAX)) {
        written += await this.#insert(rows);
        // Lets whatever waited on the event loop go first.
        await new Promise(setImmediate);
        rows = [];
        bytes = 0;
      }
      rows.push(parametersOf(entry, archivedAt));
      bytes += size;
    }
    return rows.length === 0 ? written : written + (await this.#insert(rows));
  }

  query(query: ArchiveQuery): Promise<ArchivePage> {
    return inWords('read', () => this.#query(query));
  }

  async #query(query: ArchiveQuery): Promise<ArchivePage> {
    checkLimit(query.limit);
    // Sizes first: how many entries make a page depends on them, and values may be large.
    const sizes = await this.#select(query)
      .select('length(archive.key) + length(archive.value)', 'size')
      .limit(query.limit + 1)
      .getRawMany<{ size: unknown }>();
    if (sizes.length === 0) return { entries: [] };
    const count = Math.min(query.limit, pageLength(sizes.map(({ size }) => wholeNumber(size))));
    const rows = await this.#select(query).limit(count).getMany();
    const last = rows.at(-1);
    return {
      entries: rows.map(entryOf),
      ...(last !== undefined && count < sizes.length && { cursor: encodeCursor(last) }),
    };
  }

  async latest(view: string, key: Uint8Array): Promise<ArchivedEntry | undefined> {
    const where = { view, keyDigest: keyDigest(key) };
    const row = await inWords('read', () => this.#rows.findOne({ where, order: { offset: 'DESC' } }));
    return row ? entryOf(row) : undefined;
  }

  #select({ view, key, from, to, cursor }: ArchiveQuery): SelectQueryBuilder<ArchiveRow> {
    const select = this.#rows.createQueryBuilder('archive').where('archive.view = :view', { view });
    if (key !== undefined) select.andWhere('archive.keyDigest = :digest', { digest: keyDigest(key) });
    if (from !== undefined) select.andWhere('archive.expiresAt >= :from', { from });
    if (to !== undefined) select.andWhere('archive.expiresAt < :to', { to });
    if (cursor !== undefined) {
      const after = decodeCursor(cursor);
      select.andWhere('(archive.expiresAt, archive.partition, archive.offset, archive.keyDigest) > (:e, :p, :o, :d)', {
        e: after.expiresAt,
        p: after.partition,
        o: after.offset,
        d: after.keyDigest,
      });
    }
    return select
      .orderBy('archive.expiresAt')
      .addOrderBy('archive.partition')
      .addOrderBy('archive.offset')
      .addOrderBy('archive.keyDigest');
  }
}

/** SQLite's and Postgres' codes for a disk that is full. */
const FULL = new Set(['SQLITE_FULL', '53100']);

/** What a database throws, as an error of ours. @throws (rejects) TidelineError `storage-full` | `not-ready`, or those of `work` */
async function inWords<T>(done: 'read' | 'written', work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isTidelineError(cause) || cause instanceof RangeError) throw cause;
    const { code, message } = cause as { readonly code?: string; readonly message?: string };
    throw new TidelineError(
      code !== undefined && FULL.has(code) ? 'storage-full' : 'not-ready',
      `the archive cannot be ${done}: ${message ?? String(cause)}`,
      { cause },
    );
  }
}

function sqliteInsert(dataSource: DataSource): (rows: readonly Parameters[]) => Promise<number> {
  const { databaseConnection } = dataSource.driver as unknown as { databaseConnection: BetterSqlite3.Database };
  const statement = databaseConnection.prepare<Parameters>(SQLITE_INSERT);
  const insert = databaseConnection.transaction((rows: readonly Parameters[]) => {
    let written = 0;
    for (const row of rows) written += statement.run(...row).changes;
    return written;
  });
  return async (rows) => insert.immediate(rows);
}

function postgresInsert(dataSource: DataSource): (rows: readonly Parameters[]) => Promise<number> {
  return async (rows) => {
    const columns = COLUMNS.map((_, column) => rows.map((row) => row[column]));
    const inserted: unknown[] = await dataSource.query(POSTGRES_INSERT, columns);
    return inserted.length;
  };
}

const parametersOf = (entry: ArchiveEntry, archivedAt: number): Parameters => [
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

/** pg writes other typed arrays as text. The bytes are not copied. */
const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const entryOf = (row: ArchiveRow): ArchivedEntry => ({
  view: row.view,
  partition: row.partition,
  key: row.key,
  offset: row.offset,
  value: row.value,
  ...(row.contentType !== null && { contentType: row.contentType }),
  logTime: row.logTime,
  expiresAt: row.expiresAt,
  archivedAt: row.archivedAt,
  evicted: row.evicted === 1,
});
