import { TidelineClient } from '#client';
import { FULL_SIZE_SECONDS, type Benchmark } from '../bench.js';
import { looping } from '../looping.js';
import { residentBytes } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';
import { describeTideline, startTideline } from '../tideline-cluster.js';
import { VALUE, fillEntries } from '../workload.js';

/** What becomes of a put when there is more of everything: entries, partitions, nodes. */
const WRITES = '64 in flight';
const ENTRIES: Readonly<Record<string, number>> = {
  '10 k entries': 1e4,
  '100 k entries': 1e5,
  '1 M entries': 1e6,
  '10 M entries': 1e7,
};
const ENTRIES_OF_A_SHORT_RUN = 20_000;
const ENTRIES_OTHERWISE = 1e4;
const APPLIED_WITHIN_MS = 300_000;

const keyAmong = (n: number): string => `grow-key-${String(n).padStart(11, '0')}`;

/** `8 partitions` of `8 partitions`, else the default. */
const numberOf = (which: string, unit: string, otherwise: number): number =>
  which.includes(unit) ? Number(which.split(' ')[0]) : otherwise;

export const growth: Benchmark = {
  name: 'growth',
  unit: 'puts/s',
  higherIsBetter: true,
  summary: `puts by one native client, ${WRITES}, with more entries (one partition, three nodes), partitions, nodes`,
  cases: [...Object.keys(ENTRIES), '1 partition', '8 partitions', '64 partitions', '1 node', '3 nodes', '5 nodes'],
  peers: [],
  ours: async ({ directory, seconds }, which) => {
    const nodes = numberOf(which, 'node', 3);
    const partitions = numberOf(which, 'partition', 1);
    const wanted = ENTRIES[which] ?? ENTRIES_OTHERWISE;
    const entries = seconds >= FULL_SIZE_SECONDS ? wanted : Math.min(wanted, ENTRIES_OF_A_SHORT_RUN);
    const topic = 'grow';
    const cluster = await startTideline(directory, { nodes, topics: `${topic}:${partitions}` });
    const [first] = cluster.launcher.processes;
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    const before = residentBytes(first.pid);
    const began = performance.now();
    await fillEntries(client, entries, { topic, key: keyAmong });
    const fillSeconds = (performance.now() - began) / 1000;
    // Every view has applied everything, or the first runs would be shared with that.
    for (const { httpAddress } of cluster.launcher.gateways) {
      const applied = async (): Promise<boolean> => {
        const answer = await fetch(`http://${httpAddress}/v1/views/${topic}`).catch(() => null);
        return answer?.ok === true && ((await answer.json()) as { entries: number }).entries >= entries;
      };
      await untilTrue(`the view at ${httpAddress} to apply ${entries} entries`, applied, APPLIED_WITHIN_MS);
    }
    const resident = (residentBytes(first.pid) - before) / entries;
    // A step that is prime to any count: neighbours in time are strangers in the index.
    const spread = (n: number): string => keyAmong((n * 7_368_787) % entries);
    return looping({
      description: describeTideline(nodes),
      which: WRITES,
      operation: (n) => client.set(topic, spread(n), VALUE),
      measured: async (work) => {
        const sample = await cluster.measured(work, topic);
        const also = { 'fill entries/s': entries / fillSeconds, 'resident bytes an entry after the fill': resident };
        return { ...sample, also };
      },
      stop: async () => {
        await client.close();
        await cluster.stop();
      },
    });
  },
};
