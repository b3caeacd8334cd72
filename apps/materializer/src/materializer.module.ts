import { join } from 'node:path';
import {
  Inject,
  Logger,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type InjectionToken,
  type ModuleMetadata,
  type OnModuleInit,
} from '@nestjs/common';
import { CATALOG, CatalogModule, type Catalog } from '#catalog';
import type { CommandLog } from '#command-log';
import { TidelineError, systemClock, systemRng, systemScheduler } from '#kernel';
import { tcpTransport, type Hello, type Listener } from '#net';
import { HealthRegistry, Metrics, OPTIONS, PlatformModule, formatAddress, type TidelineOptions } from '#platform';
import { nodeFileSystem } from '#storage';
import { definitionOf, type PartitionHealth, type ViewType } from '#views';
import type { DigestMismatch } from './digest-watch.js';
import { PeerHosts } from './peer-hosts.js';
import type { ArchiveGapStatus } from './archive-gap-filler.js';
import { DefectLog } from './defect-log.js';
import { versionsByName } from './projection-versions.js';
import { serveViewQuery } from './serve-view-query.js';
import { SnapshotStore } from './snapshot-store.js';
import { ViewHandle, viewHandleToken } from './view-handle.js';
import { ViewHost } from './view-host.js';

const COMMAND_LOG = Symbol('materializer command log');

/** Where the command log comes from: made here, or another module's (which is then among the imports). */
export type CommandLogSource = { readonly useExisting: InjectionToken } | { readonly useFactory: () => CommandLog };

export interface MaterializerModuleOptions {
  readonly options: TidelineOptions;
  readonly commandLog: CommandLogSource;
  readonly imports?: ModuleMetadata['imports'];
  /** Projections: classes marked with `@View`. Each is injected by its name with `@InjectView`. */
  readonly views?: readonly ViewType[];
}

/** A view this far behind its log, in records, makes the process not ready. */
const LAG_RECORDS_READY_MAX = 100_000;

const VERDICTS: Readonly<Record<DigestMismatch['verdict'], string>> = {
  minority: 'most hosts have another digest; the slots are stopped here and rebuilt',
  undecided: 'hosts differ and none is in the majority; the slots are stopped and rebuilt on all of them',
  majority: 'another host has another digest than most; it rebuilds the slots',
  memory: 'what is in memory does not add up to the digest; the slots are stopped and rebuilt',
};

const healthText = ({ view, partition, restoring, stoppedSlots, problem }: PartitionHealth): string => {
  if (problem !== null) return problem;
  const slots = stoppedSlots.length > 0 ? `slots ${stoppedSlots.join(', ')} of ` : '';
  const how = restoring === null ? 'is being rebuilt' : `${restoring.percent} % restored, from ${restoring.source}`;
  return `${slots}view ${view}, partition ${partition}: ${how}`;
};

const gapText = ({ view, partition, copied, problem }: ArchiveGapStatus): string => {
  const lacks = `the archive of view ${view}, partition ${partition} lacks entries of other hosts`;
  return problem === null ? `${lacks}; ${copied} are copied` : `${lacks}, and does not get them: ${problem}`;
};

/** Listens for gateways of other processes and reports on the views. */
class ViewService implements OnModuleInit, BeforeApplicationShutdown {
  private listener: Listener | null = null;
  private readonly stopCollecting: (() => void)[] = [];
  private readonly logger = new Logger('Digests');

  constructor(
    @Inject(OPTIONS) private readonly options: TidelineOptions,
    @Inject(ViewHost) private readonly host: ViewHost,
    @Inject(HealthRegistry) private readonly health: HealthRegistry,
    @Inject(Metrics) private readonly metrics: Metrics,
    @Inject(CATALOG) private readonly catalog: Catalog,
  ) {}

  async onModuleInit(): Promise<void> {
    const { options, host } = this;
    this.health.register('view-lag', () => {
      const lag = host.lagRecords;
      if (lag === null)
        return { ok: false, detail: host.health.map(healthText).join('; ') || 'the views are not open yet' };
      return { ok: lag <= LAG_RECORDS_READY_MAX, detail: `${lag} records behind` };
    });
    this.health.register('digest', () => {
      const wrong = host.health.filter(({ stoppedSlots, problem }) => stoppedSlots.length > 0 || problem !== null);
      return wrong.length === 0 ? { ok: true } : { ok: false, detail: wrong.map(healthText).join('; ') };
    });
    this.health.register('catalog', async () => {
      await this.catalog.ping();
      return { ok: true, detail: this.catalog.url };
    });
    this.health.register('archive', () => {
      const error = host.archiveError;
      if (error !== null) return { ok: false, detail: error.message };
      const gaps = host.archiveGaps;
      return { ok: gaps.every(({ problem }) => problem === null), detail: gaps.map(gapText).join('; ') || undefined };
    });
    this.health.register('projections', () => {
      const wrong = host.projectionProblems();
      return wrong.length === 0 ? { ok: true } : { ok: false, detail: wrong.join('; ') };
    });
    this.reportMetrics();
    const hello: Hello = { nodeId: 0, clusterId: '', service: 'view', software: 'tideline', addresses: {} };
    this.listener = await tcpTransport.listen(
      { host: options.bind, port: options.viewPort },
      hello,
      serveViewQuery(host),
      {
        connectionsMax: options.connectionsMax,
      },
    );
  }

  private reportMetrics(): void {
    const { metrics, host } = this;
    const each = (
      set: (labels: { view: string; partition: string }, stats: ReturnType<ViewHost['partitionStats']>[number]) => void,
    ): void => {
      for (const stats of host.partitionStats()) set({ view: stats.view, partition: String(stats.partition) }, stats);
    };
    this.stopCollecting.push(
      metrics.collect('tideline_view_applied_offset', (gauge) =>
        each((labels, { offset }) => gauge.set(labels, offset)),
      ),
      metrics.collect('tideline_view_lag_records', (gauge) =>
        each((labels, { commitOffset, offset }) => gauge.set(labels, commitOffset - offset)),
      ),
      metrics.collect('tideline_view_lag_seconds', (gauge) =>
        each((labels, { lagSeconds }) => gauge.set(labels, lagSeconds)),
      ),
      metrics.collect('tideline_view_entries', (gauge) => each((labels, { entries }) => gauge.set(labels, entries))),
      metrics.collect('tideline_view_bytes', (gauge) => each((labels, { bytes }) => gauge.set(labels, bytes))),
      metrics.collect('tideline_view_parked', (gauge) =>
        each((labels, { parked }) => parked !== null && gauge.set(labels, parked)),
      ),
      metrics.collect('tideline_view_archive_incomplete', (gauge) =>
        each(
          (labels, { archiveIncomplete }) => archiveIncomplete !== null && gauge.set(labels, Number(archiveIncomplete)),
        ),
      ),
    );
    const expired = metrics.counter('tideline_view_expired_total');
    const mismatches = metrics.counter('tideline_view_digest_mismatches_total');
    host.onMismatch(({ view, partition, slots, offset, hosts, verdict }) => {
      mismatches.inc({ view, partition: String(partition) }, slots.length);
      const where = `view ${view}, partition ${partition}, slots ${slots.join(', ')} at offset ${offset}`;
      this.logger.error(`${where}: ${VERDICTS[verdict]} (${hosts} hosts compared)`);
    });
    const archiveFailures = metrics.counter('tideline_view_archive_failures_total');
    host.onArchiveFailed((view, partition) => archiveFailures.inc({ view, partition: String(partition) }));
    const copied = metrics.counter('tideline_view_archive_copied_total');
    host.gapFillers?.onCopied((view, partition, count) => copied.inc({ view, partition: String(partition) }, count));
    const evicted = metrics.counter('tideline_view_evicted_total');
    const defects = metrics.counter('tideline_view_defects_total');
    const defectLog = new DefectLog(systemClock, (line) => new Logger('Views').error(line));
    host.onEvicted((view, partition, count) => evicted.inc({ view, partition: String(partition) }, count));
    host.onDefect((defect) => {
      defects.inc({ view: defect.view, partition: String(defect.partition) });
      defectLog.add(defect);
    });
    host.onExpired((view, partition, count) => expired.inc({ view, partition: String(partition) }, count));
  }

  async beforeApplicationShutdown(): Promise<void> {
    for (const stop of this.stopCollecting) stop();
    await this.listener?.close();
    // The rest of the time is for the others who have to stop.
    await this.host.finish(this.options.shutdownTimeoutMs / 2);
    this.host.close();
  }
}

const makeViewHost = (
  log: CommandLog,
  catalog: Catalog,
  options: TidelineOptions,
  views: readonly ViewType[],
): ViewHost => {
  const logger = new Logger('Snapshots');
  const store = new SnapshotStore({
    fileSystem: nodeFileSystem,
    catalog: catalog.snapshots,
    directory: join(options.dataDir, 'snapshots'),
    host: `${options.advertiseHost}:${options.viewPort}`,
    kept: options.snapshotsKept,
    clock: systemClock,
    report: (message) => logger.warn(message),
  });
  const host = new ViewHost({
    log,
    archive: catalog.archive,
    snapshots: {
      store,
      peers: new PeerHosts({
        transport: tcpTransport,
        scheduler: systemScheduler,
        rng: systemRng,
        own: store.host,
        addresses: options.materializers.map(formatAddress),
      }),
      intervalMs: options.snapshotIntervalMs,
      logBytes: options.snapshotLogBytes,
      digestIntervalMs: options.digestIntervalMs,
      archiveGaps: catalog.archiveGaps,
    },
    clock: systemClock,
    scheduler: systemScheduler,
    projections: views,
  });
  host.onSwapped((view, version) => new Logger('Projections').log(`view ${view}: version ${version} is served`));
  host.onSnapshotFailed((view, partition, error) =>
    logger.warn(`view ${view}, partition ${partition}: ${error.message}`),
  );
  const archiveLogger = new Logger('Archive');
  const timeText = (time: number | null): string => (time === null ? 'the beginning' : new Date(time).toISOString());
  host.gapFillers?.onOpened(({ view, partition, from, to }) =>
    archiveLogger.log(
      `view ${view}, partition ${partition}: what departed from ${timeText(from)} to ${timeText(to)} is copied from other hosts`,
    ),
  );
  host.gapFillers?.onFilled(({ view, partition, copied }) =>
    archiveLogger.log(`view ${view}, partition ${partition}: the archive is complete; ${copied} entries were copied`),
  );
  return host;
};

/** Views of the topics of a command log, wherever that is. Exports ViewHost, which is the ViewQuery. */
@Module({})
export class MaterializerModule {
  /** @throws TidelineError `bad-option` for a view that is not sound, or has the name of a topic's map view */
  static forRoot(parts: MaterializerModuleOptions): DynamicModule {
    const { views = [] } = parts;
    const definitions = views.map(definitionOf);
    // Before anything is opened, not when the host is made.
    versionsByName(definitions);
    for (const { name } of definitions) {
      if (parts.options.topics.some((topic) => topic.name === name))
        throw new TidelineError('bad-option', `view ${name}: topic ${name} has a map view of that name`);
    }
    const handles = new Map(definitions.map(({ name, topic }) => [name, topic]));
    return {
      module: MaterializerModule,
      imports: [
        PlatformModule.forRoot(parts.options),
        CatalogModule.forRoot(parts.options.catalogUrl),
        ...(parts.imports ?? []),
      ],
      providers: [
        { provide: COMMAND_LOG, ...parts.commandLog } as never,
        {
          provide: ViewHost,
          inject: [COMMAND_LOG, CATALOG],
          useFactory: (log: CommandLog, catalog: Catalog) => makeViewHost(log, catalog, parts.options, views),
        },
        ...[...handles].map(([name, topic]) => ({
          provide: viewHandleToken(name),
          inject: [ViewHost, COMMAND_LOG],
          useFactory: (host: ViewHost, log: CommandLog) => new ViewHandle(name, topic, host, log),
        })),
        ViewService,
      ],
      exports: [ViewHost, ...[...handles.keys()].map(viewHandleToken)],
    };
  }
}
