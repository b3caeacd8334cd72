import { batchIsControl, batchSequence, batchSessionHigh, batchSessionLow } from '#wire';
import type { Checker, GroupRecord } from '../observer.js';
import type { ShadowEntry } from '../shadow-log.js';
import { must } from '../violation.js';
import type { WriteLedger } from '../write-ledger.js';

/** 21: one effect per session and sequence, and per idempotency key, and the same answer on a retry; also across snapshots and failovers. */
export class ExactlyOnceChecker implements Checker {
  private readonly sequences = new Set<string>();

  constructor(private readonly ledger: WriteLedger) {}

  committed = (record: GroupRecord, entry: ShadowEntry): void => {
    const bytes = Buffer.from(entry.bytes!);
    if (batchIsControl(bytes)) return;
    const low = batchSessionLow(bytes);
    const high = batchSessionHigh(bytes);
    if (low === 0 && high === 0) return;
    const key = `${record.id}/${high}/${low}/${batchSequence(bytes)}`;
    must(
      !this.sequences.has(key),
      21,
      () => `session ${low}/${high} has two batches with sequence ${batchSequence(bytes)} in group ${record.id}`,
    );
    this.sequences.add(key);
  };

  /** The same batch was sent twice at once. */
  answeredTwice(what: string, offsets: readonly number[]): void {
    must(new Set(offsets).size <= 1, 21, () => `${what} was answered with ${offsets.join(' and ')}`);
  }

  end(): void {
    for (const write of this.ledger.writes) {
      const places = this.ledger.placesOf(write);
      const shown = write.value.slice(0, 60);
      if (write.once) must(places.length <= 1, 21, () => `${shown} stands at ${places.join(', ')}`);
      if (write.fate !== 'acknowledged' || write.offset === null || places.length === 0) continue;
      must(
        places.includes(write.offset),
        21,
        () => `${shown} was acknowledged at ${write.offset} and stands at ${places.join(', ')}`,
      );
    }
  }
}
