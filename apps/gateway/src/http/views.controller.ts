import { Controller, Get, Inject, Param } from '@nestjs/common';
import type { TopicDescription } from '#command-log';
import { TidelineError, type ViewSettings } from '#kernel';
import type { ViewPartitionStats, ViewStats } from '#views';
import { GatewayServices } from '../gateway-services.js';

interface ViewAnswer extends Omit<ViewStats, 'partitions'> {
  readonly partitions: readonly (ViewPartitionStats & { readonly lag: number })[];
  /** Committed records not applied yet, all partitions together. */
  readonly lag: number;
  /** As the topic has them; null while it is not known here. */
  readonly settings: ViewSettings | null;
}

const answerOf = (view: ViewStats, topic: TopicDescription | null): ViewAnswer => {
  const partitions = view.partitions.map((partition) => ({
    ...partition,
    lag: Math.max(0, partition.commitOffset - partition.offset),
  }));
  const lag = partitions.reduce((sum, each) => sum + each.lag, 0);
  if (topic === null) return { ...view, partitions, lag, settings: null };
  const { kind: _kind, ...settings } = topic.view;
  return { ...view, partitions, lag, settings };
};

/** Views as their host describes them. */
@Controller('v1/views')
export class ViewsController {
  constructor(@Inject(GatewayServices) private readonly services: GatewayServices) {}

  @Get()
  async list(): Promise<{ readonly views: readonly ViewAnswer[] }> {
    const stats = await this.services.reads.stats();
    return { views: stats.map((view) => answerOf(view, this.services.topics.known(view.topic))) };
  }

  @Get(':view')
  async one(@Param('view') name: string): Promise<ViewAnswer> {
    const topic = await this.services.topics.view(name);
    const view = (await this.services.reads.stats()).find((stats) => stats.view === topic.name);
    if (view) return answerOf(view, topic);
    throw new TidelineError('not-ready', `no host of view ${name} has answered`);
  }
}
