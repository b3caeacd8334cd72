import { Controller, Get, Inject, Param } from '@nestjs/common';
import type { TopicDescription } from '#command-log';
import { TidelineError, type ViewSettings } from '#kernel';
import type { PartitionHealth, PartitionProgress, ProjectionDescription, ViewPartitionStats, ViewStats } from '#views';
import { GatewayServices } from '../gateway-services.js';

/** How far a partition, or the slots of it that were stopped, are. */
interface RestoringAnswer extends Partial<PartitionProgress> {
  readonly partition: number;
  readonly stoppedSlots: readonly number[];
  readonly problem: string | null;
}

interface ViewAnswer extends Omit<ViewStats, 'partitions'> {
  readonly partitions: readonly (ViewPartitionStats & { readonly lag: number })[];
  /** Committed records not applied yet, all partitions together. */
  readonly lag: number;
  /** Partitions that are not served, or not in full; empty when all is well. */
  readonly restoring: readonly RestoringAnswer[];
  /** As the topic has them; null while it is not known here. */
  readonly settings: ViewSettings | null;
}

/** A projection: what it is, and what it has where it is hosted. */
interface ProjectionAnswer
  extends ProjectionDescription, Partial<Omit<ViewAnswer, keyof ProjectionDescription | 'settings' | 'kind'>> {
  readonly kind: 'projection';
}

const projectionOf = (
  description: ProjectionDescription,
  stats: readonly ViewStats[],
  health: readonly PartitionHealth[],
): ProjectionAnswer => {
  const found = stats.find(({ view, kind }) => view === description.view && kind === 'projection');
  if (found === undefined) return { ...description, kind: 'projection' };
  const { settings: _settings, ...answer } = answerOf(found, null, health);
  return { ...answer, ...description, kind: 'projection' };
};

const answerOf = (view: ViewStats, topic: TopicDescription | null, health: readonly PartitionHealth[]): ViewAnswer => {
  const partitions = view.partitions.map((partition) => ({
    ...partition,
    lag: Math.max(0, partition.commitOffset - partition.offset),
  }));
  const lag = partitions.reduce((sum, each) => sum + each.lag, 0);
  const restoring = health
    .filter((each) => each.view === view.view || each.view.startsWith(`${view.view}@`))
    .map(({ partition, restoring: progress, stoppedSlots, problem }) => ({
      partition,
      ...progress,
      stoppedSlots,
      problem,
    }));
  if (topic === null) return { ...view, partitions, lag, restoring, settings: null };
  const { kind: _kind, ...settings } = topic.view;
  return { ...view, partitions, lag, restoring, settings };
};

/** Views as their host describes them. */
@Controller('v1/views')
export class ViewsController {
  constructor(@Inject(GatewayServices) private readonly services: GatewayServices) {}

  @Get()
  async list(): Promise<{ readonly views: readonly (ViewAnswer | ProjectionAnswer)[] }> {
    const { reads, topics, views } = this.services;
    const [stats, projections, health] = await Promise.all([
      reads.stats(),
      views.projections(),
      views.upkeep?.health({ view: null }) ?? [],
    ]);
    const maps = stats
      .filter(({ kind }) => kind === 'map')
      .map((view) => answerOf(view, topics.known(view.topic), health));
    return { views: [...maps, ...projections.map((projection) => projectionOf(projection, stats, health))] };
  }

  @Get(':view')
  async one(@Param('view') name: string): Promise<ViewAnswer | ProjectionAnswer> {
    const { topic } = await this.services.topics.readable(name);
    const { views } = await this.list();
    const view = views.find((each) => each.view === name && (each.kind === 'map') === (topic.name === name));
    if (view) return view;
    throw new TidelineError('not-ready', `no host of view ${name} has answered`);
  }
}
