import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { TidelineError } from '#kernel';
import { DirectAnswers, Metrics, ProblemFilter } from '#platform';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { GatewayServices } from '../gateway-services.js';
import { registerArchiveRoutes } from './archive-routes.js';
import { getEntriesDirectly, putEntriesDirectly } from './direct-entries.js';
import { ENTRY_ROUTE, registerCommandRoute, registerEntryRoutes } from './entry-routes.js';
import { registerParkedRoutes } from './parked-routes.js';
import { registerRecordRoutes } from './record-routes.js';
import { registerSnapshotRoutes } from './snapshot-routes.js';
import { registerStreamRoutes } from './stream-routes.js';
import { serveWebSocketTails } from './web-socket-tail.js';

type Outcome = 'ok' | 'rejected' | 'unknown' | 'failed';

const outcomeOf = (status: number): Outcome => {
  if (status < 400) return 'ok';
  if (status === 504) return 'unknown';
  return status === 500 ? 'failed' : 'rejected';
};

/**
 * The hot routes, on Fastify itself and past Nest's pipeline. Each group has parsers of its own: an entry's body is bytes, records are JSON or lines
 * of it. Their errors become problems as those of Nest's routes do.
 */
@Injectable()
export class HttpEndpoint implements OnModuleInit, BeforeApplicationShutdown {
  private readonly filter = new ProblemFilter();
  private stopCollecting: () => void = () => undefined;

  constructor(
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
    @Inject(GatewayServices) private readonly services: GatewayServices,
    @Inject(Metrics) private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    const fastify = this.host.httpAdapter.getInstance<FastifyInstance>();
    this.group(fastify, registerEntryRoutes, 'record-too-large', this.services.limits.recordBytesMax);
    this.group(fastify, registerCommandRoute, 'request-too-large', this.services.limits.requestBytesMax);
    this.group(fastify, registerRecordRoutes, 'request-too-large', this.services.limits.requestBytesMax);
    this.group(fastify, registerArchiveRoutes, 'request-too-large', this.services.limits.requestBytesMax);
    this.group(fastify, registerParkedRoutes, 'request-too-large', this.services.limits.requestBytesMax);
    this.group(fastify, registerSnapshotRoutes, 'request-too-large', this.services.limits.requestBytesMax);
    this.group(fastify, registerStreamRoutes, 'request-too-large', this.services.limits.requestBytesMax);
    const direct = DirectAnswers.of(fastify);
    const parts = { services: this.services, problems: this.filter };
    direct?.add(getEntriesDirectly(parts, this.observer(`GET ${ENTRY_ROUTE}`)));
    direct?.add(putEntriesDirectly(parts, this.observer(`PUT ${ENTRY_ROUTE}`)));
    serveWebSocketTails(fastify.server, this.services);
    this.stopCollecting = this.metrics.collect('tideline_tail_subscribers', (gauge) => {
      gauge.set({ kind: 'gateway' }, this.services.streams.count);
    });
  }

  /** Streams end with a word of why; a stop must not wait for their readers. */
  async beforeApplicationShutdown(): Promise<void> {
    this.stopCollecting();
    await this.services.close();
  }

  /** Counts requests of a route: how long each took, and its status. */
  private observer(route: string): (seconds: number, status: number) => void {
    const histogram = this.metrics.histogram('tideline_gateway_request_seconds');
    const observers = new Map<Outcome, { observe: (value: number) => void }>();
    return (seconds, status) => {
      const outcome = outcomeOf(status);
      let observer = observers.get(outcome);
      if (!observer) observers.set(outcome, (observer = histogram.labels({ route, outcome })));
      observer.observe(seconds);
    };
  }

  private group(
    fastify: FastifyInstance,
    register: (scope: FastifyInstance, services: GatewayServices) => void,
    tooLarge: 'record-too-large' | 'request-too-large',
    limit: number,
  ): void {
    void fastify.register(async (scope: FastifyInstance) => {
      scope.setErrorHandler((error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
        const told =
          error.code === 'FST_ERR_CTP_BODY_TOO_LARGE'
            ? new TidelineError(tooLarge, `the body has more than ${limit} bytes`, { details: { limit } })
            : error;
        this.filter.answer(told, request, reply);
      });
      scope.addHook('onRoute', (route) => {
        const methods = Array.isArray(route.method) ? route.method.join('|') : route.method;
        const observe = this.observer(`${methods} ${route.url}`);
        route.onResponse = (_request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
          observe(reply.elapsedTime / 1000, reply.statusCode);
          done();
        };
      });
      register(scope, this.services);
    });
  }
}
