import { SLOTS, asLogTime, type Offset } from '#kernel';
import type { ViewStats } from '#views';
import { isOpen, type HostedView } from './hosted-partition.js';

/** What the metrics say of a partition. */
export interface PartitionStats {
  readonly view: string;
  readonly partition: number;
  readonly offset: Offset;
  readonly commitOffset: Offset;
  readonly lagSeconds: number;
  readonly entries: number;
  readonly bytes: number;
  /** Of a projection; null for a map view. */
  readonly parked: number | null;
  /** Its archive lacks what other hosts have; null: it has none. */
  readonly archiveIncomplete: boolean | null;
}

export const partitionStatsOf = ({ name, partitions }: HostedView, wallMs: number): PartitionStats[] =>
  partitions.filter(isOpen).map(({ partition, view, projection, feed, archiver, gap }) => {
    const behind = feed.commitOffset > view.offset;
    return {
      view: name,
      partition,
      offset: view.offset,
      commitOffset: feed.commitOffset,
      lagSeconds: behind ? Math.max(0, wallMs - view.logTime) / 1000 : 0,
      entries: (projection ?? view).entries,
      bytes: view.bytes,
      parked: projection?.parkedCount ?? null,
      archiveIncomplete: archiver === null ? null : (gap?.missing ?? null) !== null,
    };
  });

/** What is said of a view that is asked for. */
export const statsOf = (name: string, { topic, definition, partitions }: HostedView): ViewStats => {
  const stats = partitions.filter(isOpen).map(({ partition, view, projection, feed }) => ({
    partition,
    offset: view.offset,
    logTime: asLogTime(view.logTime),
    commitOffset: feed.commitOffset,
    digest: view.digest,
    entries: (projection ?? view).entries,
    bytes: view.bytes,
  }));
  const sum = (pick: (partition: (typeof stats)[number]) => number): number =>
    stats.reduce((total, partition) => total + pick(partition), 0);
  return {
    view: name,
    topic,
    kind: definition === null ? 'map' : 'projection',
    slots: SLOTS,
    partitions: stats,
    entries: sum((p) => p.entries),
    bytes: sum((p) => p.bytes),
  };
};
