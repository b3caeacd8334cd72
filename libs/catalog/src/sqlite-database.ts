import type BetterSqlite3 from 'better-sqlite3';

/** How long a connection waits for another one (the archive's thread, a backup, a shell) to let go of the file. */
export const SQLITE_BUSY_TIMEOUT_MS = 5000;
/** Of 4 KiB: the log is copied into the database when it is 64 MiB long. */
const SQLITE_CHECKPOINT_PAGES = 16_384;
const SQLITE_WAL_BYTES_KEPT = 64 * 1024 * 1024;
const SQLITE_CACHE_KIB = 32 * 1024;

/** The same for every connection to a catalog, whichever thread has it. */
export const prepareSqlite = (database: BetterSqlite3.Database): void => {
  // FULL syncs every commit: the map lets go of an entry because the archive has it.
  database.pragma('synchronous = FULL');
  database.pragma(`journal_size_limit = ${SQLITE_WAL_BYTES_KEPT}`);
  // Keys are spread over the whole index: with the defaults (4 MB, 2 MB) every transaction of the archive
  // would end in a checkpoint that writes the same pages again.
  database.pragma(`wal_autocheckpoint = ${SQLITE_CHECKPOINT_PAGES}`);
  database.pragma(`cache_size = -${SQLITE_CACHE_KIB}`);
};
