import {
  ENTRY_FIXED_BYTES,
  TTL_MS_MAX,
  asLogTime,
  asOffset,
  isTidelineError,
  type LogTime,
  type Offset,
} from '#kernel';
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
import type { ViewChange } from '../change-listeners.js';
import type { ScanRequest } from '../map-view.js';

export interface ModelViewOptions {
  readonly defaultTtlMs?: number | null;
  readonly maxIdleMs?: number | null;
  readonly maxEntries?: number | null;
  readonly maxBytes?: number | null;
}

/** What is kept of an entry; when it expires follows from that and the view's idle time. */
interface ModelEntry {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly contentType: string | null;
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly ttlEnd: number | null;
  /** Offset of the last write or touch. */
  readonly usedAt: number;
}

/**
 * What a map view must do, written as plainly as can be: a Map of entries that forgets nothing and removes nothing on expiry. For tests and
 * for the simulator's independent fold of a log.
 */
export class ModelView {
  offset: Offset = asOffset(0);
  logTime: LogTime = asLogTime(0);
  malformedCount = 0;
  evictedCount = 0;
  /** Puts and deletes, as a listener of the view would see them. Expiry and eviction are not among them. */
  readonly changes: ViewChange[] = [];
  private readonly map = new Map<string, ModelEntry>();
  private readonly kept = new Map<Offset, ApplyResult>();

  constructor(private readonly options: ModelViewOptions = {}) {}

  applyBatches(batches: Uint8Array): void {
    forEachBatch(batches, (at) => {
      if (batchLastOffset(batches, at) <= this.offset) return;
      this.logTime = asLogTime(Math.max(this.logTime, batchLogTime(batches, at)));
      let next: number = batchFirstOffset(batches, at);
      try {
        const cursor = new RecordCursor().reset(batches, at);
        for (; cursor.next(); next++) {
          this.applyRecord(cursor);
          this.makeRoom();
        }
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
    if (name === 'touch' || name === 'expire' || name === 'persist') return this.applyLifetime(name, args, record);
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
    const ttlMs = record.ttlMs < 0 ? (this.options.defaultTtlMs ?? null) : record.ttlMs;
    this.keep({
      key,
      value: Buffer.from(record.value!),
      contentType: type ? Buffer.from(type.value).toString() : null,
      offset: record.offset,
      logTime: this.logTime,
      ttlEnd: ttlMs === null ? null : this.logTime + ttlMs,
      usedAt: record.offset,
    });
  }

  private keep(entry: ModelEntry): void {
    this.map.set(entry.key.toString('latin1'), entry);
    this.changes.push({ type: 'put', entry: this.shown(entry) });
  }

  private applyLifetime(
    name: 'touch' | 'expire' | 'persist',
    args: readonly Buffer[],
    record: RecordCursor,
  ): ApplyResult {
    const old = this.live(record.key!, this.logTime);
    const at = old?.offset ?? asOffset(0);
    const [ttl, condition] = args.map((arg) => arg.toString('latin1'));
    const allowed =
      name === 'expire' ? { min: 1, max: 2, text: '1 to 2 arguments' } : { min: 0, max: 0, text: '0 arguments' };
    if (args.length < allowed.min || args.length > allowed.max)
      return failure('bad-request', `${name} takes ${allowed.text}, not ${args.length}`, at);
    if (name === 'expire') {
      if (!/^\d{1,16}$/.test(ttl) || Number(ttl) > TTL_MS_MAX) {
        const message = `the time to live is a whole number of milliseconds from 0 to ${TTL_MS_MAX}`;
        return failure('bad-request', message, at);
      }
      if (condition !== undefined && !['nx', 'xx', 'gt', 'lt'].includes(condition.toLowerCase()))
        return failure('bad-request', 'the condition is one of nx, xx, gt, lt', at);
    }
    const done = (yes: boolean): ApplyResult => ({
      ok: true,
      code: '',
      message: '',
      value: yes ? '1' : '0',
      entryOffset: at,
    });
    if (old === null || (name === 'persist' && old.ttlEnd === null)) return done(false);
    const wanted = this.logTime + Number(ttl);
    const expiry = old.ttlEnd ?? Infinity;
    const holds = { nx: old.ttlEnd === null, xx: old.ttlEnd !== null, gt: wanted > expiry, lt: wanted < expiry };
    if (condition !== undefined && !holds[condition.toLowerCase() as keyof typeof holds]) return done(false);
    const ttlOfRecord = record.ttlMs < 0 ? old.ttlEnd : this.logTime + record.ttlMs;
    const ttlEnd = name === 'touch' ? ttlOfRecord : name === 'expire' ? wanted : null;
    this.keep({ ...old, logTime: this.logTime, ttlEnd, usedAt: record.offset });
    return done(true);
  }

  /** The least recently used go, one by one, while the live ones are too many or too large; the last one stays. */
  private makeRoom(): void {
    const { maxEntries = null, maxBytes = null } = this.options;
    if (maxEntries === null && maxBytes === null) return;
    const live = [...this.map.values()]
      .filter(({ key }) => this.live(key, this.logTime))
      .sort((a, b) => a.usedAt - b.usedAt);
    const sizeOf = ({ key, value }: ModelEntry): number => key.length + value.length + ENTRY_FIXED_BYTES;
    let bytes = live.reduce((sum, entry) => sum + sizeOf(entry), 0);
    while (live.length > 1 && (live.length > (maxEntries ?? Infinity) || bytes > (maxBytes ?? Infinity))) {
      const oldest = live.shift()!;
      bytes -= sizeOf(oldest);
      this.map.delete(oldest.key.toString('latin1'));
      this.evictedCount++;
    }
  }

  private expiryOf({ ttlEnd, logTime }: ModelEntry): number | null {
    const { maxIdleMs = null } = this.options;
    if (maxIdleMs === null) return ttlEnd;
    return Math.min(ttlEnd ?? Infinity, logTime + maxIdleMs);
  }

  private shown(entry: ModelEntry): Entry {
    const { key, value, contentType, offset, logTime } = entry;
    const expiresAt = this.expiryOf(entry);
    return { key, value, contentType, offset, logTime, expiresAt: expiresAt === null ? null : asLogTime(expiresAt) };
  }

  private live(key: Uint8Array, time: LogTime): ModelEntry | null {
    const entry = this.map.get(Buffer.from(key).toString('latin1'));
    if (!entry) return null;
    const expiresAt = this.expiryOf(entry);
    return expiresAt === null || expiresAt > time ? entry : null;
  }

  private delete(key: Buffer, offset: Offset): void {
    if (this.get(key, this.logTime)) this.changes.push({ type: 'delete', key: Buffer.from(key), offset });
    this.map.delete(key.toString('latin1'));
  }

  get(key: Uint8Array, time: LogTime): Entry | null {
    const entry = this.live(key, time);
    return entry && this.shown(entry);
  }

  scan({ prefix, after, limit, bytesMax, values, time }: ScanRequest): ScanPage {
    const start = Buffer.from(prefix).toString('latin1');
    const found = [...this.map]
      .filter(([key, entry]) => key.startsWith(start) && this.get(entry.key, time) !== null)
      .map(([, entry]) => this.shown(values ? entry : { ...entry, value: Buffer.alloc(0) }))
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
