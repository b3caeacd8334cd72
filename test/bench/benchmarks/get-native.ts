import { connect } from 'nats';
import { TidelineClient } from '#client';
import type { Benchmark, BenchmarkSettings, Contender } from '../bench.js';
import { JsonClient } from '../json-client.js';
import { WARM_UP_IN_FLIGHT, leadingNumber, looping } from '../looping.js';
import { startEtcd } from '../peers/etcd.js';
import { startNats } from '../peers/nats.js';
import { measuringCpu } from '../processes.js';
import { startTideline } from '../tideline-cluster.js';
import { VALUE, fillEntries, fillOneByOne, keyOf } from '../workload.js';

/** So few that etcd and NATS, which take them one by one, are filled within a second or two. */
const ENTRIES = 5000;

const isStale = (which: string): boolean => which.endsWith('stale');

const natsGets = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender | null> => {
  const nats = await startNats(directory);
  if (!nats) return null;
  const connection = await connect({ servers: nats.urls });
  const bucket = await connection.jetstream({ timeout: 10_000 }).views.kv('bench', { replicas: 3 });
  await fillOneByOne(ENTRIES, (n) => bucket.put(keyOf(n), VALUE));
  return looping({
    description: 'NATS KV R3, direct get from any replica',
    which,
    operation: (n) => bucket.get(keyOf(n % ENTRIES)),
    measured: (work) => measuringCpu(nats.pids, work),
    stop: async () => {
      await connection.close();
      await nats.stop();
    },
  });
};

const etcdGets = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender | null> => {
  const etcd = await startEtcd(directory);
  if (!etcd) return null;
  const client = new JsonClient(etcd.httpPort, Math.max(WARM_UP_IN_FLIGHT, leadingNumber(which)));
  const key = (n: number): string => Buffer.from(keyOf(n % ENTRIES)).toString('base64');
  const value = VALUE.toString('base64');
  await fillOneByOne(ENTRIES, (n) => client.post('/v3/kv/put', `{"key":"${key(n)}","value":"${value}"}`));
  const level = isStale(which) ? ',"serializable":true' : '';
  return looping({
    description: `etcd ×3, ${isStale(which) ? 'serializable' : 'linearizable'}`,
    which,
    operation: (n) => client.post('/v3/kv/range', `{"key":"${key(n)}"${level}}`),
    measured: (work) => measuringCpu(etcd.pids, work),
    stop: async () => {
      client.close();
      await etcd.stop();
    },
  });
};

export const getNative: Benchmark = {
  name: 'get-native',
  unit: 'gets/s',
  higherIsBetter: true,
  summary:
    'gets by one native client with many in flight; etcd through its JSON gateway, NATS from its key-value store',
  cases: [
    '256 in flight',
    '64 in flight',
    '1 in flight',
    '256 in flight, stale',
    '256 in flight, by lease',
    '1 in flight, by lease',
  ],
  peers: ['etcd', 'nats'],
  ours: async ({ directory }, which) => {
    const byLease = which.endsWith('by lease');
    const cluster = await startTideline(directory, { readMode: byLease ? 'lease' : 'barrier' });
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    await fillEntries(client, ENTRIES);
    const consistency = isStale(which) ? 'stale' : 'linearizable';
    return looping({
      description: `Tideline ×3, ${consistency}${byLease ? ' by lease' : ''}`,
      which,
      operation: (n) => client.get('default', keyOf(n % ENTRIES), { consistency }),
      measured: (work) => cluster.measured(work),
      stop: async () => {
        await client.close();
        await cluster.stop();
      },
    });
  },
  peer: (settings, which, peer) => (peer === 'nats' ? natsGets(settings, which) : etcdGets(settings, which)),
};
