import type { GatewayLimits } from './gateway-options.js';
import type { ScanRequest } from './read-path.js';
import { CONSISTENCY_PARAMETERS, RequestParameters } from './request-parameters.js';
import { parsePosition, parseStart, type StreamStart } from './stream-position.js';
import type { TailRequest } from './tail-stream.js';
import type { WatchRequest } from './watch-stream.js';

/** What REST asks in a query and Nest TCP in a payload, under the same names and with the same limits. */
export const FETCH_PARAMETERS = ['partition', 'from', 'limit', 'maxBytes', 'waitMs'];
export const SCAN_PARAMETERS = [
  ...CONSISTENCY_PARAMETERS,
  'prefix',
  'index',
  'value',
  'limit',
  'cursor',
  'values',
  'partition',
];
export const TAIL_PARAMETERS = ['from', 'partition', 'keyPrefix', 'type', 'lastEventId'];
export const WATCH_PARAMETERS = ['prefix', 'partition'];

const FETCH_LIMIT_DEFAULT = 100;
const FETCH_BYTES_DEFAULT = 1024 * 1024;
const SCAN_LIMIT_DEFAULT = 100;

export interface FetchRequest {
  readonly partition: number;
  readonly start: StreamStart;
  readonly limit: number;
  readonly maxBytes: number;
  readonly waitMs: number;
}

export const fetchRequestOf = (parameters: RequestParameters, limits: GatewayLimits): FetchRequest => ({
  partition: parameters.partition() ?? 0,
  start: parseStart(parameters.text('from') ?? 'earliest'),
  limit: parameters.integer('limit', { min: 1, max: limits.fetchRecordsMax }, FETCH_LIMIT_DEFAULT),
  maxBytes: parameters.integer('maxBytes', { min: 1, max: limits.fetchBytesMax }, FETCH_BYTES_DEFAULT),
  waitMs: parameters.integer('waitMs', { min: 0, max: limits.fetchWaitMsMax }, 0),
});

export const scanRequestOf = (parameters: RequestParameters, limits: GatewayLimits): ScanRequest => ({
  prefix: Buffer.from(parameters.text('prefix') ?? ''),
  index: indexOf(parameters),
  after: afterCursor(parameters, limits.keyBytesMax),
  limit: parameters.integer('limit', { min: 1, max: limits.scanEntriesMax }, SCAN_LIMIT_DEFAULT),
  values: parameters.flag('values', false),
  partition: parameters.partition(),
  bytesMax: limits.scanBytesMax,
});

const indexOf = (parameters: RequestParameters): ScanRequest['index'] => {
  const name = parameters.text('index');
  const value = parameters.text('value');
  if (name === null) return value === null ? null : parameters.refuse('value', 'goes with index');
  if (parameters.has('prefix')) parameters.refuse('prefix', 'does not go with index');
  return { name, value: value ?? parameters.refuse('value', 'is needed with index') };
};

/** The last key of the page before, so that it stays valid whatever is written meanwhile. */
const afterCursor = (parameters: RequestParameters, keyBytesMax: number): Buffer | null => {
  const cursor = parameters.text('cursor');
  if (cursor === null || cursor === '') return null;
  if (!/^[A-Za-z0-9_-]+$/.test(cursor) || cursor.length > keyBytesMax * 2) {
    return parameters.refuse('cursor', 'is the cursor of an answer before');
  }
  return Buffer.from(cursor, 'base64url');
};

export const cursorAfter = (key: Buffer): string => key.toString('base64url');

/** `Last-Event-ID` wins over `from`; where headers cannot be set, `lastEventId` stands in. */
export const tailRequestOf = (topic: string, parameters: RequestParameters, lastEventId?: string): TailRequest => {
  const resume = lastEventId ?? parameters.text('lastEventId');
  const keyPrefix = parameters.text('keyPrefix');
  return {
    topic,
    partition: parameters.partition(),
    start: parseStart(parameters.text('from') ?? 'latest'),
    after: resume === null || resume === '' ? null : parsePosition(resume, 'Last-Event-ID'),
    keyPrefix: keyPrefix === null ? null : Buffer.from(keyPrefix),
    type: parameters.text('type'),
  };
};

export const watchRequestOf = (view: string, parameters: RequestParameters): WatchRequest => ({
  view,
  partition: parameters.partition(),
  prefix: Buffer.from(parameters.text('prefix') ?? ''),
});
