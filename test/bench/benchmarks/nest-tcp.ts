import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ClientTCP } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { freePorts } from '../../support/free-ports.js';
import type { Benchmark, Contender } from '../bench.js';
import { looping } from '../looping.js';
import { measuringCpu, stopAll } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';
import { VALUE, fillOneByOne, keyOf } from '../workload.js';

/** Nest's own TCP client, which speaks JSON, against our patterns and, as `bare`, against a Nest server that does nothing. */
const ENTRIES = 1000;
const NEST_PORT = 2;

const program = join(dirname(fileURLToPath(import.meta.url)), '..', 'peers', 'nest-echo.js');

const operationOf = (client: ClientTCP, which: string): ((n: number) => Promise<unknown>) => {
  const value = VALUE.toString();
  return which.endsWith('set')
    ? (n) => firstValueFrom(client.send({ cmd: 'set' }, { key: keyOf(n % ENTRIES), value }))
    : (n) => firstValueFrom(client.send({ cmd: 'get' }, { key: keyOf(n % ENTRIES) }));
};

const stockNest = async (which: string): Promise<Contender> => {
  const [port] = await freePorts(1);
  const child = fork(program, [String(port)], { stdio: 'ignore' });
  const client = new ClientTCP({ host: '127.0.0.1', port });
  await untilTrue('Nest to listen', () =>
    client
      .connect()
      .then(() => true)
      .catch(() => false),
  );
  return looping({
    description: 'Nest TCP ×1 that answers at once',
    which,
    operation: operationOf(client, which),
    measured: (work) => measuringCpu([child.pid!], work),
    stop: async () => {
      client.close();
      await stopAll([child]);
    },
  });
};

export const nestTcp: Benchmark = {
  name: 'nest-tcp',
  unit: 'calls/s',
  higherIsBetter: true,
  summary:
    "calls by one stock client of Nest's TCP transport; bare: a stock Nest server that answers at once and keeps nothing",
  cases: ['64 in flight, set', '64 in flight, get'],
  peers: ['bare'],
  ours: async ({ directory }, which) => {
    const cluster = await startTideline(directory);
    const port = (await cluster.leaderHttpPort('default')) + NEST_PORT;
    const client = new ClientTCP({ host: '127.0.0.1', port });
    await client.connect();
    await fillOneByOne(ENTRIES, operationOf(client, 'set'));
    return looping({
      description: TIDELINE_DESCRIPTION,
      which,
      operation: operationOf(client, which),
      measured: (work) => cluster.measured(work),
      stop: async () => {
        client.close();
        await cluster.stop();
      },
    });
  },
  peer: (_settings, which) => stockNest(which),
};
