import { NO_NODE, asTerm, assert, randomBelow, type Term } from '#kernel';
import { isVoter, membersOf } from './configuration.js';
import { TERM_MAX, type CoreState } from './core-state.js';
import { tally } from './quorum.js';
import { isPromised, isVotePromised, promisedTicks } from './read-lease.js';
import { becomeFollower } from './roles.js';
import type { Role, TimeoutNow, VoteRequest, VoteResponse } from './types.js';

/**
 * Elections, with PreVote and leader stickiness (Raft dissertation, sections 3.4, 9.6 and 4.2.3).
 *
 *      follower ── timeout ──► pre-candidate ── majority would vote ──► candidate ── majority voted ──► leader
 *          └────────────────── told to by the leader (transfer) ───────────┘
 */

/**
 * Followers that lost the connection to their leader campaign one after another, in the order of their ids, this many ticks apart: all of them
 * notice at the same moment, and two that campaign together split the vote, which costs an election timeout.
 */
export const LOST_LEADER_STAGGER_TICKS = 3;

export const campaign = (state: CoreState): void => {
  if (state.role === 'leader' || !state.promotable || isPromised(state)) return;
  ask(state, 'pre-candidate', false);
};

/** The leader's order to take over: no PreVote, and the others do not protect the leader. */
export const takeOver = (state: CoreState, message: TimeoutNow): void => {
  if (state.role === 'leader' || !state.promotable) return;
  assert(message.term === state.term, 'an order of another term was dropped');
  ask(state, 'candidate', true);
};

const ask = (state: CoreState, role: 'pre-candidate' | 'candidate', transfer: boolean): void => {
  state.role = role;
  state.leader = NO_NODE;
  state.votes.clear();
  state.drawTimeout();
  const preVote = role === 'pre-candidate';
  if (preVote) state.votes.set(state.id, true);
  else {
    assert(state.term < TERM_MAX, 'terms fit 32 bits');
    state.term = nextTerm(state);
    state.vote = state.id;
    state.hardStateChanged = true;
    // The vote for itself counts, and leaves as a request, once it is durable.
    state.ownVoteUnit = state.durability.given + 1;
  }
  for (const to of membersOf(state.configuration)) {
    if (to === state.id || !isVoter(state.configuration, to)) continue;
    const request: VoteRequest = {
      type: 'vote-request',
      from: state.id,
      to,
      term: preVote ? nextTerm(state) : state.term,
      preVote,
      transfer,
      lastOffset: state.log.lastOffset,
      lastTerm: state.log.lastTerm,
    };
    if (preVote) state.outbox.send(request);
    else state.outbox.sendAfterPersist(request);
  }
  count(state);
};

const nextTerm = (state: CoreState): Term => asTerm(state.term + 1);

const count = (state: CoreState): void => {
  const result = tally(state.configuration, state.votes);
  if (result === 'lost') becomeFollower(state, state.term, NO_NODE);
  else if (result === 'won' && state.role === 'pre-candidate') ask(state, 'candidate', false);
  else if (result === 'won' && state.role === 'candidate') becomeLeader(state);
};

/** A persist unit is done. */
export const ownVoteDurable = (state: CoreState): void => {
  if (state.role !== 'candidate' || state.durability.done < state.ownVoteUnit || state.votes.has(state.id)) return;
  state.votes.set(state.id, true);
  count(state);
};

const becomeLeader = (state: CoreState): void => {
  assert(state.role === 'candidate', 'a leader was a candidate');
  state.role = 'leader';
  state.leader = state.id;
  state.elapsed = 0;
  state.ticksSinceHeartbeat = 0;
  state.transferTo = NO_NODE;
  state.retiring = false;
  state.leaseGivenUp = false;
  state.votes.clear();
  state.followConfiguration(true);
  state.termFirstOffset = state.options.mutants?.noNoopOnElection ? state.commit : state.appendControl('noop');
};

/** Whether a vote request is ignored because this node has a leader that it heard from lately, or has promised to one. */
export const isLoyal = (state: CoreState, request: VoteRequest): boolean =>
  isVotePromised(state, request) ||
  (!request.transfer &&
    (state.role === 'leader' || (state.leader !== NO_NODE && state.elapsed < state.options.electionTicks)));

/** Of this term, or a pre-vote for a later one. */
export const answerVoteRequest = (state: CoreState, request: VoteRequest): void => {
  // What was promised holds in a term that came otherwise, too.
  if (isVotePromised(state, request)) return;
  const { log } = state;
  const { from, preVote, lastTerm, lastOffset } = request;
  const isFree =
    state.vote === from ||
    (state.vote === NO_NODE && state.leader === NO_NODE) ||
    (preVote && request.term > state.term);
  const isUpToDate = lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastOffset >= log.lastOffset);
  const granted = isFree && isUpToDate;
  if (!preVote && granted) {
    // A pre-candidate that votes for another waits for that one first.
    if (state.role !== 'follower') becomeFollower(state, state.term, NO_NODE);
    if (state.vote !== from) {
      state.vote = from;
      state.hardStateChanged = true;
    }
    state.drawTimeout();
  }
  const response: VoteResponse = {
    type: 'vote-response',
    from: state.id,
    to: from,
    // A granted pre-vote is for a term this node is not in.
    term: preVote && granted ? request.term : state.term,
    preVote,
    granted,
  };
  if (preVote) state.outbox.send(response);
  else state.outbox.sendAfterPersist(response);
};

export const voteAnswered = (state: CoreState, response: VoteResponse): void => {
  const expected: Role = response.preVote ? 'pre-candidate' : 'candidate';
  if (state.role !== expected) return;
  if (response.preVote && response.granted && response.term !== nextTerm(state)) return;
  if (!state.votes.has(response.from)) state.votes.set(response.from, response.granted);
  count(state);
};

/** The connection to the leader ended: do not wait for the whole election timeout. PreVote keeps a mistake harmless. */
export const leaderLost = (state: CoreState): void => {
  const { leader, id, options } = state;
  let before = 0;
  for (const voter of state.configuration.voters) if (voter !== leader && voter < id) before++;
  becomeFollower(state, state.term, NO_NODE);
  state.elapsed = 0;
  const delay = 1 + before * LOST_LEADER_STAGGER_TICKS + randomBelow(state.rng, LOST_LEADER_STAGGER_TICKS - 1);
  // What looks lost from here may still lead, and read by its lease.
  state.timeout = promisedTicks(state) + Math.min(delay, options.electionTicks);
};
