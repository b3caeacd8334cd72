import { TidelineError, type GroupId, type NodeId } from '#kernel';
import type { ChangeResult } from '#raft';

/** What a group refuses with. */

export const notLeader = (group: GroupId, leader: NodeId): TidelineError =>
  new TidelineError('not-leader', `this node does not lead group ${group}`, { details: { leader } });

export const overloaded = (): TidelineError => new TidelineError('overloaded', 'too much is under way; slow down');

export const leadershipLost = (outcome: 'rejected' | 'unknown'): TidelineError =>
  new TidelineError('leadership-lost', 'the leader changed while the append was under way', { outcome });

export const storageError = (error: Error): TidelineError =>
  error instanceof TidelineError ? error : new TidelineError('internal', error.message, { cause: error });

type Refusal = Extract<ChangeResult, { ok: false }>;

export const changeRefused = (group: GroupId, { reason, leader }: Refusal): TidelineError => {
  switch (reason) {
    case 'not-leader':
      return notLeader(group, leader);
    case 'pending':
      return new TidelineError('membership-change-pending', 'another membership change is under way');
    case 'no-commit-in-term':
      return new TidelineError('not-ready', 'the leader has not committed anything in its term yet');
    case 'lagging':
      return new TidelineError('learner-lagging', 'the learner is too far behind to become a voter');
    case 'invalid':
      return new TidelineError('bad-request', 'the members asked for are not valid');
  }
};
