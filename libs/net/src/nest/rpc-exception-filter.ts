import { Catch, type ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter, RpcException } from '@nestjs/microservices';
import { throwError, type Observable } from 'rxjs';
import { ERROR_CODES, TidelineError } from '#kernel';
import { rpcErrorPayload } from './rpc-error.js';

/**
 * Lets a TidelineError reach the caller with its code and outcome; Nest's own filter says "Internal server error" of everything that
 * is no RpcException. Anything else unknown becomes `internal`, is logged, and keeps its message to itself.
 */
@Catch()
export class TidelineRpcExceptionFilter extends BaseRpcExceptionFilter {
  override catch(exception: unknown, host: ArgumentsHost): Observable<unknown> {
    if (exception instanceof TidelineError) return throwError(() => rpcErrorPayload(exception));
    // oxlint-disable-next-line promise/valid-params -- a filter's catch, not a promise's
    const answer = super.catch(exception as RpcException, host);
    if (exception instanceof RpcException) return answer;
    const hidden = rpcErrorPayload(new TidelineError('internal', ERROR_CODES.internal.summary));
    return throwError(() => hidden);
  }
}
