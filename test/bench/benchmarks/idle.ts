import type { Benchmark, Sample } from '../bench.js';
import { leadingNumber } from '../looping.js';
import { cpuSeconds, residentBytes, toggleProfile } from '../processes.js';
import { describeTideline, startTideline } from '../tideline-cluster.js';

/** What partitions cost that nobody uses: each is a Raft group with heartbeats, a log and a view. */
const SETTLE_MS = 5000;
const LOOK_AGAIN_MS = 10;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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
      warmUp: () => pause(SETTLE_MS),
      run: async (seconds): Promise<Sample> => {
        const pids = processes.map(({ pid }) => pid);
        toggleProfile(pids);
        const before = pids.map(cpuSeconds);
        const used = (): number => pids.reduce((total, pid, i) => total + cpuSeconds(pid) - before[i], 0);
        const began = performance.now();
        await pause(seconds * 1000);
        // The kernel counts in hundredths of a second: less than one has not been measured yet.
        while (used() === 0 && before.some((counted) => counted > 0)) await pause(LOOK_AGAIN_MS);
        const elapsed = (performance.now() - began) / 1000;
        const usedSeconds = used();
        toggleProfile(pids);
        return {
          value: (usedSeconds * 1000) / elapsed / nodes,
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
