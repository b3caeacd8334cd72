import { Controller, Get, Inject, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { HealthRegistry } from './health.js';
import { Metrics } from './metrics.js';

/** What supervisors and Prometheus ask every app. */
@Controller()
export class ProbeController {
  constructor(
    @Inject(HealthRegistry) private readonly health: HealthRegistry,
    @Inject(Metrics) private readonly metrics: Metrics,
  ) {}

  @Get('livez')
  livez(@Res() reply: FastifyReply): void {
    const { status, body } = this.health.live();
    void reply.code(status).header('cache-control', 'no-store').send(body);
  }

  @Get('readyz')
  async readyz(@Query('verbose') verbose: unknown, @Res() reply: FastifyReply): Promise<void> {
    // `?verbose` alone arrives as an empty string.
    const { status, body } = await this.health.ready({ verbose: verbose !== undefined && verbose !== 'false' });
    void reply.code(status).header('cache-control', 'no-store').send(body);
  }

  @Get('metrics')
  async render(@Res() reply: FastifyReply): Promise<void> {
    void reply.header('content-type', this.metrics.contentType).send(await this.metrics.render());
  }
}
