import type { Checker, GroupRecord } from '../observer.js';
import type { ShadowEntry, ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

/** 12: no gap between snapshot and log, nor between batches; a snapshot is of what is committed; and a leader installs none. */
export class NoGapsChecker implements Checker {
  persistBegins: Checker['persistBegins'] = ({ record, shadow, group }, { install }) => {
    if (install === undefined) return;
    const { offset } = install;
    must(group === null || !group.isLeader, 12, () => `node ${shadow.node} leads and installs a snapshot`);
    must(
      offset <= record.commitMax && record.committedChainAt(offset) !== null,
      12,
      () => `node ${shadow.node} installs a snapshot at ${offset}, which is not committed`,
    );
  };

  readonly appended = (record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void => {
    const { entries } = shadow;
    const before = entries.length > 1 ? entries[entries.length - 2].lastOffset : shadow.baseOffset;
    must(
      entry.firstOffset === before + 1,
      12,
      () => `node ${shadow.node} has a gap between ${before} and ${entry.firstOffset} in group ${record.id}`,
    );
  };

  readonly reread = this.appended;
}
