import { Catch, HttpException, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { throwError, type Observable } from 'rxjs';
import { isTidelineError, TidelineError, toTidelineError } from '#kernel';
import { toRpcException } from '../rpc-payload.js';
import type { DirectHead, DirectReply } from './direct-answers.js';
import { codeOfStatus, isWriteMethod, toProblem } from './problem-details.js';
import type { RouteMethods } from './route-methods.js';

/**
 * Every error of every route becomes a problem: ours, Nest's own HttpExceptions, and Fastify's (which Nest turns
 * into HttpExceptions). Over Nest microservices it becomes an RpcException with the same code and outcome.
 */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  readonly #logger = new Logger('http');

  constructor(private readonly routes?: RouteMethods) {}

  catch(thrown: unknown, host: ArgumentsHost): Observable<never> | void {
    if (host.getType() === 'rpc') return throwError(() => this.#toRpc(thrown));
    if (host.getType() !== 'http') throw thrown;
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    this.answer(thrown, request, reply);
  }

  answer(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const error = this.#asTidelineError(thrown, request);
    const problem = toProblem(error, { write: isWriteMethod(request.method) });
    if (problem.status === 500) this.#log(`${request.method} ${request.url}`, error);
    if (reply.raw.headersSent || reply.sent) {
      // A stream that has begun cannot turn into an error; cutting it short is the only way left to say so.
      reply.raw.destroy();
      return;
    }
    void reply
      .code(problem.status)
      .headers(problem.headers)
      // A string goes out as it is: the serializer of a route is for its good answers.
      .serializer((payload: unknown) => payload as string)
      .send(JSON.stringify(problem.body));
  }

  /** For what is answered past Fastify. Returns the status. */
  answerDirectly(thrown: unknown, head: DirectHead, reply: DirectReply): number {
    const error = toTidelineError(thrown);
    const { status, headers, body } = toProblem(error, { write: isWriteMethod(head.method ?? 'GET') });
    if (status === 500) this.#log(`${head.method} ${head.url}`, error);
    if (!reply.isSent) reply.send(status, Object.entries(headers).flat(), JSON.stringify(body));
    return status;
  }

  #asTidelineError(thrown: unknown, request: FastifyRequest): TidelineError {
    if (isTidelineError(thrown)) return thrown;
    if (!(thrown instanceof HttpException)) return fastifyError(thrown) ?? toTidelineError(thrown);
    // What Fastify was told by a body parser of ours comes back wrapped.
    if (isTidelineError(thrown.cause)) return thrown.cause;
    const status = thrown.getStatus();
    if (status === 404) {
      const allow = this.routes?.allowed(request.raw.url ?? request.url) ?? [];
      if (allow.length > 0 && !allow.includes(request.method)) {
        return new TidelineError(
          'method-not-allowed',
          `${request.method} does not apply; allowed: ${allow.join(', ')}`,
          {
            cause: thrown,
            details: { allow },
          },
        );
      }
    }
    return new TidelineError(codeOfStatus(status), messageOf(thrown), { cause: thrown });
  }

  #toRpc(thrown: unknown): unknown {
    if (thrown instanceof RpcException) return thrown.getError();
    const exception = toRpcException(thrown).getError();
    if ((exception as { code?: unknown }).code === 'internal') this.#log('rpc', toTidelineError(thrown));
    return exception;
  }

  #log(what: string, error: TidelineError): void {
    this.#logger.error(`${what}: ${error.message}`, (error.cause instanceof Error ? error.cause : error).stack);
  }
}

/** Errors Fastify raises outside of any route of Nest carry a status of their own. */
function fastifyError(thrown: unknown): TidelineError | undefined {
  if (!(thrown instanceof Error)) return undefined;
  const status = (thrown as Error & { statusCode?: unknown }).statusCode;
  if (typeof status !== 'number' || status < 400 || status >= 500) return undefined;
  return new TidelineError(codeOfStatus(status), thrown.message, { cause: thrown });
}

/** Nest's validation puts a list of messages into the body and a useless one on the exception. */
function messageOf(exception: HttpException): string {
  const body = exception.getResponse();
  const message = typeof body === 'object' ? (body as { message?: unknown }).message : body;
  if (Array.isArray(message)) return message.join('; ');
  return typeof message === 'string' ? message : exception.message;
}
