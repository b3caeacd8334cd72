import type { Checker, Replica } from '../observer.js';
import { must } from '../violation.js';

/**
 * 10: what was acknowledged is there after a crash, with the same content, unless a leader has had it cut off; and a node whose disk is gone with what it
 * acknowledged takes no part any more.
 */
export class KeptAcknowledgementsChecker implements Checker {
  recovered: Checker['recovered'] = (record, before, now) => {
    if (before.acked <= now.baseOffset) return;
    must(
      now.lastOffset >= before.acked,
      10,
      () =>
        `node ${now.node} has acknowledged offset ${before.acked} of group ${record.id} and comes back with ${now.lastOffset}`,
    );
    const chain = before.chainAt(before.acked);
    must(
      chain === null || chain === now.chainAt(before.acked),
      10,
      () => `node ${now.node} comes back to group ${record.id} with another log than it acknowledged`,
    );
  };

  /** Of a node that came back under its old id with another disk. */
  outcast({ node, group }: Replica): void {
    must(
      group.lastOffset === 0 && !group.isLeader,
      10,
      () => `node ${node} lost its disk and takes part in group ${group.id} under its old id`,
    );
  }
}
