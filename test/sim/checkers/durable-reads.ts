import type { ViewPartitionStats } from '#views';
import type { GroupRecord } from '../observer.js';
import { must } from '../violation.js';

/** 20: no read and no tail shows what is not durable on a quorum, and a session read shows the session's own writes. */
export class DurableReadsChecker {
  /** `who`: for the message. */
  shown(record: GroupRecord, offset: number, who: string): void {
    must(
      offset <= record.commitMax,
      20,
      () => `${who} shows offset ${offset} of group ${record.id}, durable on a quorum is ${record.commitMax}`,
    );
  }

  host(node: number, record: GroupRecord, stats: ViewPartitionStats): void {
    this.shown(record, stats.offset, `the view on node ${node}`);
    must(
      stats.offset === 0 || record.committedChainAt(stats.offset) !== null,
      20,
      () => `the view of group ${record.id} on node ${node} is at offset ${stats.offset}, within a batch`,
    );
  }

  ownWrite(client: number, written: number, read: number): void {
    must(read >= written, 20, () => `client ${client} wrote at ${written} and reads at ${read}`);
  }
}
