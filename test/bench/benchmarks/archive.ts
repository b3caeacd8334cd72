import { join } from 'node:path';
import { LoopShare, asPartitionId, systemClock, systemScheduler } from '#kernel';
import { openCatalog } from '#catalog';
import { BUILT_IN_TYPES, MapView } from '#views';
import { ArchiveWriter } from '../../../apps/materializer/src/archive-writer.js';
import { BatchSource } from '../../../libs/views/src/testing/index.js';
import { FULL_SIZE_SECONDS, type Benchmark, type BenchmarkSettings, type Contender, type Sample } from '../bench.js';
import { cpuSeconds } from '../processes.js';
import { setsOf } from '../stamped-batches.js';

const EXPIRIES: Readonly<Record<string, number>> = { '100,000 expiries': 100_000, '1,000,000 expiries': 1_000_000 };
const EXPIRIES_OF_A_SHORT_RUN = 10_000;
const EXPIRIES_OF_A_WARM_UP = 100_000;
const TTL_MS = 1000;
/** As a host's. */
const TURN_SHARE_MS = 4;

/** Each pass: entries that have expired leave a view by way of the archive, each transaction synced. */
const throughSqlite = async ({ directory, seconds }: BenchmarkSettings, which: string): Promise<Contender> => {
  const size = seconds >= FULL_SIZE_SECONDS ? EXPIRIES[which] : EXPIRIES_OF_A_SHORT_RUN;
  const catalog = await openCatalog(`sqlite:${join(directory, 'catalog.sqlite')}`);
  const source = new BatchSource();
  const share = new LoopShare({ clock: systemClock, scheduler: systemScheduler }, TURN_SHARE_MS);
  /** Seconds it took, and of the processor. */
  const pass = async (entries: number): Promise<{ wall: number; cpu: number }> => {
    const view = new MapView({ dataTypes: BUILT_IN_TYPES, archive: true });
    for (const batch of setsOf(entries, { source, ttlMs: TTL_MS })) view.applyBatches(batch);
    source.logTime += 2 * TTL_MS;
    view.applyBatches(source.beacon());
    const cpu = cpuSeconds(process.pid);
    const began = performance.now();
    let left = entries;
    await new Promise<void>((resolve, reject) => {
      const writer = new ArchiveWriter({
        archive: catalog.archive,
        view: 'bench',
        partition: asPartitionId(0),
        state: view,
        scheduler: systemScheduler,
        share,
        removed: (count) => {
          left -= count;
          if (left > 0) return;
          writer.close();
          resolve();
        },
        failed: reject,
      });
      writer.work();
    });
    return { wall: (performance.now() - began) / 1000, cpu: cpuSeconds(process.pid) - cpu };
  };
  return {
    description: 'SQLite in a file, WAL, synchronous=FULL',
    warmUp: () => pass(Math.min(size, EXPIRIES_OF_A_WARM_UP)),
    run: async (time): Promise<Sample> => {
      let taken = 0;
      let cpu = 0;
      let passes = 0;
      do {
        const { wall, cpu: used } = await pass(size);
        taken += wall;
        cpu += used;
        passes++;
      } while (taken < time);
      const operations = passes * size;
      return {
        value: operations / taken,
        operations,
        cpuUs: { load: (cpu * 1e6) / operations },
      };
    },
    stop: () => catalog.close(),
  };
};

export const archive: Benchmark = {
  name: 'archive',
  unit: 'expiries/s',
  higherIsBetter: true,
  summary: 'entries that leave a view by way of its archive: from expired to archived, synced and out of memory',
  cases: Object.keys(EXPIRIES),
  peers: [],
  ours: throughSqlite,
};
