import { RecordAttribute } from './record-batch-v1.js';

/**
 * Where the keys of records lie: for looking ahead, and for nothing else. It checks nothing; RecordCursor is the one parser that does. Of records
 * that parse it finds just the keys that the cursor does; of others anything, within the bytes.
 */
export class RecordKeys {
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** Where the record after the last one found begins. */
  next = 0;

  constructor(count: number) {
    this.starts = new Int32Array(count);
    this.ends = new Int32Array(count);
  }

  /** Fills `starts` and `ends` for the records from `start` on, as many as there are before `end`; −1: no key. Returns how many. */
  find(bytes: Buffer, start: number, end: number): number {
    const { starts, ends } = this;
    let at = start;
    let found = 0;
    while (found < starts.length && at < end) {
      this.readLength(bytes, at);
      const length = this.value;
      at = this.next;
      const recordEnd = at + length;
      if (length === 0 || recordEnd > end) break;
      const attributes = bytes[at++];
      if (attributes & RecordAttribute.Key) {
        if (attributes & RecordAttribute.Timestamp) while (at < recordEnd && bytes[at++] > 0x7f);
        if (attributes & RecordAttribute.Ttl) while (at < recordEnd && bytes[at++] > 0x7f);
        this.readLength(bytes, at);
        at = this.next;
        starts[found] = at;
        ends[found] = Math.min(at + this.value, recordEnd);
      } else starts[found] = ends[found] = -1;
      found++;
      at = recordEnd;
    }
    this.next = at;
    return found;
  }

  private value = 0;

  /** Into `value`, and behind it into `next`. */
  private readLength(bytes: Buffer, start: number): void {
    let at = start;
    let byte = bytes[at++];
    let value = byte & 0x7f;
    for (let shift = 7; byte > 0x7f && shift < 28; shift += 7) {
      byte = bytes[at++];
      value |= (byte & 0x7f) << shift;
    }
    this.value = value;
    this.next = at;
  }
}
