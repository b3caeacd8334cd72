import type { Benchmark, Sample } from '../bench.js';
import { leadingNumber } from '../looping.js';
import { cpuSeconds, residentBytes } from '../processes.js';
import { describeTideline, startTideline } from '../tideline-cluster.js';

/** What partitions cost that nobody uses: each is a Raft group with heartbeats, a log and a view. */
const peerCounter = (text: string, name: string): number => {
  let sum = 0;
  for (const line of text.split('\n')) if (line.startsWith(name)) sum += Number(line.split(' ').at(-1));
  return sum;
};

const SETTLE_MS = 1500;

export const idle: Benchmark = {
  name: 'idle',
  unit: 'CPU ms/s per node',
  higherIsBetter: false,
  summary: 'CPU time, memory and messages of a node whose partitions nobody uses',
  cases: ['1 partition', '64 partitions', '256 partitions', '1 partition on 5 nodes', '64 partitions on 5 nodes'],
  peers: [],
  ours: async ({ directory }, which) => {
    const nodes = which.endsWith('on 5 nodes') ? 5 : 3;
    const cluster = await startTideline(directory, { nodes, topics: `idle:${leadingNumber(which)}` });
    const { processes } = cluster.launcher;
    const metrics = async (): Promise<string[]> =>
      Promise.all(processes.map(async ({ httpAddress }) => (await fetch(`http://${httpAddress}/metrics`)).text()));
    const sum = (texts: readonly string[], name: string): number =>
      texts.reduce((total, text) => total + peerCounter(text, name), 0);
    return {
      description: describeTideline(nodes),
      warmUp: () => new Promise((resolve) => setTimeout(resolve, SETTLE_MS)),
      run: async (seconds): Promise<Sample> => {
        const before = await metrics();
        const cpu = processes.map(({ pid }) => cpuSeconds(pid));
        const began = performance.now();
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
        const used = processes.reduce((total, { pid }, i) => total + cpuSeconds(pid) - cpu[i], 0);
        const elapsed = (performance.now() - began) / 1000;
        const after = await metrics();
        const rate = (name: string): number => (sum(after, name) - sum(before, name)) / elapsed / nodes;
        return {
          value: (used * 1000) / elapsed / nodes,
          also: {
            'messages/s sent per node': rate('tideline_peer_messages_sent'),
            'frames/s sent per node': rate('tideline_peer_frames_sent'),
            'bytes/s sent per node': rate('tideline_peer_bytes_sent'),
            'resident MiB per node':
              processes.reduce((total, { pid }) => total + residentBytes(pid), 0) / nodes / 1024 ** 2,
          },
        };
      },
      stop: () => cluster.stop(),
    };
  },
};
