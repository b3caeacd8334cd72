import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyInstance } from 'fastify';
import { GatewayModule, NativeEndpoint, NestTcpEndpoint, type GatewayLimits, type GatewayTime } from '#apps/gateway';
import { createHttpEdge, loadOptions, type HttpEdgeSettings } from '#platform';
import type { ViewQuery } from '#views';
import { MemoryCommandLog, type MemoryTopic } from '../../../libs/command-log/src/testing/index.js';
import { FoldingViews } from './folding-views.js';

export interface TestGateway {
  readonly app: NestFastifyApplication;
  /** http://127.0.0.1:PORT */
  readonly url: string;
  /** `GET /v1/topics` … as registered. */
  readonly routes: readonly string[];
  readonly nativePort: number;
  readonly nestPort: number;
  readonly log: MemoryCommandLog;
  readonly views: FoldingViews;
  /** What supertest wants. */
  readonly server: ReturnType<NestFastifyApplication['getHttpServer']>;
  stop(): Promise<void>;
}

/** A gateway over a log and views in memory, listening on a free port. */
export const startTestGateway = async (
  settings: {
    readonly topics?: readonly MemoryTopic[];
    readonly limits?: Partial<GatewayLimits>;
    readonly time?: GatewayTime;
    readonly argv?: readonly string[];
    readonly edge?: HttpEdgeSettings;
    /** Instead of the views of `views`. */
    readonly viewQuery?: (log: MemoryCommandLog) => ViewQuery | Promise<ViewQuery>;
  } = {},
): Promise<TestGateway> => {
  const options = loadOptions({
    app: 'gateway',
    argv: ['--base-port', '0', '--log-nodes', '127.0.0.1:1', '--log-level', 'silent', ...(settings.argv ?? [])],
    env: {},
    readFile: () => '',
  });
  const log = new MemoryCommandLog({
    topics: settings.topics ?? [{ name: 'default' }, { name: 'wide', partitions: 4 }],
  });
  const views = new FoldingViews(log);
  const edge = createHttpEdge(options, settings.edge);
  const routes: string[] = [];
  (edge.adapter.getInstance() as unknown as FastifyInstance).addHook('onRoute', ({ method, url }) => {
    for (const each of [method].flat()) routes.push(`${each} ${url}`);
  });
  const app = await NestFactory.create<NestFastifyApplication>(
    GatewayModule.forRoot({
      options,
      commandLog: { useValue: log },
      viewQuery: { useValue: (await settings.viewQuery?.(log)) ?? views },
      ...(settings.limits && { limits: settings.limits }),
      ...(settings.time && { time: settings.time }),
    }),
    edge.adapter,
    { logger: false },
  );
  app.useGlobalFilters(edge.filter);
  await log.topic('default');
  for (const topic of log.describe().topics)
    for (const { partition } of topic.partitions) views.partition(topic.name, partition);
  await app.listen(0, '127.0.0.1');
  const server = app.getHttpServer();
  const { port } = server.address() as AddressInfo;
  return {
    app,
    url: `http://127.0.0.1:${port}`,
    routes,
    nativePort: app.get(NativeEndpoint, { strict: false }).port,
    nestPort: app.get(NestTcpEndpoint, { strict: false }).port,
    log,
    views,
    server,
    stop: async () => {
      await app.close();
      views.close();
      await log.close();
    },
  };
};
