import 'reflect-metadata';
import { runServer, type TidelineOptions } from '#platform';
import { StandaloneModule, type StandaloneParts } from './standalone.module.js';

/**
 * Runs one node with everything in it until it is stopped, with the projections of whoever calls it. `argv` without the node binary and script.
 */
export const startStandalone = (argv: readonly string[], parts: StandaloneParts = {}): Promise<void> =>
  runServer({
    app: 'standalone',
    usage: 'npm start -- [options]   or   tideline start [options]',
    argv,
    module: (options, logger) => StandaloneModule.forRoot(options, logger, parts),
    started: (options) => process.stdout.write(banner(options)),
  });

const banner = (options: TidelineOptions): string => {
  const { bind, dataDir, peers, nodeId } = options;
  const cluster = peers.length > 1 ? `node ${nodeId} of ${peers.length}` : 'a cluster of one';
  const http = `http://${bind}:${options.httpPort}`;
  const rows = [
    ['REST, health, metrics', http],
    ['API description', `${http}/docs`],
    ['native clients', `${bind}:${options.nativePort}`],
    ['Nest TCP clients', `${bind}:${options.nestPort}`],
    ['log service', `${bind}:${options.logPort}`],
    ['Raft peers', `${bind}:${options.peerPort}`],
    ['view service', `${bind}:${options.viewPort}`],
  ];
  const list = rows.map(([name, address]) => `  ${name.padEnd(24)}${address}`).join('\n');
  return `
Tideline is running (${cluster}), data in ${dataDir}

${list}

Try:
  curl -X PUT ${http}/v1/views/default/entries/greeting -d 'hello'
  curl ${http}/v1/views/default/entries/greeting

Ctrl-C stops it.
`;
};
