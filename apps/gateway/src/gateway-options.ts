import {
  HEADER_BYTES_MAX,
  JSON_DEPTH_MAX,
  KEY_BYTES_MAX,
  RECORD_BYTES_MAX,
  REQUEST_BYTES_MAX,
  type Clock,
  type Scheduler,
  systemClock,
  systemScheduler,
} from '#kernel';

/** What a request may ask for and how long things may take; what is beyond is refused, never cut silently unless it says so. */
export interface GatewayLimits {
  readonly keyBytesMax: number;
  readonly recordBytesMax: number;
  readonly requestBytesMax: number;
  readonly headerBytesMax: number;
  readonly jsonDepthMax: number;
  /** Records of one append request. */
  readonly recordsPerRequestMax: number;
  /** `limit` of a fetch. */
  readonly fetchRecordsMax: number;
  /** `maxBytes` of a fetch. */
  readonly fetchBytesMax: number;
  /** `waitMs` of a fetch. */
  readonly fetchWaitMsMax: number;
  /** `limit` of a scan. */
  readonly scanEntriesMax: number;
  /** A page of a scan ends once it is this large. */
  readonly scanBytesMax: number;
  /** Tails and watches open at once; one more is `overloaded`. */
  readonly streamsMax: number;
  /** Credit of a tail towards the log. */
  readonly tailCreditBytes: number;
  /** Bytes waiting for one reader of a stream before the stream pauses. */
  readonly streamBufferBytesMax: number;
  /** A reader that takes nothing for so long is dropped with `too-slow`. */
  readonly slowReaderMs: number;
  /** Quiet streams say something this often. */
  readonly heartbeatMs: number;
  /** An append has its outcome by then, or ends as unknown. */
  readonly writeTimeoutMs: number;
  readonly readTimeoutMs: number;
  /** A request has arrived whole by then (slow senders are cut). */
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
}

export const DEFAULT_LIMITS: GatewayLimits = {
  keyBytesMax: KEY_BYTES_MAX,
  recordBytesMax: RECORD_BYTES_MAX,
  requestBytesMax: REQUEST_BYTES_MAX,
  headerBytesMax: HEADER_BYTES_MAX,
  jsonDepthMax: JSON_DEPTH_MAX,
  recordsPerRequestMax: 100_000,
  fetchRecordsMax: 10_000,
  fetchBytesMax: REQUEST_BYTES_MAX,
  fetchWaitMsMax: 60_000,
  scanEntriesMax: 10_000,
  scanBytesMax: 8 * 1024 * 1024,
  streamsMax: 10_000,
  tailCreditBytes: 1024 * 1024,
  streamBufferBytesMax: 256 * 1024,
  slowReaderMs: 30_000,
  heartbeatMs: 15_000,
  writeTimeoutMs: 10_000,
  readTimeoutMs: 5_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 72_000,
};

/** Time as the gateway's services see it. */
export interface GatewayTime {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
}

export const SYSTEM_TIME: GatewayTime = { clock: systemClock, scheduler: systemScheduler };
