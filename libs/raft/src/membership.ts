import { NO_NODE, NO_OFFSET } from '#kernel';
import {
  isJoint,
  isSameTarget,
  isValidTarget,
  isVoter,
  leaveJoint,
  towards,
  type ConfigurationTarget,
} from './configuration.js';
import type { CoreState } from './core-state.js';
import type { ChangeResult } from './types.js';

/**
 * Membership changes (Raft dissertation, chapter 4; joint consensus with learners). One at a time, the first of a leader only after it has
 * committed in its term: otherwise two leaders could each count on a majority that the other does not know of.
 */

/** A node becomes a voter only when it is at most this many offsets behind: the group must not wait for it to commit. */
export const PROMOTION_LAG_MAX = 16_384;

export const proposeConfiguration = (state: CoreState, target: ConfigurationTarget): ChangeResult => {
  const refuse = (reason: 'not-leader' | 'pending' | 'no-commit-in-term' | 'lagging' | 'invalid'): ChangeResult => ({
    ok: false,
    reason,
    leader: state.leader,
  });
  if (state.role !== 'leader') return refuse('not-leader');
  if (!isValidTarget(target)) return refuse('invalid');
  const { configuration, configurations } = state;
  if (state.transferTo !== NO_NODE || isJoint(configuration) || configurations.currentOffset > state.commit) {
    return refuse('pending');
  }
  if (!state.committedInTerm) return refuse('no-commit-in-term');
  if (isSameTarget(configuration, target)) return { ok: true, offset: configurations.currentOffset };
  for (const id of target.voters) {
    if (isVoter(configuration, id)) continue;
    const peer = state.peer(id);
    const match = peer === undefined ? NO_OFFSET : peer.match;
    if (state.log.lastOffset - match > PROMOTION_LAG_MAX) return refuse('lagging');
    // A learner that is not there would be missed in the new majority at once.
    if (peer !== undefined && state.now - peer.heardAt >= state.options.electionTicks) return refuse('lagging');
  }
  return { ok: true, offset: state.appendControl('configuration', towards(configuration, target)) };
};

/**
 * Takes the next step once the configuration in force is committed: out of the joint one, or out of office when this leader is no longer a
 * voter. Called whenever that may have become so.
 */
export const continueChange = (state: CoreState): void => {
  const { configuration, configurations } = state;
  if (state.role !== 'leader' || configurations.currentOffset > state.commit || !state.committedInTerm) return;
  if (isJoint(configuration)) {
    // An entry now would leave the target of a transfer behind; whoever leads afterwards does it.
    if (state.transferTo === NO_NODE) state.appendControl('configuration', leaveJoint(configuration));
  } else if (!isVoter(configuration, state.id)) {
    state.retiring = true;
  }
};
