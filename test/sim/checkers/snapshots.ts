import type { Checker } from '../observer.js';
import { must } from '../violation.js';

/** 12: no gap between snapshot and log, and a leader installs none · 13: a snapshot that is a prefix of the log keeps what follows it. */
export class SnapshotsChecker implements Checker {
  installs = 0;

  persistBegins: Checker['persistBegins'] = ({ record, shadow, group }, { install, batches }) => {
    if (install === undefined) return;
    this.installs++;
    const { offset, keepSuffix } = install;
    must(group === null || !group.isLeader, 12, () => `node ${shadow.node} leads and installs a snapshot`);
    must(
      offset <= record.commitMax && record.committedChainAt(offset) !== null,
      12,
      () => `node ${shadow.node} installs a snapshot at ${offset}, which is not committed`,
    );
    const isPrefix = shadow.chainAt(offset) === record.committedChainAt(offset);
    must(
      !isPrefix || keepSuffix || shadow.lastOffset === offset,
      13,
      () => `node ${shadow.node} loses offsets ${offset + 1} to ${shadow.lastOffset} to a snapshot that is a prefix`,
    );
    void batches;
  };

  appended: Checker['appended'] = (record, shadow, entry) => {
    const { entries } = shadow;
    const before = entries.length > 1 ? entries[entries.length - 2].lastOffset : shadow.baseOffset;
    must(
      entry.firstOffset === before + 1,
      12,
      () => `node ${shadow.node} has a gap between ${before} and ${entry.firstOffset} in group ${record.id}`,
    );
  };
}
