import {
  HEADER_BYTES_MAX,
  KEY_BYTES_MAX,
  RECORD_BYTES_MAX,
  TidelineError,
  asLogTime,
  asOffset,
  type LogTime,
  type Offset,
} from '#kernel';
import {
  BATCH_HEADER_BYTES,
  BatchFlag,
  RecordAttribute,
  batchCreateTime,
  batchFirstOffset,
  batchFlags,
  batchIsControl,
  batchLength,
  batchLogTime,
  batchRecordCount,
  type LogRecord,
  type RecordHeader,
} from './record-batch-v1.js';

/** log time + TTL must stay a safe integer: 2^52 ms is 142,000 years. */
export const TTL_MS_MAX = 2 ** 52;
/** attributes and one byte of length: nothing is shorter. */
const RECORD_BYTES_MIN = 2;

const NO_HEADERS: readonly RecordHeader[] = [];

const malformed = (message: string): never => {
  throw new TidelineError('malformed-batch', message);
};

/**
 * Walks the records of a batch without making anything per record: fields are positions in `bytes`, −1 where absent.
 * The one parser of records; see record-batch-v1.ts for the grammar. Reusable for any number of batches.
 *
 *     cursor.reset(batch);
 *     while (cursor.next()) table.set(cursor.bytes, cursor.keyStart, cursor.keyEnd, …);
 */
export class RecordCursor {
  bytes: Buffer = Buffer.alloc(0);
  /** Of the current record within its batch, from 0; −1 before the first `next()`. */
  index = -1;
  recordCount = 0;
  logTime: LogTime = asLogTime(0);
  attributes = 0;
  timestamp = 0;
  /** −1: none. */
  ttlMs = -1;
  /** Whole record, its length prefix left out. */
  recordStart = 0;
  recordEnd = 0;
  keyStart = -1;
  keyEnd = -1;
  typeStart = -1;
  typeEnd = -1;
  opStart = -1;
  opEnd = -1;
  valueStart = -1;
  valueEnd = -1;
  headerCount = 0;
  headersStart = -1;

  private firstOffset = 0;
  private createTime = 0;
  private position = 0;
  private end = 0;

  /**
   * Before the first record of the batch at `at`; a control batch has none.
   * @throws TidelineError `malformed-batch` | `unsupported-version`
   */
  reset(bytes: Uint8Array, at = 0): this {
    this.bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.index = -1;
    this.firstOffset = batchFirstOffset(bytes, at);
    this.logTime = batchLogTime(bytes, at);
    this.createTime = batchCreateTime(bytes, at);
    this.position = at + BATCH_HEADER_BYTES;
    this.end = at + batchLength(bytes, at);
    if (this.end > bytes.length || this.end < this.position) malformed('the batch is cut off');
    if ((batchFlags(bytes, at) & ~BatchFlag.Control) !== 0) {
      throw new TidelineError('unsupported-version', `record batch flags ${batchFlags(bytes, at)}`);
    }
    this.recordCount = batchIsControl(bytes, at) ? 0 : batchRecordCount(bytes, at);
    if (this.recordCount * RECORD_BYTES_MIN > this.end - this.position) malformed('more records than bytes for them');
    if (this.recordCount === 0) this.position = this.end;
    return this;
  }

  /** To the next record; false after the last. @throws TidelineError `malformed-batch` */
  next(): boolean {
    if (this.index + 1 >= this.recordCount) {
      if (this.position !== this.end) malformed(`${this.end - this.position} bytes after the last record`);
      return false;
    }
    this.index++;
    const length = this.varint(this.end);
    const start = this.position;
    const recordEnd = start + length;
    if (length === 0 || recordEnd > this.end) malformed(`record ${this.index} runs past the batch`);
    this.recordStart = start;
    this.recordEnd = recordEnd;
    const attributes = this.bytes[start];
    this.attributes = attributes;
    this.position = start + 1;
    if (attributes & 0x80) malformed(`record ${this.index} has unknown attributes`);
    if (attributes & RecordAttribute.Timestamp) {
      const delta = this.varint(recordEnd);
      this.timestamp = this.createTime + (delta % 2 === 0 ? delta / 2 : -(delta + 1) / 2);
      if (!Number.isSafeInteger(this.timestamp)) malformed(`record ${this.index} has a timestamp out of range`);
    } else this.timestamp = this.createTime;
    if (attributes & RecordAttribute.Ttl) {
      this.ttlMs = this.varint(recordEnd);
      if (this.ttlMs > TTL_MS_MAX) malformed(`record ${this.index} has a TTL out of range`);
    } else this.ttlMs = -1;
    if (attributes & RecordAttribute.Key) {
      this.keyEnd = this.skipPrefixed(recordEnd);
      this.keyStart = this.fieldStart;
    } else this.keyStart = this.keyEnd = -1;
    if (attributes & RecordAttribute.Type) {
      this.typeEnd = this.skipPrefixed(recordEnd);
      this.typeStart = this.fieldStart;
    } else this.typeStart = this.typeEnd = -1;
    if (attributes & RecordAttribute.Op) {
      this.opEnd = this.skipPrefixed(recordEnd);
      this.opStart = this.fieldStart;
    } else this.opStart = this.opEnd = -1;
    if (attributes & RecordAttribute.Value) {
      this.valueEnd = this.skipPrefixed(recordEnd);
      this.valueStart = this.fieldStart;
    } else this.valueStart = this.valueEnd = -1;
    if (attributes & RecordAttribute.Headers) {
      this.headerCount = this.varint(recordEnd);
      this.headersStart = this.position;
      if (this.headerCount > length) malformed(`record ${this.index} has too many headers`);
      for (let i = this.headerCount * 2; i > 0; i--) this.skipPrefixed(recordEnd);
    } else {
      this.headerCount = 0;
      this.headersStart = -1;
    }
    if (this.position !== recordEnd) malformed(`record ${this.index} does not end where its length says`);
    return true;
  }

  private fieldStart = 0;

  /** Past a length-prefixed field; its start goes to `fieldStart`, its end is returned. */
  private skipPrefixed(end: number): number {
    const length = this.varint(end);
    const start = this.position;
    if (length > end - start) malformed(`a field of record ${this.index} runs past the record`);
    this.fieldStart = start;
    this.position = start + length;
    return this.position;
  }

  private varint(end: number): number {
    const at = this.position;
    if (at < end) {
      const byte = this.bytes[at];
      if (byte < 0x80) {
        this.position = at + 1;
        return byte;
      }
    }
    return this.longVarint(end);
  }

  private longVarint(end: number): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      if (this.position >= end) malformed(`record ${this.index} is cut off`);
      const byte = this.bytes[this.position++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) malformed(`record ${this.index} has a number out of range`);
        return value;
      }
      scale *= 128;
    }
    return malformed(`record ${this.index} has a number that does not end`);
  }

  get offset(): Offset {
    return asOffset(this.firstOffset + this.index);
  }

  /** Views into the batch; made on each call. */
  get key(): Buffer | null {
    return this.keyStart < 0 ? null : this.bytes.subarray(this.keyStart, this.keyEnd);
  }

  get value(): Buffer | null {
    return this.valueStart < 0 ? null : this.bytes.subarray(this.valueStart, this.valueEnd);
  }

  get op(): Buffer | undefined {
    return this.opStart < 0 ? undefined : this.bytes.subarray(this.opStart, this.opEnd);
  }

  get type(): string | undefined {
    return this.typeStart < 0 ? undefined : this.bytes.toString('utf8', this.typeStart, this.typeEnd);
  }

  get headers(): readonly RecordHeader[] {
    if (this.headerCount === 0) return NO_HEADERS;
    const list: RecordHeader[] = [];
    this.position = this.headersStart;
    for (let i = 0; i < this.headerCount; i++) {
      const nameEnd = this.skipPrefixed(this.recordEnd);
      const name = this.bytes.toString('utf8', this.fieldStart, nameEnd);
      const valueEnd = this.skipPrefixed(this.recordEnd);
      list.push({ name, value: this.bytes.subarray(this.fieldStart, valueEnd) });
    }
    return list; // the walk ends at recordEnd, where `next()` goes on
  }
}

/** Calls `visit` with one cursor for each record; the cursor is reused, so it means something only during the call. */
export const forEachRecord = (
  bytes: Uint8Array,
  visit: (cursor: RecordCursor) => void,
  options: { readonly at?: number; readonly cursor?: RecordCursor } = {},
): void => {
  const cursor = (options.cursor ?? new RecordCursor()).reset(bytes, options.at ?? 0);
  while (cursor.next()) visit(cursor);
};

/**
 * The records of one batch that starts at `at`; none for a control batch. Does not check the checksums.
 * @throws TidelineError `malformed-batch` | `unsupported-version`
 */
export const decodeRecords = (bytes: Uint8Array, at = 0): LogRecord[] => {
  const cursor = new RecordCursor().reset(bytes, at);
  const { logTime } = cursor;
  const records: LogRecord[] = [];
  while (cursor.next()) {
    records.push({
      offset: cursor.offset,
      timestamp: cursor.timestamp,
      logTime,
      key: cursor.key,
      value: cursor.value,
      headers: cursor.headers,
      ttlMs: cursor.ttlMs < 0 ? undefined : cursor.ttlMs,
      type: cursor.type,
      op: cursor.op,
    });
  }
  return records;
};

/** Bytes. */
export interface RecordLimits {
  readonly keyBytesMax: number;
  readonly recordBytesMax: number;
  /** Names and values of one record's headers together. */
  readonly headerBytesMax: number;
}

export const RECORD_LIMITS: RecordLimits = {
  keyBytesMax: KEY_BYTES_MAX,
  recordBytesMax: RECORD_BYTES_MAX,
  headerBytesMax: HEADER_BYTES_MAX,
};

/**
 * Whether a batch that a client encoded may be appended: it holds records (control batches are the log's own), they parse to
 * the last byte and keep the limits. Makes nothing per record. `details.index` of the error is the record's.
 * @throws TidelineError `malformed-batch` | `unsupported-version` | `key-too-large` | `record-too-large`
 */
export const validateRecords = (batch: Uint8Array, limits: RecordLimits = RECORD_LIMITS): void => {
  if (batch.length < BATCH_HEADER_BYTES) malformed(`${batch.length} bytes are too few for a batch header`);
  if (batchIsControl(batch)) malformed('a control batch cannot be appended');
  if (!Number.isSafeInteger(batchCreateTime(batch))) malformed('create time out of range');
  const cursor = new RecordCursor().reset(batch);
  if (cursor.recordCount === 0) malformed('no records');
  while (cursor.next()) {
    if (cursor.keyEnd - cursor.keyStart > limits.keyBytesMax) tooLarge(cursor, 'key-too-large', limits.keyBytesMax);
    if (cursor.recordEnd - cursor.recordStart > limits.recordBytesMax) {
      tooLarge(cursor, 'record-too-large', limits.recordBytesMax);
    }
    if (cursor.headersStart >= 0 && cursor.recordEnd - cursor.headersStart > limits.headerBytesMax) {
      tooLarge(cursor, 'record-too-large', limits.headerBytesMax);
    }
  }
};

const tooLarge = (cursor: RecordCursor, code: 'key-too-large' | 'record-too-large', limit: number): never => {
  const what = code === 'key-too-large' ? 'key' : 'record or its headers';
  throw new TidelineError(code, `the ${what} of record ${cursor.index} may have ${limit} bytes`, {
    details: { index: cursor.index, limit },
  });
};
