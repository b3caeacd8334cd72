import { NO_NODE, asOffset, asTerm, assert, unreachable, type NodeId, type Offset, type Term } from '#kernel';
import { isVoter } from './configuration.js';
import { CoreState, TERM_MAX } from './core-state.js';
import {
  answerVoteRequest,
  campaign,
  isLoyal,
  leaderLost,
  ownVoteDurable,
  takeOver,
  voteAnswered,
} from './election.js';
import { NO_ENTRIES } from './entry-log.js';
import { append, heartbeat, installSnapshot } from './follower.js';
import { continueChange, proposeConfiguration } from './membership.js';
import { beginRound, hasReadsToServe, requestRead, serveReads } from './read-index.js';
import { timePassed } from './read-lease.js';
import {
  announceCommit,
  appendAnswered,
  commitByCounting,
  hasUnannouncedCommit,
  heartbeatAnswered,
  logRead,
  peerLost,
  replicate,
  retrySnapshots,
  snapshotAnswered,
  snapshotReady,
} from './replication.js';
import { becomeFollower } from './roles.js';
import { abortLateTransfer, transferLeadership } from './transfer.js';
import type {
  ChangeResult,
  Configuration,
  Message,
  PeerStatus,
  ProposeResult,
  Raft,
  RaftEvent,
  RaftOptions,
  RaftStatus,
  Ready,
  Role,
} from './types.js';

/**
 * The consensus core of one partition on one node: the object, and which handler gets which input.
 *
 *      tick, message, persisted, …        propose, requestRead, proposeConfiguration
 *                 │                                        │
 *            step(event)                                   │
 *                 ▼                                        ▼
 *      ┌───────────────────────────────────────────────────────────────────────┐
 *      │ follower.ts      append, heartbeat, snapshot from a leader            │
 *      │ election.ts      campaigns, votes            roles.ts  stepping down  │
 *      │ replication.ts   progress of the followers, counting, snapshots       │     what they share: core-state.ts
 *      │ read-index.ts    heartbeat rounds, reads    read-lease.ts  promises   │ ──► (log, configurations, durability,
 *      │ transfer.ts      handing over leadership                              │      progress, timers, outbox)
 *      │ membership.ts    joint consensus                                      │
 *      └───────────────────────────────────────────────────────────────────────┘
 *                                          │
 *                                       ready()      once per turn of the event loop: what all inputs since the last one add up to
 *                                          ▼
 *      persist unit ─── done ───► messagesAfterPersist            messages, commit, reads, logReads, …
 *           └── step({ persisted }) ◄──┘
 *
 * Handlers only change state and note what became due; `ready()` turns that into messages and one unit to persist.
 * Everything is synchronous, and the same inputs give the same outputs.
 */
export class RaftCore implements Raft {
  private readonly state: CoreState;

  /* What the last ready reported, to report changes only. */
  private reportedCommit: Offset;
  private reportedRole: Role = 'follower';
  private reportedTerm: Term;
  private reportedLeader: NodeId = NO_NODE;
  private reportedConfiguration: Configuration;

  constructor(options: RaftOptions) {
    this.state = new CoreState(options);
    this.reportedCommit = this.state.commit;
    this.reportedTerm = this.state.term;
    this.reportedConfiguration = this.state.configuration;
  }

  get role(): Role {
    return this.state.role;
  }

  get term(): Term {
    return this.state.term;
  }

  get leader(): NodeId {
    return this.state.leader;
  }

  get commit(): Offset {
    return this.state.commit;
  }

  get lastOffset(): Offset {
    return this.state.log.lastOffset;
  }

  get committedInTerm(): boolean {
    return this.state.committedInTerm;
  }

  get unannounced(): boolean {
    return this.state.role === 'leader' && hasUnannouncedCommit(this.state);
  }

  step(event: RaftEvent): void {
    const { state } = this;
    switch (event.type) {
      case 'tick':
        return this.tick();
      case 'time':
        return timePassed(state, event.monotonicMs);
      case 'message':
        return this.receive(event.message);
      case 'persisted':
        return this.persisted(event.persist);
      case 'log-read':
        return logRead(state, event.peer, event.from, event.entries);
      case 'trimmed':
        return this.trimmed(event.baseOffset, event.baseTerm);
      case 'snapshot-ready':
        return snapshotReady(state, event.peer, event.snapshot);
      case 'peer-lost':
        if (state.role === 'leader') peerLost(state, event.peer);
        else if (state.role === 'follower' && event.peer === state.leader) leaderLost(state);
        return;
      case 'transfer-leadership':
        transferLeadership(state, event.to);
        // One that was taken back may have held up a change.
        return continueChange(state);
      case 'announce-commit':
        return announceCommit(state);
      case 'campaign':
        return campaign(state);
      default:
        return unreachable(event);
    }
  }

  private tick(): void {
    const { state } = this;
    state.now++;
    if (state.role !== 'leader') {
      state.elapsed++;
      if (state.elapsed < state.timeout) return;
      if (state.promotable) campaign(state);
      else becomeFollower(state, state.term, NO_NODE);
      return;
    }
    if (abortLateTransfer(state)) continueChange(state);
    state.ticksSinceHeartbeat++;
    if (state.ticksSinceHeartbeat < state.options.heartbeatTicks) return;
    state.ticksSinceHeartbeat = 0;
    if (!state.quorumActive) {
      // CheckQuorum: a leader that cannot commit makes room, and stops its clients from waiting.
      becomeFollower(state, state.term, NO_NODE);
      return;
    }
    retrySnapshots(state);
    beginRound(state);
  }

  private persisted(unit: number): void {
    const { state } = this;
    state.durability.complete(unit);
    state.settle();
    if (state.role === 'leader') {
      state.self.acknowledge(state.durability.offset);
      commitByCounting(state);
    } else ownVoteDurable(state);
  }

  private trimmed(baseOffset: Offset, baseTerm: Term): void {
    const { state } = this;
    if (baseOffset <= state.log.baseOffset) return;
    assert(baseOffset <= state.commit, 'only committed entries are trimmed');
    state.log.trimTo(baseOffset, baseTerm);
  }

  private receive(message: Message): void {
    const { state } = this;
    if (message.to !== state.id || message.from === state.id || message.term > TERM_MAX) return;
    if (message.term > state.term) {
      if (!this.enterTerm(message)) return;
    } else if (message.term < state.term) {
      this.answerFromThePast(message);
      return;
    }
    switch (message.type) {
      case 'append-request':
        return append(state, message);
      case 'append-response':
        return appendAnswered(state, message);
      case 'heartbeat':
        return heartbeat(state, message);
      case 'heartbeat-response':
        return heartbeatAnswered(state, message);
      case 'vote-request':
        return answerVoteRequest(state, message);
      case 'vote-response':
        return voteAnswered(state, message);
      case 'snapshot-request':
        return installSnapshot(state, message);
      case 'snapshot-response':
        return snapshotAnswered(state, message);
      case 'timeout-now':
        return takeOver(state, message);
      default:
        return unreachable(message);
    }
  }

  /** A message of a later term. Whether it is to be handled. */
  private enterTerm(message: Message): boolean {
    const { state } = this;
    switch (message.type) {
      case 'vote-request':
        if (isLoyal(state, message)) return false;
        if (!message.preVote) becomeFollower(state, message.term, NO_NODE);
        return true;
      case 'vote-response':
        // A granted pre-vote bears the term that would be started.
        if (!message.preVote || !message.granted) becomeFollower(state, message.term, NO_NODE);
        return true;
      case 'append-request':
      case 'heartbeat':
      case 'snapshot-request':
        becomeFollower(state, message.term, message.from);
        return true;
      default:
        becomeFollower(state, message.term, NO_NODE);
        // An order to take over holds within the term of the leader that gave it, known here or not.
        return message.type === 'timeout-now';
    }
  }

  /**
   * A message of an earlier term is void, but its sender is told of the later one: a leader so that it steps down (this node may be stuck in
   * a term that nobody else is in, and ignored by followers that are loyal), a candidate so that it catches up.
   */
  private answerFromThePast(message: Message): void {
    const { state } = this;
    switch (message.type) {
      case 'append-request':
      case 'heartbeat':
      case 'snapshot-request':
        state.outbox.send({
          type: 'append-response',
          from: state.id,
          to: message.from,
          term: state.term,
          success: false,
          offset: asOffset(0),
          hintTerm: asTerm(0),
          hintOffset: asOffset(0),
        });
        return;
      case 'vote-request':
        state.outbox.send({
          type: 'vote-response',
          from: state.id,
          to: message.from,
          term: state.term,
          preVote: message.preVote,
          granted: false,
        });
        return;
      default:
    }
  }

  propose(recordCount: number, bytes: Uint8Array): ProposeResult {
    const { state } = this;
    const { log, options } = state;
    assert(recordCount >= 1 && Number.isSafeInteger(log.lastOffset + recordCount), 'a batch has records');
    if (state.role !== 'leader') return { ok: false, reason: 'not-leader', leader: state.leader };
    if (state.transferTo !== NO_NODE) return { ok: false, reason: 'transferring', leader: state.leader };
    // One batch is always taken, so that no batch is too large for an idle log.
    const waiting = log.unsettledBytes;
    if (waiting > 0 && waiting + bytes.length > options.uncommittedBytesMax) {
      return { ok: false, reason: 'overloaded', leader: state.leader };
    }
    return { ok: true, firstOffset: state.appendOwn('data', recordCount, bytes), term: state.term };
  }

  requestRead(id: number): boolean {
    return requestRead(this.state, id);
  }

  proposeConfiguration(target: Pick<Configuration, 'voters' | 'learners'>): ChangeResult {
    return proposeConfiguration(this.state, target);
  }

  hasReady(): boolean {
    const { state } = this;
    return (
      state.hardStateChanged ||
      state.handedOver < state.log.lastOffset ||
      !state.outbox.isEmpty ||
      state.commit !== this.reportedCommit ||
      this.roleChanged ||
      state.configuration !== this.reportedConfiguration ||
      (state.role === 'leader' && (state.replicationDue || hasReadsToServe(state)))
    );
  }

  private get roleChanged(): boolean {
    const { role, term, leader } = this.state;
    return role !== this.reportedRole || term !== this.reportedTerm || leader !== this.reportedLeader;
  }

  ready(): Ready {
    const { state } = this;
    if (state.role === 'leader') {
      serveReads(state);
      if (state.replicationDue) replicate(state);
      if (state.retiring) this.retire();
    }
    const { log, outbox, durability } = state;
    const out = outbox.take();
    const entries =
      state.handedOver < log.lastOffset ? log.slice(asOffset(state.handedOver + 1), Infinity) : NO_ENTRIES;
    const hardState = state.hardStateChanged ? { term: state.term, vote: state.vote } : null;
    const persists = entries.length > 0 || hardState !== null || out.truncateAfter !== null || out.snapshot !== null;
    state.handedOver = log.lastOffset;
    state.hardStateChanged = false;

    const commit = state.commit === this.reportedCommit ? null : state.commit;
    this.reportedCommit = state.commit;
    let roleChange: Ready['roleChange'] = null;
    if (this.roleChanged) {
      roleChange = { role: state.role, term: state.term, leader: state.leader };
      this.reportedRole = state.role;
      this.reportedTerm = state.term;
      this.reportedLeader = state.leader;
    }
    const configuration = state.configuration === this.reportedConfiguration ? null : state.configuration;
    this.reportedConfiguration = state.configuration;

    return {
      persist: persists ? durability.begin(log.lastOffset) : null,
      hardState,
      snapshot: out.snapshot,
      keepSuffix: out.keepSuffix,
      truncateAfter: out.truncateAfter,
      entries,
      messages: out.messages,
      messagesAfterPersist: out.messagesAfterPersist,
      commit,
      reads: out.reads,
      logReads: out.logReads,
      snapshotsWanted: out.snapshotsWanted,
      roleChange,
      configuration,
    };
  }

  /** This leader is no longer a voter. Its followers have just been told; the one that has most takes over at once. */
  private retire(): void {
    const { state } = this;
    const heir = state.peers.find(
      (peer) => peer.match === state.log.lastOffset && state.configuration.voters.includes(peer.id),
    );
    if (heir !== undefined) {
      state.outbox.send({ type: 'timeout-now', from: state.id, to: heir.id, term: state.term });
    }
    becomeFollower(state, state.term, NO_NODE);
  }

  status(): RaftStatus {
    const { state } = this;
    const peers: PeerStatus[] = state.peers.map((peer) => ({
      id: peer.id,
      state: peer.state,
      match: peer.match,
      next: peer.next,
      inflightBytes: peer.inflightBytes,
      recentlyActive: state.now - peer.heardAt < state.options.electionTicks,
      learner: !isVoter(state.configuration, peer.id),
    }));
    return {
      id: state.id,
      role: state.role,
      term: state.term,
      vote: state.vote,
      leader: state.leader,
      commit: state.commit,
      lastOffset: state.log.lastOffset,
      durableOffset: state.durability.offset,
      configuration: state.configuration,
      transferTo: state.transferTo,
      peers,
    };
  }
}
