import type { Checker } from '../observer.js';
import { must } from '../violation.js';

/** 11: nothing committed is cut off. */
export class NoCommittedCutChecker implements Checker {
  persistBegins: Checker['persistBegins'] = ({ record, shadow }, { truncateAfter }) => {
    if (truncateAfter === undefined || truncateAfter >= shadow.lastOffset) return;
    const cut = shadow.entries[shadow.indexOf(truncateAfter + 1)];
    must(
      cut.chain !== record.committedChainAt(cut.lastOffset),
      11,
      () => `node ${shadow.node} cuts group ${record.id} after ${truncateAfter}, committed up to ${record.commitMax}`,
    );
  };
}
