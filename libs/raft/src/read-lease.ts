import type { CoreState } from './core-state.js';
import type { Progress } from './progress.js';
import type { HeartbeatResponse, VoteRequest } from './types.js';

/**
 * Reads without a round of their own (Raft dissertation, section 6.4.1), an option.
 *
 *      leader                                          follower
 *        │ round n, at s on the leader's clock ─────────► │ at r on its own
 *        │ ◄──── answer n, "no vote for promiseMs" ────── │   no vote, no campaign before r + promiseMs
 *        │                                                │
 *        │ until s + promiseMs × (1 − CLOCK_DRIFT_MAX)    │
 *        │   this follower helps nobody else to lead      │
 *        ▼
 *      while a quorum stands by its promises, what is committed here is the newest there is: a read is answered at once
 *
 * **Assumption:** while one clock counts `promiseMs`, no other one of the group counts more than `promiseMs / (1 − CLOCK_DRIFT_MAX)`, and none
 * stands still (that of a virtual machine that is suspended or moved may). Without the option nothing depends on clocks.
 *
 * What keeps it sound:
 *  - The time counts from the sending of the round, not from its answer; and a lease is looked at with the clock read for that read: a leader that
 *    stood still finds it gone.
 *  - A promise is kept whatever term or leader comes meanwhile, when the connection to the leader ends, and over a restart: a node that starts
 *    promises to everybody, since it does not know what it had promised.
 *  - Only answers that carry a promise count: a follower without the option lends none.
 *  - The order to take over (transfer) allows votes at once. The leader that gives it has no lease any more in its term, since the order, and
 *    the requests for votes that follow from it, may arrive whenever they like.
 *  - Configurations: the one in force at the leader decides whose promises count, both majorities while it is joint. The quorum of any other
 *    leader's election has a voter in common with them, as for commits.
 */

/** How much faster than the leader's a follower's clock may run, as a share of its time. */
export const CLOCK_DRIFT_MAX = 0.1;
/** Rounds whose sending times are remembered; an answer to an older one extends no lease. */
export const LEASE_ROUNDS_MAX = 64;

/** The driver has looked at its clock. */
export const timePassed = (state: CoreState, monotonicMs: number): void => {
  if (monotonicMs > state.nowMs) state.nowMs = monotonicMs;
};

/* ---- follower ---- */

/** Until when this node starts out silent. A node that has always been alone has promised nothing to anybody. */
export const firstPromise = ({ id, options }: Pick<CoreState, 'id' | 'options'>): number => {
  const { readLease, log } = options;
  const { voters, outgoing } = log.configuration;
  const wasAlwaysAlone =
    log.configurationOffset === 0 && outgoing.length === 0 && voters.length === 1 && voters[0] === id;
  return readLease === undefined || wasAlwaysAlone ? 0 : readLease.startMs + readLease.promiseMs;
};

/** With the answer to a heartbeat; what is promised goes with it. 0: nothing. */
export const promise = (state: CoreState): number => {
  const { readLease } = state.options;
  if (readLease === undefined) return 0;
  state.promisedUntilMs = Math.max(state.promisedUntilMs, state.nowMs + readLease.promiseMs);
  return readLease.promiseMs;
};

/** Whether this node may neither vote nor campaign yet. */
export const isPromised = (state: CoreState): boolean =>
  state.nowMs < state.promisedUntilMs && state.options.mutants?.breaksPromises !== true;

export const isVotePromised = (state: CoreState, request: VoteRequest): boolean =>
  !request.transfer && isPromised(state);

/** Ticks until the promise ends. */
export const promisedTicks = (state: CoreState): number => {
  const { readLease, electionTicks } = state.options;
  if (readLease === undefined || !isPromised(state)) return 0;
  return Math.ceil(((state.promisedUntilMs - state.nowMs) * electionTicks) / readLease.promiseMs);
};

/* ---- leader ---- */

export const leaseRoundSent = (state: CoreState): void => {
  state.roundSentMs[state.round % LEASE_ROUNDS_MAX] = state.nowMs;
};

/** A follower stands by this leader for a while after the round it answers was sent. */
export const promised = (state: CoreState, peer: Progress, { round, promiseMs }: HeartbeatResponse): void => {
  if (state.options.readLease === undefined || promiseMs === undefined) return;
  if (round > state.round || state.round - round >= LEASE_ROUNDS_MAX) return;
  const untilMs = state.roundSentMs[round % LEASE_ROUNDS_MAX] + promiseMs * (1 - CLOCK_DRIFT_MAX);
  if (untilMs > peer.promisedUntilMs) peer.promisedUntilMs = untilMs;
};

/** Whether nobody else can lead now. */
export const holdsLease = (state: CoreState): boolean => {
  if (state.options.readLease === undefined || !state.committedInTerm) return false;
  if (state.leaseGivenUp && state.options.mutants?.leaseOutlivesTransfer !== true) return false;
  return state.nowMs < state.quorumOf('promisedUntilMs');
};
