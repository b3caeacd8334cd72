import { BATCH_BYTES_MAX } from '#kernel';
import type { RaftMutants } from '#raft';
import { SESSION_LIMITS, type SessionLimits } from './session-table.js';

/** Bounds of one group on one node. Bytes unless the name says otherwise. */
export interface ReplicaLimits {
  /** A larger batch is refused with `request-too-large`. */
  readonly batchBytesMax: number;
  /** Entries in one append message. */
  readonly messageBytesMax: number;
  /** Sent to one follower and not acknowledged. */
  readonly inflightBytesMax: number;
  /** Appended and not committed; beyond it `overloaded`. */
  readonly uncommittedBytesMax: number;
  /** Committed entries kept in memory for followers a little behind (core) and for readers at the end (driver); the two share their bytes. */
  readonly recentBytesMax: number;
  /** A checkpoint is saved after this much log. */
  readonly checkpointBytes: number;
  /** Appends waiting for an answer; beyond it `overloaded`. */
  readonly pendingAppendsMax: number;
  /** Barriers waiting for an answer; beyond it `overloaded`. */
  readonly pendingBarriersMax: number;
  readonly sessions: SessionLimits;
}

export const REPLICA_LIMITS: ReplicaLimits = {
  batchBytesMax: BATCH_BYTES_MAX,
  messageBytesMax: 1024 * 1024,
  inflightBytesMax: 16 * 1024 * 1024,
  uncommittedBytesMax: 64 * 1024 * 1024,
  recentBytesMax: 4 * 1024 * 1024,
  checkpointBytes: 32 * 1024 * 1024,
  pendingAppendsMax: 100_000,
  pendingBarriersMax: 100_000,
  sessions: SESSION_LIMITS,
};

/** Defects that only the simulator switches on, to prove that it would find them. */
export interface ReplicaMutants {
  /** Acknowledge entries and votes before they are durable. */
  readonly ackBeforeSync?: boolean;
  /** Answer barriers without asking a quorum. */
  readonly readWithoutRound?: boolean;
  /** Checkpoints and snapshots carry no sessions. */
  readonly sessionsLeftOut?: boolean;
  /** A vote is written after the term, in a record of its own that no reply waits for. */
  readonly voteWrittenLater?: boolean;
  readonly raft?: RaftMutants;
}
