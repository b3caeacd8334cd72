import { join } from 'node:path';
import { ClusterLauncher } from '../../apps/cli/src/cluster-launcher.js';
import { freeBasePort } from '../support/free-ports.js';
import { leaderFirst, measuringCpu, profileProcesses } from './processes.js';
import { untilTrue } from '../support/until-true.js';
import type { Sample } from './bench.js';

/** Standalone nodes, three unless said otherwise, with their defaults (synced), as every benchmark of ours uses them. */
export interface TidelineCluster {
  readonly launcher: ClusterLauncher;
  /** Native addresses, all nodes. */
  readonly addresses: readonly string[];
  /** HTTP port of the node that leads partition 0 of the topic at the moment. */
  leaderHttpPort(topic: string): Promise<number>;
  /** Of the same, counted from 0. */
  leaderIndex(topic: string): Promise<number>;
  /** Adds CPU µs per operation of each node while `work` ran; the first is the leader of the topic (default: `default`). */
  measured(work: () => Promise<Sample>, topic?: string): Promise<Sample>;
  stop(): Promise<void>;
}

export const TIDELINE_DESCRIPTION = 'Tideline ×3, synced';

export const describeTideline = (nodes: number): string => `Tideline ×${nodes}, synced`;

export const startTideline = async (
  directory: string,
  options: {
    readonly nodes?: number;
    readonly split?: boolean;
    readonly topics?: string;
    readonly readMode?: 'barrier' | 'lease';
  } = {},
): Promise<TidelineCluster> => {
  const nodes = options.nodes ?? 3;
  const launcher = new ClusterLauncher({
    nodes,
    dataDir: join(directory, 'tideline'),
    // The split shape has two materializers and a gateway beside the log nodes.
    basePort: await freeBasePort(options.split ? nodes + 3 : nodes),
    split: options.split === true,
    options: {
      'log-level': 'warn',
      ...(options.topics ? { topics: options.topics } : {}),
      ...(options.readMode ? { 'read-mode': options.readMode } : {}),
    },
  });
  try {
    await launcher.start();
  } catch (error) {
    await launcher.stop();
    throw error;
  }
  const leaderIndex = async (topic: string): Promise<number> => {
    let leader = 0;
    await untilTrue(`a leader of ${topic}`, async () => {
      const response = await fetch(`http://${launcher.gateways[0].httpAddress}/v1/cluster`);
      const cluster = (await response.json()) as { topics: { name: string; partitions: { leader: number }[] }[] };
      leader = cluster.topics.find((t) => t.name === topic)?.partitions[0]?.leader ?? 0;
      return leader > 0;
    });
    return leader - 1;
  };
  if (process.env['BENCH_PROFILE_DIR'] !== undefined) profileProcesses(launcher.processes.map(({ pid }) => pid));
  const pids = (): number[] => launcher.processes.map((process) => process.pid);
  return {
    launcher,
    addresses: launcher.gateways.map((process) => process.nativeAddress),
    leaderIndex,
    leaderHttpPort: async (topic) => launcher.gateways[await leaderIndex(topic)].basePort,
    measured: async (work, topic = 'default') => measuringCpu(leaderFirst(pids(), await leaderIndex(topic)), work),
    stop: () => launcher.stop(),
  };
};
