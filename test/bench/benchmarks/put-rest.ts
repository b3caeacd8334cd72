import type { Benchmark } from '../bench.js';
import { leadingNumber } from '../looping.js';
import { startEtcd } from '../peers/etcd.js';
import { measuringCpu } from '../processes.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';
import { runWrk } from '../wrk.js';
import { etcdPuts, tidelinePuts } from '../wrk-requests.js';

export const putRest: Benchmark = {
  name: 'put-rest',
  unit: 'puts/s',
  higherIsBetter: true,
  summary: 'PUT of 100-byte values over HTTP at the leader, replicated and synced; etcd through its JSON gateway',
  cases: ['64 connections', '256 connections'],
  peers: ['etcd'],
  ours: async ({ directory }, which) => {
    const cluster = await startTideline(directory);
    const url = `http://127.0.0.1:${await cluster.leaderHttpPort('default')}`;
    const load = { url, connections: leadingNumber(which), script: tidelinePuts(), directory };
    return {
      description: TIDELINE_DESCRIPTION,
      run: (seconds) => cluster.measured(() => runWrk({ ...load, seconds })),
      stop: () => cluster.stop(),
    };
  },
  peer: async ({ directory }, which) => {
    const etcd = await startEtcd(directory);
    if (!etcd) return null;
    const url = `http://127.0.0.1:${etcd.httpPort}`;
    const load = { url, connections: leadingNumber(which), script: etcdPuts(), directory };
    return {
      description: etcd.description,
      run: (seconds) => measuringCpu(etcd.pids, () => runWrk({ ...load, seconds })),
      stop: () => etcd.stop(),
    };
  },
};
