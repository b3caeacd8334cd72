/** Errors as Nest microservice clients get them: the payload of an RpcException. The one place where codes become payloads. */
import { RpcException } from '@nestjs/microservices';
import { toTidelineError, type ErrorCode, type Outcome } from '#kernel';

export interface RpcPayload {
  /** Nest clients tell errors from data by it. */
  readonly status: 'error';
  readonly code: ErrorCode;
  readonly outcome: Outcome;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The message of a defect stays in the log of the server. */
export function toRpcPayload(thrown: unknown): RpcPayload {
  const error = toTidelineError(thrown);
  return {
    status: 'error',
    code: error.code,
    outcome: error.outcome,
    message: error.code === 'internal' ? 'a defect in the server; its log says more' : error.message,
    ...(Object.keys(error.details).length > 0 && { details: error.details }),
  };
}

export const toRpcException = (thrown: unknown): RpcException =>
  thrown instanceof RpcException ? thrown : new RpcException(toRpcPayload(thrown));
