import { TidelineClient } from '#client';
import type { Benchmark, BenchmarkSettings, Contender, Sample } from '../bench.js';
import { runInFlight } from '../in-flight.js';
import { JsonClient } from '../json-client.js';
import { leadingNumber } from '../looping.js';
import { startEtcd } from '../peers/etcd.js';
import { measuringCpu } from '../processes.js';
import { startTideline } from '../tideline-cluster.js';
import { VALUE, fillEntries, fillOneByOne, keyOf } from '../workload.js';

/** Pages that begin at any key, ascending; linearizable. */
const ENTRIES = 20_000;
const IN_FLIGHT = 16;

const startOf = (n: number, page: number): string => keyOf((n * 7919) % (ENTRIES - page));

const counted = async (page: number, seconds: number, scan: (from: string) => Promise<unknown>): Promise<Sample> => {
  const sample = await runInFlight({ inFlight: IN_FLIGHT, seconds }, (n) => scan(startOf(n, page)));
  return { ...sample, value: sample.value * page, operations: sample.operations! * page };
};

const etcdScans = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender | null> => {
  const etcd = await startEtcd(directory);
  if (!etcd) return null;
  const client = new JsonClient(etcd.httpPort, 64);
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const value = VALUE.toString('base64');
  await fillOneByOne(ENTRIES, (n) => client.post('/v3/kv/put', `{"key":"${base64(keyOf(n))}","value":"${value}"}`));
  const page = leadingNumber(which);
  const keysOnly = which.endsWith('keys only') ? ',"keys_only":true' : '';
  const scan = (from: string): Promise<unknown> =>
    client
      .post('/v3/kv/range', `{"key":"${base64(from)}","range_end":"${base64('c')}","limit":${page}${keysOnly}}`)
      .then((answer) => JSON.parse(answer) as unknown);
  return {
    description: 'etcd ×3, linearizable',
    run: (seconds) => measuringCpu(etcd.pids, () => counted(page, seconds, scan)),
    stop: async () => {
      client.close();
      await etcd.stop();
    },
  };
};

export const scan: Benchmark = {
  name: 'scan',
  unit: 'entries/s',
  higherIsBetter: true,
  summary: `entries in key order by one native client, ${IN_FLIGHT} pages in flight, linearizable; etcd through its JSON gateway`,
  cases: ['100 entries a page', '1000 entries a page', '1000 entries a page, keys only'],
  peers: ['etcd'],
  ours: async ({ directory }, which) => {
    const cluster = await startTideline(directory);
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    await fillEntries(client, ENTRIES);
    const limit = leadingNumber(which);
    const values = !which.endsWith('keys only');
    return {
      description: 'Tideline ×3, linearizable',
      run: (seconds) =>
        cluster.measured(() => counted(limit, seconds, (after) => client.scan('default', { after, limit, values }))),
      stop: async () => {
        await client.close();
        await cluster.stop();
      },
    };
  },
  peer: etcdScans,
};
