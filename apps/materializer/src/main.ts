import 'reflect-metadata';
import { RemoteLogNodeDirectory, RoutingCommandLog } from '#command-log';
import { NO_NODE, systemRng } from '#kernel';
import { tcpTransport } from '#net';
import { formatAddress, runServer } from '#platform';
import { MaterializerModule } from './materializer.module.js';

await runServer({
  app: 'materializer',
  usage: 'node dist/apps/materializer/src/main.js --log-nodes host:7410,… [options]',
  argv: process.argv.slice(2),
  module: (options) => {
    const useFactory = (): RoutingCommandLog => {
      const directory = new RemoteLogNodeDirectory({
        transport: tcpTransport,
        hello: { nodeId: NO_NODE, clusterId: '', software: 'tideline', addresses: {} },
        seeds: options.logNodes.map(formatAddress),
      });
      return new RoutingCommandLog({ directory, rng: systemRng, region: options.region });
    };
    return MaterializerModule.forRoot({ options, commandLog: { useFactory } });
  },
  started: (options, logger) =>
    logger.log(
      `views on ${options.bind}:${options.viewPort}, health on http://${options.bind}:${options.httpPort}/readyz`,
    ),
});
