import { TidelineClient } from '#client';
import type { Benchmark } from '../bench.js';
import { looping } from '../looping.js';
import { startTideline } from '../tideline-cluster.js';
import { VALUE, keyOf } from '../workload.js';

const SPLIT = 'log nodes ×3, materializers ×2, gateway';
const PARTITIONS = 8;
const IN_FLIGHT = 256;

/**
 * The same work by other numbers of processes: on a machine with more cores than a process can use they are how to use them, and on one with
 * few they should cost little. Eight partitions of three replicas each, whatever the shape.
 */
export const shape: Benchmark = {
  name: 'shape',
  unit: 'puts/s',
  higherIsBetter: true,
  summary: `puts by one native client, ${IN_FLIGHT} in flight over ${PARTITIONS} partitions, by processes of other kinds and numbers`,
  cases: ['3 nodes', SPLIT],
  peers: [],
  ours: async ({ directory }, which) => {
    const topic = 'shape';
    const cluster = await startTideline(directory, {
      split: which === SPLIT,
      topics: `${topic}:${PARTITIONS}`,
    });
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    return looping({
      description: `Tideline, synced: ${which}`,
      which: `${IN_FLIGHT} in flight`,
      operation: (n) => client.set(topic, keyOf(n), VALUE),
      measured: (work) => cluster.measured(work, topic),
      stop: async () => {
        await client.close();
        await cluster.stop();
      },
    });
  },
};
