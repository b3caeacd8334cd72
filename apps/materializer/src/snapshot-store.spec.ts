import { afterEach, describe, expect, test } from '@jest/globals';
import { TidelineError, asGroupId, asOffset, asPartitionId, hashKey, slotOf } from '#kernel';
import { MapView, decodeSnapshotTable } from '#views';
import { encodeBatch, type RecordInput } from '#wire';
import { InMemoryArchive, InMemorySnapshotCatalog } from '../../../libs/catalog/src/testing/index.js';
import { MemoryCommandLog, VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { MemoryFileSystem } from '../../../libs/storage/src/testing/index.js';
import { BatchSource } from '../../../libs/views/src/testing/index.js';
import { SnapshotStore, type SnapshotStoreOptions } from './snapshot-store.js';
import { ViewHost } from './view-host.js';

const VIEW = 'sessions';
const INTERVAL_MS = 10_000;

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const put = (name: string, value: string, ttlMs?: number): RecordInput => ({
  key: Buffer.from(name),
  value: Buffer.from(value),
  ...(ttlMs !== undefined && { ttlMs }),
});

const start = async ({ logBytes }: { readonly logBytes?: number } = {}) => {
  const time = new VirtualTime();
  const log = new MemoryCommandLog({
    topics: [
      { name: VIEW, partitions: 2 },
      { name: 'kept', view: { archive: true } },
    ],
    clock: time,
    scheduler: time,
  });
  closing.push(() => log.close());
  const fileSystem = new MemoryFileSystem(time);
  const catalog = new InMemorySnapshotCatalog();
  const archive = new InMemoryArchive(time);
  const reports: string[] = [];
  /** First offsets that hosts have asked the log for, by partition of VIEW. */
  const tailedFrom: number[] = [];
  const { tail } = log;
  log.tail = (target, from, options) => {
    if (target.topic === VIEW) tailedFrom[target.partition] = from;
    return tail.call(log, target, from, options);
  };
  const host = async (): Promise<ViewHost> => {
    const store = new SnapshotStore({
      fileSystem,
      catalog,
      directory: '/snapshots',
      host: 'here',
      kept: 2,
      clock: time,
      report: (message) => reports.push(message),
    });
    const views = new ViewHost({
      log,
      archive,
      snapshots: { store, intervalMs: logBytes === undefined ? INTERVAL_MS : 1e9, logBytes },
      clock: time,
      scheduler: time,
    });
    closing.push(() => views.close());
    await time.settle();
    await time.advance(10);
    return views;
  };
  await time.until(log.topic(VIEW));
  const append = async (partition: number, ...records: RecordInput[]): Promise<void> => {
    const batch = encodeBatch(records, { createTime: 1 });
    await time.until(log.append({ topic: VIEW, partition }, batch, { acks: 'quorum' }));
  };
  /** Without the offset: a beacon may come at any time. */
  const state = async (views: ViewHost): Promise<unknown> => {
    const stats = (await views.stats()).find(({ view }) => view === VIEW)!;
    return stats.partitions.map(({ digest, entries }) => ({ digest, entries }));
  };
  /** Of partition 0, newest first. */
  const listed = () => catalog.list({ view: VIEW, partition: 0 as never });
  /** One bit of it; of its head, without which nothing of it can be read, unless told. */
  const corrupt = (path: string, at = 20): void => {
    const file = fileSystem.openSync(path, {});
    file.writeSync(Buffer.from([file.readSync(1, at)[0] ^ 1]), at);
    file.closeSync();
  };
  return { time, log, fileSystem, catalog, archive, reports, tailedFrom, host, append, state, listed, corrupt };
};

/** One whose snapshot has about so many bytes, and what overwrites all of it. */
const overwritable = (bytes: number): { view: MapView; fill: () => void } => {
  const source = new BatchSource();
  const view = new MapView();
  const fill = (): void => {
    for (let n = 0; n < bytes / 500; n++) view.applyBatches(source.records([put(`k${n}`, 'v'.repeat(500))]));
  };
  fill();
  return { view, fill };
};

const SOURCE = { clusterId: '', view: VIEW, partition: asPartitionId(0), group: asGroupId(7) };
const storeOf = (
  options: Pick<SnapshotStoreOptions, 'fileSystem' | 'catalog' | 'clock'> & Partial<SnapshotStoreOptions>,
): SnapshotStore =>
  new SnapshotStore({ directory: '/other', host: 'here', kept: 2, report: () => undefined, ...options });

type World = Awaited<ReturnType<typeof start>>;

/** Two snapshots of partition 0, and records after them. */
const twoSnapshots = async ({ time, append, host }: World): Promise<ViewHost> => {
  const first = await host();
  for (let n = 0; n < 50; n++) await append(n % 2, put(`k${n % 30}`, `${n}`, n % 3 === 0 ? 5000 : undefined));
  await time.advance(INTERVAL_MS);
  await append(0, put('later', '1'));
  await time.advance(INTERVAL_MS);
  await append(0, put('latest', '1'), put('soon', '1', 1000));
  await time.advance(2000);
  return first;
};

describe('a host with snapshots', () => {
  test('writes a view for the log applied to it, less often the larger it is: snapshots are a share of the work', async () => {
    const logBytes = 64 * 1024;
    const world = await start({ logBytes });
    const { append, host, listed, time } = world;
    const views = await host();
    const value = 'v'.repeat(4000);
    /** Log applied at each snapshot, and what the view took then. */
    const written: { at: number; viewBytes: number }[] = [];
    let applied = 0;
    let newest = 0;
    const write = async (name: string): Promise<void> => {
      await append(0, put(name, value));
      applied += value.length;
      await time.settle();
      const [entry] = await listed();
      if (entry === undefined || entry.offset === newest) return;
      newest = entry.offset;
      const stats = (await views.stats()).find(({ view }) => view === VIEW)!;
      written.push({ at: applied, viewBytes: stats.partitions[0].bytes });
    };
    for (let n = 0; n < 500; n++) await write(`k${n}`);
    const whileFilled = written.length;
    for (let n = 0; n < 2000; n++) await write(`k${n % 500}`);
    for (const [i, { at }] of written.entries()) {
      const last = written[i - 1] ?? { at: 0, viewBytes: 0 };
      const due = Math.max(logBytes, 2 * last.viewBytes);
      expect(at - last.at).toBeGreaterThan(0.95 * due);
      expect(at - last.at).toBeLessThan(1.05 * due + 10 * value.length);
    }
    // Of 2 MB of new entries and 8 MB of others: not 30 and 120.
    expect(whileFilled).toBeGreaterThanOrEqual(1);
    expect(whileFilled).toBeLessThanOrEqual(4);
    expect(written.length - whileFilled).toBeGreaterThanOrEqual(1);
    expect(written.length - whileFilled).toBeLessThanOrEqual(4);
    // What has been written is not written again for nothing.
    const [{ offset }] = await listed();
    await time.advance(5000);
    expect((await listed())[0].offset).toBe(offset);
  });

  test('goes on from the newest after a restart and is what a full replay is', async () => {
    const world = await start();
    const { time, host, tailedFrom, state, listed, log } = world;
    const first = await twoSnapshots(world);
    const before = await state(first);
    first.close();
    const [newest] = await listed();
    const second = await host();
    expect(tailedFrom[0]).toBe(newest.offset + 1);
    expect(newest.offset).toBeGreaterThan(10);
    await time.advance(1000);
    expect(await state(second)).toEqual(before);
    const replayed = new ViewHost({ log, archive: world.archive, clock: time, scheduler: time });
    closing.push(() => replayed.close());
    await time.advance(1000);
    expect(tailedFrom[0]).toBe(1);
    expect(await state(replayed)).toEqual(before);
  });

  test('keeps two, and files for those alone', async () => {
    const world = await start();
    const { time, append, fileSystem, listed } = world;
    await twoSnapshots(world);
    for (let n = 0; n < 3; n++) {
      await append(0, put('more', `${n}`));
      await time.advance(INTERVAL_MS);
    }
    const entries = await listed();
    expect(entries).toHaveLength(2);
    const folder = entries[0].path.slice(0, entries[0].path.lastIndexOf('/'));
    const names = entries.map(({ path }) => path.slice(folder.length + 1));
    expect(fileSystem.readdirSync(folder)).toEqual(names.toSorted());
  });

  test('skips a damaged one, says so, and takes the one before; the beginning of the log when none is good', async () => {
    const world = await start();
    const { time, host, corrupt, tailedFrom, reports, state, listed } = world;
    const first = await twoSnapshots(world);
    const before = await state(first);
    first.close();
    const [newest, older] = await listed();
    corrupt(newest.path);
    const second = await host();
    expect(tailedFrom[0]).toBe(older.offset + 1);
    expect(reports).toEqual([expect.stringContaining(newest.path)]);
    expect((await listed())[0].verified).toBe(false);
    await time.advance(1000);
    expect(await state(second)).toEqual(before);
    second.close();
    world.fileSystem.unlinkSync(older.path);
    const third = await host();
    expect(tailedFrom[0]).toBe(1);
    expect(reports).toHaveLength(2);
    await time.advance(1000);
    expect(await state(third)).toEqual(before);
  });

  test('names a slot that is damaged, serves the others at once, and builds that one from the snapshot before and the log', async () => {
    const world = await start();
    const { time, host, corrupt, reports, state, listed } = world;
    const first = await twoSnapshots(world);
    const before = await state(first);
    first.close();
    const [newest] = await listed();
    const place = decodeSnapshotTable(newest.slotTable).slots.find(({ entries }) => entries > 0)!;
    corrupt(newest.path, place.position + place.bytes - 8);
    const key = Array.from({ length: 30 }, (_, n) => Buffer.from(`k${n}`)).find(
      (one) => slotOf(hashKey(one)) === place.slot,
    );
    const second = await host();
    expect(reports[0]).toContain(`slot ${place.slot} is not good`);
    expect(key).toBeDefined();
    await time.advance(1000);
    expect(await state(second)).toEqual(before);
    // Of the whole, since what was damaged is not to be used a second time.
    const entries = await listed();
    expect(entries.map(({ verified }) => verified)).toEqual([true, true]);
    expect(entries[0].createdAt).toBeGreaterThan(newest.createdAt);
  });

  test('takes snapshots before it stops, and none of what has not changed', async () => {
    const { time, host, append, catalog, tailedFrom } = await start();
    const first = await host();
    await append(0, put('a', '1'));
    await time.advance(100);
    await time.until(first.finish(1000));
    first.close();
    const entries = await catalog.list({ view: VIEW });
    // The log of the other partition holds no more than its leader's first entry.
    expect(entries.map(({ partition }) => partition)).toEqual([0, 1]);
    const second = await host();
    expect(tailedFrom[0]).toBe(entries[0].offset + 1);
    await time.until(second.finish(1000));
    expect(await catalog.list({ view: VIEW })).toHaveLength(2);
  });

  test('takes none when there is no time left, and leaves nothing behind', async () => {
    const { time, host, append, catalog, fileSystem } = await start();
    const views = await host();
    await append(0, put('a', '1'));
    await time.advance(100);
    await time.until(views.finish(0));
    expect(await catalog.list()).toEqual([]);
    expect(fileSystem.existsSync('/snapshots')).toBe(false);
  });

  test('does not keep one that reads back otherwise than it was written, says so, and leaves nothing of it', async () => {
    const world = await start();
    const { time, host, append, fileSystem, listed, corrupt } = world;
    const views = await host();
    const said: string[] = [];
    views.onSnapshotFailed((_view, partition, error) => said.push(`${partition} ${error.message}`));
    const { openSync } = fileSystem;
    fileSystem.openSync = (path, options) => {
      if (options.readOnly && path.endsWith('.tmp')) corrupt(path);
      return openSync.call(fileSystem, path, options);
    };
    await append(0, put('a', '1'));
    await time.advance(INTERVAL_MS);
    expect(said).toContainEqual(expect.stringMatching(/^0 .*\.snap\.tmp reads back otherwise/));
    expect(await listed()).toEqual([]);
    fileSystem.openSync = openSync;
    await append(0, put('b', '1'));
    await time.advance(INTERVAL_MS);
    const entries = await listed();
    expect(entries).toHaveLength(1);
    const folder = entries[0].path.slice(0, entries[0].path.lastIndexOf('/'));
    expect(fileSystem.readdirSync(folder)).toEqual([entries[0].path.slice(folder.length + 1)]);
  });

  test('leaves nothing of one that is given up while it is written or read back', async () => {
    const world = await start();
    const { time, fileSystem, catalog } = world;
    const store = storeOf({ fileSystem, catalog, clock: time });
    const { view } = overwritable(2.5 * 1024 * 1024);
    let givenUp = 0;
    for (let steps = 0; ; steps++) {
      let left = steps;
      const entry = await time.until(store.write(SOURCE, view, { cancelled: () => left-- === 0 }));
      const names = fileSystem.readdirSync(`/other/cluster-/${VIEW}-0-7`);
      if (entry !== null) {
        expect(names).toEqual([entry.path.slice(entry.path.lastIndexOf('/') + 1)]);
        break;
      }
      expect(names).toEqual([]);
      givenUp++;
    }
    // Three blocks, three pieces.
    expect(givenUp).toBe(6);
  });

  test('that cannot be written leaves the view free to overwrite in place', async () => {
    const { time, fileSystem, catalog } = await start();
    const store = storeOf({ fileSystem, catalog, clock: time });
    const bytesMax = 1024 * 1024;
    const { view, fill } = overwritable(bytesMax);
    fileSystem.openSync = () => {
      throw new Error('no more files');
    };
    await expect(time.until(store.write(SOURCE, view, { cancelled: () => false }))).rejects.toThrow('no more files');
    const { bytes } = view;
    fill();
    expect(view.bytes).toBe(bytes);
  });

  test('are taken away by two at once', async () => {
    const { time, fileSystem, catalog } = await start();
    const reports: string[] = [];
    const store = storeOf({ fileSystem, catalog, clock: time, report: (message) => reports.push(message) });
    const entry = await time.until(store.write(SOURCE, overwritable(1000).view, { cancelled: () => false }));
    await time.until(Promise.all([store.discardAll(SOURCE), store.discardAll(SOURCE)]));
    expect(fileSystem.existsSync(entry!.path)).toBe(false);
    expect(reports).toEqual([]);
  });

  test('does not take that of a topic of the same name that is gone', async () => {
    const world = await start();
    const { host, catalog, tailedFrom, listed } = world;
    const first = await twoSnapshots(world);
    first.close();
    const [newest] = await listed();
    const path = newest.path.replace(/-\d+\/(\d+\.snap)$/, '-999/$1');
    for (const entry of await listed()) await catalog.remove(entry);
    await catalog.add({ ...newest, path });
    await host();
    expect(tailedFrom[0]).toBe(1);
    expect(await listed()).toEqual([]);
  });

  test('does not take one that is ahead of the log, which was lost or replaced', async () => {
    const world = await start();
    const { time, log, host, state, listed, tailedFrom } = world;
    const first = await twoSnapshots(world);
    const before = await state(first);
    first.close();
    const { barrier } = log;
    let known = false;
    log.barrier = async (target, options) => {
      const found = await barrier.call(log, target, options);
      if (!known) throw new TidelineError('no-leader', 'not yet');
      return { ...found, offset: asOffset((await listed())[0].offset - 1) };
    };
    tailedFrom.length = 0;
    const second = await host();
    await time.advance(1000);
    expect(tailedFrom[0]).toBeUndefined();
    const said: string[] = [];
    second.onSnapshotFailed((_view, partition, error) => said.push(`${partition} ${error.message}`));
    known = true;
    await time.advance(1000);
    expect(tailedFrom[0]).toBe(1);
    expect(said).toContainEqual(expect.stringMatching(/^0 the snapshot at offset .* is ahead of the log/));
    expect(((await state(second)) as unknown[])[0]).toEqual((before as unknown[])[0]);
  });

  test('is not ready until what there is has been restored', async () => {
    const world = await start();
    const { time, log, fileSystem, catalog } = world;
    (await twoSnapshots(world)).close();
    const store = new SnapshotStore({
      fileSystem,
      catalog,
      directory: '/snapshots',
      host: 'here',
      kept: 2,
      clock: time,
      report: () => undefined,
    });
    const snapshots = { store, intervalMs: INTERVAL_MS };
    const views = new ViewHost({ log, archive: world.archive, snapshots, clock: time, scheduler: time });
    closing.push(() => views.close());
    expect(views.lagRecords).toBeNull();
    const request = { view: VIEW, partition: 0, key: Buffer.from('later'), timeoutMs: 1000 };
    const at = { offset: asOffset(0), time: null };
    await expect(views.get({ ...request, at })).rejects.toMatchObject({ code: 'not-ready' });
    await time.settle();
    expect(views.lagRecords).not.toBeNull();
    expect(String((await time.until(views.get({ ...request, at }))).entry?.value)).toBe('1');
  });
});
