/**
 * A map view at size, in a process of its own; what it takes and how long it holds up everything else, on the path a host goes.
 *
 *   node --expose-gc view-map-probe.js alone ENTRIES
 *   node --expose-gc view-map-probe.js hosted ENTRIES DIRECTORY
 */
import { ByteWriter, asOffset, systemClock, systemScheduler } from '#kernel';
import { nodeFileSystem } from '#storage';
import { BUILT_IN_TYPES, MapView } from '#views';
import { SnapshotStore } from '../../apps/materializer/src/snapshot-store.js';
import { ViewHost } from '../../apps/materializer/src/view-host.js';
import { InMemorySnapshotCatalog } from '../../libs/catalog/src/testing/index.js';
import { BatchSource } from '../../libs/views/src/testing/index.js';
import { GENERATED, GeneratedLog } from './generated-log.js';
import { TurnWatch } from './longest-turn.js';
import { setsOf } from './stamped-batches.js';
import { VALUE } from './workload.js';

const [part, entriesText, directory] = process.argv.slice(2);
const entries = Number(entriesText);
const EXPIRING = Math.min(1_000_000, entries);
const TTL_MS = 60_000;
const GETS = 1_024_000;
/** Of the view on which V8 compiles what is measured. */
const WARM_ENTRIES = 20_000;
/** As many as a client has in flight, which ask with one request. */
const GETS_TOGETHER = 256;
const FOUND_BYTES = 192;
const RESIDENT_SETTLES_MS = 200;
const IDLE_MS = Math.min(5000, entries / 200);

const collect = (): void => {
  for (let i = 0; i < 4; i++) (globalThis as { gc?: () => void }).gc?.();
};
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const keyOf = (n: number): Buffer => Buffer.from(`bench-key-${String(n).padStart(10, '0')}`);

/** One view alone: memory, sets, gets. */
const alone = async (): Promise<Record<string, number>> => {
  const warm = new MapView({ dataTypes: BUILT_IN_TYPES });
  for (const batch of setsOf(WARM_ENTRIES)) warm.applyBatches(batch);
  collect();
  const before = process.memoryUsage.rss();
  const view = new MapView({ dataTypes: BUILT_IN_TYPES });
  const source = new BatchSource();
  let sets = 0;
  let cpuUs = 0;
  const apply = (batch: Buffer): void => {
    const cpu = process.cpuUsage();
    const began = performance.now();
    view.applyBatches(batch);
    sets += performance.now() - began;
    const { user, system } = process.cpuUsage(cpu);
    cpuUs += user + system;
  };
  for (const batch of setsOf(entries, { source })) apply(batch);
  collect();
  await pause(RESIDENT_SETTLES_MS);
  const inserted = (process.memoryUsage.rss() - before) / entries;
  const setsPerSecond = (entries * 1000) / sets;
  const setsPerCpuSecond = (entries * 1e6) / cpuUs;
  type Gets = (of: MapView, keys: readonly Buffer[]) => void;
  /** Of a get, keys not included: those of a request were decoded just before. */
  const timed = (gets: Gets, of: MapView, among: number): { us: number; cpuUs: number } => {
    collect();
    let ms = 0;
    let cpu = 0;
    for (let first = 0; first < GETS; first += GETS_TOGETHER) {
      const keys = Array.from({ length: GETS_TOGETHER }, (_, i) => keyOf(((first + i) * 7_919_993) % among));
      const cpuBefore = process.cpuUsage();
      const began = performance.now();
      gets(of, keys);
      ms += performance.now() - began;
      const { user, system } = process.cpuUsage(cpuBefore);
      cpu += user + system;
    }
    return { us: (ms * 1000) / GETS, cpuUs: cpu / GETS };
  };
  const warmed = (gets: Gets): { us: number; cpuUs: number } => {
    timed(gets, warm, WARM_ENTRIES);
    return timed(gets, view, entries);
  };
  const getTogether = warmed((of, keys) => {
    const writer = new ByteWriter(keys.length * FOUND_BYTES);
    of.writeFound(keys, of.logTime, Number.MAX_SAFE_INTEGER, writer);
    if (writer.position < keys.length * VALUE.length) throw new Error('a key is missing');
  });
  const readAlone = warmed((of, keys) => {
    for (const key of keys) {
      const entry = of.read(key, of.logTime);
      if (entry === null || entry.chunk[entry.valueEnd - 1] !== VALUE[VALUE.length - 1])
        throw new Error('a key is missing');
    }
  });
  const getAlone = warmed((of, keys) => {
    for (const key of keys) if (of.get(key, of.logTime) === null) throw new Error('a key is missing');
  });
  sets = cpuUs = 0;
  for (const batch of setsOf(entries, { source })) apply(batch);
  const overwritesPerSecond = (entries * 1000) / sets;
  collect();
  await pause(RESIDENT_SETTLES_MS);
  const own = view.bytes / entries;
  const overwritten = (process.memoryUsage.rss() - before) / entries;
  for (let freed = 1; freed > 0;) freed = view.reclaim(1024 * 1024);
  collect();
  await pause(RESIDENT_SETTLES_MS);
  return {
    'after inserts B/entry': inserted,
    'after overwrites B/entry': overwritten,
    'after overwrites, as the view says B/entry': own,
    'when idle after them B/entry': (process.memoryUsage.rss() - before) / entries,
    'sets/s': setsPerSecond,
    'sets per CPU second': setsPerCpuSecond,
    'overwrites/s': overwritesPerSecond,
    'get us': getTogether.us,
    'get CPU us': getTogether.cpuUs,
    'get by itself, in place us': readAlone.us,
    'get by itself, in place CPU us': readAlone.cpuUs,
    'get by itself, with copies us': getAlone.us,
    'get by itself, with copies CPU us': getAlone.cpuUs,
  };
};

/** A host: what each of these does to its event loop. */
const hosted = async (): Promise<Record<string, number>> => {
  const source = new BatchSource();
  /** What is left of the log, part by part. */
  const parts: Generator<Buffer>[] = [setsOf(entries, { source })];
  const batches: Iterator<Buffer> = {
    next: () => {
      const next = parts[0]?.next() ?? { done: true as const, value: undefined };
      if (next.done !== true) return next;
      parts.shift();
      return parts.length > 0 ? batches.next() : next;
    },
  };
  const log = new GeneratedLog(batches);
  const store = new SnapshotStore({
    fileSystem: nodeFileSystem,
    catalog: new InMemorySnapshotCatalog(),
    directory,
    host: 'probe',
    kept: 1,
    clock: systemClock,
    report: (message) => console.error(message),
  });
  const result: Record<string, number> = {};
  const note = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    const watch = new TurnWatch();
    await work();
    for (const [figure, value] of Object.entries(await watch.end())) result[`${name} ${figure}`] = value;
  };
  // What a turn takes on this machine when there is nothing to do in it.
  await note('doing nothing', () => pause(IDLE_MS));
  const host = new ViewHost({
    log,
    clock: systemClock,
    scheduler: systemScheduler,
    snapshots: { store, intervalMs: 1e9, logBytes: Number.MAX_SAFE_INTEGER },
  });
  const view = { view: GENERATED, partition: 0, at: { offset: asOffset(0), time: null }, timeoutMs: 60_000 };
  const reach = async (offset: number): Promise<void> => {
    for (;;) {
      const [stats] = await host.stats().catch(() => []);
      if ((stats?.partitions[0]?.offset ?? 0) >= offset) return;
      await pause(5);
    }
  };
  await note('replay', () => reach(entries));
  await note('first scan', () =>
    host.scan({ ...view, prefix: Buffer.alloc(0), after: null, limit: 100, bytesMax: 1e6, values: true }),
  );
  await note('snapshot', () => host.finish(60_000));
  const feed = async (part: Generator<Buffer>, count: number): Promise<void> => {
    const before = source.nextOffset;
    parts.push(part);
    log.wake();
    await reach(before + count - 1);
  };
  await note('overwriting', () => feed(setsOf(EXPIRING, { source }), EXPIRING));
  await note('writing what expires', () => feed(setsOf(EXPIRING, { source, ttlMs: TTL_MS }), EXPIRING));
  await note('expiring a million', async () => {
    source.logTime += 2 * TTL_MS;
    await feed(
      (function* beacon() {
        yield source.beacon();
      })(),
      1,
    );
    for (;;) {
      const [stats] = await host.stats();
      if (stats.entries <= entries - EXPIRING) return;
      await pause(5);
    }
  });
  await note('reclaiming', () => pause(3000));
  host.close();
  return result;
};

const main = async (): Promise<void> => {
  const figures = await (part === 'alone' ? alone() : hosted());
  process.send!(figures, undefined, undefined, () => process.exit(0));
};

void main();
