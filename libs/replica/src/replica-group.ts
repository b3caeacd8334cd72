import {
  NO_NODE,
  NO_OFFSET,
  NO_TERM,
  TidelineError,
  asLogTime,
  asOffset,
  assert,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
  type Term,
} from '#kernel';
import {
  RaftCore,
  encodeConfiguration,
  type Configuration,
  type Entry,
  type LogRead,
  type Message,
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
  batchLogTime,
  batchRecordCount,
  checkBatch,
  encodeControlBatch,
  stampBatch,
} from '#wire';
import { AppendWaiters, type AppendCallback, type Appended, type AppendWaiter } from './append-waiters.js';
import { decodeCheckpoint } from './checkpoint-v1.js';
import { CommittedReader } from './committed-reader.js';
import { DurableEnd } from './durable-end.js';
import { entriesOfRun } from './entry-of-batch.js';
import { GroupAdministration, type AdministrationCallback, type ConfigurationTarget } from './group-administration.js';
import { GroupCheckpoints } from './group-checkpoints.js';
import { GroupCounters } from './group-counters.js';
import { leadershipLost, notLeader, overloaded } from './group-errors.js';
import type { Acks, Announcer, GroupHost, GroupStatus, ReadResult, TurnTaker } from './group-host.js';
import { recoverState, stateOfSnapshot, type LogBase } from './log-base.js';
import { LogState } from './log-state.js';
import { LOG_TIME_LEAD_MS, LogClock } from './log-time.js';
import { PeerRepair } from './peer-repair.js';
import { PersistQueue } from './persist-queue.js';
import type { PeerMessage } from './raft-messages-v1.js';
import { ReadBarriers, type BarrierCallback } from './read-barriers.js';
import { RecentEntries } from './recent-entries.js';

/** Elections without a leader after which a former leader stops waiting to see what became of its entries, in election timeouts. */
const ORPHAN_TIMEOUTS = 2;
/** Saves of the commit offset while nothing is written, in election timeouts. */
const COMMIT_SAVE_TIMEOUTS = 1;
/** Readies in one turn; the core has nothing new to say to itself after one or two. */
const READIES_MAX = 16;
const NO_BYTES = Buffer.alloc(0);

export interface AppendOptions {
  readonly acks: Acks;
  /** Somebody on another node waits until the records can be read there: followers hear of the commit at once. */
  readonly awaitedElsewhere?: boolean;
}

interface Held {
  readonly persist: number;
  readonly messages: readonly Message[];
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
 *   1. messages to peers          2. persist queue         3. commit, reads, roles
 *                                       │                           └─► waiters, listeners
 *                                       └─ durable ─► core.step(persisted), messagesAfterPersist
 *
 * In this order: followers have the longest way to go, and those who are answered here may take long over it.
 *
 * All callbacks run on the event loop; those of `append` and `barrier` may run before the call returns.
 */
export class Group implements TurnTaker, Announcer {
  readonly id: GroupId;
  readonly counters = new GroupCounters();
  /** On the node's list for the end of this turn. */
  awake = false;
  /** On the node's list of those whose followers are to hear of the commit offset soon. */
  announcing = false;
  /** Somebody was answered who waits on another node. */
  private announcementDue = false;

  private readonly core: RaftCore;
  private state: LogState;
  private readonly checkpoints: GroupCheckpoints;
  private readonly repair: PeerRepair;
  private readonly reader: CommittedReader;
  private readonly administration: GroupAdministration;
  private readonly queue: PersistQueue;
  private readonly recent = new RecentEntries();
  private readonly logClock = new LogClock();
  private readonly barriers = new ReadBarriers();

  private commit: Offset;
  /** Log time of the batch at the commit offset, or an earlier one's. */
  private commitTime = asLogTime(0);
  private readonly durable: DurableEnd;
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
  private failure: TidelineError | null = null;

  constructor(
    private readonly host: GroupHost,
    private readonly log: PartitionLog,
    bootstrapVoters: readonly NodeId[],
  ) {
    this.id = log.group;
    const { limits } = host;
    const { state, base, commit } = recoverState(log, { bootstrapVoters, sessions: limits.sessions });
    this.state = state;
    this.roleTerm = log.state.term;
    this.durable = new DurableEnd(log.lastOffset);
    this.takenIn = log.lastOffset;
    this.commit = commit;
    this.announced = this.readableOffset;
    this.queue = new PersistQueue(log, {
      commit: () => this.readableOffset,
      monotonicMs: () => host.clock.monotonicMs(),
      persisted: (number, elapsedMs) => this.persisted(number, elapsedMs),
      failed: (error) => this.fail(error),
      mutantVoteWrittenLater: host.mutants.voteWrittenLater,
    });
    this.checkpoints = this.makeCheckpoints(base);
    this.repair = this.makeRepair();
    this.core = new RaftCore({
      id: host.nodeId,
      electionTicks: host.electionTicks,
      heartbeatTicks: host.heartbeatTicks,
      messageBytesMax: limits.messageBytesMax,
      inflightBytesMax: limits.inflightBytesMax,
      uncommittedBytesMax: limits.uncommittedBytesMax,
      cacheBytesMax: limits.recentBytesMax,
      announcesOnOrder: true,
      ...(host.leaseMs !== null && { readLease: { promiseMs: host.leaseMs, startMs: host.clock.monotonicMs() } }),
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
    this.reader = new CommittedReader(
      log,
      this.recent,
      () => this.readableOffset,
      () => this.repair.damageMet(),
    );
    this.administration = new GroupAdministration(this.id, host.nodeId, this.core, host.electionTicks);
    this.checkpoints.rememberFirstVoters();
    this.campaignIfAlone();
  }

  private makeCheckpoints(base: LogBase): GroupCheckpoints {
    return new GroupCheckpoints(
      {
        log: this.log,
        limits: this.host.limits,
        mutants: this.host.mutants,
        counters: this.counters,
        queue: this.queue,
        state: () => this.state,
        readable: () => this.readableOffset,
        failure: () => this.failure,
        fail: (error) => this.fail(error),
        trimmed: () => this.tellTrimmed(),
        wake: () => this.host.wake(this),
      },
      base,
    );
  }

  private makeRepair(): PeerRepair {
    const { host } = this;
    return new PeerRepair({
      log: this.log,
      nodeId: host.nodeId,
      sessions: host.limits.sessions,
      responseBytesMax: host.limits.messageBytesMax,
      askEveryTicks: host.heartbeatTicks,
      readable: () => this.readableOffset,
      members: () => [...this.configuration.voters, ...this.configuration.learners],
      leadingTerm: () => (this.isEstablishedLeader ? this.core.term : NO_TERM),
      isStopped: () => this.failure !== null,
      snapshot: () => this.checkpoints.snapshot(),
      adopt: (snapshot) => this.checkpoints.adopt(snapshot),
      yieldTo: (exceptPeer) => this.yieldTo(exceptPeer),
      send: (message) => host.send(this.id, message),
      damage: (state) => host.damage(this.id, state),
      fail: (error) => this.fail(error),
    });
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

  /** End of the log, durable or not. */
  get lastOffset(): Offset {
    return this.core.lastOffset;
  }

  get commitOffset(): Offset {
    return this.commit;
  }

  /** Last offset that is committed and durable on this node: readers see nothing beyond it. */
  get readableOffset(): Offset {
    const durable = this.durable.offset;
    return this.commit < durable ? this.commit : durable;
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
      durableOffset: this.durable.offset,
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
  append(batch: Buffer, options: AppendOptions, done: AppendCallback): void {
    const error = this.refusalOf(batch) ?? this.refusal();
    if (error !== null) this.refuse(error, done);
    else this.propose(batch, options.acks, options.awaitedElsewhere === true ? this.announcingAfter(done) : done);
  }

  private announcingAfter(done: AppendCallback): AppendCallback {
    return (error, appended) => {
      if (error === null) this.announcementDue = true;
      done(error, appended);
    };
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
    if (this.core.role !== 'leader') return notLeader(this.id, this.core.leader);
    if (this.log.nearlyFull) return new TidelineError('storage-full', 'the disk of the leader is nearly full');
    if (this.pendingAppends >= this.host.limits.pendingAppendsMax) return overloaded();
    return null;
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
      this.refuse(proposed.reason === 'not-leader' ? notLeader(this.id, this.core.leader) : overloaded(), done);
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
    const settled = acks === 'leader' ? Math.max(this.commit, this.durable.offset) : this.commit;
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
    else if (this.core.role !== 'leader') done(notLeader(this.id, this.core.leader), null);
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
    this.lookAtClock();
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
    const error = this.failure ?? (this.core.role === 'leader' ? overloaded() : notLeader(this.id, this.core.leader));
    for (const caller of callers) caller(error, null);
  }

  /** Committed batches that are durable here, from any replica. Errors: `offset-out-of-range` (details.logStart), `storage-damaged`. */
  read(
    request: { readonly from: Offset; readonly maxBytes: number },
    done: (error: TidelineError | null, result: ReadResult | null) => void,
  ): void {
    if (this.failure === null) this.reader.read(request, done);
    else done(this.failure, null);
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
    if (this.failure === null) this.reader.offsetAtTime(time, done);
    else done(this.failure, NO_OFFSET);
  }

  /** Done when the other node leads. Errors: `not-leader`, `not-a-member`, `overloaded` (another transfer is under way), `timeout`. */
  transferLeadership(to: NodeId, done: AdministrationCallback): void {
    if (this.failure !== null) {
      done(this.failure);
      return;
    }
    const { voters } = this.configuration;
    this.administration.transferLeadership({ to, voters, now: this.ticks }, done);
    this.host.wake(this);
  }

  /**
   * Changes who belongs to the group. Done when the final configuration is committed. Errors: `not-leader`, `membership-change-pending`,
   * `not-ready` (the leader is too new), `learner-lagging`, `bad-request`, `leadership-lost`.
   */
  proposeConfiguration(target: ConfigurationTarget, done: AdministrationCallback): void {
    if (this.failure !== null) {
      done(this.failure);
      return;
    }
    this.administration.proposeConfiguration(target, done);
    this.host.wake(this);
  }

  /* ---- inputs from the node ---- */

  tick(): void {
    if (this.failure !== null) return;
    this.ticks++;
    this.lookAtClock();
    this.core.step({ type: 'tick' });
    this.repair.tick();
    if (this.orphans.size > 0) this.giveUpOrphans();
    this.administration.tick(this.ticks);
    if (this.ticks % (COMMIT_SAVE_TIMEOUTS * this.host.electionTicks) === 0) this.queue.saveCommit();
    if (this.core.hasReady()) this.host.wake(this);
  }

  receive(message: PeerMessage): void {
    if (this.failure !== null) return;
    const { sessions } = this.host.limits;
    if (message.type === 'repair-request' || message.type === 'repair-response') {
      this.repair.receive(message);
      return;
    }
    if (message.type === 'snapshot-request' && stateOfSnapshot(message.snapshot, sessions) === null) return;
    this.lookAtClock();
    this.core.step({ type: 'message', message });
    this.host.wake(this);
  }

  /** Leases are a matter of time, and promises of the time at which they are made. */
  private lookAtClock(): void {
    const { leaseMs, clock } = this.host;
    if (leaseMs !== null) this.core.step({ type: 'time', monotonicMs: clock.monotonicMs() });
  }

  peerLost(peer: NodeId): void {
    if (this.failure !== null) return;
    this.lookAtClock();
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
    this.repair.stop();
    const unknown = new TidelineError(failure.code, failure.message, { cause: failure.cause, outcome: 'unknown' });
    for (const waiters of [this.leaderWaiters, this.quorumWaiters, this.orphans]) {
      for (const waiter of waiters.takeAll()) this.refuse(unknown, waiter.done);
    }
    this.failBarriers();
    this.administration.stop(unknown);
    this.checkpoints.drop();
    this.held = [];
    this.listeners.clear();
    this.roleListeners.clear();
  }

  /* ---- the end of a turn ---- */

  /** Carries out what the core has decided. Called by the node once at the end of a turn. */
  decide(): void {
    if (this.failure !== null) return;
    if (this.barriers.isGathering) this.beginBarrier();
    this.drain();
  }

  get hasToWrite(): boolean {
    return this.queue.isWaiting;
  }

  write(atOnce: boolean): void {
    this.queue.begin(atOnce);
  }

  settle(): void {
    if (this.failure !== null) return;
    this.answerAll();
    if (this.announcementDue) {
      this.announcementDue = false;
      this.core.step({ type: 'announce-commit' });
      this.drain();
    }
    if (this.core.unannounced && !this.announcing) this.host.announceSoon(this);
  }

  announceCommit(): void {
    if (this.failure !== null) return;
    this.core.step({ type: 'announce-commit' });
    if (this.core.hasReady()) this.host.wake(this);
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
      this.durable.begin(number, this.core.lastOffset);
      queue.add({
        number,
        install:
          snapshot === null
            ? undefined
            : {
                offset: snapshot.offset,
                term: snapshot.term,
                logTime: this.checkpoints.base.logTime,
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
      this.checkpoints.appended(bytes.length);
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
    this.durable.cutAfter(offset);
    this.checkpoints.cutAfter(offset);
  }

  private install(snapshot: SnapshotInfo, keepSuffix: boolean): void {
    this.counters.snapshotsInstalled++;
    const state = LogState.decode(decodeCheckpoint(snapshot.state).state, this.host.limits.sessions);
    this.checkpoints.replaced(state);
    if (keepSuffix) return;
    this.state = state;
    this.takenIn = snapshot.offset;
    this.recent.clear();
    this.durable.cutAfter(this.commit);
  }

  /** The term of an offset from the log's base to the end of what has been taken in or proposed. */
  private termAt(offset: Offset): Term {
    const { recent, log } = this;
    if (offset === this.state.lastOffset) return this.state.lastTerm;
    if (offset > this.takenIn) return this.proposalTerm;
    const entry = recent.at(offset);
    if (entry !== null) return entry.term;
    const { base } = this.checkpoints;
    if (offset === base.offset) return base.term;
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
    this.durable.complete(number);
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
      this.refuse(leadershipLost('unknown'), waiter.done);
    }
  }

  /* ---- answers ---- */

  /** Answers everybody whose answer is known by now. They may call back into the group. */
  private answerAll(): void {
    const settled = asOffset(Math.max(this.durable.offset, this.commit));
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
    this.administration.settle(this.state.configuration, commit);
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
    this.checkpoints.settle();
  }

  private answer(waiter: AppendWaiter): void {
    this.counters.proposalsCommitted++;
    waiter.done(null, waiter.appended);
  }

  /** The log is committed beyond the entry's place: it stands there, or another does. */
  private answerOrphan(waiter: AppendWaiter): void {
    const entry = this.recent.at(waiter.appended.lastOffset);
    if (entry !== null && entry.term === waiter.appended.term) this.answer(waiter);
    else this.refuse(leadershipLost(entry === null ? 'unknown' : 'rejected'), waiter.done);
  }

  /* ---- followers that are behind ---- */

  private readForPeer({ peer, from, bytesMax }: LogRead): void {
    const to = this.durable.offset;
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
      if (error !== null) this.repair.damageMet();
      answer(error === null ? batches : NO_BYTES);
    });
  }

  private offerSnapshot(peer: NodeId): void {
    this.counters.snapshotsSent++;
    this.core.step({ type: 'snapshot-ready', peer, snapshot: this.checkpoints.snapshot() });
  }

  /**
   * Lets go of batches below `offset`, by whole segments, as far as they are committed. What followers need in their place is made durable
   * first. Done when the log has been trimmed, or at once when there is nothing to trim or a trim is under way.
   */
  trimBefore(offset: Offset, done: (error: TidelineError | null) => void = ignore): void {
    this.checkpoints.trimBefore(offset, done);
  }

  private tellTrimmed(): void {
    const { baseOffset, baseTerm } = this.log;
    this.core.step({ type: 'trimmed', baseOffset, baseTerm });
    this.host.wake(this);
  }

  /** Another voter than this one is asked to take over, the one that has most. */
  private yieldTo(exceptPeer: NodeId): void {
    if (this.administration.isTransferring) return;
    const { voters } = this.configuration;
    const heir = this.core
      .status()
      .peers.filter(({ id, recentlyActive }) => recentlyActive && id !== exceptPeer && voters.includes(id))
      .sort((a, b) => b.match - a.match)[0];
    if (heir !== undefined) this.transferLeadership(heir.id, ignore);
  }
}

const ignore = (): void => {};
