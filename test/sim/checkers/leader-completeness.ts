import type { Checker, Replica } from '../observer.js';
import type { ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

/**
 * 6: a leader has all that was committed in earlier terms (later leaders may have committed more by the time that it hears of its election);
 * and what earlier terms left is committed only by an entry of the leader's own.
 */
export class LeaderCompletenessChecker implements Checker {
  elected({ node, group, record, shadow }: Replica): void {
    const before = record.committedBefore(group.term);
    if (shadow.baseOffset > before) return;
    must(
      shadow.chainAt(before) === record.committedChainAt(before),
      6,
      () =>
        `node ${node} leads group ${group.id} in term ${group.term} without what is committed up to ${before} (its log ends at ${shadow.lastOffset})`,
    );
  }

  committing({ node, group }: Replica, log: ShadowLog | null): void {
    if (log === null || !group.isLeader) return;
    const last = log.entryAt(group.commitOffset);
    must(
      last === null || last.term === group.term,
      6,
      () => `node ${node} commits offset ${group.commitOffset} of term ${last?.term} by counting in term ${group.term}`,
    );
  }
}
