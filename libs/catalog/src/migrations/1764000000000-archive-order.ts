import type { MigrationInterface, QueryRunner } from 'typeorm';

const TABLE = 'tideline_archive';
const BEFORE = 'view, key_digest, "offset"';
/** What expires together was written together: a transaction's entries are neighbours, whatever their keys. */
const AFTER = 'view, partition, "offset", key_digest';
const COLUMNS =
  'view, key_digest, "offset", partition, key, value, content_type, log_time, expires_at, archived_at, evicted';

/**
 * The archive's rows are named by partition, offset and key, in the order in which they were written, and no longer by key and offset: with those all over
 * the index, each row of a transaction changed a page of its own. Keys are found by the first eight bytes of their digests, of which many are on a page.
 */
export class ArchiveOrder1764000000000 implements MigrationInterface {
  readonly name = 'ArchiveOrder1764000000000';

  async up(runner: QueryRunner): Promise<void> {
    await changePrimaryKey(runner, AFTER);
    await runner.query(`CREATE INDEX tideline_archive_by_key ON ${TABLE} (substr(key_digest, 1, 8))`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX tideline_archive_by_key');
    await changePrimaryKey(runner, BEFORE);
  }
}

async function changePrimaryKey(runner: QueryRunner, columns: string): Promise<void> {
  if (runner.dataSource.options.type === 'postgres') {
    await runner.query(`ALTER TABLE ${TABLE} DROP CONSTRAINT ${TABLE}_pkey, ADD PRIMARY KEY (${columns})`);
    return;
  }
  // SQLite cannot change the primary key of a table.
  await runner.query(`CREATE TABLE ${TABLE}_reordered (
    view TEXT NOT NULL,
    key_digest BLOB NOT NULL,
    "offset" INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    content_type TEXT,
    log_time INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    archived_at INTEGER NOT NULL,
    evicted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (${columns})
  ) STRICT`);
  await runner.query(`INSERT INTO ${TABLE}_reordered (${COLUMNS}) SELECT ${COLUMNS} FROM ${TABLE} ORDER BY rowid`);
  await runner.query(`DROP TABLE ${TABLE}`);
  await runner.query(`ALTER TABLE ${TABLE}_reordered RENAME TO ${TABLE}`);
  await runner.query(`CREATE INDEX ${TABLE}_by_expiry ON ${TABLE} (view, expires_at, partition, "offset", key_digest)`);
}
