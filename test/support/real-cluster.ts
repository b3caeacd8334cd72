import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClusterLauncher, type LaunchedProcess } from '../../apps/cli/src/cluster-launcher.js';
import { reservePorts } from './free-ports.js';

/** Real processes with a data directory of their own that goes when they are stopped. */
export interface RealCluster {
  readonly launcher: ClusterLauncher;
  readonly directory: string;
  /** Native addresses of all gateways. */
  readonly addresses: string[];
  /** The process that leads partition 0 of a topic. */
  leader(topic: string): Promise<LaunchedProcess>;
  stop(): Promise<void>;
}

export const startRealCluster = async (
  options: { readonly nodes?: number; readonly split?: boolean; readonly topics?: string } = {},
): Promise<RealCluster> => {
  const nodes = options.nodes ?? 3;
  const split = options.split ?? false;
  const directory = mkdtempSync(join(tmpdir(), 'tideline-test-'));
  const ports = await reservePorts(split ? nodes + 3 : nodes);
  const launcher = new ClusterLauncher({
    nodes,
    dataDir: directory,
    basePort: ports.basePort,
    split,
    options: { 'log-level': 'warn', ...(options.topics ? { topics: options.topics } : {}) },
  });
  const stop = async (): Promise<void> => {
    await launcher.stop();
    ports.release();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await launcher.start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    launcher,
    directory,
    addresses: launcher.gateways.map((process) => process.nativeAddress),
    leader: async (topic) => {
      for (;;) {
        for (const gateway of launcher.gateways.filter((process) => process.running)) {
          const id = await leaderAccordingTo(gateway, topic);
          const process = id > 0 ? launcher.logNodes[id - 1] : undefined;
          if (process?.running) return process;
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    stop,
  };
};

const leaderAccordingTo = async (gateway: LaunchedProcess, topic: string): Promise<number> => {
  try {
    const response = await fetch(`http://${gateway.httpAddress}/v1/cluster`);
    const cluster = (await response.json()) as { topics: { name: string; partitions: { leader: number }[] }[] };
    return cluster.topics.find((t) => t.name === topic)?.partitions[0]?.leader ?? 0;
  } catch {
    return 0;
  }
};
