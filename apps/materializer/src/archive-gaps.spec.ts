import { afterEach, describe, expect, test } from '@jest/globals';
import { asLogTime, asOffset, asPartitionId } from '#kernel';
import type { RecordInput } from '#wire';
import { ARCHIVE_GAP_PAGE_ENTRIES_MAX as PAGE } from './archive-gap-filler.js';
import { NAMES, VIEW, addressOf, many, put, startHosts, type Host, type World } from './testing/hosts-with-archives.js';

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
        host: addressOf(name),
        clusterId: log.describe().clusterId,
        view: VIEW,
        partition,
        group,
        from: null,
        to: asLogTime(20_000),
        offset: asOffset(0),
        source: 'gone:7420',
        cursor: null,
        mark: name,
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
    const { host, disks, archived } = world;
    disks.two = { ...disks.two, archive: disks.one.archive, archiveGaps: disks.one.archiveGaps };
    await behind(world, many(100, 500));
    const two = await host('two');
    expect(two.filled).toEqual([expect.objectContaining({ copied: 0 })]);
    expect(disks.one.archive.asked).toEqual([]);
    expect(await archived('two')).toHaveLength(101);
  });

  test('has what expired, and had not been archived, in slots that it takes over from another', async () => {
    const world = await startHosts(closing);
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
    const world = await startHosts(closing);
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
