import { ERROR_CODES, TidelineError, isErrorCode, type ErrorCode, type Outcome } from '#kernel';

/** What a Nest client finds in the error of its Observable, whichever transport it came over. */
export interface RpcErrorPayload {
  readonly status: 'error';
  readonly code: ErrorCode;
  readonly outcome: Outcome;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export const rpcErrorPayload = (error: TidelineError): RpcErrorPayload => ({
  status: 'error',
  code: error.code,
  outcome: error.outcome,
  message: error.message,
  details: error.details,
});

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

const messageOf = (thrown: unknown): string => {
  if (typeof thrown === 'string') return thrown;
  if (isObject(thrown) && typeof thrown['message'] === 'string') return thrown['message'];
  return ERROR_CODES.internal.summary;
};

/**
 * Whatever a handler's stream ended with (Nest's filters turn exceptions into payloads before), as a TidelineError. One that has no code of
 * ours is `internal`, and travels whole in its details.
 */
export const errorOfRpc = (thrown: unknown): TidelineError => {
  if (thrown instanceof TidelineError) return thrown;
  if (isObject(thrown) && isErrorCode(thrown['code'])) {
    const { code, outcome, details } = thrown;
    return new TidelineError(code, messageOf(thrown), {
      outcome: outcome === 'rejected' || outcome === 'unknown' ? outcome : ERROR_CODES[code].outcome,
      details: isObject(details) ? details : {},
    });
  }
  return new TidelineError('internal', messageOf(thrown), { details: { payload: thrown } });
};

/** The other way: what the client's Observable ends with. */
export const rpcPayloadOf = (error: TidelineError): unknown =>
  error.code === 'internal' && 'payload' in error.details ? error.details['payload'] : rpcErrorPayload(error);
