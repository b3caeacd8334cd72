/**
 * The HTTP server all apps use: Fastify with a limit on everything (its own timeouts default to none), JSON read
 * by parseJson, and problem details for what goes wrong before a route of Nest is reached.
 */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { TidelineError } from '#kernel';
import { parseJson } from '../safe-json.js';
import type { TidelineOptions } from '../options/options.js';
import { DirectAnswers } from './direct-answers.js';
import { HttpFront, type HttpFrontTime } from './http-front.js';
import { PROBLEM_CONTENT_TYPE, toProblem } from './problem-details.js';
import { ProblemFilter } from './problem-filter.js';
import { RouteMethods } from './route-methods.js';

export type HttpLimits = Pick<TidelineOptions, 'requestBytesMax' | 'keyBytesMax' | 'jsonDepthMax' | 'connectionsMax'>;

/** A request must have arrived whole by then; answers may take as long as they like (tails do). */
const REQUEST_TIMEOUT_MS = 30_000;
/** An idle connection is kept a little longer than the usual 60 s of a proxy in front, so that the proxy closes first. */
const KEEP_ALIVE_TIMEOUT_MS = 72_000;
/** A byte of a key takes up to three characters in a URL. */
const URL_CHARS_PER_BYTE = 3;

export interface HttpEdge {
  /** For NestFactory.create(Module, adapter). */
  readonly adapter: FastifyAdapter;
  /** For app.useGlobalFilters(filter). */
  readonly filter: ProblemFilter;
  /** From now on requests are refused with `shutting-down`, except those that ask how the process is doing. */
  drain(): void;
}

export interface HttpEdgeSettings {
  /** false: every connection is Node's server's from the start. */
  readonly front?: boolean;
  /** Of the front. */
  readonly time?: HttpFrontTime;
}

const SERVED_WHILE_DRAINING = /^\/(livez|readyz|metrics)(\?|$)/;

/** Creates the adapter and the filter that goes with it: the filter knows the adapter's routes. */
export function createHttpEdge(limits: HttpLimits, { front: hasFront = true, time }: HttpEdgeSettings = {}): HttpEdge {
  const routes = new RouteMethods();
  const filter = new ProblemFilter(routes);
  const adapter = new FastifyAdapter({
    bodyLimit: limits.requestBytesMax,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    // A stop must not wait for tails and idle keep-alive connections.
    forceCloseConnections: true,
    // Fastify's own answer while closing is no problem document; `drain` takes its place.
    return503OnClosing: false,
    routerOptions: { maxParamLength: limits.keyBytesMax * URL_CHARS_PER_BYTE, ignoreTrailingSlash: true },
    frameworkErrors: (error: unknown, request: unknown, reply: unknown) =>
      filter.answer(error, request as FastifyRequest, reply as FastifyReply),
    clientErrorHandler: answerUnreadableRequest,
  });
  const fastify = adapter.getInstance() as unknown as FastifyInstance;
  const direct = DirectAnswers.install(fastify);
  const front = hasFront ? new HttpFront(fastify.server, direct, time) : null;
  let draining = false;
  const drain = (): void => {
    draining = true;
    direct.stop();
    front?.stop();
  };
  fastify.addHook('onRequest', (request, reply, done) => {
    if (!draining || SERVED_WHILE_DRAINING.test(request.url)) return done();
    void reply.header('connection', 'close');
    done(new TidelineError('shutting-down', 'this node is stopping; try another'));
  });
  fastify.addHook('preClose', (done) => {
    front?.close();
    drain();
    done();
  });
  fastify.server.maxConnections = limits.connectionsMax;
  fastify.addHook('onRoute', (route) => routes.add(route.url, route.method));
  adapter.useBodyParser('application/json', false, { bodyLimit: limits.requestBytesMax }, (_request, body, done) => {
    try {
      done(null, parseJson(body as Buffer, { depthMax: limits.jsonDepthMax }));
    } catch (error) {
      done(error as Error, undefined);
    }
  });
  return { adapter, filter, drain };
}

/** Bytes that are no HTTP request, headers that never end: there is no request object yet, only the socket. */
function answerUnreadableRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const [status, problem] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? [408, new TidelineError('bad-request', 'the request did not arrive in time')]
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? [431, new TidelineError('request-too-large', 'the headers of the request are too large')]
        : [400, new TidelineError('bad-request', 'not an HTTP request')];
  const body = JSON.stringify({ ...toProblem(problem, { write: false }).body, status });
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: ${PROBLEM_CONTENT_TYPE}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
