import type { Checker } from '../observer.js';
import { must } from '../violation.js';

/** 10: what was acknowledged is there after a crash, with the same content, unless a leader has had it cut off. */
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
}
