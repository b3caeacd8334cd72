import type { NodeId, Offset, Rng, Term } from '#kernel';

/** What an entry is to Raft. Everything users append is `data`. */
export type EntryKind = 'data' | 'noop' | 'configuration';

/**
 * One replicated unit: a whole record batch. Takes offsets firstOffset … lastOffset.
 * `bytes` of an entry that the core itself creates (noop, configuration) is empty until the driver has encoded it, which it
 * does before it persists or sends what `ready()` returned; from then on nobody changes it.
 */
export interface Entry {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly term: Term;
  readonly kind: EntryKind;
  bytes: Uint8Array;
  /** Present if and only if kind is `configuration`. */
  readonly configuration?: Configuration;
}

/** Durable as one record, before any reply that depends on it. */
export interface HardState {
  readonly term: Term;
  /** Who got this node's vote in `term`; NO_NODE if nobody. */
  readonly vote: NodeId;
}

/** Voters and learners; during a joint change `outgoing` is the old set of voters and both majorities count. */
export interface Configuration {
  readonly voters: readonly NodeId[];
  readonly outgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
}

/** Where terms begin in a log: term of an offset = the last start at or below it. Ascending in both. */
export interface TermStart {
  readonly term: Term;
  readonly firstOffset: Offset;
}

/** What the core must know of the log it starts with. */
export interface LogSummary {
  /** Last offset and term *before* the first entry still in the log: {0, 0} for a whole log, the snapshot's otherwise. */
  readonly baseOffset: Offset;
  readonly baseTerm: Term;
  /** Starts of the terms of entries after base. */
  readonly termStarts: readonly TermStart[];
  readonly lastOffset: Offset;
  /** A lower bound of what is committed; ≤ lastOffset. */
  readonly commit: Offset;
  /** The configuration in force at lastOffset, the offset of its entry (or of the snapshot), and the one before it (for truncation). */
  readonly configuration: Configuration;
  readonly configurationOffset: Offset;
  readonly previousConfiguration?: { readonly configuration: Configuration; readonly offset: Offset };
}

/** Defects that only the simulator switches on, to prove that it would find them. */
export interface RaftMutants {
  /** A new leader appends nothing and takes what it has for committed in its term. */
  readonly noNoopOnElection?: boolean;
  /** Entries of earlier terms are committed by counting replicas (what figure 8 of the paper warns of). */
  readonly countsOldTerms?: boolean;
  /** A follower promises what a lease needs, and votes and campaigns as it likes. */
  readonly breaksPromises?: boolean;
  /** A leader reads by its lease after it has told another to take over. */
  readonly leaseOutlivesTransfer?: boolean;
}

/** Reads by lease: see read-lease.ts, and the assumption there. The driver then steps `time` before ticks, messages and reads. */
export interface ReadLeaseOptions {
  /** How long a follower that answered a heartbeat gives nobody else its vote: the election timeout, in ms of its own monotonic clock. */
  readonly promiseMs: number;
  /** What that clock says now. */
  readonly startMs: number;
}

export interface RaftOptions {
  readonly id: NodeId;
  /** Ticks without a leader before an election; the actual timeout is drawn from [electionTicks, 2 × electionTicks). */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Bytes of entries in one append message. */
  readonly messageBytesMax: number;
  /** Bytes of entries sent to one follower and not yet acknowledged. */
  readonly inflightBytesMax: number;
  /** Bytes of entries not yet committed; beyond it proposals answer `overloaded`. */
  readonly uncommittedBytesMax: number;
  /** Bytes of committed entries kept in memory for followers that are a little behind. */
  readonly cacheBytesMax: number;
  /**
   * Followers hear of a new commit offset with the next entries or heartbeat, and in a message of its own only after `announce-commit`; the
   * driver gives that order soon, see `unannounced`. Otherwise every commit is announced at once.
   */
  readonly announcesOnOrder?: boolean;
  /** Linearizable reads are answered at once while a quorum has promised not to elect another leader. Without it, each waits for a round. */
  readonly readLease?: ReadLeaseOptions;
  readonly rng: Rng;
  readonly hardState: HardState;
  readonly log: LogSummary;
  readonly mutants?: RaftMutants;
}

/* ---- messages ---- */

interface MessageBase {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly term: Term;
}

export interface VoteRequest extends MessageBase {
  readonly type: 'vote-request';
  /** A pre-vote changes nothing at the receiver; `term` is then the term the candidate would start. */
  readonly preVote: boolean;
  /** Set for an election that the old leader asked for: stickiness does not apply. */
  readonly transfer: boolean;
  readonly lastOffset: Offset;
  readonly lastTerm: Term;
}

export interface VoteResponse extends MessageBase {
  readonly type: 'vote-response';
  readonly preVote: boolean;
  readonly granted: boolean;
}

export interface AppendRequest extends MessageBase {
  readonly type: 'append-request';
  readonly prevOffset: Offset;
  readonly prevTerm: Term;
  readonly entries: readonly Entry[];
  readonly commit: Offset;
}

export interface AppendResponse extends MessageBase {
  readonly type: 'append-response';
  /** True: everything up to `offset` is durable here and equal to the leader's. False: the entry at prevOffset did not match. */
  readonly success: boolean;
  readonly offset: Offset;
  /** With success false: the follower's term at prevOffset (or at its end) and where that term starts in its log. */
  readonly hintTerm: Term;
  readonly hintOffset: Offset;
}

export interface Heartbeat extends MessageBase {
  readonly type: 'heartbeat';
  /** ≤ what the receiver is known to match. */
  readonly commit: Offset;
  /** Number of the leader's heartbeat round, rising; echoed. Reads wait for a round begun after them. */
  readonly round: number;
}

export interface HeartbeatResponse extends MessageBase {
  readonly type: 'heartbeat-response';
  readonly round: number;
  /** For so long, in ms of the sender's clock, it gives nobody its vote. Only with the option `readLease`. */
  readonly promiseMs?: number;
}

/** State at `offset` that replaces the log up to it; the follower then fetches what comes after. */
export interface SnapshotInfo {
  readonly offset: Offset;
  readonly term: Term;
  readonly configuration: Configuration;
  /** What the driver needs besides (sessions, log time), in its own encoding. Opaque here. */
  readonly state: Uint8Array;
}

export interface SnapshotRequest extends MessageBase {
  readonly type: 'snapshot-request';
  readonly snapshot: SnapshotInfo;
}

export interface SnapshotResponse extends MessageBase {
  readonly type: 'snapshot-response';
  /** The receiver's log now ends here, or it had this prefix already. */
  readonly offset: Offset;
}

/** "Start an election at once", the last step of a leadership transfer. */
export interface TimeoutNow extends MessageBase {
  readonly type: 'timeout-now';
}

export type Message =
  | VoteRequest
  | VoteResponse
  | AppendRequest
  | AppendResponse
  | Heartbeat
  | HeartbeatResponse
  | SnapshotRequest
  | SnapshotResponse
  | TimeoutNow;

/* ---- inputs ---- */

export type RaftEvent =
  | { readonly type: 'tick' }
  /** With `readLease`: what the driver's monotonic clock says. */
  | { readonly type: 'time'; readonly monotonicMs: number }
  | { readonly type: 'message'; readonly message: Message }
  /** All that the ready with this number, and those before it, asked to persist is durable. */
  | { readonly type: 'persisted'; readonly persist: number }
  /** Answer to a LogRead: entries from `from` on, whole batches, at least one unless the log has been trimmed above it. */
  | { readonly type: 'log-read'; readonly peer: NodeId; readonly from: Offset; readonly entries: readonly Entry[] }
  /** The log has been trimmed; `baseOffset` is the last offset no longer in it. */
  | { readonly type: 'trimmed'; readonly baseOffset: Offset; readonly baseTerm: Term }
  /** Answer to `snapshotsWanted`. */
  | { readonly type: 'snapshot-ready'; readonly peer: NodeId; readonly snapshot: SnapshotInfo }
  /**
   * The connection to a peer ended. A hint: if it was the leader, stop waiting for it and campaign soon (PreVote keeps this safe); a
   * leader goes back to probing.
   */
  | { readonly type: 'peer-lost'; readonly peer: NodeId }
  | { readonly type: 'transfer-leadership'; readonly to: NodeId }
  /** Followers that have not been told the commit offset are told now. */
  | { readonly type: 'announce-commit' }
  /** Campaign now (tests, first start of a single node). */
  | { readonly type: 'campaign' };

export type ProposeResult =
  | { readonly ok: true; readonly firstOffset: Offset; readonly term: Term }
  | { readonly ok: false; readonly reason: 'not-leader' | 'overloaded' | 'transferring'; readonly leader: NodeId };

export type ChangeResult =
  | { readonly ok: true; readonly offset: Offset }
  | {
      readonly ok: false;
      readonly reason: 'not-leader' | 'pending' | 'no-commit-in-term' | 'lagging' | 'invalid';
      readonly leader: NodeId;
    };

/* ---- outputs ---- */

export type Role = 'follower' | 'pre-candidate' | 'candidate' | 'leader';

/** "Read the log from here for this follower; its entries are no longer in memory." One outstanding per peer. */
export interface LogRead {
  readonly peer: NodeId;
  readonly from: Offset;
  readonly bytesMax: number;
}

export interface ReadResult {
  readonly id: number;
  /** The read may be served from state that has applied this offset; null: leadership was lost, ask again elsewhere. */
  readonly offset: Offset | null;
}

/**
 * What must be done now. Order: persist {snapshot, hardState, truncateAfter, entries}, in this order and as one unit per ready, readies in
 * sequence; `messages` may go before; `messagesAfterPersist` only once this ready's unit is durable.
 */
export interface Ready {
  /** Rising number of this ready's persist unit; null when there is nothing to persist. Then messagesAfterPersist wait for the last number given. */
  readonly persist: number | null;
  readonly hardState: HardState | null;
  /** Install: the log up to snapshot.offset is replaced; a suffix is kept only if the core says so by `keepSuffix`. */
  readonly snapshot: SnapshotInfo | null;
  readonly keepSuffix: boolean;
  /** Cut the log after this offset before `entries` are appended; null: no cut. Never below commit. */
  readonly truncateAfter: Offset | null;
  readonly entries: readonly Entry[];
  readonly messages: readonly Message[];
  readonly messagesAfterPersist: readonly Message[];
  /** The commit offset after this ready; null when it did not move. */
  readonly commit: Offset | null;
  readonly reads: readonly ReadResult[];
  readonly logReads: readonly LogRead[];
  readonly snapshotsWanted: readonly NodeId[];
  /** Set when role, term or known leader changed. */
  readonly roleChange: { readonly role: Role; readonly term: Term; readonly leader: NodeId } | null;
  /** The configuration now in force, when it changed. */
  readonly configuration: Configuration | null;
}

export interface PeerStatus {
  readonly id: NodeId;
  readonly state: 'probe' | 'replicate' | 'snapshot';
  readonly match: Offset;
  readonly next: Offset;
  readonly inflightBytes: number;
  readonly recentlyActive: boolean;
  readonly learner: boolean;
}

export interface RaftStatus {
  readonly id: NodeId;
  readonly role: Role;
  readonly term: Term;
  readonly vote: NodeId;
  readonly leader: NodeId;
  readonly commit: Offset;
  readonly lastOffset: Offset;
  /** Last offset known durable on this node. */
  readonly durableOffset: Offset;
  readonly configuration: Configuration;
  readonly transferTo: NodeId;
  /** On a leader only. */
  readonly peers: readonly PeerStatus[];
}

/**
 * The consensus core of one partition on one node. Pure: no clock, no I/O, no callback; the same inputs give the same outputs.
 * Implemented by `RaftCore` in raft-core.ts: `new RaftCore(options)`.
 */
export interface Raft {
  step(event: RaftEvent): void;
  /**
   * Leader only. Reserves `recordCount` offsets for one batch. The driver stamps `bytes` with the returned offset and term, in place, before it
   * calls `ready()`.
   */
  propose(recordCount: number, bytes: Uint8Array): ProposeResult;
  /** A linearizable read: `id` comes back in `Ready.reads`. Returns false when this node is not the leader. */
  requestRead(id: number): boolean;
  /** One change at a time; goes through a joint configuration when voters change. */
  proposeConfiguration(target: Pick<Configuration, 'voters' | 'learners'>): ChangeResult;
  hasReady(): boolean;
  ready(): Ready;
  status(): RaftStatus;
  /** Cheap reads of what the driver asks most. */
  readonly role: Role;
  readonly term: Term;
  readonly leader: NodeId;
  readonly commit: Offset;
  readonly lastOffset: Offset;
  /** Whether a leader has committed an entry of its own term. */
  readonly committedInTerm: boolean;
  /** Whether a leader has followers that could be told of a later commit offset than they have been. */
  readonly unannounced: boolean;
}
