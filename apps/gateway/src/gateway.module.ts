import { Module, type DynamicModule, type InjectionToken, type ModuleMetadata } from '@nestjs/common';
import type { CommandLog } from '#command-log';
import { HealthRegistry, PlatformModule, type TidelineOptions } from '#platform';
import type { ViewQuery } from '#views';
import type { GatewayLimits, GatewayTime } from './gateway-options.js';
import { GatewayServices } from './gateway-services.js';
import { ClusterController } from './http/cluster.controller.js';
import { DocsController } from './http/docs.controller.js';
import { HttpEndpoint } from './http/http-endpoint.js';
import { TopicsController } from './http/topics.controller.js';
import { ViewsController } from './http/views.controller.js';
import { NativeEndpoint } from './native/native-endpoint.js';
import { NestTcpEndpoint } from './nest-tcp/nest-tcp-endpoint.js';

/** Injection tokens of the two ports a gateway stands on. */
export const COMMAND_LOG = Symbol('CommandLog');
export const VIEW_QUERY = Symbol('ViewQuery');

/** Where an implementation of a port comes from: given, made, or another module's (which is then among the imports). */
export type PortSource<Port> =
  | { readonly useValue: Port }
  | { readonly useExisting: InjectionToken }
  | { readonly useFactory: (...dependencies: never[]) => Port | Promise<Port>; readonly inject?: InjectionToken[] };

export interface GatewayModuleOptions {
  readonly options: TidelineOptions;
  readonly commandLog: PortSource<CommandLog>;
  readonly viewQuery: PortSource<ViewQuery>;
  /** Modules that export what the sources inject. */
  readonly imports?: ModuleMetadata['imports'];
  /** Beyond what the options say; for tests. */
  readonly limits?: Partial<GatewayLimits>;
  readonly time?: GatewayTime;
}

export const limitsOf = (options: TidelineOptions): Partial<GatewayLimits> => ({
  keyBytesMax: options.keyBytesMax,
  recordBytesMax: options.recordBytesMax,
  requestBytesMax: options.requestBytesMax,
  headerBytesMax: options.headerBytesMax,
  jsonDepthMax: options.jsonDepthMax,
  fetchBytesMax: options.requestBytesMax,
  streamsMax: options.tailSubscribersMax,
  writeTimeoutMs: options.requestTimeoutMs,
  readTimeoutMs: options.requestTimeoutMs,
});

/** The edge of the cluster: REST, streams, Nest TCP and the native protocol over a command log and views, wherever those are. */
@Module({})
export class GatewayModule {
  static forRoot(parts: GatewayModuleOptions): DynamicModule {
    return {
      module: GatewayModule,
      imports: [PlatformModule.forRoot(parts.options), ...(parts.imports ?? [])],
      controllers: [TopicsController, ViewsController, ClusterController, DocsController],
      providers: [
        { provide: COMMAND_LOG, ...parts.commandLog } as never,
        { provide: VIEW_QUERY, ...parts.viewQuery } as never,
        {
          provide: GatewayServices,
          inject: [COMMAND_LOG, VIEW_QUERY, HealthRegistry],
          useFactory: (log: CommandLog, views: ViewQuery, health: HealthRegistry) => {
            health.register('routing', () => leadersKnown(log));
            const limits = { ...limitsOf(parts.options), ...parts.limits };
            return new GatewayServices({ log, views, limits, ...(parts.time && { time: parts.time }) });
          },
        },
        HttpEndpoint,
        NativeEndpoint,
        NestTcpEndpoint,
      ],
      exports: [GatewayServices, NativeEndpoint, NestTcpEndpoint],
    };
  }
}

/** Requests can be sent on when each partition has a leader. */
const leadersKnown = (log: CommandLog): { ok: boolean; detail: string } => {
  const { topics } = log.describe();
  if (topics.length === 0) return { ok: false, detail: 'no log node has described the cluster' };
  const missing = topics.flatMap((topic) =>
    topic.partitions.filter(({ leader }) => leader === 0).map(({ partition }) => `${topic.name}/${partition}`),
  );
  if (missing.length > 0) return { ok: false, detail: `no leader of ${missing.slice(0, 5).join(', ')}` };
  return { ok: true, detail: `${topics.length} topics` };
};
