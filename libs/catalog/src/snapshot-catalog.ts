import type { LogTime, Offset, PartitionId, Term } from '#kernel';

/** The slot of a snapshot that holds all slots of its partition in one file. */
export const ALL_SLOTS = -1;

/** Whose state a snapshot holds. */
export interface SnapshotSlot {
  readonly view: string;
  readonly partition: PartitionId;
  /** 0 … 255, or ALL_SLOTS. */
  readonly slot: number;
}

/** What identifies a snapshot: a host takes at most one of a slot at an offset. */
export interface SnapshotId extends SnapshotSlot {
  /** The materializer whose disk the file is on. */
  readonly host: string;
  readonly offset: Offset;
}

export interface SnapshotEntry extends SnapshotId {
  readonly term: Term;
  readonly logTime: LogTime;
  /** Digest of the state, as text; equal on all hosts at equal offsets. */
  readonly digest: string;
  readonly bytes: number;
  /** Where the file is on its host. */
  readonly path: string;
  /** Milliseconds since the Unix epoch, by the host's clock. */
  readonly createdAt: number;
  /** Whether the file was read back whole after it was written, and has not been found damaged since. */
  readonly verified: boolean;
  /** For ALL_SLOTS: where each slot is in the file and what it holds, as the file's own table says; else empty. */
  readonly slotTable: Buffer;
  /**
   * What had left the view before this log time was in the host's archive when the snapshot was taken, but for the gaps of the archive. Null: it
   * is not known, or the view has no archive.
   */
  readonly archivedUntil: LogTime | null;
}

export interface SnapshotFilter {
  readonly view?: string;
  readonly partition?: PartitionId;
  readonly slot?: number;
  readonly host?: string;
}

/**
 * Which snapshots there are, and where. An entry is added after its file is durable and removed before the file is
 * deleted: an entry without a file would send a starting host after nothing.
 */
export interface SnapshotCatalog {
  /** An entry of the same id is replaced. */
  add(entry: SnapshotEntry): Promise<void>;
  /** The verified snapshot of the highest offset; on `host` only, if given. Undefined if there is none. */
  newest(slot: SnapshotSlot & { readonly host?: string }): Promise<SnapshotEntry | undefined>;
  /** Ordered by view, partition, slot, offset (newest first), host. At most SNAPSHOTS_LISTED_MAX. */
  list(filter?: SnapshotFilter): Promise<SnapshotEntry[]>;
  /** Says what reading the file showed. Returns whether there is such an entry. */
  mark(id: SnapshotId, verified: boolean): Promise<boolean>;
  /** Returns whether there was such an entry. */
  remove(id: SnapshotId): Promise<boolean>;
  /**
   * Takes all but the `count` newest verified snapshots of a slot on a host out of the catalog, and returns them so
   * that their files can be deleted. Unverified ones older than the newest verified go too; younger ones stay.
   */
  keepNewest(slot: SnapshotSlot & { readonly host: string }, count: number): Promise<SnapshotEntry[]>;
}

export const SNAPSHOTS_LISTED_MAX = 10_000;

/** What `keepNewest` takes out, from a slot's snapshots on one host, newest first. */
export function superseded(newestFirst: readonly SnapshotEntry[], count: number): SnapshotEntry[] {
  let verified = 0;
  const gone: SnapshotEntry[] = [];
  for (const entry of newestFirst) {
    if (entry.verified && verified < count) verified++;
    else if (entry.verified || verified > 0) gone.push(entry);
  }
  return gone;
}
