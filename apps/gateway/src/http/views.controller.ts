import { Controller, Get, Inject, Param } from '@nestjs/common';
import { TidelineError } from '#kernel';
import type { ViewPartitionStats, ViewStats } from '#views';
import { GatewayServices } from '../gateway-services.js';

interface ViewAnswer extends Omit<ViewStats, 'partitions'> {
  readonly partitions: readonly (ViewPartitionStats & { readonly lag: number })[];
  /** Committed records not applied yet, all partitions together. */
  readonly lag: number;
}

const withLag = (view: ViewStats): ViewAnswer => {
  const partitions = view.partitions.map((partition) => ({
    ...partition,
    lag: Math.max(0, partition.commitOffset - partition.offset),
  }));
  return { ...view, partitions, lag: partitions.reduce((sum, { lag }) => sum + lag, 0) };
};

/** Views as their host describes them. */
@Controller('v1/views')
export class ViewsController {
  constructor(@Inject(GatewayServices) private readonly services: GatewayServices) {}

  @Get()
  async list(): Promise<{ readonly views: readonly ViewAnswer[] }> {
    const stats = await this.services.reads.stats();
    return { views: stats.map(withLag) };
  }

  @Get(':view')
  async one(@Param('view') name: string): Promise<ViewAnswer> {
    const topic = await this.services.topics.view(name);
    const view = (await this.services.reads.stats()).find((stats) => stats.view === topic.name);
    if (view) return withLag(view);
    throw new TidelineError('not-ready', `no host of view ${name} has answered`);
  }
}
