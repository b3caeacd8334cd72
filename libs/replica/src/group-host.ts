import type { Clock, GroupId, LogTime, NodeId, Offset, Rng, Term } from '#kernel';
import type { Configuration, PeerStatus, Role } from '#raft';
import type { PeerMessage } from './raft-messages-v1.js';
import type { ReplicaLimits, ReplicaMutants } from './replica-limits.js';

/** none: answered as soon as it has a place in the leader's log · leader: durable on the leader · quorum: committed. */
export type Acks = 'none' | 'leader' | 'quorum';

export interface ReadResult {
  /** Whole committed batches, control batches included; the first may begin before the offset asked for. Empty at the end of the log. */
  readonly batches: Buffer;
  readonly nextOffset: Offset;
  /** Up to here this node can be read. */
  readonly commitOffset: Offset;
  readonly logStartOffset: Offset;
}

export interface GroupStatus {
  readonly group: GroupId;
  readonly role: Role;
  readonly term: Term;
  readonly leader: NodeId;
  readonly commitOffset: Offset;
  /** Committed and durable on this node: what it serves to readers. */
  readonly readableOffset: Offset;
  readonly durableOffset: Offset;
  readonly lastOffset: Offset;
  readonly logStartOffset: Offset;
  readonly logTime: LogTime;
  readonly configuration: Configuration;
  readonly peers: readonly PeerStatus[];
  readonly pendingAppends: number;
  readonly sessions: number;
  readonly idempotencyKeys: number;
  readonly segments: number;
  readonly bytes: number;
  readonly damaged: boolean;
}

/** What carries out its decisions at the end of a turn: a group. The node calls the three in this order, each for all that are awake. */
export interface TurnTaker {
  /** On the node's list for the end of this turn. */
  awake: boolean;
  /** Decides, and says what is to be sent. */
  decide(): void;
  /** Something was decided that is to be written. */
  readonly hasToWrite: boolean;
  /**
   * Begins to write what was decided; what was to be sent is on its way by then. `atOnce`: nobody else waits for a disk, so it may be done when this
   * returns; the group is awake again then.
   */
  write(atOnce: boolean): void;
  /** Answers whoever waits. */
  settle(): void;
}

/** What tells its followers of the commit offset when it has nothing else to send: a group. */
export interface Announcer {
  /** On the node's list. */
  announcing: boolean;
  announceCommit(): void;
}

/** What becomes of damage in a log: it is found and being repaired from the peers, or that is done. */
export type DamageState = 'found' | 'repaired';

/** What a group needs of the node it lives on. */
export interface GroupHost {
  readonly nodeId: NodeId;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly limits: ReplicaLimits;
  readonly mutants: ReplicaMutants;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Linearizable reads by lease: the election timeout in ms, which followers promise. null: each waits for a heartbeat round. */
  readonly leaseMs: number | null;
  /** Its turn is wanted at the end of this one of the event loop. */
  wake(group: TurnTaker): void;
  /** `announceCommit()` is wanted soon, unless followers hear of the commit offset by other messages before. */
  announceSoon(group: Announcer): void;
  send(group: GroupId, message: PeerMessage): void;
  synced(group: GroupId, elapsedMs: number): void;
  /** A read met damage in the group's log; it is being repaired, or has been. */
  damage(group: GroupId, state: DamageState): void;
  /** The log of the group is unusable: the process must end. */
  fatal(group: GroupId, error: Error): void;
}
