import type { Benchmark, Sample } from '../bench.js';
import { leadingNumber } from '../looping.js';
import { cpuSeconds, residentBytes, toggleProfile } from '../processes.js';
import { describeTideline, startTideline } from '../tideline-cluster.js';

/** What partitions cost that nobody uses: each is a Raft group with heartbeats, a log and a view. */
const SETTLE_MS = 5000;

export const idle: Benchmark = {
  name: 'idle',
  unit: 'CPU ms/s per node',
  higherIsBetter: false,
  summary: 'CPU time and memory of a node whose partitions nobody uses',
  cases: ['1 partition', '64 partitions', '256 partitions', '1 partition on 5 nodes', '64 partitions on 5 nodes'],
  peers: [],
  ours: async ({ directory }, which) => {
    const nodes = which.endsWith('on 5 nodes') ? 5 : 3;
    const cluster = await startTideline(directory, { nodes, topics: `idle:${leadingNumber(which)}` });
    const { processes } = cluster.launcher;
    return {
      description: describeTideline(nodes),
      warmUp: () => new Promise((resolve) => setTimeout(resolve, SETTLE_MS)),
      run: async (seconds): Promise<Sample> => {
        const pids = processes.map(({ pid }) => pid);
        toggleProfile(pids);
        const cpu = processes.map(({ pid }) => cpuSeconds(pid));
        const began = performance.now();
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
        const used = processes.reduce((total, { pid }, i) => total + cpuSeconds(pid) - cpu[i], 0);
        toggleProfile(pids);
        const elapsed = (performance.now() - began) / 1000;
        return {
          value: (used * 1000) / elapsed / nodes,
          also: {
            'resident MiB per node':
              processes.reduce((total, { pid }) => total + residentBytes(pid), 0) / nodes / 1024 ** 2,
          },
        };
      },
      stop: () => cluster.stop(),
    };
  },
};
