import type { Checker, Replica } from '../observer.js';
import { must } from '../violation.js';

/** 14: the rolling hash over all batches is equal at equal offsets on all replicas. */
export class EqualHashesChecker implements Checker {
  commitMoved({ node, group, record, shadow }: Replica): void {
    // What is committed and written; a log that is about to be cut and written anew may know a later commit offset.
    const at = Math.min(group.readableOffset, shadow.lastOffset);
    if (at <= shadow.baseOffset) return;
    const chain = shadow.chainAt(at);
    must(
      chain !== null && chain === record.committedChainAt(at),
      14,
      () => `node ${node} has another log up to the committed offset ${at} of group ${record.id} than others have`,
    );
  }

  recovered: Checker['recovered'] = (record, _before, now) => {
    const at = Math.min(now.highestCommit, now.lastOffset);
    if (at <= now.baseOffset) return;
    must(
      now.chainAt(at) === record.committedChainAt(at),
      14,
      () => `node ${now.node} comes back with another log up to the committed offset ${at} of group ${record.id}`,
    );
  };
}
