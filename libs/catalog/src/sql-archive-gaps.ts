import type { DataSource, Repository } from 'typeorm';
import type { ArchiveGap, ArchiveGapId, ArchiveGaps } from './archive-gaps.js';
import { ARCHIVE_GAPS_TABLE, type ArchiveGapRow } from './entities.js';

/** The gaps of archives in SQLite or Postgres. There are few, seldom: each call is one statement. */
export class SqlArchiveGaps implements ArchiveGaps {
  readonly #rows: Repository<ArchiveGapRow>;

  constructor(dataSource: DataSource) {
    this.#rows = dataSource.getRepository<ArchiveGapRow>(ARCHIVE_GAPS_TABLE);
  }

  list(host: string): Promise<ArchiveGap[]> {
    return this.#rows.find({ where: { host } });
  }

  async put(gap: ArchiveGap): Promise<void> {
    await this.#rows.upsert({ ...gap }, ['host', 'clusterId', 'view', 'partition', 'group']);
  }

  async remove({ host, clusterId, view, partition, group }: ArchiveGapId): Promise<boolean> {
    const { affected } = await this.#rows.delete({ host, clusterId, view, partition, group });
    return (affected ?? 0) > 0;
  }

  hasMark(mark: string): Promise<boolean> {
    return this.#rows.existsBy({ mark });
  }
}
