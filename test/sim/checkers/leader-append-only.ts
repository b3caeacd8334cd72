import type { GroupId, NodeId } from '#kernel';
import type { Checker, Replica } from '../observer.js';
import { must } from '../violation.js';

/** 2: the leader of a term has the highest offset of that term: nobody writes an entry of it that its leader does not have. */
export class LeaderAppendOnlyChecker implements Checker {
  constructor(private readonly replicaOf: (group: GroupId, node: NodeId) => Replica | null) {}

  appended: Checker['appended'] = (record, shadow, entry) => {
    const leader = record.leaders.get(entry.term);
    if (leader === undefined || leader === shadow.node) return;
    const replica = this.replicaOf(record.id, leader);
    if (replica === null || !replica.group.isLeader || replica.group.term !== entry.term) return;
    must(
      replica.group.lastOffset >= entry.lastOffset,
      2,
      () => `node ${shadow.node} writes offset ${entry.lastOffset} of term ${entry.term}, its leader has less`,
    );
  };
}
