import { RecordCursor, batchIsControl, batchSequence, batchSessionHigh, batchSessionLow } from '#wire';
import type { Checker, GroupRecord } from '../observer.js';
import type { ShadowEntry } from '../shadow-log.js';
import { must } from '../violation.js';

/** What became of a client's write, as far as the client knows. */
export type WriteFate = 'acknowledged' | 'rejected' | 'unknown';

/**
 * 21: one effect per session and sequence, and per idempotency key · 22: a rejected write is nowhere, an acknowledged one is there once, at the offset
 * that was said. Every written value is unique; how often each stands in the committed log is counted.
 */
export class ExactlyOnceChecker implements Checker {
  records = 0;
  private readonly sequences = new Set<string>();
  /** Offsets of each value in the committed log, by group and value. */
  private readonly places = new Map<string, number[]>();
  private readonly fates = new Map<string, { fate: WriteFate; offset: number | null; once: boolean }>();
  private readonly cursor = new RecordCursor();

  committed = (record: GroupRecord, entry: ShadowEntry): void => {
    const bytes = Buffer.from(entry.bytes!);
    if (batchIsControl(bytes)) return;
    const low = batchSessionLow(bytes);
    const high = batchSessionHigh(bytes);
    if (low !== 0 || high !== 0) {
      const key = `${record.id}/${high}/${low}/${batchSequence(bytes)}`;
      must(
        !this.sequences.has(key),
        21,
        () => `session ${low}/${high} has two batches with sequence ${batchSequence(bytes)} in group ${record.id}`,
      );
      this.sequences.add(key);
    }
    for (this.cursor.reset(bytes, 0); this.cursor.next();) {
      this.records++;
      const { value, key } = this.cursor;
      if (value === null && key === null) continue;
      const name = nameOf(record.id, value === null ? `deleted ${key!.toString('latin1')}` : value.toString('latin1'));
      const places = this.places.get(name);
      if (places === undefined) this.places.set(name, [this.cursor.offset]);
      else places.push(this.cursor.offset);
    }
  };

  /** `once`: it was sent in a way that lets it take effect at most once. */
  wrote(
    group: number,
    value: string,
    write: { readonly fate: WriteFate; readonly offset: number | null; readonly once: boolean },
  ): void {
    this.fates.set(nameOf(group, value), write);
  }

  end(): void {
    for (const [name, { fate, offset, once }] of this.fates) {
      const places = this.places.get(name) ?? [];
      const shown = name.slice(0, 60);
      if (fate === 'rejected')
        must(places.length === 0, 22, () => `the rejected ${shown} stands at ${places.join(', ')}`);
      if (once) must(places.length <= 1, 21, () => `${shown} stands at ${places.join(', ')}`);
      if (fate !== 'acknowledged') continue;
      must(places.length > 0, 22, () => `the acknowledged ${shown} is not in the log`);
      must(
        offset === null || places.includes(offset),
        21,
        () => `${shown} was acknowledged at ${offset} and stands at ${places.join(', ')}`,
      );
    }
  }
}

const nameOf = (group: number, value: string): string => `${group}:${value}`;
