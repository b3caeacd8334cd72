import {
  TidelineError,
  asLogTime,
  asNodeId,
  asOffset,
  asTerm,
  type Clock,
  type GroupId,
  type LogTime,
  type Offset,
} from '#kernel';
import {
  ControlKind,
  DEL_IF,
  PUT_IF,
  batchFirstOffset,
  batchLastOffset,
  batchLogTime,
  batchPayloadCrc,
  batchRecordCount,
  batchSequence,
  batchSessionHigh,
  batchSessionLow,
  batchTerm,
  checkBatch,
  decodeCondition,
  decodeOp,
  decodeRecords,
  encodeControlBatch,
  sessionTableKey,
  stampBatch,
  type ApplyResultMessage,
  type EntryMessage,
  type LogRecord,
} from '#wire';
import type { AppendReceipt } from '../append-port.js';

interface RememberedBatch {
  readonly sequence: number;
  readonly payloadCrc: number;
  readonly batch: Buffer;
}

/** One partition behind the fake gateways: a log with sessions, and the map view of it. */
export class FakePartition {
  readonly batches: Buffer[] = [];
  readonly results = new Map<number, ApplyResultMessage>();
  readonly entries = new Map<string, EntryMessage>();
  leader = asNodeId(1);
  term = asTerm(1);
  logStartOffset = asOffset(1);
  lastOffset = asOffset(0);
  private readonly sessions = new Map<number | string, RememberedBatch[]>();
  private readonly listeners = new Set<() => void>();

  constructor(
    readonly group: GroupId,
    private readonly clock: Clock,
  ) {
    this.write(encodeControlBatch(ControlKind.Noop, Buffer.alloc(0), clock.wallMs()));
  }

  /** Values of all records in the log, as text. */
  get values(): string[] {
    return this.batches.flatMap((batch) => decodeRecords(batch).map((record) => String(record.value)));
  }

  wallTime(): LogTime {
    return asLogTime(this.clock.wallMs());
  }

  onAppend(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  openSession(): number {
    const { firstOffset } = this.write(
      encodeControlBatch(ControlKind.OpenSession, Buffer.alloc(0), this.clock.wallMs()),
    );
    this.sessions.set(firstOffset, []);
    return firstOffset;
  }

  expireSessions(): void {
    this.sessions.clear();
  }

  /** @throws TidelineError as a leader answers */
  append(batch: Buffer): AppendReceipt {
    checkBatch(batch);
    const low = batchSessionLow(batch);
    const high = batchSessionHigh(batch);
    const key = sessionTableKey(low, high);
    if (low !== 0 || high !== 0) {
      const known = this.sessions.get(key) ?? [];
      if (high === 0 && !this.sessions.has(key)) throw new TidelineError('session-expired', `no session ${low}`);
      const sequence = batchSequence(batch);
      const payloadCrc = batchPayloadCrc(batch);
      const last = known.at(-1)?.sequence ?? 0;
      if (sequence <= last) {
        const same = known.find((candidate) => candidate.sequence === sequence);
        if (same?.payloadCrc === payloadCrc) return this.receipt(same.batch, true);
        throw new TidelineError(high === 0 ? 'sequence-reused' : 'idempotency-conflict', 'used for another batch');
      }
      if (sequence > last + 1) throw new TidelineError('sequence-gap', `sequence ${sequence} after ${last}`);
      known.push({ sequence, payloadCrc, batch });
      this.sessions.set(key, known);
    }
    return this.write(batch);
  }

  read(from: Offset, bytesMax: number): { readonly batches: Buffer; readonly nextOffset: Offset } {
    if (from < this.logStartOffset) {
      throw new TidelineError('offset-out-of-range', `offset ${from} is below the log start`, {
        details: { logStartOffset: this.logStartOffset },
      });
    }
    const found: Buffer[] = [];
    let bytes = 0;
    let nextOffset = from;
    for (const batch of this.batches) {
      if (batchLastOffset(batch) < from) continue;
      if (found.length > 0 && bytes + batch.length > bytesMax) break;
      found.push(batch);
      bytes += batch.length;
      nextOffset = asOffset(batchLastOffset(batch) + 1);
    }
    return { batches: Buffer.concat(found), nextOffset };
  }

  trimBefore(offset: Offset): void {
    while (this.batches.length > 0 && batchLastOffset(this.batches[0]) < offset) this.batches.shift();
    this.logStartOffset = this.batches.length > 0 ? batchFirstOffset(this.batches[0]) : asOffset(this.lastOffset + 1);
  }

  private write(batch: Buffer): AppendReceipt {
    const firstOffset = asOffset(this.lastOffset + 1);
    stampBatch(batch, { firstOffset, term: this.term, logTime: asLogTime(this.clock.wallMs()), group: this.group });
    this.batches.push(batch);
    this.lastOffset = asOffset(this.lastOffset + batchRecordCount(batch));
    for (const record of decodeRecords(batch)) this.results.set(record.offset, this.apply(record));
    for (const listener of this.listeners) listener();
    return this.receipt(batch, false);
  }

  private receipt(batch: Buffer, duplicate: boolean): AppendReceipt {
    return {
      firstOffset: batchFirstOffset(batch),
      lastOffset: batchLastOffset(batch),
      logTime: batchLogTime(batch),
      term: batchTerm(batch),
      node: this.leader,
      duplicate,
    };
  }

  private apply(record: LogRecord): ApplyResultMessage {
    const key = record.key?.toString('latin1');
    if (key === undefined) return result(0);
    const entry = this.entries.get(key);
    const op = record.op ? decodeOp(record.op) : null;
    if (op?.name === PUT_IF || op?.name === DEL_IF) {
      const condition = decodeCondition(op.args[0]);
      const holds =
        condition.kind === 'absent'
          ? entry === undefined
          : condition.kind === 'present'
            ? entry !== undefined
            : entry?.offset === condition.offset;
      if (!holds) {
        return {
          ...result(entry?.offset ?? 0),
          ok: false,
          code: 'condition-failed',
          message: 'the condition does not hold',
        };
      }
    } else if (op !== null) {
      return { ...result(record.offset), value: JSON.stringify([op.name, ...op.args.map(String)]) };
    }
    if (op?.name === DEL_IF || record.value === null) {
      this.entries.delete(key);
      return result(0);
    }
    this.entries.set(key, {
      key: record.key!,
      value: record.value,
      contentType: record.headers.find((header) => header.name === 'content-type')?.value.toString() ?? null,
      offset: record.offset,
      logTime: record.logTime,
      expiresAt: record.ttlMs === undefined ? null : asLogTime(record.logTime + record.ttlMs),
    });
    return result(record.offset);
  }
}

const result = (entryOffset: number): ApplyResultMessage => ({
  ok: true,
  code: '',
  message: '',
  value: '',
  entryOffset: asOffset(entryOffset),
});
