import { afterEach, describe, expect, test } from '@jest/globals';
import type { ArchiveEntry, ArchivePage, ArchiveQuery } from '#catalog';
import {
  SeededRng,
  TidelineError,
  asLogTime,
  asOffset,
  asPartitionId,
  randomBelow,
  randomChance,
  type LogTime,
} from '#kernel';
import { encodeBatch, type RecordInput } from '#wire';
import {
  InMemoryArchive,
  InMemoryArchiveGaps,
  InMemorySnapshotCatalog,
} from '../../../libs/catalog/src/testing/index.js';
import { MemoryCommandLog, VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { MemoryNetwork } from '../../../libs/net/src/testing/index.js';
import { MemoryFileSystem } from '../../../libs/storage/src/testing/index.js';
import { ARCHIVE_GAP_PAGE_ENTRIES_MAX as PAGE, type ArchiveGapStatus } from './archive-gap-filler.js';
import { PeerHosts } from './peer-hosts.js';
import { serveViewQuery } from './serve-view-query.js';
import { SnapshotStore } from './snapshot-store.js';
import { ViewHost } from './view-host.js';

const VIEW = 'sessions';
const TARGET = { topic: VIEW, partition: 0 };
const HOUR = 3_600_000;
const NAMES = ['one', 'two', 'three'] as const;
type Name = (typeof NAMES)[number];
const addressOf = (name: string): string => `${name}:7420`;

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

/** An archive that can refuse to be written or read, and says what was asked of it for other hosts. */
class WilfulArchive extends InMemoryArchive {
  takesNothing = false;
  givesNothing = false;
  /** Pages that it still gives to other hosts. */
  pages = Infinity;
  readonly asked: ArchiveQuery[] = [];

  override async write(entries: readonly ArchiveEntry[]): Promise<number> {
    if (this.takesNothing) throw new TidelineError('not-ready', 'the archive takes nothing');
    return super.write(entries);
  }

  override async query(query: ArchiveQuery): Promise<ArchivePage> {
    const forAnother = query.partition !== undefined;
    if (this.givesNothing || (forAnother && this.pages-- <= 0)) {
      throw new TidelineError('not-ready', 'the archive gives nothing');
    }
    if (forAnother) this.asked.push(query);
    return super.query(query);
  }
}

const diskOf = (time: VirtualTime) => ({
  fileSystem: new MemoryFileSystem(time),
  catalog: new InMemorySnapshotCatalog(),
  archive: new WilfulArchive(time),
  archiveGaps: new InMemoryArchiveGaps(),
});
type Disk = ReturnType<typeof diskOf>;

interface Host {
  readonly name: Name;
  readonly views: ViewHost;
  /** Gaps that it was heard to open, and to fill. */
  readonly opened: ArchiveGapStatus[];
  readonly filled: ArchiveGapStatus[];
  /** Nothing is written any more. */
  crash(): Promise<void>;
}

const put = (name: string, value: string, ttlMs?: number): RecordInput => ({
  key: Buffer.from(name),
  value: Buffer.from(value),
  ...(ttlMs !== undefined && { ttlMs }),
});

const many = (count: number, ttlMs: number, name = 'k'): RecordInput[] =>
  Array.from({ length: count }, (_, n) => put(`${name}${n}`, `${n}`, ttlMs));

/** Hosts of the same view over one log, that know each other, each with a catalog of its own. */
const start = async () => {
  const time = new VirtualTime();
  const log = new MemoryCommandLog({ topics: [{ name: VIEW, view: { archive: true } }], clock: time, scheduler: time });
  closing.push(() => log.close());
  await time.until(log.topic(VIEW));
  const network = new MemoryNetwork({ clock: time, scheduler: time, rng: new SeededRng(5) });
  const disks = Object.fromEntries(NAMES.map((name) => [name, diskOf(time)])) as Record<Name, Disk>;

  const host = async (name: Name, { settleMs = 1500 } = {}): Promise<Host> => {
    const { fileSystem, catalog, archive, archiveGaps } = disks[name];
    const store = new SnapshotStore({
      fileSystem,
      catalog,
      directory: '/snapshots',
      host: addressOf(name),
      kept: 2,
      clock: time,
      report: () => undefined,
    });
    const transport = network.transport(name);
    const addresses = NAMES.map(addressOf);
    const rng = new SeededRng(7);
    const peers = new PeerHosts({ transport, scheduler: time, rng, own: store.host, addresses });
    const snapshots = { store, peers, archiveGaps, intervalMs: HOUR };
    const views = new ViewHost({ log, archive, clock: time, scheduler: time, snapshots });
    closing.push(() => views.close());
    const [opened, filled]: ArchiveGapStatus[][] = [[], []];
    views.gapFillers!.onOpened((status) => opened.push(status));
    views.gapFillers!.onFilled((status) => filled.push(status));
    const hello = { nodeId: 0, clusterId: '', service: 'view', software: 'spec', addresses: {} };
    const listener = await time.until(transport.listen({ host: name, port: 7420 }, hello, serveViewQuery(views)));
    const crash = async (): Promise<void> => {
      views.close();
      await time.until(listener.close());
    };
    await time.advance(settleMs);
    return { name, views, opened, filled, crash };
  };

  const append = async (...records: RecordInput[]): Promise<number> => {
    const batch = encodeBatch(records, { createTime: 1 });
    return (await time.until(log.append(TARGET, batch, { acks: 'quorum' }))).lastOffset;
  };
  const snapshot = async ({ views }: Host): Promise<number> =>
    (await time.until(views.upkeep.createSnapshots({ view: VIEW, partition: null })))[0].offset;
  /** What the archive has, past what it refuses. */
  const rows = async (archive: InMemoryArchive): Promise<string[]> => {
    const texts: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await InMemoryArchive.prototype.query.call(archive, { view: VIEW, limit: 1000, cursor });
      texts.push(
        ...page.entries.map(
          ({ key, value, offset, expiresAt }) => `${String(key)}=${String(value)} at ${offset} until ${expiresAt}`,
        ),
      );
      ({ cursor } = page);
    } while (cursor !== undefined);
    return texts;
  };
  const archived = (name: Name): Promise<string[]> => rows(disks[name].archive);
  /** The log begins here from now on. */
  const trim = async (before: number): Promise<void> => {
    log.cluster.log(VIEW, 0).trimBefore(asOffset(before));
    await time.until(log.refresh());
  };
  const get = async ({ views }: Host, key: string): Promise<string | null> => {
    const at = { offset: asOffset(0), time: null };
    const request = { view: VIEW, partition: 0, key: Buffer.from(key), at, timeoutMs: 1000 };
    const { entry } = await time.until(views.get(request));
    return entry === null ? null : String(entry.value);
  };
  const lookBack = async ({ views }: Host, key: string): Promise<string | null> => {
    const at = { offset: asOffset(0), time: null };
    const request = { view: VIEW, partition: 0, key: Buffer.from(key), at, timeoutMs: 1000 };
    const { departed } = await time.until(views.getOrDeparted(request));
    return departed === null ? null : String(departed.value);
  };
  const list = async ({ views }: Host, times: { from?: LogTime; to?: LogTime } = {}): Promise<number> => {
    const request = { view: VIEW, key: null, from: null, to: null, limit: 1000, cursor: null, ...times };
    return (await time.until(views.archive(request))).entries.length;
  };
  return { time, log, network, disks, host, append, snapshot, rows, archived, trim, get, lookBack, list };
};

type World = Awaited<ReturnType<typeof start>>;

const snapshotOf = async ({ append, time, snapshot }: World, host: Host): Promise<void> => {
  await append(put('first', '1'));
  await time.advance(10);
  await snapshot(host);
};

/** Host two was down while entries departed, and host one has a snapshot from after that; the log begins there. */
const behind = async (world: World, departed: readonly RecordInput[]): Promise<{ one: Host; offset: number }> => {
  const { time, host, append, snapshot, trim } = world;
  const one = await host('one');
  const two = await host('two');
  await append(put('before', '1', 500));
  await time.advance(2000);
  await snapshot(two);
  await two.crash();
  await append(...departed);
  await time.advance(3000);
  await append(put('live', '1'), put('later', '1', 60_000));
  await time.advance(10);
  const offset = await snapshot(one);
  await trim(offset);
  return { one, offset };
};

describe('a host with a catalog of its own that goes on from the snapshot of another', () => {
  test('has in its archive what departed in the stretch of log that it skipped', async () => {
    const world = await start();
    const { time, host, archived, disks } = world;
    await behind(world, [put('skipped', '1', 1000), put('skipped too', '1', 500)]);
    expect(await archived('two')).toHaveLength(1);
    const two = await host('two');
    expect(two.opened).toEqual([expect.objectContaining({ view: VIEW, partition: 0, copied: 0, problem: null })]);
    expect(two.filled).toEqual([expect.objectContaining({ copied: 2 })]);
    expect(await archived('two')).toEqual(await archived('one'));
    expect(await disks.two.archiveGaps.list(addressOf('two'))).toEqual([]);
    await time.advance(120_000);
    expect(await archived('one')).toHaveLength(4);
    expect(await archived('two')).toEqual(await archived('one'));
  });

  test('copies only what departed after its archive was known to be whole, page by page', async () => {
    const world = await start();
    const { host, archived, disks, append, time } = world;
    const zero = await host('one');
    await append(...many(800, 500, 'old'));
    await time.advance(3000);
    await zero.crash();
    await behind(world, many(3.5 * PAGE, 500));
    const two = await host('two');
    expect(two.filled).toEqual([expect.objectContaining({ copied: 3.5 * PAGE })]);
    expect(disks.one.archive.asked.map(({ limit, cursor }) => [limit, cursor !== undefined])).toEqual([
      [PAGE, false],
      [PAGE, true],
      [PAGE, true],
      [PAGE, true],
    ]);
    expect(await archived('two')).toEqual(await archived('one'));
  });

  test('looks far enough back for what had expired, but was not archived, when it wrote its own snapshot', async () => {
    const world = await start();
    const { time, host, append, snapshot, trim, archived, disks } = world;
    const one = await host('one');
    const two = await host('two');
    disks.two.archive.takesNothing = true;
    await append(put('waits', '1', 500));
    await time.advance(60_000);
    await append(put('live', '1'));
    await time.advance(10);
    await snapshot(two);
    const [{ logTime, archivedUntil }] = await disks.two.catalog.list();
    expect(logTime - archivedUntil!).toBeGreaterThan(50_000);
    await two.crash();
    disks.two.archive.takesNothing = false;
    await append(put('live', '2'));
    await time.advance(10);
    await trim(await snapshot(one));
    await host('two');
    expect(await archived('two')).toEqual([expect.stringContaining('waits=1')]);
    expect(await archived('two')).toEqual(await archived('one'));
  });

  test('says that it does not know what may be in the gap, and serves all else', async () => {
    const world = await start();
    const { time, host, disks, get, lookBack, list } = world;
    await behind(world, [put('skipped', '1', 1000)]);
    disks.one.archive.pages = 0;
    const two = await host('two');
    const [{ to, problem }] = two.views.archiveGaps;
    expect(problem).toBe('one:7420: the archive gives nothing');
    expect(await get(two, 'live')).toBe('1');
    const notKnown = { code: 'not-ready', message: expect.stringContaining('being copied from others') };
    for (const key of ['skipped', 'never', 'before']) await expect(lookBack(two, key)).rejects.toMatchObject(notKnown);
    await expect(list(two)).rejects.toMatchObject(notKnown);
    await expect(list(two, { from: asLogTime(to - 1) })).rejects.toMatchObject(notKnown);
    expect(await list(two, { from: to })).toBe(0);
    expect(await list(two, { to: two.views.archiveGaps[0].from! })).toBe(1);
    // What departs from now on is known, in memory and after that.
    await time.advance(61_000);
    expect(await lookBack(two, 'later')).toBe('1');
    expect(await list(two, { from: to })).toBe(1);
    disks.one.archive.pages = Infinity;
    await time.advance(6000);
    expect(two.views.archiveGaps).toEqual([]);
    expect([await lookBack(two, 'skipped'), await lookBack(two, 'never'), await list(two)]).toEqual(['1', null, 3]);
  });

  test('does not forget the gap in a crash, though it starts from a snapshot of its own then', async () => {
    const world = await start();
    const { time, host, disks, append, snapshot, archived, get } = world;
    const { one } = await behind(world, many(3.5 * PAGE, 500));
    disks.one.archive.pages = 2;
    const two = await host('two');
    await append(put('live', '3'));
    await time.advance(10);
    await snapshot(two);
    expect(await archived('two')).toHaveLength(1 + 2 * PAGE);
    await two.crash();
    await one.crash();
    const again = await host('two');
    expect(again.views.health).toEqual([]);
    expect(await get(again, 'live')).toBe('3');
    expect(again.views.archiveGaps).toEqual([expect.objectContaining({ problem: 'no other host can be reached' })]);
    disks.one.archive.pages = Infinity;
    await host('one');
    await time.advance(6000);
    expect(again.views.archiveGaps).toEqual([]);
    expect(await archived('two')).toEqual(await archived('one'));
  });

  test('goes on about where it was after a crash, when there is much to copy', async () => {
    const world = await start();
    const { time, host, disks, archived } = world;
    await behind(world, many(3.5 * PAGE, 500));
    const { archive } = disks.one;
    archive.pages = 1;
    const two = await host('two');
    await time.advance(10_000);
    archive.pages = 1;
    await time.advance(6_000);
    await two.crash();
    archive.pages = Infinity;
    archive.asked.length = 0;
    const again = await host('two');
    expect(archive.asked.map(({ cursor }) => cursor !== undefined)).toEqual([true, true]);
    expect(again.filled).toEqual([expect.objectContaining({ copied: 1.5 * PAGE })]);
    expect(await archived('two')).toEqual(await archived('one'));
  });

  test('gets it from a third host when the one whose snapshot it was is gone', async () => {
    const world = await start();
    const { time, host, disks, archived } = world;
    const three = await host('three');
    const { one } = await behind(world, many(100, 500));
    disks.one.archive.pages = 0;
    disks.three.archive.pages = 0;
    const two = await host('two');
    await one.crash();
    disks.three.archive.pages = Infinity;
    await time.advance(6000);
    expect(two.views.archiveGaps).toEqual([]);
    expect(await archived('two')).toEqual(await archived('three'));
    expect(three.opened).toEqual([]);
  });

  test('does not take the archive of a host with the same gap for a whole one', async () => {
    const world = await start();
    const { time, host, disks, archived } = world;
    const three = await host('three');
    await three.crash();
    const { one } = await behind(world, many(100, 500));
    disks.one.archive.pages = 0;
    const both = [await host('two'), await host('three')];
    await one.crash();
    await time.advance(20_000);
    expect(both.map(({ views }) => views.archiveGaps[0].problem)).toEqual([
      `three:7420: view ${VIEW}, partition 0 has the same gap in its archive`,
      `two:7420: view ${VIEW}, partition 0 has the same gap in its archive`,
    ]);
    disks.one.archive.pages = Infinity;
    await host('one');
    await time.advance(10_000);
    for (const { name, views } of both) {
      expect(views.archiveGaps).toEqual([]);
      expect(await archived(name)).toEqual(await archived('one'));
    }
  });

  test('gets what each of the others has when all lack the same', async () => {
    const world = await start();
    const { time, host, disks, archived, log } = world;
    const [{ group }] = log.describe().topics[0].partitions;
    const partition = asPartitionId(0);
    for (const [n, name] of NAMES.entries()) {
      const entries = Array.from({ length: 600 }, (_, i) => 1000 * (n + 1) + i).map((offset) => ({
        view: VIEW,
        partition,
        key: Buffer.from(`${name} ${offset}`),
        offset: asOffset(offset),
        value: Buffer.from('1'),
        logTime: asLogTime(offset),
        expiresAt: asLogTime(10_000 - offset),
        evicted: false,
      }));
      await disks[name].archive.write(entries);
      await disks[name].archiveGaps.put({
        ...{ host: addressOf(name), clusterId: log.describe().clusterId, view: VIEW, partition, group },
        ...{ from: null, to: asLogTime(20_000), offset: asOffset(0), source: 'gone:7420', cursor: null, mark: name },
      });
    }
    const hosts = [await host('one'), await host('two')];
    await time.advance(10_000);
    expect(hosts.map(({ views }) => views.archiveGaps[0].copied)).toEqual([0, 0]);
    hosts.push(await host('three'));
    await time.advance(20_000);
    expect(await archived('one')).toHaveLength(1800);
    for (const { name, views, filled } of hosts) {
      expect({ gaps: views.archiveGaps, filled: filled.length }).toEqual({ gaps: [], filled: 1 });
      expect(await archived(name)).toEqual(await archived('one'));
    }
  });

  test('waits for what the other host has not archived yet', async () => {
    const world = await start();
    const { time, host, disks, append, snapshot, trim, archived } = world;
    const one = await host('one');
    const three = await host('three');
    const two = await host('two');
    await snapshotOf(world, two);
    await two.crash();
    disks.three.archive.takesNothing = true;
    await append(put('skipped', '1', 500));
    await time.advance(3000);
    await append(put('live', '1'));
    await time.advance(10);
    disks.one.archive.pages = 0;
    await trim(await snapshot(one));
    const again = await host('two');
    await one.crash();
    await time.advance(6000);
    expect(again.views.archiveGaps[0].problem).toBe(
      `three:7420: view ${VIEW}, partition 0 has entries on their way to its archive`,
    );
    expect(await archived('two')).toEqual([]);
    disks.three.archive.takesNothing = false;
    await time.advance(40_000);
    expect(three.views.archiveError).toBeNull();
    expect(again.views.archiveGaps).toEqual([]);
    expect(await archived('two')).toEqual(await archived('three'));
    expect(await archived('two')).toHaveLength(1);
  });

  test('gives nothing to others before it has applied as much as the snapshot that they went on from', async () => {
    const world = await start();
    const { time, host, append, log } = world;
    const { views } = await host('one');
    const applied = await append(put('gone', '1', 500));
    await time.advance(3000);
    const { clusterId, topics } = log.describe();
    const [{ partition, group }] = topics[0].partitions;
    const times = { from: null, until: asLogTime(time.wallMs()) };
    const request = {
      clusterId,
      view: VIEW,
      partition,
      group,
      mark: '',
      ...times,
      cursor: null,
      limit: 10,
      bytesMax: 1000,
    };
    const page = await time.until(views.upkeep.departed({ ...request, applied: asOffset(applied) }));
    expect(page.entries.map(({ key }) => String(key))).toEqual(['gone']);
    const later = asOffset(applied + 1000);
    await expect(time.until(views.upkeep.departed({ ...request, applied: later }))).rejects.toMatchObject({
      code: 'not-ready',
      message: expect.stringMatching(new RegExp(`at offset \\d+ of ${later}`)),
    });
    await expect(
      time.until(views.upkeep.departed({ ...request, clusterId: 'another', applied: asOffset(applied) })),
    ).rejects.toMatchObject({ code: 'not-found' });
  });

  test('copies nothing from a host with the same catalog', async () => {
    const world = await start();
    const { host, disks, archived } = world;
    disks.two = { ...disks.two, archive: disks.one.archive, archiveGaps: disks.one.archiveGaps };
    await behind(world, many(100, 500));
    const two = await host('two');
    expect(two.filled).toEqual([expect.objectContaining({ copied: 0 })]);
    expect(disks.one.archive.asked).toEqual([]);
    expect(await archived('two')).toHaveLength(101);
  });

  test('has what expired, and had not been archived, in slots that it takes over from another', async () => {
    const world = await start();
    const { time, host, disks, append, snapshot, archived } = world;
    const one = await host('one');
    const two = await host('two');
    disks.two.archive.takesNothing = true;
    await append(put('waits', '1', 500));
    await time.advance(3000);
    await append(put('live', '1'));
    await time.advance(10);
    const offset = await snapshot(one);
    await time.until(two.views.upkeep.restoreSnapshots({ view: VIEW, partition: 0, offset: asOffset(offset) }));
    await time.advance(100);
    await one.crash();
    disks.two.archive.takesNothing = false;
    await time.advance(40_000);
    expect(two.views.archiveGaps).toHaveLength(1);
    await host('one');
    await time.advance(6000);
    expect(two.views.archiveGaps).toEqual([]);
    expect(await archived('two')).toEqual([expect.stringContaining('waits=1')]);
  });

  test('lets a gap of a topic of the same name that is gone be', async () => {
    const world = await start();
    const { host, disks } = world;
    const { one } = await behind(world, [put('skipped', '1', 500)]);
    disks.one.archive.pages = 0;
    const two = await host('two');
    await two.crash();
    const [gap] = await disks.two.archiveGaps.list(addressOf('two'));
    await disks.two.archiveGaps.remove(gap);
    await disks.two.archiveGaps.put({ ...gap, clusterId: 'another' });
    await one.crash();
    const again = await host('two');
    expect(again.views.archiveGaps).toEqual([]);
    expect(await disks.two.archiveGaps.list(addressOf('two'))).toEqual([]);
  });
});

/* ---- whatever happens ---- */

const SEEDS = 15;
const STEPS = 40;
const pick = <T>(rng: SeededRng, items: readonly T[]): T => items[randomBelow(rng, items.length)];

/** Hosts that crash, restart and lose their disks, archives that refuse, connections that break, a log that is trimmed: then all is well again. */
class Trouble {
  private readonly up = new Map<Name, Host>();
  private readonly newest = new Map<Name, number>();
  private lostDisk = false;
  private values = 0;
  /** Gaps that were opened, all hosts together. */
  gaps = 0;

  constructor(
    private readonly world: World,
    private readonly rng: SeededRng,
  ) {}

  async step(): Promise<void> {
    const { rng } = this;
    const { time, disks, network } = this.world;
    const name = pick(rng, NAMES);
    switch (randomBelow(rng, 12)) {
      case 0:
      case 1:
        return this.up.has(name) ? this.stop(name) : this.start(name);
      case 2:
      case 3:
        return this.snapshot(name);
      case 4:
        return this.trim();
      case 5:
        disks[name].archive.takesNothing = randomChance(rng, 0.5);
        return undefined;
      case 6:
        disks[name].archive.pages = randomChance(rng, 0.5) ? randomBelow(rng, 3) : Infinity;
        return undefined;
      case 7:
        if (randomChance(rng, 0.5)) network.cut(name, pick(rng, NAMES));
        else network.heal();
        return undefined;
      case 8:
        return randomChance(rng, 0.3) ? this.loseDisk(name) : this.restore(name);
      default:
        await this.append();
        return time.advance(randomBelow(rng, 3000));
    }
  }

  private async append(): Promise<void> {
    const { rng, world } = this;
    await world.append(
      ...Array.from({ length: 1 + randomBelow(rng, 20) }, () =>
        put(
          `k${randomBelow(rng, 60)}`,
          `${this.values++}`,
          randomChance(rng, 0.1) ? undefined : 1 + randomBelow(rng, 4000),
        ),
      ),
    );
  }

  async start(name: Name): Promise<void> {
    this.up.set(name, await this.world.host(name, { settleMs: randomBelow(this.rng, 1500) }));
  }

  private async stop(name: Name): Promise<void> {
    const host = this.up.get(name)!;
    this.up.delete(name);
    this.gaps += host.opened.length;
    await host.crash();
  }

  /** Or it cannot, at present. */
  private async snapshot(name: Name): Promise<void> {
    const host = this.up.get(name);
    if (host)
      await this.world.snapshot(host).then(
        (offset) => this.newest.set(name, offset),
        () => undefined,
      );
  }

  /** Two hosts can go on from there. */
  private async trim(): Promise<void> {
    const [, second] = [...this.newest.values()].sort((a, b) => b - a);
    if (second !== undefined) await this.world.trim(second);
  }

  private async restore(name: Name): Promise<void> {
    const request = { view: VIEW, partition: null, offset: asOffset(Math.max(0, ...this.newest.values())) };
    const { time } = this.world;
    await time
      .until(this.up.get(name)?.views.upkeep.restoreSnapshots(request) ?? Promise.resolve([]))
      .catch(() => undefined);
  }

  /** Once, and while the others have whole archives. */
  private async loseDisk(name: Name): Promise<void> {
    const others = NAMES.filter((other) => other !== name).map((other) => this.up.get(other));
    const isWhole = (host: Host | undefined): boolean =>
      host !== undefined && host.views.archiveGaps.length === 0 && host.views.lagRecords === 0;
    if (this.lostDisk || !others.every(isWhole)) return;
    this.lostDisk = true;
    if (this.up.has(name)) await this.stop(name);
    this.newest.delete(name);
    this.world.disks[name] = diskOf(this.world.time);
  }

  async allIsWell(): Promise<void> {
    const { world } = this;
    world.network.heal();
    for (const name of NAMES) {
      Object.assign(world.disks[name].archive, { takesNothing: false, pages: Infinity });
      if (!this.up.has(name)) await this.start(name);
    }
    await world.time.advance(60_000);
    for (const name of NAMES) {
      const { views, opened } = this.up.get(name)!;
      this.gaps += opened.length;
      expect({ name, gaps: views.archiveGaps, health: views.health }).toEqual({ name, gaps: [], health: [] });
    }
  }
}

describe('whatever happens to hosts, archives and connections', () => {
  let gaps = 0;

  test.each(Array.from({ length: SEEDS }, (_, n) => n + 1))(
    'all archives have in the end what has departed (seed %i)',
    async (seed) => {
      const world = await start();
      const { time, log, rows, archived } = world;
      // One that is always there, and skips nothing.
      const reference = new InMemoryArchive(time);
      const witness = new ViewHost({ log, archive: reference, clock: time, scheduler: time });
      closing.push(() => witness.close());
      const trouble = new Trouble(world, new SeededRng(seed));
      for (const name of NAMES) await trouble.start(name);
      for (let step = 0; step < STEPS; step++) await trouble.step();
      await trouble.allIsWell();
      const departed = await rows(reference);
      expect(departed.length).toBeGreaterThan(10);
      for (const name of NAMES) expect({ name, archived: await archived(name) }).toEqual({ name, archived: departed });
      gaps += trouble.gaps;
    },
  );

  test('and there were gaps to fill', () => {
    expect(gaps).toBeGreaterThan(SEEDS);
  });
});
