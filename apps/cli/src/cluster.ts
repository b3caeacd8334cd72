import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ClusterLauncher } from './cluster-launcher.js';

/** `npm run cluster`: three nodes on this machine, until Ctrl-C. */
const usage = `Usage: npm run cluster -- [--nodes 3] [--data ./data/cluster] [--base-port 7400] [--split] [--topics default,orders:8]

  --nodes N        log nodes, 1 to 7 (default 3)
  --data DIR       where the nodes keep their data (default ./data/cluster)
  --base-port P    node k listens on P + 100·(k−1) (default 7400)
  --split          the production shape: N raft-log, 2 materializers, 1 gateway
  --OPTION VALUE   any other option is passed to every process
`;

const NODES_MAX = 7;

const main = async (): Promise<number> => {
  const { values, tokens } = parseArgs({
    options: {
      nodes: { type: 'string', default: '3' },
      data: { type: 'string', default: join('data', 'cluster') },
      'base-port': { type: 'string', default: '7400' },
      split: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
    strict: false,
    tokens: true,
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const nodes = Number(values.nodes);
  const basePort = Number(values['base-port']);
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > NODES_MAX)
    return refuse(`--nodes ${String(values.nodes)}: a whole number from 1 to ${NODES_MAX}`);
  if (!Number.isInteger(basePort) || basePort < 1024 || basePort > 64_000)
    return refuse(`--base-port ${String(values['base-port'])}: a whole number from 1024 to 64000`);

  const options: Record<string, string> = {};
  const own = new Set(['nodes', 'data', 'base-port', 'split', 'help']);
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i];
    if (token.kind === 'positional') return refuse(`${token.value}: not understood`);
    if (token.kind !== 'option' || own.has(token.name)) continue;
    const next = tokens[i + 1];
    if (token.value !== undefined) options[token.name] = token.value;
    else if (next?.kind === 'positional') {
      options[token.name] = next.value;
      i++;
    } else return refuse(`--${token.name} needs a value`);
  }

  const dataDir = resolve(String(values.data));
  let stopping = false;
  let failed: (() => void) | null = null;
  const launcher = new ClusterLauncher({
    nodes,
    dataDir,
    basePort,
    split: values.split === true,
    options,
    onUnexpectedExit: (process_, why) => {
      if (stopping) return;
      console.error(`${process_.name} (pid ${process_.pid}) ended: ${why}; its log: ${launcher.logFile(process_)}`);
      if (launcher.processes.every((p) => !p.running)) failed?.();
    },
  });
  const stopped = new Promise<number>((resolve) => {
    failed = () => resolve(1);
    const stop = (): void => {
      if (stopping) return;
      stopping = true;
      console.error('stopping …');
      const began = performance.now();
      void launcher.stop('SIGTERM').then(() => {
        console.error(`stopped in ${((performance.now() - began) / 1000).toFixed(1)} s`);
        resolve(0);
      });
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
  });
  console.error(`starting ${launcher.processes.length} processes, data in ${dataDir} …`);
  try {
    await launcher.start();
  } catch (error) {
    if (stopping) return stopped;
    console.error(error instanceof Error ? error.message : error);
    stopping = true;
    await launcher.stop();
    return 1;
  }
  if (!stopping) {
    for (const process_ of launcher.processes) {
      const serves =
        process_.app === 'standalone' || process_.app === 'gateway'
          ? `http://${process_.httpAddress}  native ${process_.nativeAddress}`
          : `health http://${process_.httpAddress}/readyz`;
      console.log(`${process_.name.padEnd(16)} pid ${String(process_.pid).padEnd(8)} ${serves}`);
    }
    const url = `http://${launcher.gateways.at(-1)!.httpAddress}`;
    console.log(
      `\nTry: curl -X PUT ${url}/v1/views/default/entries/greeting -d hello && curl ${url}/v1/views/default/entries/greeting`,
    );
    console.log('Ctrl-C stops all.');
  }
  return stopped;
};

const refuse = (message: string): number => {
  console.error(`cluster: ${message}\n\n${usage}`);
  return 2;
};

process.exitCode = await main();
