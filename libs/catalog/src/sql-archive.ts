import type BetterSqlite3 from 'better-sqlite3';
import type { DataSource, Repository, SelectQueryBuilder } from 'typeorm';
import { TidelineError, Turns, isTidelineError, systemClock, type Clock } from '#kernel';
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
import { columnsOf, inOrder, parametersOf, POSTGRES_INSERT, sqliteInsert } from './archive-rows.js';
import { archiveSchema, type ArchiveRow, type Dialect } from './entities.js';
import { wholeNumber } from './whole-number.js';

const TRANSACTION_BYTES_MAX = 4 * 1024 * 1024;
/** Of what is written in this thread: on SQLite nothing else runs meanwhile, some 10 ms. */
const TRANSACTION_ENTRIES_MAX = 500;

/** Statements that write at a time. A process has twice as many connections, and whoever waits too long for one is refused. */
const POSTGRES_WRITES_MAX = 4;

/** Where rows are written. */
export interface ArchiveRows {
  /** Of one transaction. */
  readonly entriesMax: number;
  /** One transaction, durable when it resolves; says how many were new. */
  insert(entries: readonly ArchiveEntry[], archivedAt: number): Promise<number>;
}

/**
 * The archive in SQLite or Postgres. Writing goes past TypeORM's entities, which cost more than the database does:
 * on SQLite to its driver, in synchronous transactions; those of a file in a thread of their own (see openCatalog).
 */
export class SqlArchive implements Archive {
  readonly #rows: Repository<ArchiveRow>;
  readonly #database: ArchiveRows;
  readonly #clock: Clock;

  constructor(
    dataSource: DataSource,
    dialect: Dialect,
    { clock = systemClock, rows }: { readonly clock?: Clock; readonly rows?: ArchiveRows } = {},
  ) {
    // The same name as the schema the data source was opened with.
    this.#rows = dataSource.getRepository<ArchiveRow>(archiveSchema(dialect).options.name);
    this.#database = rows ?? (dialect === 'sqlite' ? sqliteRows(dataSource) : postgresRows(dataSource));
    this.#clock = clock;
  }

  /**
   * Keeps nothing of what it was given, once the database has it, until that answers: thousands of entries are under way at a time, and V8 moves each of
   * them, with its buffers, as often as it collects what is young.
   */
  write(entries: readonly ArchiveEntry[]): Promise<number> {
    const archivedAt = this.#clock.wallMs();
    const [first = [], ...others] = this.#transactionsOf(entries);
    const written =
      others.length === 0 ? this.#insert(first, archivedAt) : this.#writeAll([first, ...others], archivedAt);
    return written.catch((cause: unknown) => {
      throw inOurWords('written', cause);
    });
  }

  /** Does not wait for the answer itself, or it would keep the rows so long. */
  async #insert(rows: readonly ArchiveEntry[], archivedAt: number): Promise<number> {
    return rows.length === 0 ? 0 : this.#database.insert(rows, archivedAt);
  }

  async #writeAll(transactions: readonly (readonly ArchiveEntry[])[], archivedAt: number): Promise<number> {
    let written = 0;
    for (const [place, rows] of transactions.entries()) {
      // Lets whatever waited on the event loop go first.
      if (place > 0) await new Promise(setImmediate);
      written += await this.#insert(rows, archivedAt);
    }
    return written;
  }

  #transactionsOf(entries: readonly ArchiveEntry[]): ArchiveEntry[][] {
    const transactions: ArchiveEntry[][] = [];
    let bytes = Infinity;
    for (const entry of entries) {
      const size = entry.key.length + entry.value.length;
      const last = transactions.at(-1);
      if (last === undefined || last.length === this.#database.entriesMax || bytes + size > TRANSACTION_BYTES_MAX) {
        transactions.push([entry]);
        bytes = size;
      } else {
        last.push(entry);
        bytes += size;
      }
    }
    return transactions;
  }

  query(query: ArchiveQuery): Promise<ArchivePage> {
    return inWords('read', () => this.#query(query));
  }

  async #query(query: ArchiveQuery): Promise<ArchivePage> {
    checkLimit(query.limit);
    // Sizes first: how many entries make a page depends on them, and values may be large.
    const sizes = await this.#page(query)
      .select('length(archive.key) + length(archive.value)', 'size')
      .limit(query.limit + 1)
      .getRawMany<{ size: unknown }>();
    if (sizes.length === 0) return { entries: [] };
    const count = Math.min(
      query.limit,
      pageLength(
        sizes.map(({ size }) => wholeNumber(size)),
        query.bytesMax,
      ),
    );
    const rows = await this.#page(query).limit(count).getMany();
    const last = rows.at(-1);
    return {
      entries: rows.map(entryOf),
      ...(last !== undefined && count < sizes.length && { cursor: encodeCursor(last) }),
    };
  }

  async latest(view: string, key: Uint8Array): Promise<ArchivedEntry | undefined> {
    const select = this.#select(view, key).orderBy('archive.offset', 'DESC').limit(1);
    const [row] = await inWords('read', () => select.getMany());
    return row ? entryOf(row) : undefined;
  }

  #select(view: string, key: Uint8Array | undefined): SelectQueryBuilder<ArchiveRow> {
    const select = this.#rows.createQueryBuilder('archive');
    if (key === undefined) return select.where('archive.view = :view', { view });
    const digest = keyDigest(key);
    // What tideline_archive_by_key has of it, then all of it; the view as an expression, or SQLite would go through all of the view in its order.
    return select
      .where('substr(archive.keyDigest, 1, 8) = :start', { start: digest.subarray(0, 8) })
      .andWhere('archive.keyDigest = :digest', { digest })
      .andWhere(`archive.view || '' = :view`, { view });
  }

  #page({ view, partition, key, from, to, cursor }: ArchiveQuery): SelectQueryBuilder<ArchiveRow> {
    const select = this.#select(view, key);
    // As an expression, or SQLite would no longer take the index for the order: a partition is told from others as they are passed.
    if (partition !== undefined) select.andWhere('archive.partition + 0 = :partition', { partition });
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

/** What a database throws, as an error of ours: `storage-full` | `not-ready`; what is ours already stays. */
function inOurWords(done: 'read' | 'written', cause: unknown): Error {
  if (isTidelineError(cause) || cause instanceof RangeError) return cause;
  const { code, message } = cause as { readonly code?: string; readonly message?: string };
  return new TidelineError(
    code !== undefined && FULL.has(code) ? 'storage-full' : 'not-ready',
    `the archive cannot be ${done}: ${message ?? String(cause)}`,
    { cause },
  );
}

/** @throws (rejects) as `inOurWords` says */
async function inWords<T>(done: 'read' | 'written', work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw inOurWords(done, cause);
  }
}

function sqliteRows(dataSource: DataSource): ArchiveRows {
  const { databaseConnection } = dataSource.driver as unknown as { databaseConnection: BetterSqlite3.Database };
  const insert = sqliteInsert(databaseConnection);
  return {
    entriesMax: TRANSACTION_ENTRIES_MAX,
    insert: async (entries, archivedAt) => insert([entries.map((entry) => parametersOf(entry, archivedAt))])[0],
  };
}

function postgresRows(dataSource: DataSource): ArchiveRows {
  const turns = new Turns(POSTGRES_WRITES_MAX);
  return {
    entriesMax: TRANSACTION_ENTRIES_MAX,
    insert: (entries, archivedAt) =>
      turns.take(async () => {
        const rows = inOrder(entries.map((entry) => parametersOf(entry, archivedAt)));
        const inserted: unknown[] = await dataSource.query(POSTGRES_INSERT, columnsOf(rows));
        return inserted.length;
      }),
  };
}

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
