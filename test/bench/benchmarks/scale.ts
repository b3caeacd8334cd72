import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FULL_SIZE_SECONDS, type Benchmark, type Sample } from '../bench.js';
import { HEARTBEATS_PER_SECOND, REPLICATION } from '../simulated-fleet.js';

/** docs/scaling.md assumes message and memory counts; the simulator says whether they are so. */
const program = join(dirname(fileURLToPath(import.meta.url)), '..', 'scale-probe.js');

interface Traffic {
  readonly seconds: number;
  readonly messages: number;
  readonly frames: number;
  readonly bytes: number;
}

interface Probe {
  readonly heapPerReplica: number;
  readonly peersPerNode: number;
  readonly leadersMax: number;
  readonly idle: Traffic;
  readonly loaded: Traffic;
}

const FLEETS: Readonly<Record<string, { readonly nodes: number; readonly partitions: number }>> = {
  '100 nodes, 1000 partitions': { nodes: 100, partitions: 1000 },
  '16 nodes, 100 partitions': { nodes: 16, partitions: 100 },
  '3 nodes, 64 partitions': { nodes: 3, partitions: 64 },
};
const OF_A_SHORT_RUN = { nodes: 10, partitions: 30 };
const VIRTUAL_SECONDS = 5;
/** Appended by all clients together, per partition. */
const BATCHES_PER_PARTITION = 10;

const probe = (args: readonly number[]): Promise<Probe> =>
  new Promise((resolve, reject) => {
    const child = fork(program, args.map(String), { execArgv: ['--expose-gc'], stdio: 'inherit' });
    child.once('message', (message) => resolve(message as Probe));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the simulation ended with ${code}`)));
  });

/** A heartbeat to each follower of each partition led here, and its answer: as many are led as the average. */
const assumedIdleMessages = ({ nodes, partitions }: { nodes: number; partitions: number }): number =>
  (partitions / nodes) * (REPLICATION - 1) * HEARTBEATS_PER_SECOND * 2;

export const scale: Benchmark = {
  name: 'scale',
  unit: 'messages/s per idle node',
  higherIsBetter: false,
  summary:
    'more nodes and partitions than fit here, simulated: messages, frames and memory that docs/scaling.md assumes',
  cases: Object.keys(FLEETS),
  peers: [],
  ours: (_settings, which) =>
    Promise.resolve({
      description: 'log nodes in virtual time',
      warmUp: () => Promise.resolve(),
      run: async (seconds): Promise<Sample> => {
        const fleet = seconds >= FULL_SIZE_SECONDS ? FLEETS[which] : OF_A_SHORT_RUN;
        const { nodes, partitions } = fleet;
        const batches = partitions * BATCHES_PER_PARTITION;
        const { idle, loaded, heapPerReplica, peersPerNode, leadersMax } = await probe([
          nodes,
          partitions,
          seconds >= FULL_SIZE_SECONDS ? VIRTUAL_SECONDS : 1,
          batches,
        ]);
        const perNode = (count: number, traffic: Traffic): number => count / traffic.seconds / nodes;
        return {
          value: perNode(idle.messages, idle),
          also: {
            nodes,
            partitions,
            'assumed messages/s': assumedIdleMessages(fleet),
            'frames/s idle': perNode(idle.frames, idle),
            'bytes per idle message': idle.bytes / idle.messages,
            'messages per batch': (loaded.messages - idle.messages) / (batches * loaded.seconds),
            'bytes per batch': (loaded.bytes - idle.bytes) / (batches * loaded.seconds),
            'peers per node': peersPerNode,
            'leaders on one node, most': leadersMax,
            'heap KiB per replica': heapPerReplica / 1024,
          },
        };
      },
      stop: () => Promise.resolve(),
    }),
};
