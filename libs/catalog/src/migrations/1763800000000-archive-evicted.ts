import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Entries that were evicted while they were alive: 1. What was archived before had expired. */
export class ArchiveEvicted1763800000000 implements MigrationInterface {
  readonly name = 'ArchiveEvicted1763800000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tideline_archive ADD COLUMN evicted INTEGER NOT NULL DEFAULT 0');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tideline_archive DROP COLUMN evicted');
  }
}
