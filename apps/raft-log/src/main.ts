import 'reflect-metadata';
import { runServer } from '#platform';
import { RaftLogModule } from './raft-log.module.js';

await runServer({
  app: 'raft-log',
  usage: 'node dist/apps/raft-log/src/main.js --node-id 1 --peers 1@host:7411,2@host:7411,3@host:7411 [options]',
  argv: process.argv.slice(2),
  module: (options, logger) => RaftLogModule.forRoot(options, logger),
  started: (options, logger) =>
    logger.log(
      `log service on ${options.bind}:${options.logPort}, peers on ${options.bind}:${options.peerPort}, health on http://${options.bind}:${options.httpPort}/readyz`,
    ),
});
