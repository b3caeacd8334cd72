import { asLogTime, asOffset, isTidelineError, type LogTime, type Offset } from '#kernel';
import {
  DEL_IF,
  PUT_IF,
  batchFirstOffset,
  batchLastOffset,
  batchLogTime,
  RecordCursor,
  decodeCondition,
  decodeOp,
  forEachBatch,
  type EntryCondition,
} from '#wire';
import type { ApplyResult, Entry, ScanPage } from '../view-query.js';
import type { ScanRequest, ViewChange } from '../map-view.js';

/**
 * What a map view must do, written as plainly as can be: a Map of entries that forgets nothing and removes nothing on expiry. For tests and
 * for the simulator's independent fold of a log.
 */
export class ModelView {
  offset: Offset = asOffset(0);
  logTime: LogTime = asLogTime(0);
  malformedCount = 0;
  /** Puts and deletes, as a listener of the view would see them. Expiry is not among them. */
  readonly changes: ViewChange[] = [];
  private readonly map = new Map<string, Entry>();
  private readonly kept = new Map<Offset, ApplyResult>();

  applyBatches(batches: Uint8Array): void {
    forEachBatch(batches, (at) => {
      if (batchLastOffset(batches, at) <= this.offset) return;
      this.logTime = asLogTime(Math.max(this.logTime, batchLogTime(batches, at)));
      let next: number = batchFirstOffset(batches, at);
      try {
        const cursor = new RecordCursor().reset(batches, at);
        for (; cursor.next(); next++) this.applyRecord(cursor);
      } catch (error) {
        if (!isTidelineError(error)) throw error;
        this.malformedCount++;
        for (; next <= batchLastOffset(batches, at); next++) {
          this.kept.set(asOffset(next), failure('malformed-batch', error.message, asOffset(0)));
        }
      }
      this.offset = batchLastOffset(batches, at);
    });
  }

  private applyRecord(record: RecordCursor): void {
    const { offset, key, value } = record;
    if (record.op !== undefined) {
      this.kept.set(offset, this.applyOp(record));
      return;
    }
    if (key === null) return;
    if (value === null) this.delete(key, offset);
    else this.put(record);
  }

  private applyOp(record: RecordCursor): ApplyResult {
    const none = asOffset(0);
    const { key, offset } = record;
    if (key === null) return failure('bad-request', 'a command needs a key', none);
    let name: string;
    let args: readonly Buffer[];
    try {
      ({ name, args } = decodeOp(record.op!));
    } catch (error) {
      if (!isTidelineError(error)) throw error;
      this.malformedCount++;
      return failure('bad-request', error.message, none);
    }
    if (name !== PUT_IF && name !== DEL_IF)
      return failure('unknown-command', `no command ${JSON.stringify(name)}`, none);
    const entry = this.get(key, this.logTime);
    const at = entry?.offset ?? none;
    if (args.length !== 1) return failure('bad-request', `${name} takes 1 argument, not ${args.length}`, at);
    if (name === PUT_IF && record.value === null) return failure('bad-request', 'there is no value to put', at);
    let condition: EntryCondition;
    try {
      condition = decodeCondition(args[0]);
    } catch (error) {
      if (!isTidelineError(error)) throw error;
      return failure('bad-request', error.message, at);
    }
    const holds =
      condition.kind === 'absent'
        ? entry === null
        : entry !== null && (condition.kind === 'present' || entry.offset === condition.offset);
    if (!holds) {
      const message = entry === null ? 'there is no entry' : `the entry was last written at offset ${entry.offset}`;
      return failure('condition-failed', message, at);
    }
    if (name === PUT_IF) this.put(record);
    else this.delete(key, offset);
    return { ok: true, code: '', message: '', value: '', entryOffset: name === PUT_IF ? offset : none };
  }

  private put(record: RecordCursor): void {
    const key = Buffer.from(record.key!);
    const type = record.headers.find((header) => header.name === 'content-type');
    const entry: Entry = {
      key,
      value: Buffer.from(record.value!),
      contentType: type ? Buffer.from(type.value).toString() : null,
      offset: record.offset,
      logTime: this.logTime,
      expiresAt: record.ttlMs < 0 ? null : asLogTime(this.logTime + record.ttlMs),
    };
    this.map.set(key.toString('latin1'), entry);
    this.changes.push({ type: 'put', entry });
  }

  private delete(key: Buffer, offset: Offset): void {
    if (this.get(key, this.logTime)) this.changes.push({ type: 'delete', key: Buffer.from(key), offset });
    this.map.delete(key.toString('latin1'));
  }

  get(key: Uint8Array, time: LogTime): Entry | null {
    const entry = this.map.get(Buffer.from(key).toString('latin1'));
    return entry && (entry.expiresAt === null || entry.expiresAt > time) ? entry : null;
  }

  scan({ prefix, after, limit, bytesMax, values, time }: ScanRequest): ScanPage {
    const start = Buffer.from(prefix).toString('latin1');
    const found = [...this.map]
      .filter(([key, entry]) => key.startsWith(start) && this.get(entry.key, time) !== null)
      .map(([, entry]) => (values ? entry : { ...entry, value: Buffer.alloc(0) }))
      .filter((entry) => after === null || Buffer.compare(entry.key, after) > 0)
      .sort((a, b) => Buffer.compare(a.key, b.key));
    const entries: Entry[] = [];
    let bytes = 0;
    for (const entry of found) {
      bytes += entry.key.length + entry.value.length;
      if (entries.length > 0 && (entries.length >= limit || bytes > bytesMax)) break;
      entries.push(entry);
    }
    return { entries, more: entries.length < found.length };
  }

  /** Never evicted here. */
  results(range: { readonly firstOffset: Offset; readonly lastOffset: Offset }): readonly ApplyResult[] {
    const results: ApplyResult[] = [];
    for (let offset = range.firstOffset; offset <= range.lastOffset; offset = asOffset(offset + 1)) {
      results.push(this.kept.get(offset) ?? { ok: true, code: '', message: '', value: '', entryOffset: offset });
    }
    return results;
  }
}

const failure = (code: string, message: string, entryOffset: Offset): ApplyResult => ({
  ok: false,
  code,
  message,
  value: '',
  entryOffset,
});
