/**
 * Errors as HTTP answers: RFC 9457 problem details. The one place where codes become statuses.
 *
 *   {"type": "urn:tideline:error:no-leader", "title": "the partition has no leader at the moment", "status": 503,
 *    "detail": "partition orders/3 has no leader", "code": "no-leader", "outcome": "rejected", "details": {…}}
 *
 * `code` is what programs match. `outcome` is there on writes: `rejected` has not and will not take effect,
 * `unknown` may still.
 */
import { ERROR_CODES, isErrorCode, toTidelineError, type ErrorCode, type Outcome, type TidelineError } from '#kernel';

/** A new code does not compile until it has a status. */
const STATUS: Readonly<Record<ErrorCode, number>> = {
  'bad-request': 400,
  'malformed-json': 400,
  'malformed-batch': 400,
  'malformed-frame': 400,
  'unsupported-version': 400,
  'unsupported-media-type': 415,
  'method-not-allowed': 405,
  'not-found': 404,
  'unknown-topic': 404,
  'unknown-partition': 404,
  'unknown-view': 404,
  'unknown-entry': 404,
  'topic-exists': 409,
  'key-too-large': 413,
  'record-too-large': 413,
  'request-too-large': 413,
  'too-deep': 400,
  'unsafe-key': 400,
  'offset-out-of-range': 400,
  'condition-failed': 412,
  'wrong-type': 409,
  'unknown-command': 400,
  unauthorized: 401,
  forbidden: 403,
  'session-expired': 409,
  'sequence-gap': 409,
  'sequence-reused': 409,
  'idempotency-conflict': 409,
  'not-leader': 503,
  'no-leader': 503,
  'not-ready': 503,
  'view-halted': 503,
  'shutting-down': 503,
  overloaded: 429,
  'storage-full': 503,
  'storage-damaged': 503,
  'membership-change-pending': 409,
  'not-a-member': 404,
  'learner-lagging': 409,
  'too-slow': 503,
  'connection-lost': 504,
  timeout: 504,
  'leadership-lost': 504,
  'result-evicted': 504,
  'bad-option': 400,
  'directory-locked': 500,
  'directory-foreign': 500,
  'address-in-use': 500,
  'cluster-mismatch': 500,
  internal: 500,
};

export const PROBLEM_CONTENT_TYPE = 'application/problem+json';

/** What a client is told to wait when the error does not say: about one election. */
const RETRY_AFTER_SECONDS = 1;

export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly outcome?: Outcome;
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface Problem {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ProblemBody;
}

export interface ProblemContext {
  /** Whether the request could have changed something; then the outcome is stated. */
  readonly write: boolean;
}

/** GET, HEAD and OPTIONS change nothing; everything else counts as a write. */
export const isWriteMethod = (method: string): boolean => !/^(GET|HEAD|OPTIONS)$/i.test(method);

/**
 * The answer to an error. Anything that is no TidelineError is a defect: its message stays in the log, where
 * whoever answers the request must have put it.
 */
export function toProblem(thrown: unknown, { write }: ProblemContext): Problem {
  const error = toTidelineError(thrown);
  const status = statusOf(error, write);
  const headers: Record<string, string> = { 'content-type': PROBLEM_CONTENT_TYPE, 'cache-control': 'no-store' };
  const { retryAfterMs, allow } = error.details;
  if (status === 429 || (status === 503 && error.retriable)) {
    headers['retry-after'] = String(
      typeof retryAfterMs === 'number' ? Math.max(1, Math.ceil(retryAfterMs / 1000)) : RETRY_AFTER_SECONDS,
    );
  }
  if (status === 405 && Array.isArray(allow)) headers.allow = allow.join(', ');
  if (status === 401) headers['www-authenticate'] = 'Bearer';
  const body: ProblemBody = {
    type: `urn:tideline:error:${error.code}`,
    title: ERROR_CODES[error.code].summary,
    status,
    detail: error.code === 'internal' ? 'a defect in the server; its log says more' : error.message,
    code: error.code,
    ...(write && { outcome: error.outcome }),
    ...(Object.keys(error.details).length > 0 && { details: error.details }),
  };
  return { status, headers, body };
}

/** 504 says "may have happened" and 503 "has not": on a write the outcome decides which of the two it is. */
function statusOf(error: TidelineError, write: boolean): number {
  const status = STATUS[error.code];
  if (!write || status === 500) return status;
  if (error.outcome === 'unknown') return 504;
  return status === 504 ? 503 : status;
}

/** Codes for statuses that come from elsewhere: Nest's own exceptions, Fastify's errors. */
const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'bad-request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not-found',
  405: 'method-not-allowed',
  408: 'bad-request',
  412: 'condition-failed',
  413: 'request-too-large',
  414: 'key-too-large',
  415: 'unsupported-media-type',
  422: 'bad-request',
  429: 'overloaded',
  431: 'request-too-large',
  503: 'not-ready',
  504: 'timeout',
};

/** The code that says about the same as a status. A 4xx this table lacks is a bad request, a 5xx a defect. */
export const codeOfStatus = (status: number): ErrorCode =>
  CODE_OF_STATUS[status] ?? (status >= 400 && status < 500 ? 'bad-request' : 'internal');

/** Back from a body: what a client of ours throws for an answer. Undefined if the body is no problem of ours. */
export function codeOfProblem(body: unknown): ErrorCode | undefined {
  const code = typeof body === 'object' && body !== null ? (body as { code?: unknown }).code : undefined;
  return isErrorCode(code) ? code : undefined;
}
