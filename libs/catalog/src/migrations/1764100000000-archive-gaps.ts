import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What archives lack (archive-gaps.ts), and with each snapshot, up to when the archive had everything that had left the view: null of those from
 * before, and of views without an archive.
 */
export class ArchiveGaps1764100000000 implements MigrationInterface {
  readonly name = 'ArchiveGaps1764100000000';

  async up(runner: QueryRunner): Promise<void> {
    const postgres = runner.dataSource.options.type === 'postgres';
    const [name, int, bigint] = postgres ? ['TEXT COLLATE "C"', 'INTEGER', 'BIGINT'] : ['TEXT', 'INTEGER', 'INTEGER'];
    await runner.query(`CREATE TABLE tideline_archive_gaps (
      host ${name} NOT NULL,
      cluster_id ${name} NOT NULL,
      view ${name} NOT NULL,
      partition ${int} NOT NULL,
      "group" ${bigint} NOT NULL,
      from_time ${bigint},
      to_time ${bigint} NOT NULL,
      "offset" ${bigint} NOT NULL,
      source TEXT NOT NULL,
      "cursor" TEXT,
      mark ${name} NOT NULL,
      PRIMARY KEY (host, cluster_id, view, partition, "group")
    ) ${postgres ? '' : 'STRICT'}`);
    await runner.query(`ALTER TABLE tideline_snapshots ADD COLUMN archived_until ${bigint}`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tideline_snapshots DROP COLUMN archived_until');
    await runner.query('DROP TABLE tideline_archive_gaps');
  }
}
