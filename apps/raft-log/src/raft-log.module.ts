import {
  Inject,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { META_GROUP, NO_NODE, type GroupId } from '#kernel';
import { HealthRegistry, Metrics, PlatformModule, fatal, type TidelineLogger, type TidelineOptions } from '#platform';
import { LogProcess } from './log-process.js';

/** Injection token of the CommandLog of this process. */
export const COMMAND_LOG = Symbol('CommandLog');

const METADATA = '__meta';

/** Starts and stops the log with the app, and reports on it. */
class LogService implements OnModuleInit, OnApplicationShutdown, BeforeApplicationShutdown {
  private readonly stopReporting: (() => void)[] = [];

  constructor(
    @Inject(LogProcess) private readonly log: LogProcess,
    @Inject(HealthRegistry) private readonly health: HealthRegistry,
    @Inject(Metrics) private readonly metrics: Metrics,
  ) {}

  async onModuleInit(): Promise<void> {
    const { log } = this;
    this.health.register('leader', () => {
      const groups = this.groups();
      const without = groups.filter(({ id }) => (log.node.group(id)?.leader ?? NO_NODE) === NO_NODE);
      if (groups.length < 2) return { ok: false, detail: 'the topics are not known yet' };
      return {
        ok: without.length === 0,
        detail:
          without.length === 0
            ? `${groups.length} partitions`
            : `no leader of ${without.map(({ topic, partition }) => `${topic}/${partition}`).join(', ')}`,
      };
    });
    this.health.register('storage', () => {
      const repairing = new Set(log.node.damagedGroups);
      const names = (picked: (id: GroupId) => boolean): string =>
        this.groups()
          .filter(({ id }) => picked(id))
          .map(({ topic, partition }) => `${topic}/${partition}`)
          .join(', ');
      const unopened = names((id) => log.unopened.has(id));
      if (unopened !== '') return { ok: false, detail: `cannot be opened: ${unopened}` };
      if (repairing.size > 0)
        return { ok: false, detail: `damaged, being repaired from peers: ${names((id) => repairing.has(id))}` };
      return { ok: true, detail: 'no damage found' };
    });
    this.report();
    await log.start();
  }

  private groups(): { id: GroupId; topic: string; partition: string }[] {
    const topics = this.log.topics.flatMap(({ name, partitions }) =>
      partitions.map((id, partition) => ({ id, topic: name, partition: String(partition) })),
    );
    return [{ id: META_GROUP, topic: METADATA, partition: '0' }, ...topics];
  }

  private report(): void {
    const { metrics, log } = this;
    const collect = (
      name: Parameters<Metrics['collect']>[0],
      value: (status: ReturnType<NonNullable<ReturnType<LogProcess['node']['group']>>['status']>) => number,
    ): void => {
      this.stopReporting.push(
        metrics.collect(name, (gauge) => {
          for (const { id, topic, partition } of this.groups()) {
            const group = log.node.group(id);
            if (group) gauge.set({ topic, partition } as never, value(group.status()));
          }
        }),
      );
    };
    collect('tideline_raft_has_leader', (status) => (status.leader === NO_NODE ? 0 : 1));
    collect('tideline_raft_term', (status) => status.term);
    collect('tideline_raft_commit_offset', (status) => status.commitOffset);
    collect('tideline_raft_proposals_pending', (status) => status.pendingAppends);
    collect('tideline_storage_segments', (status) => status.segments);
  }

  beforeApplicationShutdown(): void {
    for (const stop of this.stopReporting) stop();
  }

  /** After the gateway and the views have stopped asking. */
  async onApplicationShutdown(): Promise<void> {
    await this.log.close();
  }
}

/** The replicated log of this process. Exports COMMAND_LOG and LogProcess. */
@Module({})
export class RaftLogModule {
  static forRoot(options: TidelineOptions, logger: TidelineLogger): DynamicModule {
    const { advertiseHost } = options;
    const edge = options.app === 'standalone';
    const addresses: Record<string, string> = { http: `${advertiseHost}:${options.httpPort}` };
    if (edge) {
      addresses['native'] = `${advertiseHost}:${options.nativePort}`;
      addresses['nest'] = `${advertiseHost}:${options.nestPort}`;
      addresses['view'] = `${advertiseHost}:${options.viewPort}`;
    }
    return {
      module: RaftLogModule,
      imports: [PlatformModule.forRoot(options)],
      providers: [
        {
          provide: LogProcess,
          inject: [Metrics],
          useFactory: (metrics: Metrics) => {
            const seconds = metrics.histogram('tideline_storage_sync_seconds');
            const labels = new Map<GroupId, { observe(value: number): void }>();
            const log: LogProcess = new LogProcess({
              options,
              addresses,
              say: (message) => logger.log(message),
              onFatal: fatal,
              onSync: (group, elapsedMs) => {
                let series = labels.get(group);
                if (!series) {
                  const place = placeOf(log, group);
                  if (!place) return;
                  labels.set(group, (series = seconds.labels(place)));
                }
                series.observe(elapsedMs / 1000);
              },
            });
            return log;
          },
        },
        { provide: COMMAND_LOG, inject: [LogProcess], useFactory: (log: LogProcess) => log.commandLog },
        LogService,
      ],
      exports: [COMMAND_LOG, LogProcess],
    };
  }
}

const placeOf = (log: LogProcess, group: GroupId): { topic: string; partition: string } | null => {
  if (group === META_GROUP) return { topic: METADATA, partition: '0' };
  for (const { name, partitions } of log.topics) {
    const partition = partitions.indexOf(group);
    if (partition >= 0) return { topic: name, partition: String(partition) };
  }
  return null;
};
