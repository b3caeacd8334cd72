import { BUILT_IN_TYPES, MapView } from '#views';
import { TidelineClient } from '#client';
import { FULL_SIZE_SECONDS, type Benchmark, type BenchmarkSettings, type Contender, type Sample } from '../bench.js';
import { cpuSeconds } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';
import { BATCH_RECORDS, setsOf } from '../stamped-batches.js';
import { startTideline } from '../tideline-cluster.js';
import { fillEntries } from '../workload.js';

/** A view that is built again from the log. */
const VIEW = 'one view, one core';
const ENTRIES_OF_A_VIEW = 500_000;
const ENTRIES_OF_A_NODE: Readonly<Record<string, number>> = {
  'a killed node, 1 M records': 1e6,
  'a killed node, 500 k records': 5e5,
};
const SHORT_RUN = 50_000;
/** As the feed of a view gives them. */
const SLICE_BATCHES = 2;

/** Each pass a new view over the same committed batches. */
const viewReplay = (seconds: number): Contender => {
  const entries = seconds >= FULL_SIZE_SECONDS ? ENTRIES_OF_A_VIEW : SHORT_RUN;
  const batches = [...setsOf(entries)];
  const slices: Buffer[] = [];
  for (let at = 0; at < batches.length; at += SLICE_BATCHES)
    slices.push(Buffer.concat(batches.slice(at, at + SLICE_BATCHES)));
  return {
    description: 'a map view, new keys',
    run: async (time): Promise<Sample> => {
      await Promise.resolve();
      const cpu = cpuSeconds(process.pid);
      const began = performance.now();
      const until = began + time * 1000;
      let sets = 0;
      while (performance.now() < until) {
        const view = new MapView({ dataTypes: BUILT_IN_TYPES });
        for (const slice of slices) view.applyBatches(slice);
        sets += batches.length * BATCH_RECORDS;
      }
      const value = (sets * 1000) / (performance.now() - began);
      return { value, operations: sets, cpuUs: { load: ((cpuSeconds(process.pid) - cpu) * 1e6) / sets } };
    },
    stop: () => Promise.resolve(),
  };
};

/** One node is killed, so that it writes no snapshot, and started again: its log is read and every record applied anew. */
const nodeReplay = async ({ directory, seconds }: BenchmarkSettings, which: string): Promise<Contender> => {
  const entries = seconds >= FULL_SIZE_SECONDS ? ENTRIES_OF_A_NODE[which] : SHORT_RUN;
  const cluster = await startTideline(directory, { nodes: 1 });
  const { launcher, addresses } = cluster;
  const [node] = launcher.processes;
  /** Null while the view does not answer. */
  const appliedOffset = async (): Promise<number | null> => {
    const answer = await fetch(`http://${node.httpAddress}/v1/views/default`).catch(() => null);
    if (answer?.ok !== true) return null;
    const [partition] = ((await answer.json()) as { partitions: { offset: number }[] }).partitions;
    return partition?.offset ?? null;
  };
  const restart = async (): Promise<number> => {
    await node.stop('SIGKILL');
    const began = performance.now();
    node.start();
    await launcher.ready();
    await untilTrue('the last record to be applied', async () => {
      const offset = await appliedOffset();
      return offset !== null && offset >= known;
    });
    return (performance.now() - began) / 1000;
  };
  let known = 0;
  const emptyStartSeconds = await restart();
  const client = await TidelineClient.connect({ addresses: [...addresses] });
  await fillEntries(client, entries);
  // Keys come round, so the number of entries does not tell; the end of the log does.
  known = (await client.endOffset('default')) - 1;
  await client.close();
  return {
    description: 'one node, from kill -9 to the last record',
    warmUp: () => Promise.resolve(),
    run: async (): Promise<Sample> => {
      const recovery = await restart();
      const cpu = cpuSeconds(node.pid);
      return {
        value: entries / recovery,
        operations: entries,
        cpuUs: { servers: (cpu * 1e6) / entries },
        also: { 'recovery s': recovery, 'start of an empty node s': emptyStartSeconds },
      };
    },
    stop: () => cluster.stop(),
  };
};

export const replay: Benchmark = {
  name: 'replay',
  unit: 'sets/s',
  higherIsBetter: true,
  summary:
    'a view built again from the log: in one process, and by a node that was killed (start of the process included)',
  cases: [VIEW, ...Object.keys(ENTRIES_OF_A_NODE)],
  peers: [],
  ours: (settings, which) =>
    which === VIEW ? Promise.resolve(viewReplay(settings.seconds)) : nodeReplay(settings, which),
};
