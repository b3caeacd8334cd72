import { asGroupId, asOffset, asTerm, readU32, writeU32, asLogTime, type LogTime, type Offset } from '#kernel';
import { RecordCursor, encodeBatch, stampBatch } from '#wire';
import { RESERVED_KEY_PREFIX } from './definition.js';

/**
 * Events that a projection could not apply, as entries of its own map, so that they are in its snapshots.
 *
 *     key    RESERVED_KEY_PREFIX · "parked/" · offset, 16 hex digits
 *     value  512 bytes of error text (UTF-8, padded with zeros) · u32 attempts · the event as a batch of one record
 *
 *     key    RESERVED_KEY_PREFIX · "parked"
 *     value  the offsets of those there are, rising, each a 64-bit float
 *
 * The words of an engine's error may differ from host to host. They are copied entries, not computed ones, so a digest names them by key,
 * offset and length; and the text always takes the same length.
 */
const ERROR_BYTES = 512;
const HEAD_BYTES = ERROR_BYTES + 4;
const NUMBER_BYTES = 8;

export const PARKED_DIRECTORY_KEY = Buffer.concat([RESERVED_KEY_PREFIX, Buffer.from('parked')]);

export const parkedKey = (offset: Offset): Buffer =>
  Buffer.concat([PARKED_DIRECTORY_KEY, Buffer.from(`/${offset.toString(16).padStart(16, '0')}`)]);

export const encodeDirectory = (offsets: readonly Offset[]): Buffer => {
  const bytes = Buffer.alloc(offsets.length * NUMBER_BYTES);
  for (const [i, offset] of offsets.entries()) bytes.writeDoubleLE(offset, i * NUMBER_BYTES);
  return bytes;
};

export const decodeDirectory = (bytes: Buffer): Offset[] =>
  Array.from({ length: bytes.length / NUMBER_BYTES }, (_, i) => asOffset(bytes.readDoubleLE(i * NUMBER_BYTES)));

/** An event set aside, as it is listed. */
export interface ParkedEvent {
  readonly partition: number;
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly type: string | null;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly contentType: string | null;
  /** What the method threw the last time; cut at 512 bytes. */
  readonly error: string;
  /** How often it was tried. */
  readonly attempts: number;
}

/** The event at the cursor. */
export const encodeParked = (
  cursor: RecordCursor,
  { error, attempts, logTime }: { readonly error: string; readonly attempts: number; readonly logTime: number },
): Buffer => {
  const batch = encodeBatch(
    [
      {
        key: cursor.key,
        value: cursor.value,
        headers: cursor.headers,
        ...(cursor.type !== undefined && { type: cursor.type }),
        ...(cursor.ttlMs >= 0 && { ttlMs: cursor.ttlMs }),
      },
    ],
    { createTime: cursor.timestamp },
  );
  stampBatch(batch, { firstOffset: cursor.offset, term: asTerm(0), logTime: asLogTime(logTime), group: asGroupId(0) });
  const bytes = Buffer.alloc(HEAD_BYTES + batch.length);
  writeError(bytes, error);
  writeU32(bytes, ERROR_BYTES, attempts);
  batch.copy(bytes, HEAD_BYTES);
  return bytes;
};

/** The same after another try. */
export const triedAgain = (parked: Buffer, error: string): Buffer => {
  const bytes = Buffer.from(parked);
  bytes.fill(0, 0, ERROR_BYTES);
  writeError(bytes, error);
  writeU32(bytes, ERROR_BYTES, Math.min(0xffff_ffff, readU32(parked, ERROR_BYTES) + 1));
  return bytes;
};

/** A whole character that does not fit is left out: `write` never writes part of one. */
const writeError = (bytes: Buffer, error: string): void => {
  bytes.write(error.replaceAll('\0', ' '), 0, ERROR_BYTES);
};

/** The event, at the cursor. */
export const cursorAt = (parked: Buffer, cursor: RecordCursor): RecordCursor => {
  cursor.reset(parked, HEAD_BYTES);
  cursor.next();
  return cursor;
};

export const decodeParked = (parked: Buffer, partition: number): ParkedEvent => {
  const cursor = cursorAt(parked, new RecordCursor());
  const end = parked.indexOf(0);
  const contentType = cursor.headers.find(({ name }) => name.toLowerCase() === 'content-type');
  return {
    partition,
    offset: cursor.offset,
    logTime: cursor.logTime,
    type: cursor.type ?? null,
    key: cursor.key,
    value: cursor.value,
    contentType: contentType === undefined ? null : (contentType.value as Buffer).toString(),
    error: parked.toString('utf8', 0, end < 0 || end > ERROR_BYTES ? ERROR_BYTES : end),
    attempts: readU32(parked, ERROR_BYTES),
  };
};
