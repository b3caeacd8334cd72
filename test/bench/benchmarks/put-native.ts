import { connect } from 'nats';
import { TidelineClient } from '#client';
import type { Benchmark, BenchmarkSettings, Contender, PeerName } from '../bench.js';
import { runInFlight } from '../in-flight.js';
import { startBareLoop } from '../peers/bare.js';
import { startEtcd } from '../peers/etcd.js';
import { startNats } from '../peers/nats.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';
import { JsonClient } from '../json-client.js';

/** One client process with N writes under way: 100-byte values under keys of 20 bytes. */
const VALUE = Buffer.alloc(100, 'v');
const KEYS = 100_000;
const keyOf = (n: number): string => `bench-key-${String(n % KEYS).padStart(10, '0')}`;

const inFlightOf = (which: string): number => Number(which.split(' ')[0]);

export const ourPuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender> => {
  const cluster = await startTideline(directory);
  const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
  return {
    description: TIDELINE_DESCRIPTION,
    run: (seconds) =>
      cluster.measured(() =>
        runInFlight({ inFlight: inFlightOf(which), seconds }, (n) => client.set('default', keyOf(n), VALUE)),
      ),
    stop: async () => {
      await client.close();
      await cluster.stop();
    },
  };
};

const natsPuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender | null> => {
  const nats = await startNats(directory);
  if (!nats) return null;
  const connection = await connect({ servers: nats.urls });
  const stream = connection.jetstream({ timeout: 10_000 });
  return {
    description: nats.description,
    run: (seconds) =>
      runInFlight({ inFlight: inFlightOf(which), seconds }, (n) => stream.publish(`bench.${n % 1000}`, VALUE)),
    stop: async () => {
      await connection.close();
      await nats.stop();
    },
  };
};

const etcdPuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender | null> => {
  const etcd = await startEtcd(directory);
  if (!etcd) return null;
  const client = new JsonClient(etcd.httpPort, inFlightOf(which));
  const value = VALUE.toString('base64');
  return {
    description: etcd.description,
    run: (seconds) =>
      runInFlight({ inFlight: inFlightOf(which), seconds }, (n) =>
        client.post('/v3/kv/put', `{"key":"${Buffer.from(keyOf(n)).toString('base64')}","value":"${value}"}`),
      ),
    stop: async () => {
      client.close();
      await etcd.stop();
    },
  };
};

const barePuts = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender> => {
  const bare = await startBareLoop(directory);
  const payload = Buffer.concat([Buffer.from(keyOf(0)), VALUE]);
  return {
    description: 'bare loop ×3, synced',
    run: (seconds) => runInFlight({ inFlight: inFlightOf(which), seconds }, () => bare.put(payload)),
    stop: () => bare.stop(),
  };
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
