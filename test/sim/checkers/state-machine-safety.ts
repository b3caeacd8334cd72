import type { Checker, GroupRecord, Replica } from '../observer.js';
import type { ShadowEntry, ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

/** 4: committed logs never conflict: what a node takes for committed is, entry by entry, what any other does. */
export class StateMachineSafetyChecker implements Checker {
  private readonly ends = new WeakMap<GroupRecord, number>();

  committed = (record: GroupRecord, entry: ShadowEntry): void => {
    const end = this.ends.get(record) ?? 0;
    must(
      entry.bytes !== undefined && entry.firstOffset === end + 1,
      4,
      () => `committed entries of group ${record.id} do not follow one another at ${entry.firstOffset}`,
    );
    this.ends.set(record, entry.lastOffset);
  };

  commitMoved({ node, group, record, shadow }: Replica, from: number): void {
    must(
      record.commitMax >= group.commitOffset,
      4,
      () => `offset ${group.commitOffset} of group ${record.id} is within a batch`,
    );
    this.compare(node, record, shadow, { from, to: Math.min(group.readableOffset, shadow.lastOffset) });
  }

  /** What is in the log below the commit offset that the node has found. */
  recovered: Checker['recovered'] = (record, _before, now) => {
    this.compare(now.node, record, now, { from: now.baseOffset, to: Math.min(now.highestCommit, now.lastOffset) });
  };

  private compare(
    node: number,
    record: GroupRecord,
    shadow: ShadowLog,
    { from, to }: { readonly from: number; readonly to: number },
  ): void {
    const start = Math.max(from, shadow.baseOffset);
    let at = record.indexOf(start + 1);
    for (let i = shadow.indexOf(start + 1); i < shadow.entries.length; i++) {
      const entry = shadow.entries[i];
      if (entry.lastOffset > to) break;
      const committed = record.committed[at++];
      must(
        committed !== undefined && committed.lastOffset === entry.lastOffset && committed.term === entry.term,
        4,
        () =>
          `node ${node} has committed offset ${entry.lastOffset} of group ${record.id} with another entry than others have`,
      );
    }
  }
}
