import { TidelineClient } from '#client';
import type { Benchmark, Sample } from '../bench.js';
import { JsonClient } from '../json-client.js';
import { leadingNumber } from '../looping.js';
import { startEtcd } from '../peers/etcd.js';
import { measuringCpu } from '../processes.js';
import { startTideline } from '../tideline-cluster.js';
import { VALUE, fillOneByOne } from '../workload.js';
import { runWrk } from '../wrk.js';
import { DISTINCT, etcdGets, requestKey, tidelineGets } from '../wrk-requests.js';

const LEVELS = ['linearizable', 'session', 'stale'] as const;

const levelOf = (which: string): (typeof LEVELS)[number] => LEVELS.find((level) => which.includes(level))!;

/** The connections shared out evenly; otherwise all of them are the leader's. */
const isOverAllNodes = (which: string): boolean => which.includes('over all nodes');

const isByLease = (which: string): boolean => which.endsWith('by lease');

/** etcd has two levels: who wants to read his own writes there reads linearizably. */
const etcdIsSerializable = (which: string): boolean => levelOf(which) === 'stale';

/** Loads that ran at the same time, as one; latencies are those of the slowest. */
const together = (samples: readonly Sample[]): Sample => ({
  value: samples.reduce((sum, { value }) => sum + value, 0),
  operations: samples.reduce((sum, { operations }) => sum + (operations ?? 0), 0),
  p50Ms: Math.max(...samples.map(({ p50Ms }) => p50Ms ?? 0)),
  p99Ms: Math.max(...samples.map(({ p99Ms }) => p99Ms ?? 0)),
});

export const getRest: Benchmark = {
  name: 'get-rest',
  unit: 'gets/s',
  higherIsBetter: true,
  summary:
    'GET of 100-byte values over HTTP at the leader; etcd: range through its JSON gateway, serializable where ours is stale',
  cases: [
    ...LEVELS.map((level) => `64 connections, ${level}`),
    '256 connections, linearizable',
    '64 connections, linearizable by lease',
    '63 connections over all nodes, linearizable',
    '63 connections over all nodes, stale',
  ],
  peers: ['etcd'],
  ours: async ({ directory }, which) => {
    const cluster = await startTideline(directory, { readMode: isByLease(which) ? 'lease' : 'barrier' });
    const url = `http://127.0.0.1:${await cluster.leaderHttpPort('default')}`;
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    let newest = 0;
    await fillOneByOne(DISTINCT, async (n) => {
      const { offset } = await client.set('default', requestKey(n), VALUE);
      newest = Math.max(newest, offset);
    });
    await client.close();
    const level = levelOf(which);
    const query = {
      linearizable: '',
      session: `?consistency=session&minOffset=${newest}`,
      stale: '?consistency=stale',
    };
    const urls = isOverAllNodes(which)
      ? cluster.launcher.gateways.map(({ httpAddress }) => `http://${httpAddress}`)
      : [url];
    const connections = Math.floor(leadingNumber(which) / urls.length);
    const load = { connections, script: tidelineGets(query[level]), directory };
    return {
      description: `Tideline ×3, ${level}${isByLease(which) ? ' by lease' : ''}${urls.length > 1 ? ', all nodes asked' : ''}`,
      run: (seconds) =>
        cluster.measured(async () =>
          together(await Promise.all(urls.map((each) => runWrk({ ...load, url: each, seconds })))),
        ),
      stop: () => cluster.stop(),
    };
  },
  peer: async ({ directory }, which) => {
    const etcd = await startEtcd(directory);
    if (!etcd) return null;
    const url = `http://127.0.0.1:${etcd.httpPort}`;
    const filler = new JsonClient(etcd.httpPort, 64);
    const value = VALUE.toString('base64');
    await fillOneByOne(DISTINCT, (n) =>
      filler.post('/v3/kv/put', `{"key":"${Buffer.from(requestKey(n)).toString('base64')}","value":"${value}"}`),
    );
    filler.close();
    const script = etcdGets(etcdIsSerializable(which));
    const load = { url, connections: leadingNumber(which), script, directory };
    return {
      description: `etcd ×3, ${etcdIsSerializable(which) ? 'serializable' : 'linearizable'}`,
      run: (seconds) => measuringCpu(etcd.pids, () => runWrk({ ...load, seconds })),
      stop: () => etcd.stop(),
    };
  },
};
