import type { Checker, GroupRecord } from '../observer.js';
import type { ShadowEntry, ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

/** Terms of a run are fewer. */
const TERMS_MAX = 1_000_000;

/** 3: logs that have an entry of the same offset and term are the same up to there. */
export class LogMatchingChecker implements Checker {
  private readonly chains = new Map<GroupRecord, Map<number, number>>();

  readonly appended = (record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void => {
    let chains = this.chains.get(record);
    if (chains === undefined) this.chains.set(record, (chains = new Map()));
    const key = entry.lastOffset * TERMS_MAX + entry.term;
    const chain = chains.get(key);
    if (chain === undefined) chains.set(key, entry.chain);
    else {
      must(
        chain === entry.chain,
        3,
        () =>
          `node ${shadow.node} has another log up to offset ${entry.lastOffset} of term ${entry.term}, group ${record.id}`,
      );
    }
  };

  readonly reread = this.appended;
}
