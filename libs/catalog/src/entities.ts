/**
 * The tables as TypeORM sees them. Schemas rather than decorated classes: the type of a bytes column has another
 * name in each database, and a decorator has no way to ask which one it is for.
 */
import { EntitySchema } from 'typeorm';
import type { LogTime, Offset, PartitionId } from '#kernel';
import type { ArchiveGap } from './archive-gaps.js';
import { ARCHIVE_TABLE } from './archive-rows.js';
import type { SnapshotEntry } from './snapshot-catalog.js';
import { bigintColumn, optionalBigintColumn } from './whole-number.js';

export type Dialect = 'sqlite' | 'postgres';

export type SnapshotRow = { -readonly [K in keyof SnapshotEntry]: SnapshotEntry[K] };

export interface ArchiveRow {
  view: string;
  partition: PartitionId;
  key: Buffer;
  keyDigest: Buffer;
  offset: Offset;
  value: Buffer;
  contentType: string | null;
  logTime: LogTime;
  expiresAt: LogTime;
  archivedAt: number;
  /** 0 or 1. */
  evicted: number;
}

export const SNAPSHOT_TABLE = 'tideline_snapshots';

export const snapshotSchema = (dialect: Dialect): EntitySchema<SnapshotRow> =>
  new EntitySchema<SnapshotRow>({
    name: 'Snapshot',
    tableName: SNAPSHOT_TABLE,
    columns: {
      view: { type: 'text', primary: true },
      partition: { type: 'integer', primary: true },
      slot: { type: 'integer', primary: true },
      host: { type: 'text', primary: true },
      offset: { ...bigintColumn, primary: true },
      term: bigintColumn,
      logTime: { ...bigintColumn, name: 'log_time' },
      digest: { type: 'text' },
      bytes: bigintColumn,
      path: { type: 'text' },
      createdAt: { ...bigintColumn, name: 'created_at' },
      verified: { type: 'boolean' },
      slotTable: { type: dialect === 'postgres' ? 'bytea' : 'blob', name: 'slot_table' },
      archivedUntil: { ...optionalBigintColumn, name: 'archived_until' },
    },
  });

export type ArchiveGapRow = { -readonly [K in keyof ArchiveGap]: ArchiveGap[K] };

export const ARCHIVE_GAPS_TABLE = 'tideline_archive_gaps';

export const archiveGapSchema = new EntitySchema<ArchiveGapRow>({
  name: 'ArchiveGap',
  tableName: ARCHIVE_GAPS_TABLE,
  columns: {
    host: { type: 'text', primary: true },
    clusterId: { type: 'text', name: 'cluster_id', primary: true },
    view: { type: 'text', primary: true },
    partition: { type: 'integer', primary: true },
    group: { ...bigintColumn, primary: true },
    from: { ...optionalBigintColumn, name: 'from_time' },
    to: { ...bigintColumn, name: 'to_time' },
    offset: bigintColumn,
    source: { type: 'text' },
    cursor: { type: 'text', nullable: true },
    mark: { type: 'text' },
  },
});

export const archiveSchema = (dialect: Dialect): EntitySchema<ArchiveRow> => {
  const bytes = dialect === 'postgres' ? 'bytea' : 'blob';
  return new EntitySchema<ArchiveRow>({
    name: 'Archive',
    tableName: ARCHIVE_TABLE,
    columns: {
      view: { type: 'text', primary: true },
      keyDigest: { type: bytes, name: 'key_digest', primary: true },
      offset: { ...bigintColumn, primary: true },
      partition: { type: 'integer', primary: true },
      key: { type: bytes },
      value: { type: bytes },
      contentType: { type: 'text', name: 'content_type', nullable: true },
      logTime: { ...bigintColumn, name: 'log_time' },
      expiresAt: { ...bigintColumn, name: 'expires_at' },
      archivedAt: { ...bigintColumn, name: 'archived_at' },
      evicted: { type: 'integer' },
    },
  });
};
