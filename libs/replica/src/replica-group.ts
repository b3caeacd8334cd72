import {
  NO_NODE,
  NO_OFFSET,
  NO_TERM,
  TidelineError,
  asLogTime,
  asOffset,
  assert,
  type Clock,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
  type Rng,
  type Term,
} from '#kernel';
import {
  RaftCore,
  encodeConfiguration,
  type Configuration,
  type Entry,
  type LogRead,
  type Message,
  type PeerStatus,
  type Ready,
  type Role,
  type SnapshotInfo,
} from '#raft';
import type { PartitionLog } from '#storage';
import {
  ControlKind,
  batchControlKind,
  batchControlPayload,
  batchFirstOffset,
  batchIsControl,
  batchLastOffset,
  batchLogTime,
  batchRecordCount,
  checkBatch,
  encodeControlBatch,
  forEachBatch,
  stampBatch,
} from '#wire';
import { AppendWaiters, type AppendCallback, type Appended, type AppendWaiter } from './append-waiters.js';
import { decodeCheckpoint, encodeCheckpoint } from './checkpoint-v1.js';
import { entriesOfRun } from './entry-of-batch.js';
import { GroupCounters } from './group-counters.js';
import { advanceBase, baseOf, recoverState, stateOfSnapshot, type LogBase } from './log-base.js';
import { LogRepair } from './log-repair.js';
import { LogState } from './log-state.js';
import { LOG_TIME_LEAD_MS, LogClock } from './log-time.js';
import { PersistQueue } from './persist-queue.js';
import type { PeerMessage, RepairRequest, RepairSnapshot } from './raft-messages-v1.js';
import { ReadBarriers, type BarrierCallback } from './read-barriers.js';
import { RecentEntries } from './recent-entries.js';
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

/** What a group needs of the node it lives on. */
export interface GroupHost {
  readonly nodeId: NodeId;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly limits: ReplicaLimits;
  readonly mutants: ReplicaMutants;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** `process()` is wanted at the end of this turn. */
  wake(group: Group): void;
  send(group: GroupId, message: PeerMessage): void;
  synced(group: GroupId, elapsedMs: number): void;
  /** The log of the group is unusable: the process must end. */
  fatal(group: GroupId, error: Error): void;
}

/** Elections without a leader after which a former leader stops waiting to see what became of its entries, in election timeouts. */
const ORPHAN_TIMEOUTS = 2;
/** A leadership transfer that took longer than this, in election timeouts, has failed. */
const TRANSFER_TIMEOUTS = 2;
/** Saves of the commit offset while nothing is written, in election timeouts. */
const COMMIT_SAVE_TIMEOUTS = 1;
/** Readies in one turn; the core has nothing new to say to itself after one or two. */
const READIES_MAX = 16;
const NO_BYTES = Buffer.alloc(0);

interface Held {
  readonly persist: number;
  readonly messages: readonly Message[];
}

interface PendingCheckpoint {
  readonly offset: Offset;
  readonly term: Term;
  readonly base: LogBase;
  readonly bytes: Buffer;
  readonly ended: (saved: boolean) => void;
}

interface PendingTransfer {
  readonly to: NodeId;
  readonly deadline: number;
  readonly done: (error: TidelineError | null) => void;
}

interface PendingChange {
  readonly target: Pick<Configuration, 'voters' | 'learners'>;
  readonly done: (error: TidelineError | null) => void;
}

/**
 * One Raft group on one node: the core, its log, and those who wait for it.
 *
 *     append ──► check, session ──► core.propose ──► stamp ─┐
 *     messages, ticks ────────────► core.step ──────────────┤ any number of times in a turn
 *     barrier ────────────────────► gather ─────────────────┘
 *                                       │ end of the turn
 *                                   core.ready()
 *            ┌──────────────────────────┼───────────────────────────┐
 *      persist queue              messages to peers           commit, reads, roles
 *            └─ durable ─► core.step(persisted), messagesAfterPersist      └─► waiters, listeners
 *
 * All callbacks run on the event loop; those of `append` and `barrier` may run before the call returns.
 */
export class Group {
  readonly id: GroupId;
  readonly counters = new GroupCounters();
  /** On the node's list for the end of this turn. */
  awake = false;

  private readonly core: RaftCore;
  private state: LogState;
  /** Stands for the trimmed part of the log. */
  private base: LogBase;
  private readonly queue: PersistQueue;
  private readonly recent = new RecentEntries();
  private readonly logClock = new LogClock();
  private readonly barriers = new ReadBarriers();

  private commit: Offset;
  /** Log time of the batch at the commit offset, or an earlier one's. */
  private commitTime = asLogTime(0);
  private durable: Offset;
  /** End of the log as of each persist unit that is not durable yet. */
  private unitEnds: { readonly number: number; end: Offset }[] = [];
  private announced: Offset;
  /** As last reported by the core. */
  private role: Role = 'follower';
  private roleTerm: Term;
  private leaderId: NodeId = NO_NODE;
  /** Term of the batches that are in `state` and not yet in `recent`. */
  private proposalTerm = NO_TERM;

  private readonly quorumWaiters = new AppendWaiters();
  private readonly leaderWaiters = new AppendWaiters();
  /** Of a leader that lost its office: they wait to see what becomes of their entries. */
  private readonly orphans = new AppendWaiters();
  private held: Held[] = [];
  private readonly listeners = new Set<(readableOffset: Offset) => void>();

  private readonly roleListeners = new Set<() => void>();
  private roleChanged = false;
  /** Leadership was lost since the last settlement: barriers under way cannot be answered. */
  private losesBarriers = false;
  /** Last offset that came from the core; what lies behind it in `state` was proposed in this turn. */
  private takenIn: Offset;

  private ticks = 0;
  private bytesSinceCheckpoint = 0;
  private pendingCheckpoint: PendingCheckpoint | null = null;
  private savingCheckpoint = false;
  private trimming = false;
  private transfer: PendingTransfer | null = null;
  private change: PendingChange | null = null;
  private failure: TidelineError | null = null;
  private repair: LogRepair | null = null;
  private helping = false;

  constructor(
    private readonly host: GroupHost,
    private readonly log: PartitionLog,
    bootstrapVoters: readonly NodeId[],
  ) {
    this.id = log.group;
    const { limits } = host;
    const { state, base } = recoverState(log, { bootstrapVoters, sessions: limits.sessions });
    this.state = state;
    this.base = base;
    this.roleTerm = log.state.term;
    this.durable = log.lastOffset;
    this.takenIn = log.lastOffset;
    this.commit = asOffset(Math.max(log.baseOffset, Math.min(log.state.commit, log.lastOffset)));
    this.announced = this.readableOffset;
    this.queue = new PersistQueue(log, {
      commit: () => this.readableOffset,
      monotonicMs: () => host.clock.monotonicMs(),
      persisted: (number, elapsedMs) => this.persisted(number, elapsedMs),
      failed: (error) => this.fail(error),
      mutantVoteWrittenLater: host.mutants.voteWrittenLater,
    });
    this.core = new RaftCore({
      id: host.nodeId,
      electionTicks: host.electionTicks,
      heartbeatTicks: host.heartbeatTicks,
      messageBytesMax: limits.messageBytesMax,
      inflightBytesMax: limits.inflightBytesMax,
      uncommittedBytesMax: limits.uncommittedBytesMax,
      cacheBytesMax: limits.recentBytesMax,
      rng: host.rng,
      mutants: host.mutants.raft,
      hardState: { term: log.state.term, vote: log.state.vote },
      log: {
        baseOffset: log.baseOffset,
        baseTerm: log.baseTerm,
        termStarts: log.termStarts,
        lastOffset: log.lastOffset,
        commit: this.commit,
        configuration: state.configuration.configuration,
        configurationOffset: state.configuration.offset,
        previousConfiguration: state.previousConfiguration,
      },
    });
    this.rememberFirstVoters();
    this.campaignIfAlone();
  }

  /** The voters a group began with are an option of the process; from the first start on they are part of its data. */
  private rememberFirstVoters(): void {
    if (this.log.checkpoints.length > 0 || this.log.lastOffset > 0) return;
    this.takeCheckpoint(this.base, ignore);
  }

  /** A group of one need not wait for anybody. */
  private campaignIfAlone(): void {
    const { voters, outgoing } = this.state.configuration.configuration;
    if (voters.length !== 1 || outgoing.length > 0 || voters[0] !== this.host.nodeId) return;
    this.core.step({ type: 'campaign' });
    this.host.wake(this);
  }

  /* ---- what others ask ---- */

  get isLeader(): boolean {
    return this.core.role === 'leader';
  }

  /** Leads, and has committed an entry of its own term: what it has applied up to the commit offset is the newest there is. */
  get isEstablishedLeader(): boolean {
    return this.isLeader && this.core.committedInTerm;
  }

  get leader(): NodeId {
    return this.core.leader;
  }

  get term(): Term {
    return this.core.term;
  }

  get commitOffset(): Offset {
    return this.commit;
  }

  /** Last offset that is committed and durable on this node: readers see nothing beyond it. */
  get readableOffset(): Offset {
    return this.commit < this.durable ? this.commit : this.durable;
  }

  get logStartOffset(): Offset {
    return asOffset(this.log.baseOffset + 1);
  }

  get configuration(): Configuration {
    return this.state.configuration.configuration;
  }

  status(): GroupStatus {
    const { log, state } = this;
    const core = this.core.status();
    return {
      group: this.id,
      role: core.role,
      term: core.term,
      leader: core.leader,
      commitOffset: this.commit,
      readableOffset: this.readableOffset,
      durableOffset: this.durable,
      lastOffset: core.lastOffset,
      logStartOffset: this.logStartOffset,
      logTime: state.logTime,
      configuration: core.configuration,
      peers: core.peers,
      pendingAppends: this.pendingAppends,
      sessions: state.sessions.sessionCount,
      idempotencyKeys: state.sessions.idempotencyKeyCount,
      segments: log.segmentCount,
      bytes: log.byteLength,
      damaged: log.damaged.length > 0,
    };
  }

  private get pendingAppends(): number {
    return this.quorumWaiters.size + this.leaderWaiters.size + this.orphans.size;
  }

  /**
   * Appends one encoded batch. The bytes belong to the log from now on: offset, term and log time are written into them.
   * Errors: `malformed-batch`, `unsupported-version`, `request-too-large`, `bad-request`, `not-leader` (details.leader), `overloaded`,
   * `storage-full`, `shutting-down`, the session errors, `leadership-lost` (outcome `rejected` when the entry was seen to be replaced).
   */
  append(batch: Buffer, options: { readonly acks: Acks }, done: AppendCallback): void {
    const error = this.refusalOf(batch) ?? this.refusal();
    if (error !== null) this.refuse(error, done);
    else this.propose(batch, options.acks, done);
  }

  private refusalOf(batch: Buffer): TidelineError | null {
    const { batchBytesMax } = this.host.limits;
    if (batch.length > batchBytesMax) {
      return new TidelineError('request-too-large', `a batch of ${batch.length} bytes, at most ${batchBytesMax}`, {
        details: { limit: batchBytesMax },
      });
    }
    try {
      checkBatch(batch);
    } catch (error) {
      if (error instanceof TidelineError) return error;
      throw error;
    }
    if (batchIsControl(batch)) return new TidelineError('bad-request', 'control batches are written by the log itself');
    return null;
  }

  /** Why no proposal is taken at all right now. */
  private refusal(): TidelineError | null {
    if (this.failure !== null) return this.failure;
    if (this.core.role !== 'leader') return this.notLeader();
    if (this.log.nearlyFull) return new TidelineError('storage-full', 'the disk of the leader is nearly full');
    if (this.pendingAppends >= this.host.limits.pendingAppendsMax) return overloaded();
    return null;
  }

  private notLeader(): TidelineError {
    const { leader } = this.core;
    return new TidelineError('not-leader', `node ${this.host.nodeId} does not lead group ${this.id}`, {
      details: { leader },
    });
  }

  private refuse(error: TidelineError, done: AppendCallback): void {
    this.counters.proposalsFailed++;
    done(error, null);
  }

  private propose(batch: Buffer, acks: Acks, done: AppendCallback): void {
    this.catchUpWithCore();
    const { core, state, logClock } = this;
    const logTime = logClock.peek(this.host.clock.wallMs());
    const verdict = state.sessions.check(batch, logTime);
    if (verdict.kind === 'refused') {
      this.refuse(verdict.error, done);
      return;
    }
    if (verdict.kind === 'duplicate') {
      const { firstOffset, lastOffset } = verdict;
      this.counters.duplicates++;
      this.await({ ...this.placeOf(firstOffset, lastOffset, verdict.logTime), duplicate: true }, acks, done);
      return;
    }
    // A batch that was stamped before may still be held by the log under its former offset.
    const bytes = batchFirstOffset(batch) === NO_OFFSET ? batch : Buffer.from(batch);
    const proposed = core.propose(batchRecordCount(bytes), bytes);
    if (!proposed.ok) {
      this.refuse(proposed.reason === 'not-leader' ? this.notLeader() : overloaded(), done);
      return;
    }
    const { firstOffset, term } = proposed;
    stampBatch(bytes, { firstOffset, term, logTime, group: this.id });
    logClock.advance(logTime);
    this.proposalTerm = term;
    const isControl = batchIsControl(bytes);
    state.apply(bytes, isControl ? batchControlKind(bytes) : 0, null, true);
    this.host.wake(this);
    this.await(
      { firstOffset, lastOffset: state.lastOffset, logTime, term, node: this.host.nodeId, duplicate: false },
      acks,
      done,
    );
  }

  private placeOf(firstOffset: Offset, lastOffset: Offset, logTime: LogTime): Omit<Appended, 'duplicate'> {
    return { firstOffset, lastOffset, logTime, term: this.termAt(lastOffset), node: this.host.nodeId };
  }

  private await(appended: Appended, acks: Acks, done: AppendCallback): void {
    const settled = acks === 'leader' ? Math.max(this.commit, this.durable) : this.commit;
    if (acks === 'none' || appended.lastOffset <= settled) {
      this.counters.proposalsCommitted++;
      done(null, appended);
      return;
    }
    (acks === 'leader' ? this.leaderWaiters : this.quorumWaiters).add({ appended, done, deadline: 0 });
  }

  /** Opens a session; its id is the offset it is called with. */
  openSession(done: AppendCallback): void {
    const error = this.refusal();
    if (error !== null) this.refuse(error, done);
    else this.propose(this.controlBatch(ControlKind.OpenSession, NO_BYTES), 'quorum', done);
  }

  private controlBatch(kind: ControlKind, payload: Uint8Array): Buffer {
    return encodeControlBatch(kind, payload, this.host.clock.wallMs());
  }

  /**
   * What a read that starts now must wait for, and the time it reads at. Answered only after this node has proved, since the question, that it
   * leads. A time further on than the log allows is logged first (a beacon). Errors: `not-leader`, `overloaded`, `shutting-down`.
   */
  barrier(done: BarrierCallback): void {
    if (this.failure !== null) done(this.failure, null);
    else if (this.core.role !== 'leader') done(this.notLeader(), null);
    else if (this.barriers.size >= this.host.limits.pendingBarriersMax) done(overloaded(), null);
    else {
      this.counters.barriers++;
      this.barriers.ask(done);
      this.host.wake(this);
    }
  }

  private beginBarrier(): void {
    if (this.core.role !== 'leader') {
      this.failBarriers();
      return;
    }
    this.catchUpWithCore();
    const time = this.logClock.peek(this.host.clock.wallMs());
    // From here on nothing is stamped below `time`; what has been stamped below it ends at waitOffset.
    this.logClock.advance(time);
    let waitOffset = this.state.logTime < time ? this.state.lastOffset : asOffset(this.state.logTimeSince - 1);
    if (time > this.commitTime + LOG_TIME_LEAD_MS) {
      if (this.state.logTime < time && !this.proposeBeacon(time)) {
        this.failBarriers();
        return;
      }
      waitOffset = this.state.logTimeSince;
    }
    this.counters.readRounds++;
    const shared = this.barriers.begin(time, waitOffset);
    if (this.host.mutants.readWithoutRound) this.barriers.proved(shared.id, this.commit);
    else if (!this.core.requestRead(shared.id)) this.failBarriers();
  }

  private proposeBeacon(time: LogTime): boolean {
    const bytes = this.controlBatch(ControlKind.Beacon, NO_BYTES);
    const proposed = this.core.propose(1, bytes);
    if (!proposed.ok) return false;
    stampBatch(bytes, { firstOffset: proposed.firstOffset, term: proposed.term, logTime: time, group: this.id });
    this.proposalTerm = proposed.term;
    this.state.apply(bytes, ControlKind.Beacon, null, true);
    this.counters.beacons++;
    return true;
  }

  private failBarriers(): void {
    const callers = this.barriers.takeAll();
    if (callers.length === 0) return;
    const error = this.failure ?? (this.core.role === 'leader' ? overloaded() : this.notLeader());
    for (const caller of callers) caller(error, null);
  }

  /** Committed batches that are durable here, from any replica. Errors: `offset-out-of-range` (details.logStart), `storage-damaged`. */
  read(
    request: { readonly from: Offset; readonly maxBytes: number },
    done: (error: TidelineError | null, result: ReadResult | null) => void,
  ): void {
    const { from, maxBytes } = request;
    if (this.failure !== null) {
      done(this.failure, null);
      return;
    }
    const { logStartOffset } = this;
    if (from < logStartOffset) {
      const message = `offset ${from} is below the log start ${logStartOffset}`;
      done(new TidelineError('offset-out-of-range', message, { details: { logStart: logStartOffset } }), null);
      return;
    }
    const to = this.readableOffset;
    const recent = from > to ? NO_BYTES : this.recent.read(from, to, maxBytes);
    if (recent !== null) done(null, this.resultOf(recent, from));
    else {
      this.log.read({ from, to, bytesMax: maxBytes }, (error, batches) => {
        if (error === null) done(null, this.resultOf(batches, from));
        else {
          this.repairWhatIsDamaged();
          done(storageError(error), null);
        }
      });
    }
  }

  private resultOf(batches: Buffer, from: Offset): ReadResult {
    let nextOffset = from;
    forEachBatch(batches, (at) => {
      nextOffset = asOffset(batchLastOffset(batches, at) + 1);
    });
    return { batches, nextOffset, commitOffset: this.readableOffset, logStartOffset: this.logStartOffset };
  }

  /** Called with the readable offset whenever it has risen, at most once a turn. Returns a function that ends it. */
  onCommit(listener: (readableOffset: Offset) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Called when role, term or leader changed, at the end of the turn's work. Returns a function that ends it. */
  onRoleChange(listener: () => void): () => void {
    this.roleListeners.add(listener);
    return () => this.roleListeners.delete(listener);
  }

  /** First offset whose batch has this log time or a later one; one beyond the readable end when there is none. */
  offsetAtTime(time: LogTime, done: (error: TidelineError | null, offset: Offset) => void): void {
    if (this.failure !== null) {
      done(this.failure, NO_OFFSET);
      return;
    }
    this.log.offsetAtTime(time, (error, offset) => {
      if (error !== null) done(storageError(error), NO_OFFSET);
      else done(null, asOffset(Math.min(offset, this.readableOffset + 1)));
    });
  }

  /** Done when the other node leads. Errors: `not-leader`, `not-a-member`, `overloaded` (another transfer is under way), `timeout`. */
  transferLeadership(to: NodeId, done: (error: TidelineError | null) => void): void {
    const error = this.failure ?? (this.core.role === 'leader' ? null : this.notLeader());
    if (error !== null) done(error);
    else if (to === this.host.nodeId) done(null);
    else if (!this.configuration.voters.includes(to)) done(new TidelineError('not-a-member', `node ${to} has no vote`));
    else if (this.transfer !== null) done(overloaded());
    else {
      this.transfer = { to, deadline: this.ticks + TRANSFER_TIMEOUTS * this.host.electionTicks, done };
      this.core.step({ type: 'transfer-leadership', to });
      this.host.wake(this);
    }
  }

  /**
   * Changes who belongs to the group. Done when the final configuration is committed. Errors: `not-leader`, `membership-change-pending`,
   * `not-ready` (the leader is too new), `learner-lagging`, `bad-request`, `leadership-lost`.
   */
  proposeConfiguration(
    target: Pick<Configuration, 'voters' | 'learners'>,
    done: (error: TidelineError | null) => void,
  ): void {
    if (this.failure !== null || this.core.role !== 'leader') {
      done(this.failure ?? this.notLeader());
      return;
    }
    const proposed = this.core.proposeConfiguration(target);
    if (!proposed.ok) {
      done(this.changeError(proposed.reason));
      return;
    }
    this.change = { target, done };
    this.host.wake(this);
  }

  private changeError(reason: 'not-leader' | 'pending' | 'no-commit-in-term' | 'lagging' | 'invalid'): TidelineError {
    switch (reason) {
      case 'not-leader':
        return this.notLeader();
      case 'pending':
        return new TidelineError('membership-change-pending', 'another membership change is under way');
      case 'no-commit-in-term':
        return new TidelineError('not-ready', 'the leader has not committed anything in its term yet');
      case 'lagging':
        return new TidelineError('learner-lagging', 'the learner is too far behind to become a voter');
      case 'invalid':
        return new TidelineError('bad-request', 'the members asked for are not valid');
    }
  }

  /* ---- inputs from the node ---- */

  tick(): void {
    if (this.failure !== null) return;
    this.ticks++;
    this.core.step({ type: 'tick' });
    this.repair?.tick();
    if (this.orphans.size > 0) this.giveUpOrphans();
    if (this.transfer !== null && this.ticks >= this.transfer.deadline) {
      this.endTransfer(new TidelineError('timeout', 'leadership was not taken over in time'));
    }
    if (this.ticks % (COMMIT_SAVE_TIMEOUTS * this.host.electionTicks) === 0) this.queue.saveCommit();
    if (this.core.hasReady()) this.host.wake(this);
  }

  receive(message: PeerMessage): void {
    if (this.failure !== null) return;
    const { sessions } = this.host.limits;
    if (message.type === 'repair-request') {
      this.helpRepair(message);
      return;
    }
    if (message.type === 'repair-response') {
      this.repair?.receive(message);
      return;
    }
    if (message.type === 'snapshot-request' && stateOfSnapshot(message.snapshot, sessions) === null) return;
    this.core.step({ type: 'message', message });
    this.host.wake(this);
  }

  peerLost(peer: NodeId): void {
    if (this.failure !== null) return;
    this.core.step({ type: 'peer-lost', peer });
    if (this.core.hasReady()) this.host.wake(this);
  }

  /** Campaign at once, for tests and for nodes that know better. */
  campaign(): void {
    if (this.failure !== null) return;
    this.core.step({ type: 'campaign' });
    this.host.wake(this);
  }

  /** Ends the waiting of all callers and closes the log. Appends under way end as `shutting-down` with outcome `unknown`. */
  close(done: () => void): void {
    if (this.failure === null) this.stop(new TidelineError('shutting-down', 'the node is stopping'));
    this.log.close(done);
  }

  private fail(error: Error): void {
    if (this.failure !== null) return;
    this.stop(new TidelineError('internal', `the log of group ${this.id} cannot be written`, { cause: error }));
    this.host.fatal(this.id, error);
  }

  private stop(failure: TidelineError): void {
    this.failure = failure;
    this.queue.stop();
    this.repair?.stop();
    const unknown = new TidelineError(failure.code, failure.message, { cause: failure.cause, outcome: 'unknown' });
    for (const waiters of [this.leaderWaiters, this.quorumWaiters, this.orphans]) {
      for (const waiter of waiters.takeAll()) this.refuse(unknown, waiter.done);
    }
    this.failBarriers();
    this.endTransfer(unknown);
    this.endChange(unknown);
    this.dropCheckpoint();
    this.held = [];
    this.listeners.clear();
    this.roleListeners.clear();
  }

  /* ---- the end of a turn ---- */

  /** Carries out what the core has decided. Called by the node once at the end of a turn. */
  process(): void {
    if (this.failure !== null) return;
    if (this.barriers.isGathering) this.beginBarrier();
    this.drain();
    this.settle();
  }

  /**
   * Before something is proposed: the core may have entries of its own (the noop of a new term, the second half of a membership change) that
   * come first and have to be stamped first.
   */
  private catchUpWithCore(): void {
    if (this.core.lastOffset !== this.state.lastOffset || this.core.term !== this.roleTerm || this.role !== 'leader') {
      this.drain();
      this.host.wake(this);
    }
  }

  private drain(): void {
    for (let i = 0; this.core.hasReady() && this.failure === null; i++) {
      assert(i < READIES_MAX, 'the core comes to rest');
      this.carryOut(this.core.ready());
    }
  }

  private carryOut(ready: Ready): void {
    const { queue } = this;
    if (ready.snapshot !== null) this.install(ready.snapshot, ready.keepSuffix);
    if (ready.truncateAfter !== null) this.truncateAfter(ready.truncateAfter);
    const batches = ready.entries.length > 0 ? this.takeIn(ready.entries) : [];
    for (const message of ready.messages) this.host.send(this.id, message);
    const number = ready.persist ?? queue.given;
    if (ready.messagesAfterPersist.length > 0) this.sendWhenDurable(number, ready.messagesAfterPersist);
    if (ready.persist !== null) {
      const { snapshot } = ready;
      this.unitEnds.push({ number, end: this.core.lastOffset });
      queue.add({
        number,
        install:
          snapshot === null
            ? undefined
            : {
                offset: snapshot.offset,
                term: snapshot.term,
                logTime: this.base.logTime,
                keepSuffix: ready.keepSuffix,
                state: snapshot.state,
              },
        hardState: ready.hardState,
        truncateAfter: ready.truncateAfter,
        batches,
      });
      if (this.host.mutants.ackBeforeSync) this.core.step({ type: 'persisted', persist: number });
    }
    if (ready.roleChange !== null) this.changeRole(ready.roleChange);
    if (ready.commit !== null) this.commitUpTo(ready.commit);
    for (const { id, offset } of ready.reads) {
      if (offset !== null) this.barriers.proved(id, offset);
      else this.losesBarriers = true;
    }
    for (const read of ready.logReads) this.readForPeer(read);
    for (const peer of ready.snapshotsWanted) this.offerSnapshot(peer);
  }

  /** Encodes what the core made itself, and follows the log with the state derived from it. Returns the bytes to persist. */
  private takeIn(entries: readonly Entry[]): Uint8Array[] {
    const { state, recent } = this;
    const batches: Uint8Array[] = [];
    for (const entry of entries) {
      if (entry.firstOffset <= state.lastOffset && entry.term !== this.proposalTerm) {
        // Proposed in this turn, and replaced by another leader's entries before anybody saw it.
        state.truncateAfter(asOffset(entry.firstOffset - 1), this.termAt(asOffset(entry.firstOffset - 1)));
      }
      if (entry.bytes.length === 0) entry.bytes = this.encodeOwn(entry);
      const { bytes } = entry;
      if (entry.firstOffset > state.lastOffset) {
        const isControl = batchIsControl(bytes);
        state.apply(
          bytes,
          isControl ? batchControlKind(bytes) : 0,
          isControl ? batchControlPayload(bytes) : null,
          true,
        );
      }
      recent.append(entry);
      this.takenIn = entry.lastOffset;
      batches.push(bytes);
      this.bytesSinceCheckpoint += bytes.length;
      this.counters.bytesPersisted += bytes.length;
    }
    this.counters.batchesPersisted += entries.length;
    if (state.lastOffset > this.core.lastOffset)
      state.truncateAfter(this.core.lastOffset, this.termAt(this.core.lastOffset));
    return batches;
  }

  /** The noop of a new term, or a configuration. */
  private encodeOwn(entry: Entry): Buffer {
    const { logClock } = this;
    if (entry.kind === 'noop') logClock.begin(this.state.logTime);
    const bytes =
      entry.kind === 'noop'
        ? this.controlBatch(ControlKind.Noop, NO_BYTES)
        : this.controlBatch(ControlKind.Configuration, encodeConfiguration(entry.configuration!));
    const logTime = logClock.peek(this.host.clock.wallMs());
    logClock.advance(logTime);
    stampBatch(bytes, { firstOffset: entry.firstOffset, term: entry.term, logTime, group: this.id });
    return bytes;
  }

  private truncateAfter(offset: Offset): void {
    this.counters.truncations++;
    this.recent.truncateAfter(offset);
    this.takenIn = offset;
    this.state.truncateAfter(offset, this.termAt(offset));
    this.cutDurable(offset);
    if (this.pendingCheckpoint !== null && this.pendingCheckpoint.offset > offset) this.dropCheckpoint();
  }

  private cutDurable(offset: Offset): void {
    if (this.durable > offset) this.durable = offset;
    for (const unit of this.unitEnds) if (unit.end > offset) unit.end = offset;
  }

  private install(snapshot: SnapshotInfo, keepSuffix: boolean): void {
    this.counters.snapshotsInstalled++;
    const state = LogState.decode(decodeCheckpoint(snapshot.state).state, this.host.limits.sessions);
    this.base = baseOf(state);
    this.dropCheckpoint();
    if (keepSuffix) return;
    this.state = state;
    this.takenIn = snapshot.offset;
    this.recent.clear();
    this.bytesSinceCheckpoint = 0;
    this.cutDurable(this.commit);
  }

  /** The term of an offset from the log's base to the end of what has been taken in or proposed. */
  private termAt(offset: Offset): Term {
    const { recent, log } = this;
    if (offset === this.state.lastOffset) return this.state.lastTerm;
    if (offset > this.takenIn) return this.proposalTerm;
    const entry = recent.at(offset);
    if (entry !== null) return entry.term;
    if (offset === this.base.offset) return this.base.term;
    const { termStarts } = log;
    for (let i = termStarts.length - 1; i >= 0; i--) {
      if (termStarts[i].firstOffset <= offset) return termStarts[i].term;
    }
    return log.baseTerm;
  }

  private sendWhenDurable(number: number, messages: readonly Message[]): void {
    if (number <= this.queue.durable || this.host.mutants.ackBeforeSync) {
      for (const message of messages) this.host.send(this.id, message);
    } else this.held.push({ persist: number, messages });
  }

  private persisted(number: number, elapsedMs: number): void {
    if (this.failure !== null) return;
    this.counters.persists++;
    this.host.synced(this.id, elapsedMs);
    this.core.step({ type: 'persisted', persist: number });
    let sent = 0;
    while (sent < this.held.length && this.held[sent].persist <= number) {
      for (const message of this.held[sent].messages) this.host.send(this.id, message);
      sent++;
    }
    if (sent > 0) this.held = this.held.slice(sent);
    while (this.unitEnds.length > 0 && this.unitEnds[0].number <= number) {
      const { end } = this.unitEnds.shift()!;
      if (end > this.durable) this.durable = end;
    }
    this.host.wake(this);
  }

  private commitUpTo(offset: Offset): void {
    this.commit = offset;
    this.state.commit(offset);
    const entry = this.recent.at(offset);
    if (entry !== null) this.commitTime = batchLogTime(entry.bytes);
  }

  private changeRole({ role, term, leader }: NonNullable<Ready['roleChange']>): void {
    const led = this.role === 'leader' && (role !== 'leader' || term !== this.roleTerm);
    if (leader !== NO_NODE && (leader !== this.leaderId || term !== this.roleTerm)) this.counters.leaderChanges++;
    this.roleChanged = true;
    this.role = role;
    this.roleTerm = term;
    this.leaderId = leader;
    if (!led) return;
    this.losesBarriers = true;
    this.orphanWaiters();
  }

  private orphanWaiters(): void {
    const deadline = this.ticks + ORPHAN_TIMEOUTS * this.host.electionTicks;
    for (const waiters of [this.leaderWaiters, this.quorumWaiters]) {
      for (const waiter of waiters.takeAll()) {
        waiter.deadline = deadline;
        this.orphans.add(waiter);
      }
    }
  }

  private giveUpOrphans(): void {
    for (const waiter of this.orphans.take(({ deadline }) => deadline <= this.ticks)) {
      this.refuse(
        new TidelineError('leadership-lost', 'the leader changed while the append was under way'),
        waiter.done,
      );
    }
  }

  private endTransfer(error: TidelineError | null): void {
    const { transfer } = this;
    this.transfer = null;
    transfer?.done(error);
  }

  private endChange(error: TidelineError | null): void {
    const { change } = this;
    this.change = null;
    change?.done(error);
  }

  /* ---- answers ---- */

  /** Answers everybody whose answer is known by now. They may call back into the group. */
  private settle(): void {
    const settled = asOffset(Math.max(this.durable, this.commit));
    for (let w = this.leaderWaiters.takeUpTo(settled); w !== null; w = this.leaderWaiters.takeUpTo(settled))
      this.answer(w);
    const { commit } = this;
    for (let w = this.quorumWaiters.takeUpTo(commit); w !== null; w = this.quorumWaiters.takeUpTo(commit))
      this.answer(w);
    for (let w = this.orphans.takeUpTo(commit); w !== null; w = this.orphans.takeUpTo(commit)) this.answerOrphan(w);
    // What another leader committed says nothing about the batches these barriers wait for.
    if (this.losesBarriers) {
      this.losesBarriers = false;
      this.failBarriers();
    }
    for (let b = this.barriers.takeReady(commit); b !== null; b = this.barriers.takeReady(commit)) {
      const point = {
        offset: ReadBarriers.offsetOf(b),
        time: b.time,
        term: this.core.term,
        node: this.host.nodeId,
      };
      for (const caller of b.callers) caller(null, point);
    }
    if (this.change !== null) this.settleChange();
    if (this.transfer !== null) this.settleTransfer(this.transfer);
    const readable = this.readableOffset;
    this.recent.release(readable, this.host.limits.recentBytesMax);
    if (readable > this.announced) {
      this.announced = readable;
      for (const listener of this.listeners) listener(readable);
    }
    if (this.roleChanged) {
      this.roleChanged = false;
      for (const listener of this.roleListeners) listener();
    }
    this.settleCheckpoint();
  }

  private answer(waiter: AppendWaiter): void {
    this.counters.proposalsCommitted++;
    waiter.done(null, waiter.appended);
  }

  /** The log is committed beyond the entry's place: it stands there, or another does. */
  private answerOrphan(waiter: AppendWaiter): void {
    const entry = this.recent.at(waiter.appended.lastOffset);
    if (entry !== null && entry.term === waiter.appended.term) this.answer(waiter);
    else {
      const outcome = entry === null ? 'unknown' : 'rejected';
      const message = 'the leader changed while the append was under way';
      this.refuse(new TidelineError('leadership-lost', message, { outcome }), waiter.done);
    }
  }

  private settleTransfer({ to }: PendingTransfer): void {
    const { leader } = this.core;
    if (leader === NO_NODE || leader === this.host.nodeId) return;
    this.endTransfer(leader === to ? null : new TidelineError('leadership-lost', `node ${leader} leads, not ${to}`));
  }

  private settleChange(): void {
    if (this.role !== 'leader') {
      this.endChange(new TidelineError('leadership-lost', 'the leader changed while the members were being changed'));
      return;
    }
    const { offset, configuration } = this.state.configuration;
    const { target } = this.change!;
    if (offset > this.commit || configuration.outgoing.length > 0) return;
    if (sameMembers(configuration.voters, target.voters) && sameMembers(configuration.learners, target.learners)) {
      this.endChange(null);
    }
  }

  /* ---- followers that are behind ---- */

  private readForPeer({ peer, from, bytesMax }: LogRead): void {
    const to = this.durable;
    const answer = (batches: Buffer): void => {
      if (this.failure !== null) return;
      this.core.step({ type: 'log-read', peer, from, entries: entriesOfRun(batches, from) });
      this.host.wake(this);
    };
    if (from <= this.log.baseOffset || from > to) {
      answer(NO_BYTES);
      return;
    }
    // What cannot be read cannot be sent; the core asks again with the next heartbeat.
    this.log.read({ from, to, bytesMax }, (error, batches) => {
      if (error !== null) this.repairWhatIsDamaged();
      answer(error === null ? batches : NO_BYTES);
    });
  }

  private offerSnapshot(peer: NodeId): void {
    this.counters.snapshotsSent++;
    this.core.step({ type: 'snapshot-ready', peer, snapshot: this.snapshotOfBase() });
  }

  private snapshotOfBase(): SnapshotInfo {
    const { offset, term, configuration, bytes } = this.base;
    return { offset, term, configuration, state: encodeCheckpoint(this.asKept(bytes), null) };
  }

  /* ---- damage ---- */

  /** Committed batches for a peer whose log is damaged. One at a time; it asks again. */
  private helpRepair({ from: peer, term, fromOffset, toOffset }: RepairRequest): void {
    if (toOffset === NO_OFFSET && this.isLeader && this.core.term <= term) this.makeRoomFor(peer);
    if (this.helping) return;
    const commit = this.readableOffset;
    const answer = (batches: Buffer): void => {
      this.helping = false;
      if (this.failure !== null) return;
      const runs: Buffer[] = [];
      forEachBatch(batches, (at, length) => runs.push(batches.subarray(at, at + length)));
      this.host.send(this.id, {
        type: 'repair-response',
        from: this.host.nodeId,
        to: peer,
        term: this.isEstablishedLeader ? this.core.term : NO_TERM,
        fromOffset,
        commit,
        batches: runs,
        snapshot: fromOffset < this.logStartOffset ? this.snapshotOfBase() : null,
      });
    };
    if (fromOffset < this.logStartOffset || fromOffset > commit) {
      answer(NO_BYTES);
      return;
    }
    this.helping = true;
    const to = toOffset === NO_OFFSET ? commit : asOffset(Math.min(toOffset, commit));
    const bytesMax = this.host.limits.messageBytesMax;
    this.log.read({ from: fromOffset, to, bytesMax }, (error, batches) => answer(error === null ? batches : NO_BYTES));
  }

  /** The peer can trust only a leader of a later term: another voter, not the peer, is asked to take over. */
  private makeRoomFor(peer: NodeId): void {
    if (this.transfer !== null || !this.isEstablishedLeader) return;
    const { voters } = this.configuration;
    const heir = this.core
      .status()
      .peers.filter(({ id, recentlyActive }) => recentlyActive && id !== peer && voters.includes(id))
      .sort((a, b) => b.match - a.match)[0];
    if (heir !== undefined) this.transferLeadership(heir.id, ignore);
  }

  /** A read met damage below the commit offset: it is repaired from the peers while the group goes on. */
  private repairWhatIsDamaged(): void {
    const [range] = this.log.damaged;
    if (this.repair !== null || range === undefined) return;
    if (range.toOffset === null || range.toOffset > this.commit) return;
    const { voters, learners } = this.configuration;
    const peers = [...voters, ...learners].filter((id) => id !== this.host.nodeId);
    if (peers.length === 0) return;
    this.repair = new LogRepair(this.log, {
      nodeId: this.host.nodeId,
      peers,
      askEveryTicks: this.host.heartbeatTicks,
      adopt: (snapshot) => this.adoptBase(snapshot),
      sessions: this.host.limits.sessions,
      send: (request) => this.host.send(this.id, request),
      done: () => {
        this.repair = null;
      },
      failed: (error) => this.fail(error),
    });
  }

  /** What is damaged here has been trimmed elsewhere: it is let go here, too, as soon as it is committed here. */
  private adoptBase(snapshot: RepairSnapshot): void {
    const { offset, term, state } = snapshot;
    if (offset > this.readableOffset || offset <= this.base.offset || this.trimming) return;
    const base = baseOf(stateOfSnapshot(snapshot, this.host.limits.sessions)!);
    this.trimming = true;
    this.dropCheckpoint();
    this.queue.replacePrefix({ offset, term, logTime: base.logTime, keepSuffix: true, state }, () => {
      this.trimming = false;
      this.base = base;
      this.tellTrimmed();
    });
  }

  /* ---- checkpoints and trimming ---- */

  /** A state as it is written to disk and sent to others. */
  private asKept(state: Buffer): Buffer {
    if (!this.host.mutants.sessionsLeftOut) return state;
    return LogState.decode(state, this.host.limits.sessions).withoutSessions().encode();
  }

  /** Of the end of the log; saved once that is committed and durable, dropped when it is cut off before. */
  private takeCheckpoint(base: LogBase, ended: (saved: boolean) => void): void {
    const { state } = this;
    this.bytesSinceCheckpoint = 0;
    this.pendingCheckpoint = {
      offset: state.lastOffset,
      term: state.lastTerm,
      base,
      bytes: encodeCheckpoint(this.asKept(state.encode()), this.asKept(base.bytes)),
      ended,
    };
    this.host.wake(this);
  }

  private dropCheckpoint(): void {
    const dropped = this.pendingCheckpoint;
    this.pendingCheckpoint = null;
    dropped?.ended(false);
  }

  private settleCheckpoint(): void {
    if (this.savingCheckpoint) return;
    if (this.pendingCheckpoint === null && this.bytesSinceCheckpoint >= this.host.limits.checkpointBytes) {
      this.takeCheckpoint(this.base, ignore);
    }
    const checkpoint = this.pendingCheckpoint;
    if (checkpoint === null || checkpoint.offset > this.readableOffset) return;
    this.pendingCheckpoint = null;
    this.savingCheckpoint = true;
    this.log.saveCheckpoint(checkpoint, (error) => {
      this.savingCheckpoint = false;
      if (this.failure !== null) return;
      if (error !== null) {
        this.fail(error);
        return;
      }
      this.counters.checkpoints++;
      checkpoint.ended(true);
      this.host.wake(this);
    });
  }

  /**
   * Lets go of batches below `offset`, by whole segments, as far as they are committed. What followers need in their place is made durable
   * first. Done when the log has been trimmed or there was nothing to trim; a trim under way ends an earlier one's wait too.
   */
  trimBefore(offset: Offset, done: (error: TidelineError | null) => void = ignore): void {
    const to = asOffset(Math.min(offset - 1, this.readableOffset));
    const { base } = this;
    if (this.failure !== null || this.trimming || to <= base.offset) {
      done(this.failure);
      return;
    }
    this.trimming = true;
    advanceBase(this.log, base, { to, sessions: this.host.limits.sessions }, (error, advanced) => {
      if (error !== null || this.failure !== null || this.base !== base) {
        // Closed, failed, or replaced by a snapshot meanwhile.
        this.trimming = false;
        done(this.failure ?? (error === null ? null : storageError(error)));
        return;
      }
      this.dropCheckpoint();
      this.takeCheckpoint(advanced, (saved) => {
        this.trimming = false;
        if (saved) this.trimTo(advanced);
        done(this.failure);
      });
    });
  }

  private trimTo(base: LogBase): void {
    const { log } = this;
    this.base = base;
    log.trimBefore(asOffset(base.offset + 1));
    this.tellTrimmed();
  }

  private tellTrimmed(): void {
    const { baseOffset, baseTerm } = this.log;
    this.core.step({ type: 'trimmed', baseOffset, baseTerm });
    this.host.wake(this);
  }
}

const ignore = (): void => {};

const overloaded = (): TidelineError => new TidelineError('overloaded', 'too much is under way; slow down');

const storageError = (error: Error): TidelineError =>
  error instanceof TidelineError ? error : new TidelineError('internal', error.message, { cause: error });

const sameMembers = (a: readonly NodeId[], b: readonly NodeId[]): boolean =>
  a.length === b.length && a.every((id) => b.includes(id));
