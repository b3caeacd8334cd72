import { holdsLease, leaseRoundSent } from './read-lease.js';
import type { Progress } from './progress.js';
import type { CoreState } from './core-state.js';
import type { Heartbeat } from './types.js';

/**
 * Heartbeats and linearizable reads (ReadIndex; Raft dissertation, section 6.4).
 *
 *      request ──► waiting ── an entry of this term is committed ──► round n begins, at commit offset c
 *                                                                       │ a quorum answers round n or a later one
 *                                                                       ▼
 *                                                              answer c for all reads of the round
 *
 * A round that began before the request proves nothing about the time after it, so a read always waits for one that begins later; unless
 * there are leases (read-lease.ts).
 */

/** Rounds under way that carry reads. With more reads coming, they wait for one of these and share the next. */
export const READ_ROUNDS_MAX = 8;
/** Reads without a round. Beyond it they are answered "ask again". */
export const READS_WAITING_MAX = 65_536;

export const requestRead = (state: CoreState, id: number): boolean => {
  if (state.role !== 'leader') return false;
  if (holdsLease(state)) state.outbox.answerRead(id, state.commit);
  else if (state.waitingReads.length >= READS_WAITING_MAX) state.outbox.answerRead(id, null);
  else state.waitingReads.push(id);
  return true;
};

/** A heartbeat to everybody, in a new round that takes all waiting reads with it. */
export const beginRound = (state: CoreState): void => {
  state.round++;
  state.self.roundAcked = state.round;
  if (state.options.readLease !== undefined) leaseRoundSent(state);
  if (state.committedInTerm && state.waitingReads.length > 0) {
    state.readRounds.push({ round: state.round, offset: state.commit, ids: state.waitingReads });
    state.waitingReads = [];
  }
  for (const peer of state.peers) {
    const heartbeat: Heartbeat = {
      type: 'heartbeat',
      from: state.id,
      to: peer.id,
      term: state.term,
      commit: peer.match < state.commit ? peer.match : state.commit,
      round: state.round,
    };
    state.outbox.send(heartbeat);
  }
};

export const hasReadsToServe = (state: CoreState): boolean =>
  state.waitingReads.length > 0 && state.committedInTerm && state.readRounds.length < READ_ROUNDS_MAX;

/** Once per ready: all reads that came since the last one start together. */
export const serveReads = (state: CoreState): void => {
  if (!hasReadsToServe(state)) return;
  beginRound(state);
  confirmReads(state);
};

export const roundAnswered = (state: CoreState, peer: Progress, round: number): void => {
  if (round <= peer.roundAcked || round > state.round) return;
  peer.roundAcked = round;
  if (state.readRounds.length > 0) confirmReads(state);
};

const confirmReads = (state: CoreState): void => {
  const { readRounds, outbox } = state;
  const confirmed = state.quorumOf('roundAcked');
  while (readRounds.length > 0 && readRounds[0].round <= confirmed) {
    const { ids, offset } = readRounds[0];
    readRounds.shift();
    for (const id of ids) outbox.answerRead(id, offset);
  }
};

/** Leadership is lost: whoever leads now must be asked. */
export const failReads = (state: CoreState): void => {
  for (const { ids } of state.readRounds) for (const id of ids) state.outbox.answerRead(id, null);
  for (const id of state.waitingReads) state.outbox.answerRead(id, null);
  state.readRounds.length = 0;
  state.waitingReads = [];
};
