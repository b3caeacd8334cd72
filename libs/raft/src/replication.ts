import { asOffset, assert, type NodeId, type Offset } from '#kernel';
import { NO_ENTRIES } from './entry-log.js';
import { continueChange } from './membership.js';
import { roundAnswered } from './read-index.js';
import { promised } from './read-lease.js';
import { handOver } from './transfer.js';
import type { CoreState } from './core-state.js';
import type { Progress } from './progress.js';
import type {
  AppendRequest,
  AppendResponse,
  Entry,
  HeartbeatResponse,
  SnapshotInfo,
  SnapshotResponse,
} from './types.js';

/**
 * The leader's side of replication. Steps only note what became due; `replicate` runs once per ready, so that everything proposed in a turn
 * leaves in as few messages as their size allows.
 */
export const replicate = (state: CoreState): void => {
  state.replicationDue = false;
  for (const peer of state.peers) if (peer.state !== 'snapshot') replicateTo(state, peer);
  state.announcementDue = false;
};

/** The highest commit offset that says something about entries which the follower has been sent. */
const sendableCommit = ({ commit }: CoreState, peer: Progress): Offset =>
  commit < peer.next ? commit : asOffset(peer.next - 1);

export const hasUnannouncedCommit = (state: CoreState): boolean => {
  for (const peer of state.peers) {
    if (peer.state === 'replicate' && sendableCommit(state, peer) > peer.commitSent) return true;
  }
  return false;
};

export const announceCommit = (state: CoreState): void => {
  if (state.role !== 'leader' || !hasUnannouncedCommit(state)) return;
  state.announcementDue = true;
  state.replicationDue = true;
};

const replicateTo = (state: CoreState, peer: Progress): void => {
  const { log, options } = state;
  if (peer.state === 'probe' && peer.probeSent) return;
  for (;;) {
    if (peer.next <= log.baseOffset) {
      awaitSnapshot(state, peer);
      return;
    }
    if (peer.next > log.lastOffset) break;
    if (peer.state === 'replicate' && !peer.canPipeline(options.inflightBytesMax)) break;
    if (peer.next < log.cachedFrom) {
      requestLogRead(state, peer);
      break;
    }
    const entries = log.slice(peer.next, options.messageBytesMax);
    sendEntries(state, peer, entries, log.sliceBytes);
    if (peer.state === 'probe') return;
  }
  if (peer.state === 'probe') {
    // With a log read under way the probe goes out with its answer.
    if (peer.next > log.lastOffset) {
      peer.probeSent = true;
      peer.probeSentAt = state.now;
      sendAppend(state, peer, asOffset(peer.next - 1), NO_ENTRIES);
    }
    return;
  }
  const announces = state.announcementDue || state.options.announcesOnOrder !== true;
  if (peer.checkDue || (announces && sendableCommit(state, peer) > peer.commitSent)) {
    sendAppend(state, peer, asOffset(peer.next - 1), NO_ENTRIES);
  }
};

const requestLogRead = (state: CoreState, peer: Progress): void => {
  if (peer.readStalled || state.readsOutstanding.has(peer.id)) return;
  state.readsOutstanding.add(peer.id);
  state.outbox.readLog({ peer: peer.id, from: peer.next, bytesMax: state.options.messageBytesMax });
};

/** Entries that begin at or contain `peer.next`. */
const sendEntries = (state: CoreState, peer: Progress, entries: readonly Entry[], bytes: number): void => {
  const end = entries[entries.length - 1].lastOffset;
  // The place found by a conflict hint may lie within one of this log's entries: go from its start.
  sendAppend(state, peer, asOffset(entries[0].firstOffset - 1), entries);
  if (peer.state === 'probe') {
    peer.probeSent = true;
    peer.probeSentAt = state.now;
  } else peer.sent(end, bytes);
};

const sendAppend = (state: CoreState, peer: Progress, prevOffset: Offset, entries: readonly Entry[]): void => {
  const { log, commit } = state;
  const end = entries.length > 0 ? entries[entries.length - 1].lastOffset : prevOffset;
  const append: AppendRequest = {
    type: 'append-request',
    from: state.id,
    to: peer.id,
    term: state.term,
    prevOffset,
    prevTerm: log.termAt(prevOffset),
    entries,
    commit,
  };
  peer.commitSent = commit < end ? commit : end;
  peer.checkDue = false;
  state.outbox.send(append);
};

/** Entries that were no longer in memory have come from storage. */
export const logRead = (state: CoreState, peerId: NodeId, from: Offset, entries: readonly Entry[]): void => {
  state.readsOutstanding.delete(peerId);
  const peer = state.role === 'leader' ? state.peer(peerId) : undefined;
  if (peer === undefined || peer.state === 'snapshot') return;
  state.replicationDue = true;
  if (entries.length === 0) {
    peer.readStalled = from > state.log.baseOffset;
    return;
  }
  if (peer.next !== from || (peer.state === 'probe' && peer.probeSent) || !isPartOfLog(state, entries)) return;
  if (entries[0].firstOffset > from || entries[entries.length - 1].lastOffset < from) return;
  let bytes = 0;
  for (const entry of entries) bytes += entry.bytes.length;
  sendEntries(state, peer, entries, bytes);
};

/** The log may have been cut or trimmed since the read was asked for. */
const isPartOfLog = ({ log }: CoreState, entries: readonly Entry[]): boolean => {
  let next = entries[0].firstOffset;
  if (next <= log.baseOffset) return false;
  for (const { firstOffset, lastOffset, term } of entries) {
    if (firstOffset !== next || !log.matches(lastOffset, term)) return false;
    next = asOffset(lastOffset + 1);
  }
  return true;
};

export const appendAnswered = (state: CoreState, response: AppendResponse): void => {
  const peer = state.role === 'leader' ? state.peer(response.from) : undefined;
  if (peer === undefined) return;
  peer.heardAt = state.now;
  peer.answeredAt = state.now;
  // Nobody can have acknowledged what this leader has not written.
  if (response.offset > state.log.lastOffset) return;
  if (response.success) accepted(state, peer, response.offset);
  else rejected(state, peer, response);
};

const accepted = (state: CoreState, peer: Progress, offset: Offset): void => {
  const advanced = peer.acknowledge(offset);
  if (peer.state === 'probe' || (peer.state === 'snapshot' && peer.match >= state.log.baseOffset)) {
    peer.becomeReplicate(state.now);
  }
  state.replicationDue = true;
  if (!advanced) return;
  commitByCounting(state);
  handOver(state, peer);
};

const rejected = (state: CoreState, peer: Progress, response: AppendResponse): void => {
  // What matched stays matched: an older answer has been overtaken.
  if (peer.state === 'snapshot' || response.offset < peer.match) return;
  const next = nextAfterRejection(state, response);
  if (peer.state === 'probe' && next >= peer.next) return;
  peer.becomeProbe(next);
  state.replicationDue = true;
};

/**
 * The follower's log has `hintTerm` at `offset`, since `hintOffset`. If this log has entries of that term, the logs agree up to the last of
 * them at or below `offset`; if not, they differ on that whole term, and wherever this log's terms are higher.
 */
const nextAfterRejection = ({ log }: CoreState, { offset, hintTerm, hintOffset }: AppendResponse): Offset => {
  const last = log.lastWithTermAtMost(hintTerm, offset);
  if (last >= hintOffset && last >= log.baseOffset && log.termAt(last) === hintTerm) return asOffset(last + 1);
  return asOffset(Math.max(0, Math.min(last, hintOffset - 1)) + 1);
};

/** After news of what is durable somewhere. Only entries of this term are committed by counting; older ones follow them. */
export const commitByCounting = (state: CoreState): void => {
  const offset = asOffset(state.quorumOf('match'));
  if (offset <= state.commit) return;
  if (!state.options.mutants?.countsOldTerms) {
    if (offset < state.termFirstOffset) return;
    const isOwn = state.log.termAt(offset) === state.term;
    // Without a noop the term may have begun before the first entry of its own.
    if (!isOwn && state.options.mutants?.noNoopOnElection) return;
    assert(isOwn, 'an entry of this term is committed by counting');
  }
  state.commitUpTo(offset);
  continueChange(state);
};

export const heartbeatAnswered = (state: CoreState, response: HeartbeatResponse): void => {
  const peer = state.role === 'leader' ? state.peer(response.from) : undefined;
  if (peer === undefined) return;
  peer.heardAt = state.now;
  promised(state, peer, response);
  roundAnswered(state, peer, response.round);
  peer.readStalled = false;
  // Reads make heartbeats frequent; what was sent is given a heartbeat interval before it counts as lost.
  const before = state.now - state.options.heartbeatTicks;
  if (peer.state === 'probe') {
    if (peer.probeSentAt <= before) peer.probeSent = false;
    state.replicationDue = true;
  } else if (peer.state === 'replicate') {
    if (peer.match < peer.next - 1 && peer.answeredAt <= before) {
      peer.answeredAt = state.now;
      peer.checkDue = true;
    }
    if (peer.checkDue || peer.next <= state.log.lastOffset) state.replicationDue = true;
  }
  if (state.transferOrderedAt <= before) handOver(state, peer);
};

/* ---- snapshots ---- */

const awaitSnapshot = (state: CoreState, peer: Progress): void => {
  peer.becomeSnapshot(state.now);
  if (peer.snapshotAsked) return;
  peer.snapshotAsked = true;
  state.outbox.wantSnapshot(peer.id);
};

export const snapshotReady = (state: CoreState, peerId: NodeId, snapshot: SnapshotInfo): void => {
  const peer = state.role === 'leader' ? state.peer(peerId) : undefined;
  if (peer === undefined) return;
  peer.snapshotAsked = false;
  if (peer.state !== 'snapshot') return;
  assert(snapshot.offset <= state.commit, 'a snapshot holds committed entries only');
  if (snapshot.offset < state.log.baseOffset) {
    // Trimmed again while it was made.
    awaitSnapshot(state, peer);
    return;
  }
  peer.snapshotSince = state.now;
  state.outbox.send({ type: 'snapshot-request', from: state.id, to: peerId, term: state.term, snapshot });
};

export const snapshotAnswered = (state: CoreState, response: SnapshotResponse): void => {
  const peer = state.role === 'leader' ? state.peer(response.from) : undefined;
  if (peer === undefined) return;
  peer.heardAt = state.now;
  if (response.offset > state.log.lastOffset) return;
  accepted(state, peer, response.offset);
};

/** A snapshot that was sent and not answered for an election timeout may be lost: look again at what the follower has. */
export const retrySnapshots = (state: CoreState): void => {
  for (const peer of state.peers) {
    if (peer.state !== 'snapshot' || peer.snapshotAsked) continue;
    if (state.now - peer.snapshotSince >= state.options.electionTicks) lookAgain(state, peer);
  }
};

/** What was sent may be lost. Goes back no further than needed: a follower that has less says so. */
const lookAgain = (state: CoreState, peer: Progress): void => {
  if (peer.state === 'replicate') peer.becomeProbe(asOffset(peer.match + 1));
  else if (peer.state === 'probe') peer.becomeProbe(peer.next);
  else peer.becomeProbe(asOffset(state.log.baseOffset + 1));
  state.replicationDue = true;
};

export const peerLost = (state: CoreState, peerId: NodeId): void => {
  const peer = state.peer(peerId);
  if (peer !== undefined) lookAgain(state, peer);
};
