import 'reflect-metadata';
import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { RemoteLogNodeDirectory, RoutingCommandLog } from '#command-log';
import { NO_NODE, systemClock, systemRng, systemScheduler } from '#kernel';
import { tcpTransport } from '#net';
import { HealthRegistry, PlatformModule, formatAddress, runServer, type TidelineOptions } from '#platform';
import { GatewayModule } from './gateway.module.js';
import { RemoteViewQuery } from './remote-view-query.js';

const REMOTE_LOG = Symbol('log nodes elsewhere');

/** Log nodes and materializers in other processes. */
@Module({})
class RemotePortsModule implements OnApplicationShutdown {
  constructor(
    @Inject(REMOTE_LOG) private readonly log: RoutingCommandLog,
    @Inject(RemoteViewQuery) private readonly views: RemoteViewQuery,
  ) {}

  static forRoot(options: TidelineOptions): DynamicModule {
    return {
      module: RemotePortsModule,
      imports: [PlatformModule.forRoot(options)],
      providers: [
        { provide: REMOTE_LOG, useFactory: () => remoteLog(options) },
        {
          provide: RemoteViewQuery,
          inject: [HealthRegistry],
          useFactory: (health: HealthRegistry) => remoteViews(options, health),
        },
      ],
      exports: [REMOTE_LOG, RemoteViewQuery],
    };
  }

  async onApplicationShutdown(): Promise<void> {
    this.views.close();
    await this.log.close();
  }
}

const remoteLog = (options: TidelineOptions): RoutingCommandLog => {
  const seeds = options.logNodes.length > 0 ? options.logNodes : options.seeds;
  const directory = new RemoteLogNodeDirectory({
    transport: tcpTransport,
    hello: { nodeId: NO_NODE, clusterId: '', software: 'tideline', addresses: {} },
    seeds: seeds.map(formatAddress),
  });
  const { region, requestTimeoutMs: timeoutMs } = options;
  return new RoutingCommandLog({ directory, rng: systemRng, region, timeoutMs });
};

const remoteViews = (options: TidelineOptions, health: HealthRegistry): RemoteViewQuery => {
  const views = new RemoteViewQuery({
    transport: tcpTransport,
    addresses: options.materializers.map(formatAddress),
    clock: systemClock,
    scheduler: systemScheduler,
    rng: systemRng,
  });
  health.register('views', () => ({
    ok: views.connected > 0,
    detail: `connected to ${views.connected} of ${options.materializers.length} materializers`,
  }));
  return views;
};

await runServer({
  app: 'gateway',
  usage: 'node dist/apps/gateway/src/main.js --log-nodes host:7410,… --materializers host:7420,… [options]',
  argv: process.argv.slice(2),
  module: (options) =>
    GatewayModule.forRoot({
      options,
      imports: [RemotePortsModule.forRoot(options)],
      commandLog: { useExisting: REMOTE_LOG },
      viewQuery: { useExisting: RemoteViewQuery },
    }),
  started: (options, logger) =>
    logger.log(
      `HTTP on ${options.bind}:${options.httpPort}, native on ${options.bind}:${options.nativePort}, ` +
        `Nest TCP on ${options.bind}:${options.nestPort}`,
    ),
});
