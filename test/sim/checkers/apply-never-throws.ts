import type { Checker, GroupRecord } from '../observer.js';
import type { LimitedReference, ReferenceView } from '../reference-view.js';
import type { ShadowEntry } from '../shadow-log.js';
import { must } from '../violation.js';

/** 25: applying an accepted record does not throw. It is this checker that lets the reference views follow the log. */
export class ApplyNeverThrowsChecker implements Checker {
  constructor(private readonly references: ReadonlyMap<number, ReferenceView | LimitedReference>) {}

  committed = (record: GroupRecord, entry: ShadowEntry): void => {
    try {
      this.references.get(record.id)?.follow(entry);
    } catch (error) {
      must(false, 25, `applying offset ${entry.firstOffset} of group ${record.id} throws: ${String(error)}`);
    }
  };
}
