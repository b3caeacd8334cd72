import { connect } from 'nats';
import { TidelineClient } from '#client';
import type { Benchmark, BenchmarkSettings, Contender, PeerName } from '../bench.js';
import { WARM_UP_IN_FLIGHT, leadingNumber, looping } from '../looping.js';
import { startBareLoop } from '../peers/bare.js';
import { startEtcd } from '../peers/etcd.js';
import { startNats } from '../peers/nats.js';
import { measuringCpu } from '../processes.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';
import { JsonClient } from '../json-client.js';
import { VALUE, keyOf } from '../workload.js';

export const ourPuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender> => {
  const cluster = await startTideline(directory);
  const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
  return looping({
    description: TIDELINE_DESCRIPTION,
    which,
    operation: (n) => client.set('default', keyOf(n), VALUE),
    measured: (work) => cluster.measured(work),
    stop: async () => {
      await client.close();
      await cluster.stop();
    },
  });
};

const natsPuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender | null> => {
  const nats = await startNats(directory);
  if (!nats) return null;
  const connection = await connect({ servers: nats.urls });
  const stream = connection.jetstream({ timeout: 10_000 });
  return looping({
    description: nats.description,
    which,
    operation: (n) => stream.publish(`bench.${n % 1000}`, VALUE),
    measured: (work) => measuringCpu(nats.pids, work),
    stop: async () => {
      await connection.close();
      await nats.stop();
    },
  });
};

const etcdPuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender | null> => {
  const etcd = await startEtcd(directory);
  if (!etcd) return null;
  const client = new JsonClient(etcd.httpPort, Math.max(WARM_UP_IN_FLIGHT, leadingNumber(which)));
  const value = VALUE.toString('base64');
  return looping({
    description: etcd.description,
    which,
    operation: (n) =>
      client.post('/v3/kv/put', `{"key":"${Buffer.from(keyOf(n)).toString('base64')}","value":"${value}"}`),
    measured: (work) => measuringCpu(etcd.pids, work),
    stop: async () => {
      client.close();
      await etcd.stop();
    },
  });
};

const barePuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender> => {
  const bare = await startBareLoop(directory);
  const payload = Buffer.concat([Buffer.from(keyOf(0)), VALUE]);
  return looping({
    description: 'bare loop ×3, synced',
    which,
    operation: () => bare.put(payload),
    measured: (work) => measuringCpu(bare.pids, work),
    stop: () => bare.stop(),
  });
};

export const peerPuts = (settings: BenchmarkSettings, which: string, peer: PeerName): Promise<Contender | null> => {
  if (peer === 'nats') return natsPuts(settings, which);
  return peer === 'etcd' ? etcdPuts(settings, which) : barePuts(settings, which);
};

export const putNative: Benchmark = {
  name: 'put-native',
  unit: 'puts/s',
  higherIsBetter: true,
  summary: 'puts by one native client with many in flight, replicated and synced',
  cases: ['256 in flight', '64 in flight', '1024 in flight', '1 in flight'],
  peers: ['etcd', 'nats', 'bare'],
  ours: ourPuts,
  peer: peerPuts,
};
