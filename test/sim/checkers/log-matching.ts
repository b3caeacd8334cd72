import type { Checker, GroupRecord } from '../observer.js';
import type { ShadowEntry, ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

/** 3: same offset and term, same log up to there · 14: the rolling hash that says so is equal on all replicas. */
export class LogMatchingChecker implements Checker {
  /** By group, offset and term. */
  private readonly chains = new Map<string, number>();

  appended(record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void {
    const key = `${record.id}/${entry.lastOffset}/${entry.term}`;
    const chain = this.chains.get(key);
    if (chain === undefined) this.chains.set(key, entry.chain);
    else {
      must(
        chain === entry.chain,
        3,
        () =>
          `node ${shadow.node} has another log up to offset ${entry.lastOffset} of term ${entry.term}, group ${record.id}`,
      );
    }
  }
}
