import type { GroupId, LogTime, Offset, PartitionId } from '#kernel';

/** Whose archive, and of what. The group tells a topic from one of the same name that was deleted before. */
export interface ArchiveGapId {
  /** The materializer that lacks the entries. */
  readonly host: string;
  readonly clusterId: string;
  readonly view: string;
  readonly partition: PartitionId;
  readonly group: GroupId;
}

/**
 * Entries that left a view partition in a stretch of log that its host has skipped, by going on from another host's snapshot: they are in the
 * archives of others, and may not be in this host's.
 */
export interface ArchiveGap extends ArchiveGapId {
  /** Those that left at this log time or later; null: from the beginning. */
  readonly from: LogTime | null;
  /** And before this one. */
  readonly to: LogTime;
  /** A host that has applied this has met all of them. */
  readonly offset: Offset;
  /** Where the snapshot was, host:port. */
  readonly source: string;
  /** Copied up to here, as a page of an archive's query says it; null: nothing is yet. */
  readonly cursor: string | null;
  /** Made up anew at times: whoever finds it in a catalog has the same database, and nothing to copy. */
  readonly mark: string;
}

/**
 * What archives lack. A gap is kept from before the snapshot is taken into service until everything in it is copied: a host that crashes in
 * between, and then starts from a snapshot of its own, must not forget it. All is durable when it resolves.
 */
export interface ArchiveGaps {
  /** Of a host, in no order. */
  list(host: string): Promise<ArchiveGap[]>;
  /** There is one gap of an id; another is replaced. */
  put(gap: ArchiveGap): Promise<void>;
  /** Returns whether there was one. */
  remove(id: ArchiveGapId): Promise<boolean>;
  /** Whether some host's gap here has this mark. */
  hasMark(mark: string): Promise<boolean>;
}
