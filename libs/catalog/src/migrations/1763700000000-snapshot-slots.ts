import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Where each slot is in the file of a snapshot. Entries from before have none, and their files are of an older format. */
export class SnapshotSlots1763700000000 implements MigrationInterface {
  readonly name = 'SnapshotSlots1763700000000';

  async up(runner: QueryRunner): Promise<void> {
    const postgres = runner.dataSource.options.type === 'postgres';
    const [bytes, none] = postgres ? ['BYTEA', "''"] : ['BLOB', "x''"];
    await runner.query(`ALTER TABLE tideline_snapshots ADD COLUMN slot_table ${bytes} NOT NULL DEFAULT ${none}`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tideline_snapshots DROP COLUMN slot_table');
  }
}
