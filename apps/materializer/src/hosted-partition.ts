import type { CommandLog } from '#command-log';
import { TidelineError, type Offset } from '#kernel';
import type { MapView, Position } from '#views';
import type { ArchiveWriter } from './archive-writer.js';
import type { PartitionFeed } from './partition-feed.js';
import type { PositionWaiters } from './position-waiters.js';
import type { SnapshotSource } from './snapshot-store.js';

/** One view of one partition with what feeds it and who waits for it. */
export interface HostedPartition {
  readonly partition: number;
  readonly view: MapView;
  readonly feed: PartitionFeed;
  readonly waiters: PositionWaiters;
  /** Null: what expires is simply removed. */
  readonly archiver: ArchiveWriter | null;
  readonly source: SnapshotSource;
  /** Of the newest snapshot. */
  snapshotOffset: Offset;
  /** A question for the log's time is under way. */
  askingTime: boolean;
}

export interface HostedView {
  readonly name: string;
  readonly topic: string;
  /** Null: it is being restored from a snapshot. */
  readonly partitions: (HostedPartition | null)[];
}

export const isOpen = (hosted: HostedPartition | null): hosted is HostedPartition => hosted !== null;

export const positionOf = (view: MapView): Position => ({ offset: view.offset, logTime: view.logTime });

export const closeView = (view: HostedView): void => {
  for (const { feed, waiters, archiver } of view.partitions.filter(isOpen)) {
    feed.close();
    archiver?.close();
    waiters.failAll(new TidelineError('not-ready', 'the view is being closed'));
  }
};

/**
 * Log time stands still while nothing is written, and expiry goes by log time alone. So when an entry is due by this node's clock, the
 * leader is asked for a barrier: if its clock agrees it logs a beacon, and every host sees the entry expire at the same place.
 */
export const askForTime = (topic: string, hosted: HostedPartition, log: CommandLog, wallMs: number): void => {
  const due = hosted.view.nextExpiry();
  if (due === null || hosted.askingTime || due > wallMs || due <= hosted.view.logTime) return;
  hosted.askingTime = true;
  log
    .barrier({ topic, partition: hosted.partition })
    .catch(() => undefined)
    .finally(() => {
      hosted.askingTime = false;
    });
};
