/**
 * From a catalog URL to an open database with its tables in place.
 *
 *   sqlite:/var/lib/tideline/catalog.sqlite    sqlite::memory:    postgres://user:password@host:5432/tideline
 */
import BetterSqlite3 from 'better-sqlite3';
import { DataSource, type DataSourceOptions, type EntitySchema } from 'typeorm';
import { TidelineError } from '#kernel';
import { archiveGapSchema, archiveSchema, snapshotSchema, type Dialect } from './entities.js';
import { Initial1762800000000 } from './migrations/1762800000000-initial.js';
import { SnapshotSlots1763700000000 } from './migrations/1763700000000-snapshot-slots.js';
import { ArchiveEvicted1763800000000 } from './migrations/1763800000000-archive-evicted.js';
import { ArchiveOrder1764000000000 } from './migrations/1764000000000-archive-order.js';
import { ArchiveGaps1764100000000 } from './migrations/1764100000000-archive-gaps.js';
import { prepareSqlite, SQLITE_BUSY_TIMEOUT_MS } from './sqlite-database.js';

const MIGRATIONS = [
  Initial1762800000000,
  SnapshotSlots1763700000000,
  ArchiveEvicted1763800000000,
  ArchiveOrder1764000000000,
  ArchiveGaps1764100000000,
];
const MIGRATIONS_TABLE = 'tideline_migrations';

/** Connections to Postgres a process keeps. */
const POOL_SIZE = 8;
const CONNECT_TIMEOUT_MS = 5000;
/** A statement that takes longer is given up; the caller repeats it. */
const STATEMENT_TIMEOUT_MS = 30_000;
/** Names the lock under which one process at a time migrates; any number does that nobody else uses. */
const MIGRATION_LOCK = 741_001;

const IN_MEMORY = ':memory:';

/** The path in `sqlite:PATH`. */
const sqlitePathOf = (url: string): string => url.replace(/^sqlite:(\/\/)?/, '');

/** Of the database; null when it is not one that another connection could open. */
export const sqliteFileOf = (url: string): string | null =>
  dialectOf(url) !== 'sqlite' || sqlitePathOf(url) === IN_MEMORY ? null : sqlitePathOf(url);

export const dialectOf = (url: string): Dialect => (url.startsWith('sqlite:') ? 'sqlite' : 'postgres');

export function dataSourceOptions(url: string): DataSourceOptions {
  const dialect = dialectOf(url);
  const shared = {
    entities: [snapshotSchema(dialect), archiveSchema(dialect), archiveGapSchema] as EntitySchema[],
    migrations: MIGRATIONS,
    migrationsTableName: MIGRATIONS_TABLE,
    synchronize: false,
    logging: false,
  };
  if (dialect === 'sqlite') {
    return {
      ...shared,
      type: 'better-sqlite3',
      driver: BetterSqlite3,
      database: sqlitePathOf(url),
      timeout: SQLITE_BUSY_TIMEOUT_MS,
      enableWAL: true,
      prepareDatabase: prepareSqlite,
    };
  }
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw new TidelineError('bad-option', 'the catalog must be sqlite:PATH or postgres://…');
  }
  return {
    ...shared,
    type: 'postgres',
    url,
    poolSize: POOL_SIZE,
    connectTimeoutMS: CONNECT_TIMEOUT_MS,
    applicationName: 'tideline',
    extra: { statement_timeout: STATEMENT_TIMEOUT_MS, query_timeout: STATEMENT_TIMEOUT_MS + 5000 },
  };
}

/** Opens the database and brings its tables up to date. Safe to call from several processes at once. */
export async function openDataSource(url: string): Promise<DataSource> {
  const dataSource = new DataSource(dataSourceOptions(url));
  try {
    await dataSource.initialize();
    await migrate(dataSource);
    return dataSource;
  } catch (error) {
    if (dataSource.isInitialized) await dataSource.destroy();
    throw unusable(url, error);
  }
}

async function migrate(dataSource: DataSource): Promise<void> {
  if (dataSource.options.type !== 'postgres') {
    await dataSource.runMigrations();
    return;
  }
  const runner = dataSource.createQueryRunner();
  try {
    await runner.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    try {
      await dataSource.runMigrations();
    } finally {
      await runner.query('SELECT pg_advisory_unlock($1)', [MIGRATION_LOCK]);
    }
  } finally {
    await runner.release();
  }
}

function unusable(url: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  // A native module that does not load says so itself.
  if (code === 'ERR_DLOPEN_FAILED') return error;
  const reason = error instanceof Error ? error.message || code || error.name : String(error);
  const damaged = code === 'SQLITE_CORRUPT' || code === 'SQLITE_NOTADB';
  return new TidelineError(
    damaged ? 'storage-damaged' : 'not-ready',
    `the catalog ${withoutPassword(url)} cannot be used: ${reason}`,
    { cause: error },
  );
}

/** For messages and logs. */
export function withoutPassword(url: string): string {
  if (!URL.canParse(url)) return url.replace(/:[^:@/]*@/, ':***@');
  const parsed = new URL(url);
  if (parsed.password === '') return url;
  parsed.password = '***';
  return parsed.toString();
}
