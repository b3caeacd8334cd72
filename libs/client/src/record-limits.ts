import { HEADER_BYTES_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX, TidelineError } from '#kernel';
import { TTL_MS_MAX, type RecordInput } from '#wire';

/** Upper bounds of what the encoding adds. */
const RECORD_OVERHEAD_BYTES = 48;
const HEADER_OVERHEAD_BYTES = 8;

/**
 * Checks a record as the server will and gives an upper bound of what it takes. Nothing may pass here that is refused there: its whole
 * batch would be, with the records of others.
 * @throws TidelineError `key-too-large` · `record-too-large` · `bad-request`
 */
export const recordBytes = (record: RecordInput): number => {
  const { key, value, headers, ttlMs, type, op, timestamp } = record;
  let bytes = RECORD_OVERHEAD_BYTES;
  if (key) {
    const length = byteLength(key, 'key');
    if (length > KEY_BYTES_MAX) throw tooLarge('key-too-large', 'key', length, KEY_BYTES_MAX);
    bytes += length;
  }
  if (value) bytes += byteLength(value, 'value');
  if (op) bytes += byteLength(op, 'op');
  if (type !== undefined) bytes += Buffer.byteLength(type);
  if (headers && headers.length > 0) {
    let headerBytes = 0;
    for (const header of headers) {
      headerBytes += HEADER_OVERHEAD_BYTES + Buffer.byteLength(header.name) + byteLength(header.value, 'header');
    }
    if (headerBytes > HEADER_BYTES_MAX) throw tooLarge('record-too-large', 'headers', headerBytes, HEADER_BYTES_MAX);
    bytes += headerBytes;
  }
  if (bytes > RECORD_BYTES_MAX) throw tooLarge('record-too-large', 'record', bytes, RECORD_BYTES_MAX);
  if (ttlMs !== undefined) checkMs(ttlMs, 'ttlMs');
  if (timestamp !== undefined) checkMs(timestamp, 'timestamp');
  return bytes;
};

const byteLength = (bytes: Uint8Array, what: string): number => {
  if (bytes instanceof Uint8Array) return bytes.length;
  throw new TidelineError('bad-request', `the ${what} is not bytes`);
};

const checkMs = (ms: number, what: string): void => {
  if (Number.isSafeInteger(ms) && ms >= 0 && ms <= TTL_MS_MAX) return;
  throw new TidelineError('bad-request', `${what} is ${ms}; a whole number of ms from 0 to 2^52 is allowed`);
};

const tooLarge = (
  code: 'key-too-large' | 'record-too-large',
  what: string,
  bytes: number,
  limit: number,
): TidelineError => new TidelineError(code, `the ${what}: ${bytes} bytes of ${limit} allowed`, { details: { limit } });
