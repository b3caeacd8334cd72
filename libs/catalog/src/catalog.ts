import type { DataSource } from 'typeorm';
import type { Clock } from '#kernel';
import type { Archive } from './archive.js';
import type { ArchiveGaps } from './archive-gaps.js';
import { dialectOf, openDataSource, sqliteFileOf, withoutPassword } from './data-source.js';
import type { SnapshotCatalog } from './snapshot-catalog.js';
import { SqlArchive } from './sql-archive.js';
import { SqlArchiveGaps } from './sql-archive-gaps.js';
import { SqlSnapshotCatalog } from './sql-snapshot-catalog.js';
import { ThreadedArchiveRows } from './threaded-archive-rows.js';

/** The database of snapshots, archive and its gaps, open. */
export interface Catalog {
  /** Without its password. */
  readonly url: string;
  readonly snapshots: SnapshotCatalog;
  readonly archive: Archive;
  readonly archiveGaps: ArchiveGaps;
  /** Rejects if the database does not answer. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** Opens the database, creates or migrates its tables. Rejects with `not-ready` or `storage-damaged`. */
export async function openCatalog(url: string, clock?: Clock): Promise<Catalog> {
  const dataSource: DataSource = await openDataSource(url);
  const file = sqliteFileOf(url);
  const thread = file === null ? null : new ThreadedArchiveRows(file);
  return {
    url: withoutPassword(url),
    snapshots: new SqlSnapshotCatalog(dataSource),
    archive: new SqlArchive(dataSource, dialectOf(url), { clock, ...(thread && { rows: thread }) }),
    archiveGaps: new SqlArchiveGaps(dataSource),
    ping: async () => {
      await dataSource.query('SELECT 1');
    },
    close: async () => {
      await thread?.close();
      if (dataSource.isInitialized) await dataSource.destroy();
    },
  };
}
