import { join } from 'node:path';
import { ClusterLauncher } from '../../apps/cli/src/cluster-launcher.js';
import { freeBasePort } from '../support/free-ports.js';
import { cpuSeconds, untilTrue } from './processes.js';
import type { Sample } from './bench.js';

/** Three standalone nodes with their defaults (synced), as every benchmark of ours uses them. */
export interface TidelineCluster {
  readonly launcher: ClusterLauncher;
  /** Native addresses, all nodes. */
  readonly addresses: readonly string[];
  /** HTTP port of the node that leads partition 0 of the topic at the moment. */
  leaderHttpPort(topic: string): Promise<number>;
  /** CPU µs per operation of the three nodes together while `work` ran. */
  measured(work: () => Promise<Sample>): Promise<Sample>;
  stop(): Promise<void>;
}

export const TIDELINE_DESCRIPTION = 'Tideline ×3, synced';

export const startTideline = async (
  directory: string,
  options: { readonly nodes?: number; readonly topics?: string } = {},
): Promise<TidelineCluster> => {
  const nodes = options.nodes ?? 3;
  const launcher = new ClusterLauncher({
    nodes,
    dataDir: join(directory, 'tideline'),
    basePort: await freeBasePort(nodes),
    split: false,
    options: { 'log-level': 'warn', ...(options.topics ? { topics: options.topics } : {}) },
  });
  try {
    await launcher.start();
  } catch (error) {
    await launcher.stop();
    throw error;
  }
  return {
    launcher,
    addresses: launcher.gateways.map((process) => process.nativeAddress),
    leaderHttpPort: async (topic) => {
      let leader = 0;
      await untilTrue(`a leader of ${topic}`, async () => {
        const response = await fetch(`http://${launcher.gateways[0].httpAddress}/v1/cluster`);
        const cluster = (await response.json()) as { topics: { name: string; partitions: { leader: number }[] }[] };
        leader = cluster.topics.find((t) => t.name === topic)?.partitions[0]?.leader ?? 0;
        return leader > 0;
      });
      return launcher.gateways[leader - 1].basePort;
    },
    measured: async (work) => {
      const pids = launcher.processes.map((process) => process.pid);
      const cpu = (): number => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
      const before = cpu();
      const began = performance.now();
      const sample = await work();
      const operations = (sample.value * (performance.now() - began)) / 1000;
      return { ...sample, cpuUs: { servers: ((cpu() - before) * 1e6) / Math.max(1, operations) } };
    },
    stop: () => launcher.stop(),
  };
};
