import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { openCatalog } from '#catalog';
import { TidelineClient } from '#client';
import { systemClock, systemScheduler } from '#kernel';
import { nodeFileSystem } from '#storage';
import { ViewHost } from '#apps/materializer';
import { MemoryCommandLog } from '../../../libs/command-log/src/testing/index.js';
import { SnapshotStore } from '../../../apps/materializer/src/snapshot-store.js';
import { FULL_SIZE_SECONDS, type Benchmark, type BenchmarkSettings, type Contender, type Sample } from '../bench.js';
import { cpuSeconds } from '../processes.js';
import { untilTrue } from '../../support/until-true.js';
import { BATCH_RECORDS, setsOf } from '../stamped-batches.js';
import { startTideline } from '../tideline-cluster.js';

/** A host of one view, with its store of snapshots and SQLite catalog on disk, over a log in memory. */
const WRITE = 'write, while it is served';
const FROM_SNAPSHOT = 'host starts from its snapshot';
const FROM_LOG = 'host starts from the log';
/** A process that is started again; its log is on disk. */
const NODE_FROM_SNAPSHOT = 'node starts from its snapshot';
const NODE_FROM_LOG = 'node starts from its log';

const ENTRIES = 1_000_000;
const SHORT_RUN = 20_000;
const VIEW = 'default';
const HOUR_MS = 3_600_000;

const entriesOf = (seconds: number): number => (seconds >= FULL_SIZE_SECONDS ? ENTRIES : SHORT_RUN);

/** Seconds and CPU of the work, and the longest time in which nothing else was done. */
const timed = async (work: () => Promise<unknown>): Promise<{ seconds: number; cpu: number; pauseMs: number }> => {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpu = cpuSeconds(process.pid);
  const began = performance.now();
  await work();
  const seconds = (performance.now() - began) / 1000;
  delay.disable();
  return { seconds, cpu: cpuSeconds(process.pid) - cpu, pauseMs: delay.max / 1e6 };
};

const inProcess = async ({ directory, seconds }: BenchmarkSettings, which: string): Promise<Contender> => {
  const entries = entriesOf(seconds);
  const log = new MemoryCommandLog({ topics: [{ name: VIEW }] });
  await log.topic(VIEW);
  mkdirSync(directory, { recursive: true });
  const catalog = await openCatalog(`sqlite:${join(directory, 'catalog.sqlite')}`);
  const open = (kept: boolean): ViewHost => {
    const store = new SnapshotStore({
      fileSystem: nodeFileSystem,
      catalog: catalog.snapshots,
      directory: join(directory, 'snapshots'),
      host: 'bench:7420',
      kept: 2,
      clock: systemClock,
      report: (message) => console.error(message),
    });
    return new ViewHost({
      log,
      clock: systemClock,
      scheduler: systemScheduler,
      ...(kept && { snapshots: { store, intervalMs: HOUR_MS } }),
    });
  };
  const full = async (host: ViewHost): Promise<void> => {
    const { offset } = await log.barrier({ topic: VIEW, partition: 0 });
    await untilTrue('all to be applied', () => {
      const [stats] = host.partitionStats();
      return Promise.resolve(stats !== undefined && stats.offset >= offset && stats.entries === entries);
    });
  };
  for (const batch of setsOf(entries)) await log.append({ topic: VIEW, partition: 0 }, batch, { acks: 'quorum' });
  let host: ViewHost | null = open(true);
  await full(host);
  await host.upkeep.createSnapshots({ view: VIEW, partition: null });
  let extra = 0;
  return {
    description: `${entries.toLocaleString('en-US')} entries of 20 + 100 bytes, one partition, synced and read back`,
    warmUp: () => Promise.resolve(),
    run: async (): Promise<Sample> => {
      let took: Awaited<ReturnType<typeof timed>>;
      let also: Record<string, number> = {};
      if (which === WRITE) {
        // Something new, so that there is something to write.
        const [batch] = [...setsOf(BATCH_RECORDS)];
        await log.append({ topic: VIEW, partition: 0 }, batch, { acks: 'quorum' });
        extra += BATCH_RECORDS;
        await full(host!);
        let bytes = 0;
        took = await timed(async () => {
          const [written] = await host!.upkeep.createSnapshots({ view: VIEW, partition: null });
          ({ bytes } = written);
        });
        also = { 'bytes an entry': bytes / entries };
      } else {
        host?.close();
        host = null;
        took = await timed(async () => {
          host = open(which === FROM_SNAPSHOT);
          await full(host);
        });
      }
      return {
        value: took.seconds,
        operations: entries,
        cpuUs: { load: (took.cpu * 1e6) / entries },
        also: { ...also, 'longest pause ms': took.pauseMs, 'records besides': extra },
      };
    },
    stop: async () => {
      host?.close();
      await log.close();
      await catalog.close();
    },
  };
};

const aNode = async ({ directory, seconds }: BenchmarkSettings, which: string): Promise<Contender> => {
  const entries = entriesOf(seconds);
  const cluster = await startTideline(directory, { nodes: 1 });
  const { launcher, addresses } = cluster;
  const [node] = launcher.processes;
  let known = 0;
  const restart = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<number> => {
    await node.stop(signal);
    const began = performance.now();
    node.start();
    await launcher.ready();
    await untilTrue('the last record to be applied', async () => {
      const answer = await fetch(`http://${node.httpAddress}/v1/views/${VIEW}`).catch(() => null);
      return answer?.ok === true && ((await answer.json()) as { entries: number }).entries >= known;
    });
    return (performance.now() - began) / 1000;
  };
  const client = await TidelineClient.connect({ addresses: [...addresses] });
  const value = Buffer.alloc(100, 'v');
  for (let n = 0; n < entries; n += BATCH_RECORDS) {
    const records = Array.from({ length: Math.min(BATCH_RECORDS, entries - n) }, (_, i) => ({
      key: `key:${String(n + i).padStart(16, '0')}`,
      value,
    }));
    await client.append(VIEW, records);
  }
  await client.close();
  const empty = which === NODE_FROM_SNAPSHOT ? 'SIGTERM' : 'SIGKILL';
  known = entries;
  return {
    description: `${entries.toLocaleString('en-US')} entries, from the start of the process to the last record`,
    warmUp: () => Promise.resolve(),
    run: async (): Promise<Sample> => ({ value: await restart(empty), operations: entries }),
    stop: () => cluster.stop(),
  };
};

export const snapshot: Benchmark = {
  name: 'snapshot',
  unit: 's',
  higherIsBetter: false,
  summary: 'writing a snapshot of 1 M entries, and starting from one or from the log',
  cases: [WRITE, FROM_SNAPSHOT, FROM_LOG, NODE_FROM_SNAPSHOT, NODE_FROM_LOG],
  peers: [],
  ours: (settings, which) =>
    which === NODE_FROM_SNAPSHOT || which === NODE_FROM_LOG ? aNode(settings, which) : inProcess(settings, which),
};
