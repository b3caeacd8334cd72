import type { LogTime, Offset } from '#kernel';

/**
 * What operators ask of the hosts of views: snapshots, how far a rebuild is, a copy of a view. Implemented in process by the materializer and
 * over TCP (libs/wire snapshot-service-v1.ts). Rejects with TidelineErrors: `unknown-view`, `unknown-partition`, `not-ready`, `not-found`.
 */
export interface SnapshotInfo {
  /** The materializer whose disk it is on. */
  readonly host: string;
  readonly view: string;
  readonly partition: number;
  readonly offset: Offset;
  readonly logTime: LogTime;
  /** 16 hex digits. */
  readonly digest: string;
  readonly bytes: number;
  readonly entries: number;
  /** Slots that have ever been used. */
  readonly slots: number;
  /** Milliseconds since the Unix epoch, by the host's clock. */
  readonly createdAt: number;
  /** Read back whole after it was written, and not found damaged since. */
  readonly verified: boolean;
}

export interface SnapshotRestored {
  readonly partition: number;
  /** Where the new state comes from: a host and an offset, or the log. */
  readonly source: string;
  readonly offset: Offset;
}

/** How far a partition is that is not served, or not served in full. */
export interface PartitionProgress {
  /** `snapshot`: being read; `log`: what came after it is being applied. */
  readonly phase: 'snapshot' | 'log';
  readonly source: string;
  readonly percent: number;
  /** Applied up to here. */
  readonly offset: Offset;
  /** Where the log ended when it was last asked; 0: not known yet. */
  readonly target: Offset;
  /** Null: too early to say. */
  readonly etaSeconds: number | null;
}

export interface PartitionHealth {
  readonly view: string;
  readonly partition: number;
  readonly restoring: PartitionProgress | null;
  /** Slots that are not served until they are rebuilt. */
  readonly stoppedSlots: readonly number[];
  /** Why it cannot be built, or rebuilt, at present; it is tried again. */
  readonly problem: string | null;
}

export interface ViewUpkeep {
  /** Newest first within a partition. `everywhere`: of the other hosts that can be reached too. All views if null. */
  snapshots(request: { readonly view: string | null; readonly everywhere: boolean }): Promise<readonly SnapshotInfo[]>;
  /** Takes one now of each partition, on the host that is asked; a partition that has not moved on keeps the one it has. */
  createSnapshots(request: {
    readonly view: string;
    readonly partition: number | null;
  }): Promise<readonly SnapshotInfo[]>;
  /** Builds the partitions anew on the host that is asked, from a snapshot (the newest, or the one at `offset`) and the log. */
  restoreSnapshots(request: {
    readonly view: string;
    readonly partition: number | null;
    readonly offset: Offset | null;
  }): Promise<readonly SnapshotRestored[]>;
  /** Part of a snapshot's file on the host that is asked. Rejects `not-found` when it has none at that offset. */
  piece(request: {
    readonly clusterId: string;
    readonly view: string;
    readonly partition: number;
    /** Tells a topic from one of the same name that was deleted. */
    readonly group: number;
    readonly offset: Offset;
    readonly position: number;
    /** At most 1 MiB; fewer bytes come at the end of the file. */
    readonly length: number;
  }): Promise<{ readonly fileBytes: number; readonly bytes: Buffer }>;
  /** Of every partition that is not simply served. All views if null. */
  health(request: { readonly view: string | null }): Promise<readonly PartitionHealth[]>;
}
