/**
 * The one error base and the one table of codes. Code is matched, never the message.
 * Codes are stable: clients in any language are written against them.
 */

/**
 * What became of a write that ended in an error.
 * `rejected`: it has not and will not take effect. `unknown`: it may still take effect; retry with the same session and sequence.
 */
export type Outcome = 'rejected' | 'unknown';

interface CodeInfo {
  /** What it means for a write. */
  readonly outcome: Outcome;
  /** Whether the same request may succeed later without being changed. */
  readonly retriable: boolean;
  readonly summary: string;
}

const rejected = (summary: string): CodeInfo => ({ outcome: 'rejected', retriable: false, summary });
const retry = (summary: string): CodeInfo => ({ outcome: 'rejected', retriable: true, summary });
const unknown = (summary: string): CodeInfo => ({ outcome: 'unknown', retriable: true, summary });

export const ERROR_CODES = {
  // input
  'bad-request': rejected('the request is not well formed'),
  'malformed-json': rejected('the body is not valid JSON'),
  'malformed-batch': rejected('the record batch does not parse or fails its checksum'),
  'malformed-frame': rejected('a frame on the connection does not parse'),
  'unsupported-version': rejected('the message or file has a version this node does not know'),
  'unsupported-media-type': rejected('the content type is not one this route takes'),
  'method-not-allowed': rejected('the path exists, the method does not apply to it'),
  'not-found': rejected('no such route'),
  'unknown-topic': rejected('no topic of that name'),
  'unknown-partition': rejected('the topic has no such partition'),
  'unknown-view': rejected('no view of that name'),
  'unknown-entry': rejected('the view has no live entry under that key'),
  'topic-exists': rejected('a topic of that name exists'),
  'key-too-large': rejected('the key is longer than the limit'),
  'record-too-large': rejected('the record is larger than the limit'),
  'request-too-large': rejected('the request is larger than the limit'),
  'too-deep': rejected('the JSON is nested deeper than the limit'),
  'unsafe-key': rejected('the JSON has a member name that is not accepted'),
  'offset-out-of-range': rejected('the offset is below the log start or beyond the end'),
  'condition-failed': rejected('the condition of the write did not hold'),
  'wrong-type': rejected('the entry holds another data type'),
  'unknown-command': rejected('the data type has no such command'),
  unauthorized: rejected('credentials are missing or wrong'),
  forbidden: rejected('the credentials do not allow this'),
  // sessions
  'session-expired': rejected('the session is not known any more; open a new one'),
  'sequence-gap': retry('a batch of the session before this one has not arrived'),
  'sequence-reused': rejected('the sequence number was used for another batch, too long ago to know its answer'),
  'idempotency-conflict': rejected('the idempotency key was used for another request'),
  // state of the cluster
  'not-leader': retry('this node does not lead the partition'),
  'no-leader': retry('the partition has no leader at the moment'),
  'not-ready': retry('the node is starting'),
  'view-halted': rejected('the view stopped at an event that it could not apply'),
  'shutting-down': retry('the node is stopping'),
  overloaded: retry('a queue is full; slow down'),
  'storage-full': retry('the disk is nearly full; writes are refused'),
  'storage-damaged': rejected('the partition on this node is damaged'),
  'membership-change-pending': retry('another membership change is under way'),
  'not-a-member': rejected('no such member'),
  'learner-lagging': retry('the learner is too far behind to be promoted'),
  'too-slow': retry('the reader did not keep up and was dropped; resume from the last position'),
  'connection-lost': unknown('the connection ended before the answer came'),
  timeout: unknown('no answer in time; the outcome is not known'),
  'leadership-lost': unknown('the leader changed while the write was under way'),
  'result-evicted': unknown('the write is committed; its result is no longer kept'),
  // start
  'bad-option': rejected('an option has a value that is not allowed'),
  'directory-locked': rejected('another process uses the data directory'),
  'directory-foreign': rejected('the data directory belongs to another node or cluster'),
  'address-in-use': rejected('another process listens on the address'),
  'cluster-mismatch': rejected('the peer belongs to another cluster'),
  // bugs
  internal: unknown('a defect in the server'),
} as const satisfies Record<string, CodeInfo>;

export type ErrorCode = keyof typeof ERROR_CODES;

export const isErrorCode = (value: unknown): value is ErrorCode =>
  typeof value === 'string' && Object.hasOwn(ERROR_CODES, value);

export interface ErrorOptions {
  readonly cause?: unknown;
  /** Overrides the table's outcome, e.g. for a `not-leader` that came before anything was sent. */
  readonly outcome?: Outcome;
  /** Facts a program can act on: leader hint, limit, line number … JSON values only. */
  readonly details?: Readonly<Record<string, unknown>>;
}

export class TidelineError extends Error {
  readonly code: ErrorCode;
  readonly outcome: Outcome;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TidelineError';
    this.code = code;
    this.outcome = options.outcome ?? ERROR_CODES[code].outcome;
    this.details = options.details ?? {};
  }

  get retriable(): boolean {
    return ERROR_CODES[this.code].retriable;
  }
}

export const isTidelineError = (error: unknown, code?: ErrorCode): error is TidelineError =>
  error instanceof TidelineError && (code === undefined || error.code === code);

/** Anything thrown, as a TidelineError; a stranger becomes `internal` with its cause kept. */
export const toTidelineError = (error: unknown): TidelineError =>
  error instanceof TidelineError
    ? error
    : new TidelineError('internal', error instanceof Error ? error.message : String(error), { cause: error });
