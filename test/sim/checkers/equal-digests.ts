import type { ViewPartitionStats } from '#views';
import type { LimitedReference, ReferenceView } from '../reference-view.js';
import { must } from '../violation.js';

/** 17: the digest of a view is equal at equal offsets on all hosts: it is the one that the log makes. */
export class EqualDigestsChecker {
  compared = 0;

  host(node: number, reference: ReferenceView | LimitedReference, stats: ViewPartitionStats): void {
    const digest = reference.digests.get(stats.offset);
    if (digest === undefined) return;
    this.compared++;
    must(
      digest === stats.digest,
      17,
      () =>
        `the view of group ${reference.group} on node ${node} has digest ${stats.digest} at offset ${stats.offset}, the log makes ${digest}`,
    );
  }
}
