import { NO_NODE, type NodeId } from '#kernel';
import type { Progress } from './progress.js';
import type { CoreState } from './core-state.js';

/**
 * Leadership transfer (Raft dissertation, section 3.10): stop taking proposals, bring the target up to date, tell it to campaign at once.
 * If it has not taken over after an election timeout, this leader goes on.
 */
export const transferLeadership = (state: CoreState, to: NodeId): void => {
  if (state.role !== 'leader' || to === state.transferTo) return;
  const target = state.peer(to);
  // Asking for the present leader takes back a transfer; a learner cannot lead.
  state.transferTo = NO_NODE;
  if (target === undefined || !state.configuration.voters.includes(to)) return;
  state.transferTo = to;
  state.transferSince = state.now;
  state.replicationDue = true;
  handOver(state, target);
};

/** Once the target of a transfer has everything. Sent again when it is heard and has still not taken over. */
export const handOver = (state: CoreState, peer: Progress): void => {
  if (peer.id !== state.transferTo || peer.match !== state.log.lastOffset) return;
  state.transferOrderedAt = state.now;
  state.leaseGivenUp = true;
  state.outbox.send({ type: 'timeout-now', from: state.id, to: peer.id, term: state.term });
};

/** Whether a transfer ended just now. */
export const abortLateTransfer = (state: CoreState): boolean => {
  if (state.transferTo === NO_NODE || state.now - state.transferSince < state.options.electionTicks) return false;
  state.transferTo = NO_NODE;
  return true;
};
