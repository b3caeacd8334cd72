import { crc32 } from 'node:zlib';
import {
  TidelineError,
  asGroupId,
  asLogTime,
  asOffset,
  asTerm,
  readU32,
  readU64,
  varintSize,
  writeU32,
  writeU64,
  writeVarint,
  type GroupId,
  type LogTime,
  type Offset,
  type Term,
} from '#kernel';

/**
 * Record batch, version 1: the unit of append, replication, storage and fetch. Little endian.
 *
 *     at  size
 *      0  u32  length        of the whole batch, header included
 *      4  u8   magic         0x54 ("T")
 *      5  u8   version       1
 *      6  u16  flags         bit 0 control · bits 1–2 compression of the records (0 none) · others 0
 *      8  u32  headerCrc     CRC-32 of bytes 0 … 7 and 12 … 71
 *     12  u32  payloadCrc    CRC-32 of bytes 72 … length−1
 *     16  u64  firstOffset   stamped by the leader (0 until then)
 *     24  u32  recordCount   1 …; the batch takes offsets firstOffset … firstOffset + recordCount − 1
 *     28  u32  term          stamped by the leader
 *     32  u64  logTime       stamped by the leader, ms since the epoch
 *     40  u64  session       0 none; else a session id (the offset that opened it) or the low half of an idempotency key
 *     48  u64  sessionHigh   0 for a session; else the high half of an idempotency key (see session.ts)
 *     56  u32  sequence      1 … within the session, one per batch; 0 without session
 *     60  u32  group         Raft group, stamped by the leader
 *     64  u64  createTime    the producer's clock, ms since the epoch
 *     72  records            recordCount of them (a control batch has one control record instead)
 *
 *     record = varint length of the rest
 *              u8     attributes: 1 key · 2 value (absent = tombstone) · 4 headers · 8 ttl · 16 type · 32 op · 64 timestamp
 *              varint timestamp delta, zigzag, to createTime    if 64
 *              varint ttlMs                                     if 8
 *              varint length, key                               if 1
 *              varint length, type (UTF-8)                      if 16
 *              varint length, op (see op-v1.ts)                 if 32
 *              varint length, value                             if 2
 *              varint count, then count × (varint length, name, varint length, value)   if 4
 *
 *     control record = u8 kind, then bytes whose meaning the kind gives
 *
 * The producer encodes a batch once. The leader stamps firstOffset, term, logTime and group and recomputes headerCrc:
 * 68 bytes of checksum, whatever the batch's size. Nobody on a log node looks behind the header. Records are read by record-cursor.ts.
 */
export const BATCH_HEADER_BYTES = 72;
export const BATCH_MAGIC = 0x54;
export const BATCH_VERSION = 1;

export const BatchFlag = { Control: 1 } as const;

/** What a control batch is about. */
export const ControlKind = {
  /** First entry of a leader's term. No payload. */
  Noop: 1,
  /** Raft configuration; payload as libs/raft encodes it. */
  Configuration: 2,
  /** Carries log time forward. No payload. */
  Beacon: 3,
  /** Opens a session; its id is this batch's offset. No payload. */
  OpenSession: 4,
} as const;
export type ControlKind = (typeof ControlKind)[keyof typeof ControlKind];

export const RecordAttribute = { Key: 1, Value: 2, Headers: 4, Ttl: 8, Type: 16, Op: 32, Timestamp: 64 } as const;

export interface RecordHeader {
  readonly name: string;
  readonly value: Uint8Array;
}

/** A record as a producer gives it. */
export interface RecordInput {
  readonly key?: Uint8Array | null;
  /** null or absent: a tombstone, unless there is an op. */
  readonly value?: Uint8Array | null;
  readonly headers?: readonly RecordHeader[];
  /** Lifetime in ms from the log time of the batch. */
  readonly ttlMs?: number;
  /** Event type, for projections and filters. */
  readonly type?: string;
  /** Data-type command, encoded by `encodeOp`. */
  readonly op?: Uint8Array;
  /** Producer's timestamp, ms since the epoch; the batch's create time by default. */
  readonly timestamp?: number;
}

/** A record as a consumer sees it; bytes are views into the batch. */
export interface LogRecord {
  readonly offset: Offset;
  readonly timestamp: number;
  readonly logTime: LogTime;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly RecordHeader[];
  readonly ttlMs: number | undefined;
  readonly type: string | undefined;
  readonly op: Buffer | undefined;
}

export interface BatchSession {
  readonly low: number;
  readonly high: number;
  readonly sequence: number;
}

const malformed = (message: string): never => {
  throw new TidelineError('malformed-batch', message);
};

/* ---- header, read in place (no object per batch) ---- */

export const batchLength = (bytes: Uint8Array, at = 0): number => readU32(bytes, at);
export const batchFlags = (bytes: Uint8Array, at = 0): number => bytes[at + 6] | (bytes[at + 7] << 8);
export const batchIsControl = (bytes: Uint8Array, at = 0): boolean => (bytes[at + 6] & BatchFlag.Control) !== 0;
export const batchControlKind = (bytes: Uint8Array, at = 0): number => bytes[at + BATCH_HEADER_BYTES];
export const batchControlPayload = (bytes: Uint8Array, at = 0): Uint8Array =>
  bytes.subarray(at + BATCH_HEADER_BYTES + 1, at + batchLength(bytes, at));
export const batchPayloadCrc = (bytes: Uint8Array, at = 0): number => readU32(bytes, at + 12);
export const batchFirstOffset = (bytes: Uint8Array, at = 0): Offset => asOffset(readU64(bytes, at + 16));
export const batchRecordCount = (bytes: Uint8Array, at = 0): number => readU32(bytes, at + 24);
export const batchLastOffset = (bytes: Uint8Array, at = 0): Offset =>
  asOffset(readU64(bytes, at + 16) + readU32(bytes, at + 24) - 1);
export const batchTerm = (bytes: Uint8Array, at = 0): Term => asTerm(readU32(bytes, at + 28));
export const batchLogTime = (bytes: Uint8Array, at = 0): LogTime => asLogTime(readU64(bytes, at + 32));
export const batchSessionLow = (bytes: Uint8Array, at = 0): number => readU64(bytes, at + 40);
export const batchSessionHigh = (bytes: Uint8Array, at = 0): number => readU64(bytes, at + 48);
export const batchSequence = (bytes: Uint8Array, at = 0): number => readU32(bytes, at + 56);
export const batchGroup = (bytes: Uint8Array, at = 0): GroupId => asGroupId(readU32(bytes, at + 60));
export const batchCreateTime = (bytes: Uint8Array, at = 0): number => readU64(bytes, at + 64);

const headerCrcOf = (bytes: Uint8Array, at: number): number =>
  crc32(bytes.subarray(at + 12, at + BATCH_HEADER_BYTES), crc32(bytes.subarray(at, at + 8)));

export interface BatchStamp {
  readonly firstOffset: Offset;
  readonly term: Term;
  readonly logTime: LogTime;
  readonly group: GroupId;
}

/** What the leader writes into a batch before it is replicated; in place. */
export const stampBatch = (bytes: Uint8Array, stamp: BatchStamp): void => {
  writeU64(bytes, 16, stamp.firstOffset);
  writeU32(bytes, 28, stamp.term);
  writeU64(bytes, 32, stamp.logTime);
  writeU32(bytes, 60, stamp.group);
  writeU32(bytes, 8, headerCrcOf(bytes, 0));
};

/** What the producer writes into a batch it has encoded, before it is first sent; in place. */
export const setBatchSession = (bytes: Uint8Array, session: BatchSession): void => {
  writeU64(bytes, 40, session.low);
  writeU64(bytes, 48, session.high);
  writeU32(bytes, 56, session.sequence);
  writeU32(bytes, 8, headerCrcOf(bytes, 0));
};

/** Whether a header that can be trusted starts here: magic, version, length and header checksum. Reads no payload. */
export const batchHeaderIsValid = (bytes: Uint8Array, at = 0, end = bytes.length): boolean => {
  if (end - at < BATCH_HEADER_BYTES) return false;
  if (bytes[at + 4] !== BATCH_MAGIC || bytes[at + 5] !== BATCH_VERSION) return false;
  if (readU32(bytes, at) < BATCH_HEADER_BYTES || readU32(bytes, at + 24) === 0) return false;
  return readU32(bytes, at + 8) === headerCrcOf(bytes, at);
};

export const batchPayloadIsValid = (bytes: Uint8Array, at = 0): boolean =>
  batchPayloadCrc(bytes, at) === crc32(bytes.subarray(at + BATCH_HEADER_BYTES, at + batchLength(bytes, at)));

/** firstOffset, logTime, session, sessionHigh, createTime: beyond 2^53 − 1 none of them can be told from its neighbour. */
const U64_FIELDS = [16, 32, 40, 48, 64] as const;

/**
 * Checks the header of one whole batch of exactly `bytes.length` bytes.
 * @throws TidelineError `malformed-batch` | `unsupported-version`
 */
export const checkBatchHeader = (bytes: Uint8Array): void => {
  if (bytes.length < BATCH_HEADER_BYTES) malformed(`${bytes.length} bytes are too few for a batch header`);
  if (bytes[4] !== BATCH_MAGIC) malformed('not a record batch');
  if (bytes[5] !== BATCH_VERSION) throw new TidelineError('unsupported-version', `record batch version ${bytes[5]}`);
  if (batchLength(bytes) !== bytes.length) malformed(`length says ${batchLength(bytes)}, there are ${bytes.length}`);
  if (!batchHeaderIsValid(bytes)) malformed('header checksum does not match');
  for (const at of U64_FIELDS)
    if (!Number.isSafeInteger(readU64(bytes, at))) malformed(`number at ${at} is out of range`);
};

/**
 * The same, and the payload's checksum.
 * @throws TidelineError `malformed-batch` | `unsupported-version`
 */
export const checkBatch = (bytes: Uint8Array): void => {
  checkBatchHeader(bytes);
  if (!batchPayloadIsValid(bytes)) malformed('payload checksum does not match');
};

/** Calls `visit(at, length)` for each batch of a run of whole batches, by headers alone. Ignores a partial one at the end. */
export const forEachBatch = (bytes: Uint8Array, visit: (at: number, length: number) => void): void => {
  for (let at = 0; at + BATCH_HEADER_BYTES <= bytes.length;) {
    const length = batchLength(bytes, at);
    if (length < BATCH_HEADER_BYTES || at + length > bytes.length) return;
    visit(at, length);
    at += length;
  }
};

/* ---- building ---- */

const zigzag = (n: number): number => (n >= 0 ? n * 2 : -n * 2 - 1);

/** Bounds of what a builder takes before it knows how much will come. */
const ROOM_BYTES_MIN = 512;
const ROOM_BYTES_MAX = 2 * 1024 * 1024;
/** Beyond the last batch's size, at most. */
const SPARE_BYTES_MAX = 64 * 1024;

/** Where a builder finds memory for its batches. */
export interface BatchMemory {
  /** At least so many bytes. */
  take(bytes: number): Buffer;
  /** Of what was taken, in part or whole: nobody looks at it any more. */
  give(memory: Buffer): void;
  /** The batch that fills the first `length` bytes of what was taken, as it is handed out. */
  batchIn(memory: Buffer, length: number): Buffer;
}

/** Batches that are handed on for good, and may stay in a log's memory for long: with hardly more than their own bytes. */
const newMemory: BatchMemory = {
  take: (bytes) => Buffer.allocUnsafe(bytes),
  give: () => undefined,
  batchIn: (memory, length) => {
    const batch = memory.subarray(0, length);
    return memory.buffer.byteLength > length * 2 + SPARE_BYTES_MAX ? Buffer.from(batch) : batch;
  },
};

/** Gathers records into one batch. Reusable: `finish()` hands out a buffer of its own and starts over. */
export class BatchBuilder {
  /** null: nothing was gathered since the last `finish()`. */
  private buffer: Buffer | null = null;
  private position = BATCH_HEADER_BYTES;
  private count = 0;
  /** When the first record came. */
  private startTime = 0;

  constructor(
    private readonly createTime: () => number,
    /** Room for the first batch; later ones begin with what the last one took and as much to spare, within the bounds above. */
    private roomBytes = 4096,
    private readonly memory: BatchMemory = newMemory,
  ) {}

  get recordCount(): number {
    return this.count;
  }

  /** Bytes the batch takes as it stands, header included. */
  get byteLength(): number {
    return this.position;
  }

  /** Returns the record's index in the batch, from 0. */
  add(record: RecordInput): number {
    if (this.count === 0) this.startTime = this.createTime();
    const delta = record.timestamp === undefined ? 0 : zigzag(record.timestamp - this.startTime);
    const length = encodedLength(record, delta);
    const bytes = this.withRoom(varintSize(length) + length);
    this.position = writeRecord(bytes, this.position, record, { delta, length });
    return this.count++;
  }

  /** What has been gathered, with room for so many bytes behind it. */
  private withRoom(bytes: number): Buffer {
    const { buffer, position } = this;
    const needed = position + bytes;
    if (buffer !== null && needed <= buffer.length) return buffer;
    const larger = this.memory.take(Math.max(needed, buffer === null ? this.roomBytes : buffer.length * 2));
    if (buffer !== null) {
      buffer.copy(larger, 0, 0, position);
      this.memory.give(buffer);
    }
    this.buffer = larger;
    return larger;
  }

  /** Throws away what was gathered since the last `finish()`. */
  reset(): void {
    if (this.buffer !== null) this.memory.give(this.buffer);
    this.startOver();
  }

  private startOver(): void {
    this.buffer = null;
    this.position = BATCH_HEADER_BYTES;
    this.count = 0;
  }

  finish(session?: BatchSession): Buffer {
    const bytes = this.memory.batchIn(this.withRoom(0), this.position);
    const { length } = bytes;
    this.roomBytes = Math.min(ROOM_BYTES_MAX, Math.max(ROOM_BYTES_MIN, length + Math.min(length, SPARE_BYTES_MAX)));
    sealBatch(bytes, { recordCount: this.count, flags: 0, createTime: this.startTime, session });
    this.startOver();
    return bytes;
  }
}

/** Bytes of a record behind its length. `delta`: of its timestamp, if it has one, zigzag. */
const encodedLength = (record: RecordInput, delta: number): number => {
  const { key, value, headers, ttlMs, type, op, timestamp } = record;
  let length = 1;
  if (timestamp !== undefined) length += varintSize(delta);
  if (ttlMs !== undefined) length += varintSize(ttlMs);
  if (key) length += prefixedSize(key.length);
  if (type !== undefined) length += prefixedSize(Buffer.byteLength(type));
  if (op) length += prefixedSize(op.length);
  if (value) length += prefixedSize(value.length);
  if (headers && headers.length > 0) {
    length += varintSize(headers.length);
    for (const header of headers) {
      length += prefixedSize(Buffer.byteLength(header.name)) + prefixedSize(header.value.length);
    }
  }
  return length;
};

const prefixedSize = (length: number): number => varintSize(length) + length;

/** There must be room for it. Returns where it ends. */
const writeRecord = (
  bytes: Buffer,
  start: number,
  record: RecordInput,
  { delta, length }: { readonly delta: number; readonly length: number },
): number => {
  const { key, value, headers, ttlMs, type, op, timestamp } = record;
  const attributesAt = writeVarint(bytes, start, length);
  let at = attributesAt + 1;
  let attributes = 0;
  if (timestamp !== undefined) {
    attributes |= RecordAttribute.Timestamp;
    at = writeVarint(bytes, at, delta);
  }
  if (ttlMs !== undefined) {
    attributes |= RecordAttribute.Ttl;
    at = writeVarint(bytes, at, ttlMs);
  }
  if (key) {
    attributes |= RecordAttribute.Key;
    at = writePrefixed(bytes, at, key);
  }
  if (type !== undefined) {
    attributes |= RecordAttribute.Type;
    at = writeText(bytes, at, type);
  }
  if (op) {
    attributes |= RecordAttribute.Op;
    at = writePrefixed(bytes, at, op);
  }
  if (value) {
    attributes |= RecordAttribute.Value;
    at = writePrefixed(bytes, at, value);
  }
  if (headers && headers.length > 0) {
    attributes |= RecordAttribute.Headers;
    at = writeVarint(bytes, at, headers.length);
    for (const header of headers) at = writePrefixed(bytes, writeText(bytes, at, header.name), header.value);
  }
  bytes[attributesAt] = attributes;
  return at;
};

const writePrefixed = (bytes: Buffer, at: number, field: Uint8Array): number => {
  const start = writeVarint(bytes, at, field.length);
  bytes.set(field, start);
  return start + field.length;
};

const writeText = (bytes: Buffer, at: number, text: string): number => {
  const length = Buffer.byteLength(text);
  const start = writeVarint(bytes, at, length);
  bytes.write(text, start, length, 'utf8');
  return start + length;
};

interface BatchSeal {
  readonly recordCount: number;
  readonly flags: number;
  readonly createTime: number;
  readonly session?: BatchSession | undefined;
}

const sealBatch = (bytes: Buffer, seal: BatchSeal): void => {
  bytes.fill(0, 0, BATCH_HEADER_BYTES);
  writeU32(bytes, 0, bytes.length);
  bytes[4] = BATCH_MAGIC;
  bytes[5] = BATCH_VERSION;
  bytes[6] = seal.flags;
  writeU32(bytes, 12, crc32(bytes.subarray(BATCH_HEADER_BYTES)));
  writeU32(bytes, 24, seal.recordCount);
  writeU64(bytes, 64, seal.createTime);
  if (seal.session) {
    writeU64(bytes, 40, seal.session.low);
    writeU64(bytes, 48, seal.session.high);
    writeU32(bytes, 56, seal.session.sequence);
  }
  writeU32(bytes, 8, headerCrcOf(bytes, 0));
};

export const encodeBatch = (
  records: readonly RecordInput[],
  options: { readonly createTime: number; readonly session?: BatchSession },
): Buffer => {
  const builder = new BatchBuilder(() => options.createTime);
  for (const record of records) builder.add(record);
  return builder.finish(options.session);
};

/** A control batch: takes one offset, is skipped by consumers. */
export const encodeControlBatch = (kind: ControlKind, payload: Uint8Array, createTime: number): Buffer => {
  const bytes = Buffer.allocUnsafe(BATCH_HEADER_BYTES + 1 + payload.length);
  bytes[BATCH_HEADER_BYTES] = kind;
  bytes.set(payload, BATCH_HEADER_BYTES + 1);
  sealBatch(bytes, { recordCount: 1, flags: BatchFlag.Control, createTime });
  return bytes;
};
