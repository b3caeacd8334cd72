import type { CommandLog } from '#command-log';
import { TidelineError, type Offset } from '#kernel';
import type { MapView, Position, Projection, ProjectionDefinition } from '#views';
import type { ArchiveGapFiller } from './archive-gap-filler.js';
import type { ArchiveWriter } from './archive-writer.js';
import type { PartitionFeed } from './partition-feed.js';
import type { PartitionKeeper } from './partition-keeper.js';
import type { PositionWaiters } from './position-waiters.js';
import type { SnapshotSource } from './snapshot-store.js';

/** One view of one partition with what feeds it and who waits for it. */
export interface HostedPartition {
  readonly partition: number;
  /** Of a projection: the map that keeps its states. */
  readonly view: MapView;
  /** Null: a topic's map view. */
  readonly projection: Projection | null;
  readonly feed: PartitionFeed;
  readonly waiters: PositionWaiters;
  /** Null: what expires is simply removed. */
  readonly archiver: ArchiveWriter | null;
  /** Null: the archive, if there is one, never lacks anything. */
  readonly gap: ArchiveGapFiller | null;
  readonly source: SnapshotSource;
  /** Of the newest snapshot. */
  snapshotOffset: Offset;
  /** What the feed had applied then. */
  snapshotLogBytes: number;
  /** The memory that the view took then. */
  snapshotViewBytes: number;
  /** How to end the watches there are. */
  readonly watches: Set<(why: TidelineError) => void>;
  /** A question for the log's time is under way. */
  askingTime: boolean;
}

export interface HostedView {
  /** A topic's for its map view; name and version, as `totals@2`, for a projection. */
  readonly name: string;
  /** Null: a topic's map view. */
  readonly definition: ProjectionDefinition | null;
  readonly topic: string;
  /** Null: it is being restored from a snapshot. */
  readonly partitions: (HostedPartition | null)[];
  /** One for each partition. */
  readonly keepers: PartitionKeeper[];
}

export const isOpen = (hosted: HostedPartition | null): hosted is HostedPartition => hosted !== null;

export const positionOf = (view: MapView): Position => ({ offset: view.offset, logTime: view.logTime });

/** What is told to who waits for a version that another one has taken the place of: to ask again. */
export const SUPERSEDED = new TidelineError('not-ready', 'the view has a new version');

export const closePartition = ({ feed, waiters, archiver, watches }: HostedPartition, why: TidelineError): void => {
  feed.close();
  archiver?.close();
  waiters.failAll(why);
  for (const end of watches) end(why);
};

export const closeView = (
  view: HostedView,
  why: TidelineError = new TidelineError('not-ready', 'the view is being closed'),
): void => {
  for (const keeper of view.keepers) keeper.close();
  for (const hosted of view.partitions.filter(isOpen)) closePartition(hosted, why);
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
