import { connect, nanos } from 'nats';
import { TidelineClient } from '#client';
import type { Benchmark, BenchmarkSettings, Contender } from '../bench.js';
import { looping } from '../looping.js';
import { startNats } from '../peers/nats.js';
import { measuringCpu } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';
import { startTideline, TIDELINE_DESCRIPTION, type TidelineCluster } from '../tideline-cluster.js';
import { VALUE } from '../workload.js';

/** Every put is a session of its own that lives for a second: as many expire as are written. */
const TTL_MS = 1000;
/** What has expired is out of memory soon after; a view that keeps it is no expiring view. */
const GONE_WITHIN_MS = 20_000;
const sessionKey = (n: number): string => `session-${String(n).padStart(12, '0')}`;

const WHICH = '256 in flight';

const entriesHeld = async (cluster: TidelineCluster): Promise<number> => {
  const { httpAddress } = cluster.launcher.gateways[await cluster.leaderIndex('default')];
  const answer = (await (await fetch(`http://${httpAddress}/v1/views/default`)).json()) as { entries: number };
  return answer.entries;
};

const natsChurn = async ({ directory }: BenchmarkSettings): Promise<Contender | null> => {
  const nats = await startNats(directory);
  if (!nats) return null;
  const connection = await connect({ servers: nats.urls });
  const manager = await connection.jetstreamManager();
  await manager.streams.add({
    name: 'churn',
    subjects: ['churn.>'],
    num_replicas: 3,
    max_age: nanos(TTL_MS),
    duplicate_window: nanos(TTL_MS),
  });
  const stream = connection.jetstream({ timeout: 10_000 });
  return looping({
    description: 'NATS R3, max_age 1 s, no sync per write',
    which: WHICH,
    operation: (n) => stream.publish(`churn.${sessionKey(n)}`, VALUE),
    measured: (work) => measuringCpu(nats.pids, work),
    stop: async () => {
      await connection.close();
      await nats.stop();
    },
  });
};

export const ttlChurn: Benchmark = {
  name: 'ttl-churn',
  unit: 'puts/s',
  higherIsBetter: true,
  summary: 'sessions of one second: every put is a new key that expires; at the end all are out of memory',
  cases: [WHICH],
  peers: ['nats'],
  ours: async ({ directory }) => {
    const cluster = await startTideline(directory);
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    let written = 0;
    const contender = looping({
      description: `${TIDELINE_DESCRIPTION}, ttl 1 s`,
      which: WHICH,
      operation: () => client.set('default', sessionKey(written++), VALUE, { ttlMs: TTL_MS }),
      measured: (work) =>
        cluster.measured(async () => {
          const sample = await work();
          return { ...sample, also: { 'entries held at the end': await entriesHeld(cluster) } };
        }),
      stop: async () => {
        await client.close();
        await cluster.stop();
      },
    });
    return {
      ...contender,
      run: async (seconds) => {
        const sample = await contender.run(seconds);
        const began = performance.now();
        const allGone = async (): Promise<boolean> => (await entriesHeld(cluster)) === 0;
        await untilTrue('expired entries to leave memory', allGone, GONE_WITHIN_MS);
        return { ...sample, also: { ...sample.also, 'all gone after s': (performance.now() - began) / 1000 } };
      },
    };
  },
  peer: natsChurn,
};
