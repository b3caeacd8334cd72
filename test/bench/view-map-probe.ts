/**
 * A map view at size, in a process of its own; what it takes and how long it holds up everything else, on the path a host goes.
 *
 *   node --expose-gc view-map-probe.js alone ENTRIES
 *   node --expose-gc view-map-probe.js hosted ENTRIES DIRECTORY
 *   node --expose-gc view-map-probe.js archived ENTRIES DIRECTORY
 */
import { join } from 'node:path';
import { openCatalog, type Archive } from '#catalog';
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
const RECLAIMING_MS = 3000;
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

/** What is left of a log that is made part by part. */
class Parts implements Iterator<Buffer> {
  private readonly parts: Iterator<Buffer>[] = [];

  add(part: Iterator<Buffer>): void {
    this.parts.push(part);
  }

  next(): IteratorResult<Buffer> {
    const next = this.parts[0]?.next() ?? { done: true as const, value: undefined };
    if (next.done !== true) return next;
    this.parts.shift();
    return this.parts.length > 0 ? this.next() : next;
  }
}

/** A host of one view, its log, and the longest turn of its event loop in each part of its life. */
class HostProbe {
  readonly result: Record<string, number> = {};
  readonly source = new BatchSource();
  private readonly parts = new Parts();
  private readonly log: GeneratedLog;
  readonly host: ViewHost;

  constructor(options: { readonly archive?: Archive; readonly snapshots?: SnapshotStore }) {
    const { archive, snapshots: store } = options;
    this.log = new GeneratedLog(this.parts, { archive: archive !== undefined });
    this.host = new ViewHost({
      log: this.log,
      clock: systemClock,
      scheduler: systemScheduler,
      ...(archive && { archive }),
      ...(store && { snapshots: { store, intervalMs: 1e9, logBytes: Number.MAX_SAFE_INTEGER } }),
    });
  }

  async note(name: string, work: () => Promise<unknown>): Promise<void> {
    const watch = new TurnWatch();
    await work();
    for (const [figure, value] of Object.entries(await watch.end())) this.result[`${name} ${figure}`] = value;
  }

  /** Puts the sets into the log, and waits until they are applied. */
  async feed(count: number, { ttlMs }: { readonly ttlMs?: number } = {}): Promise<void> {
    const before = this.source.nextOffset;
    this.parts.add(setsOf(count, { source: this.source, ...(ttlMs !== undefined && { ttlMs }) }));
    this.log.wake();
    for (;;) {
      const [stats] = await this.host.stats().catch(() => []);
      if ((stats?.partitions[0]?.offset ?? 0) >= before + count - 1) return;
      await pause(5);
    }
  }

  /** Lets pass what the entries had to live, and waits until so many are left. */
  async expire(left: number): Promise<void> {
    this.source.logTime += 2 * TTL_MS;
    this.parts.add([this.source.beacon()].values());
    this.log.wake();
    for (;;) {
      const [stats] = await this.host.stats();
      if (stats.entries <= left) return;
      await pause(5);
    }
  }
}

/** A host: what each of these does to its event loop. */
const hosted = async (): Promise<Record<string, number>> => {
  const store = new SnapshotStore({
    fileSystem: nodeFileSystem,
    catalog: new InMemorySnapshotCatalog(),
    directory,
    host: 'probe',
    kept: 1,
    clock: systemClock,
    report: (message) => console.error(message),
  });
  const probe = new HostProbe({ snapshots: store });
  const { host } = probe;
  const view = { view: GENERATED, partition: 0, at: { offset: asOffset(0), time: null }, timeoutMs: 60_000 };
  // What a turn takes on this machine when there is nothing to do in it.
  await probe.note('doing nothing', () => pause(IDLE_MS));
  await probe.note('replay', () => probe.feed(entries));
  await probe.note('first scan', () =>
    host.scan({ ...view, prefix: Buffer.alloc(0), after: null, limit: 100, bytesMax: 1e6, values: true }),
  );
  await probe.note('snapshot', () => host.finish(60_000));
  await probe.note('overwriting', () => probe.feed(EXPIRING));
  await probe.note('writing what expires', () => probe.feed(EXPIRING, { ttlMs: TTL_MS }));
  await probe.note('expiring a million', () => probe.expire(entries - EXPIRING));
  await probe.note('reclaiming', () => pause(RECLAIMING_MS));
  host.close();
  return probe.result;
};

/** The same of a host whose view has an archive, in SQLite. */
const archived = async (): Promise<Record<string, number>> => {
  const catalog = await openCatalog(`sqlite:${join(directory, 'catalog.sqlite')}`);
  const probe = new HostProbe({ archive: catalog.archive });
  await probe.feed(entries);
  await probe.feed(EXPIRING, { ttlMs: TTL_MS });
  const began = performance.now();
  await probe.note('expiring', () => probe.expire(entries - EXPIRING));
  const seconds = (performance.now() - began) / 1000;
  probe.host.close();
  await catalog.close();
  return { ...probe.result, 'expiries/s': EXPIRING / seconds };
};

const main = async (): Promise<void> => {
  const figures = await { alone, hosted, archived }[part as 'alone' | 'hosted' | 'archived']();
  process.send!(figures, undefined, undefined, () => process.exit(0));
};

void main();
