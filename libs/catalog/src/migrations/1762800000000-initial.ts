import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Written by hand for both databases. The key of an archive entry is in no index: see keyDigest.
 * `tideline_archive_by_expiry` is the order in which the archive is read.
 */
export class Initial1762800000000 implements MigrationInterface {
  readonly name = 'Initial1762800000000';

  async up(runner: QueryRunner): Promise<void> {
    const postgres = runner.dataSource.options.type === 'postgres';
    // Names are ordered by their bytes in both, not by the language of the server.
    const [name, int, bigint, bytes, flag] = postgres
      ? ['TEXT COLLATE "C"', 'INTEGER', 'BIGINT', 'BYTEA', 'BOOLEAN']
      : ['TEXT', 'INTEGER', 'INTEGER', 'BLOB', 'INTEGER'];
    // SQLite would take a text for a number unless told not to.
    const strict = postgres ? '' : 'STRICT';
    await runner.query(`CREATE TABLE IF NOT EXISTS tideline_snapshots (
      view ${name} NOT NULL,
      partition ${int} NOT NULL,
      slot ${int} NOT NULL,
      host ${name} NOT NULL,
      "offset" ${bigint} NOT NULL,
      term ${bigint} NOT NULL,
      log_time ${bigint} NOT NULL,
      digest TEXT NOT NULL,
      bytes ${bigint} NOT NULL,
      path TEXT NOT NULL,
      created_at ${bigint} NOT NULL,
      verified ${flag} NOT NULL,
      PRIMARY KEY (view, partition, slot, host, "offset")
    ) ${strict}`);
    await runner.query(`CREATE TABLE IF NOT EXISTS tideline_archive (
      view ${name} NOT NULL,
      key_digest ${bytes} NOT NULL,
      "offset" ${bigint} NOT NULL,
      partition ${int} NOT NULL,
      key ${bytes} NOT NULL,
      value ${bytes} NOT NULL,
      content_type TEXT,
      log_time ${bigint} NOT NULL,
      expires_at ${bigint} NOT NULL,
      archived_at ${bigint} NOT NULL,
      PRIMARY KEY (view, key_digest, "offset")
    ) ${strict}`);
    await runner.query(`CREATE INDEX IF NOT EXISTS tideline_archive_by_expiry
      ON tideline_archive (view, expires_at, partition, "offset", key_digest)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE tideline_archive');
    await runner.query('DROP TABLE tideline_snapshots');
  }
}
