import type { GroupId, NodeId } from '#kernel';
import type { Checker, Replica } from '../observer.js';
import { must } from '../violation.js';

/** 1: one leader in a term · 2: it has the highest offset of its term · 6: it has all that was committed before · 7: terms do not go back. */
export class LeadersChecker implements Checker {
  private readonly leaderOf = new Map<string, NodeId>();
  private readonly terms = new Map<string, number>();

  constructor(private readonly leaderReplica: (group: GroupId, node: NodeId) => Replica | null) {}

  leader(group: GroupId, term: number): NodeId | undefined {
    return this.leaderOf.get(`${group}/${term}`);
  }

  touched({ node, group, record, shadow }: Replica): void {
    const { term } = group;
    const key = `${node}/${group.id}`;
    const known = this.terms.get(key) ?? 0;
    if (term !== known) {
      must(term > known, 7, () => `node ${node} goes back from term ${known} to ${term} in group ${group.id}`);
      this.terms.set(key, term);
    }
    if (!group.isLeader) return;
    const office = `${group.id}/${term}`;
    const leader = this.leaderOf.get(office);
    if (leader === node) return;
    must(leader === undefined, 1, () => `nodes ${leader} and ${node} lead group ${group.id} in term ${term}`);
    this.leaderOf.set(office, node);
    const before = record.committedBefore(term);
    if (shadow.baseOffset > before) return;
    must(
      shadow.chainAt(before) === record.committedChainAt(before),
      6,
      () =>
        `node ${node} leads group ${group.id} in term ${term} without what is committed up to ${before} (its log ends at ${shadow.lastOffset})`,
    );
  }

  appended: Checker['appended'] = (record, shadow, entry) => {
    const leader = this.leaderOf.get(`${record.id}/${entry.term}`);
    if (leader === undefined || leader === shadow.node) return;
    const replica = this.leaderReplica(record.id, leader);
    if (replica === null || !replica.group.isLeader || replica.group.term !== entry.term) return;
    must(
      replica.group.status().lastOffset >= entry.lastOffset,
      2,
      () => `node ${shadow.node} writes offset ${entry.lastOffset} of term ${entry.term}, its leader has less`,
    );
  };

  /** The process ended: it may come back with the term that was durable. */
  restarted(node: NodeId, group: GroupId, term: number): void {
    this.terms.set(`${node}/${group}`, term);
  }
}
