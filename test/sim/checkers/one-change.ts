import { batchIsControl } from '#wire';
import { decodeConfiguration } from '../configuration-of.js';
import type { Checker, GroupRecord, Replica } from '../observer.js';
import type { ShadowEntry, ShadowLog } from '../shadow-log.js';
import { must } from '../violation.js';

/** 15: one configuration change at a time, and the first of a leader only after it has committed in its term. */
export class OneChangeChecker implements Checker {
  changes = 0;
  private readonly seen = new Set<number>();
  /** The second half of a change begins in the event that commits the first: it is looked at when the commit is known. */
  private waiting: { readonly shadow: ShadowLog; readonly check: () => void }[] = [];

  appended: Checker['appended'] = (record, shadow, entry) => {
    if (entry.bytes === null || !batchIsControl(entry.bytes) || decodeConfiguration(entry.bytes) === null) return;
    const log = shadow.entries.slice();
    this.waiting.push({ shadow, check: () => this.check(record, log, entry) });
  };

  touched({ shadow }: Replica): void {
    if (this.waiting.length === 0) return;
    const due = this.waiting.filter((one) => one.shadow === shadow);
    this.waiting = this.waiting.filter((one) => one.shadow !== shadow);
    for (const { check } of due) check();
  }

  private check(record: GroupRecord, log: readonly ShadowEntry[], entry: ShadowEntry): void {
    const configuration = decodeConfiguration(entry.bytes!)!;
    if (this.seen.has(entry.chain)) return;
    this.seen.add(entry.chain);
    this.changes++;
    // The log that the entry was first written to is the one its leader had.
    for (let i = log.length - 2; i >= 0; i--) {
      const earlier = log[i];
      if (earlier.lastOffset <= record.commitMax) {
        must(
          earlier.term === entry.term || configuration.outgoing.length === 0,
          15,
          () =>
            `a change begins at ${entry.firstOffset} of group ${record.id} before its leader has committed in term ${entry.term}`,
        );
        return;
      }
      must(
        earlier.bytes === null || decodeConfiguration(earlier.bytes) === null,
        15,
        () =>
          `a change begins at ${entry.firstOffset} of group ${record.id} while the one at ${earlier.firstOffset} is not committed`,
      );
    }
  }
}
