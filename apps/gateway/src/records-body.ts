import { TidelineError, isTidelineError } from '#kernel';
import { parseJson } from '#platform';
import type { RecordInput } from '#wire';
import type { GatewayLimits } from './gateway-options.js';
import { recordOfJson } from './record-json.js';

/** The records of a request: a JSON object that holds them, or one a line. All of them are good or none is taken. */
const NEWLINE = 0x0a;
const SHOWN_CHARS_MAX = 80;

const tooMany = (limits: GatewayLimits): TidelineError =>
  new TidelineError('request-too-large', `a request has at most ${limits.recordsPerRequestMax} records`, {
    details: { limit: limits.recordsPerRequestMax },
  });

/** The same error, saying where. */
const located = (error: unknown, where: Readonly<Record<string, number>>, label: string): unknown =>
  isTidelineError(error)
    ? new TidelineError(error.code, `${label}: ${error.message}`, {
        cause: error,
        details: { ...error.details, ...where },
      })
    : error;

/** `{"records": […]}`. @throws TidelineError; details.record is the index of a bad one */
export const recordsOfJson = (body: unknown, limits: GatewayLimits): RecordInput[] => {
  const records = typeof body === 'object' && body !== null ? (body as { records?: unknown }).records : undefined;
  if (!Array.isArray(records)) {
    throw new TidelineError('bad-request', 'the body is an object with an array "records"', {
      details: { member: 'records' },
    });
  }
  const stranger = Object.keys(body as object).find((name) => name !== 'records');
  if (stranger !== undefined) {
    throw new TidelineError('bad-request', `the body has no member ${stranger.slice(0, SHOWN_CHARS_MAX)}`, {
      details: { member: stranger },
    });
  }
  if (records.length === 0)
    throw new TidelineError('bad-request', 'there are no records', { details: { member: 'records' } });
  if (records.length > limits.recordsPerRequestMax) throw tooMany(limits);
  return records.map((record, index) => {
    try {
      return recordOfJson(record, limits);
    } catch (error) {
      throw located(error, { record: index }, `record ${index}`);
    }
  });
};

/** One record a line; empty lines do not count as records. @throws TidelineError; details.line is the number of a bad one, from 1 */
export const recordsOfLines = (body: Buffer, limits: GatewayLimits): RecordInput[] => {
  const records: RecordInput[] = [];
  let line = 0;
  for (let start = 0; start < body.length;) {
    line++;
    const newline = body.indexOf(NEWLINE, start);
    const end = newline < 0 ? body.length : newline;
    const bytes = body.subarray(start, end);
    start = end + 1;
    if (bytes.every((byte) => byte <= 0x20)) continue;
    if (records.length === limits.recordsPerRequestMax) throw tooMany(limits);
    try {
      records.push(recordOfJson(parseJson(bytes, { depthMax: limits.jsonDepthMax }), limits));
    } catch (error) {
      throw located(error, { line }, `line ${line}`);
    }
  }
  if (records.length === 0) throw new TidelineError('bad-request', 'there are no records');
  return records;
};
