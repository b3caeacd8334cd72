import { NO_NODE, NO_OFFSET, assert, type NodeId, type Term } from '#kernel';
import { failReads } from './read-index.js';
import type { CoreState } from './core-state.js';

/** The way back to follower, which every role can take. The ways up are in election.ts. */

/** `leader` may be NO_NODE. The election timer starts anew unless a follower merely learns of a term. */
export const becomeFollower = (state: CoreState, term: Term, leader: NodeId): void => {
  assert(term >= state.term, 'the term does not go back');
  if (term > state.term) {
    state.term = term;
    state.vote = NO_NODE;
    state.hardStateChanged = true;
  }
  if (state.role === 'leader') {
    failReads(state);
    state.peers = [];
    state.transferTo = NO_NODE;
    state.retiring = false;
  }
  if (state.role !== 'follower' || leader !== NO_NODE) state.drawTimeout();
  state.role = 'follower';
  state.leader = leader;
  state.acknowledged = NO_OFFSET;
  state.votes.clear();
};

/** A message that only a leader sends has come from `from`, in this term. */
export const hearLeader = (state: CoreState, from: NodeId): void => {
  if (state.role === 'follower' && state.leader === from) {
    state.elapsed = 0;
    return;
  }
  assert(state.role !== 'leader', 'one leader in a term');
  assert(state.leader === NO_NODE || state.leader === from, 'one leader in a term');
  becomeFollower(state, state.term, from);
};
