import type { DataSource, Repository } from 'typeorm';
import { SNAPSHOT_TABLE, type SnapshotRow } from './entities.js';
import {
  SNAPSHOTS_LISTED_MAX,
  superseded,
  type SnapshotCatalog,
  type SnapshotEntry,
  type SnapshotFilter,
  type SnapshotId,
  type SnapshotSlot,
} from './snapshot-catalog.js';

/**
 * The catalog in SQLite or Postgres. Each call is one statement (`keepNewest` is several, each of which may be
 * repeated), so none opens a transaction: SQLite has one connection, on which two would end up nested.
 */
export class SqlSnapshotCatalog implements SnapshotCatalog {
  readonly #rows: Repository<SnapshotRow>;

  constructor(dataSource: DataSource) {
    this.#rows = dataSource.getRepository<SnapshotRow>(SNAPSHOT_TABLE);
  }

  async add(entry: SnapshotEntry): Promise<void> {
    await this.#rows.upsert({ ...entry }, ['view', 'partition', 'slot', 'host', 'offset']);
  }

  async newest({ view, partition, slot, host }: SnapshotSlot & { host?: string }): Promise<SnapshotEntry | undefined> {
    const row = await this.#rows.findOne({
      where: { view, partition, slot, verified: true, ...(host !== undefined && { host }) },
      order: { offset: 'DESC', host: 'ASC' },
    });
    return row ?? undefined;
  }

  list(filter: SnapshotFilter = {}): Promise<SnapshotEntry[]> {
    const where = Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined));
    return this.#rows.find({
      where,
      order: { view: 'ASC', partition: 'ASC', slot: 'ASC', offset: 'DESC', host: 'ASC' },
      take: SNAPSHOTS_LISTED_MAX,
    });
  }

  async mark(id: SnapshotId, verified: boolean): Promise<boolean> {
    const { affected } = await this.#rows.update(identity(id), { verified });
    return (affected ?? 0) > 0;
  }

  async remove(id: SnapshotId): Promise<boolean> {
    const { affected } = await this.#rows.delete(identity(id));
    return (affected ?? 0) > 0;
  }

  async keepNewest(slot: SnapshotSlot & { readonly host: string }, count: number): Promise<SnapshotEntry[]> {
    const gone = superseded(await this.list(slot), count);
    for (const entry of gone) await this.remove(entry);
    return gone;
  }
}

const identity = ({ view, partition, slot, host, offset }: SnapshotId): SnapshotId => ({
  view,
  partition,
  slot,
  host,
  offset,
});
