import { afterEach, describe, expect, test } from '@jest/globals';
import type { TailChunk } from '#command-log';
import { SeededRng, SLOTS, TidelineError, asOffset, asPartitionId, hashKey, slotOf } from '#kernel';
import type { Listener } from '#net';
import { encodeBatch, encodeOp, type RecordInput } from '#wire';
import { NEVER, Subject } from 'rxjs';
import { InMemorySnapshotCatalog } from '../../../libs/catalog/src/testing/index.js';
import { MemoryCommandLog, VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { MemoryNetwork } from '../../../libs/net/src/testing/index.js';
import { MemoryFileSystem } from '../../../libs/storage/src/testing/index.js';
import { bytesInMemory } from '../../../libs/views/src/testing/index.js';
import type { DigestMismatch } from './digest-watch.js';
import type { HostedPartition, HostedView } from './hosted-partition.js';
import { PeerHosts } from './peer-hosts.js';
import { serveViewQuery } from './serve-view-query.js';
import { SnapshotStore } from './snapshot-store.js';
import { ViewHost } from './view-host.js';

const VIEW = 'carts';
const TARGET = { topic: VIEW, partition: 0 };
const DIGEST_MS = 1_000;
const HOUR = 3_600_000;

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

interface Host {
  readonly name: string;
  readonly views: ViewHost;
  readonly fileSystem: MemoryFileSystem;
  readonly reports: string[];
  readonly mismatches: DigestMismatch[];
  /** As after a crash: nothing is written. */
  crash(): Promise<void>;
}

/** Hosts of the same views over one log, that know each other. */
const start = async (settings: { readonly view?: { readonly maxEntries?: number } } = {}) => {
  const time = new VirtualTime();
  const log = new MemoryCommandLog({
    topics: [{ name: VIEW, ...(settings.view && { view: settings.view }) }],
    clock: time,
    scheduler: time,
  });
  closing.push(() => log.close());
  await time.until(log.topic(VIEW));
  const network = new MemoryNetwork({ clock: time, scheduler: time, rng: new SeededRng(5) });
  const disks = new Map<string, { fileSystem: MemoryFileSystem; catalog: InMemorySnapshotCatalog }>();
  const names = ['one', 'two', 'three'];
  const addressOf = (name: string): string => `${name}:7420`;

  const host = async (name: string, options: { readonly settle?: boolean } = {}): Promise<Host> => {
    const disk = disks.get(name) ?? {
      fileSystem: new MemoryFileSystem(time),
      catalog: new InMemorySnapshotCatalog(),
    };
    disks.set(name, disk);
    const reports: string[] = [];
    const mismatches: DigestMismatch[] = [];
    const store = new SnapshotStore({
      ...disk,
      directory: '/snapshots',
      host: addressOf(name),
      kept: 2,
      clock: time,
      report: (message) => reports.push(message),
    });
    const transport = network.transport(name);
    const peers = new PeerHosts({
      transport,
      scheduler: time,
      rng: new SeededRng(7),
      own: store.host,
      addresses: names.map(addressOf),
    });
    const views = new ViewHost({
      log,
      clock: time,
      scheduler: time,
      snapshots: { store, peers, intervalMs: HOUR, digestIntervalMs: DIGEST_MS },
    });
    views.onSnapshotFailed((_view, _partition, error) => reports.push(error.message));
    views.onMismatch((mismatch) => mismatches.push(mismatch));
    const hello = { nodeId: 0, clusterId: '', service: 'view', software: 'spec', addresses: {} };
    const listening = transport.listen({ host: name, port: 7420 }, hello, serveViewQuery(views));
    const listener: Listener = await time.until(listening);
    const crash = async (): Promise<void> => {
      views.close();
      await time.until(listener.close());
    };
    closing.push(() => views.close());
    if (options.settle !== false) await time.advance(1500);
    return { name, views, fileSystem: disk.fileSystem, reports, mismatches, crash };
  };

  const append = async (...records: RecordInput[]): Promise<number> => {
    const batch = encodeBatch(records, { createTime: 1 });
    return (await time.until(log.append(TARGET, batch, { acks: 'quorum' }))).lastOffset;
  };
  const fill = async (from: number, count: number): Promise<void> => {
    for (let n = from; n < from + count; n += 100) {
      await append(
        ...Array.from({ length: 100 }, (_, i) => ({
          key: Buffer.from(`k${(n + i) % 700}`),
          value: Buffer.from(`${n + i}`),
        })),
        { key: Buffer.from(`count-${n % 9}`), op: encodeOp('incr', []) },
      );
    }
    await time.advance(10);
  };
  const get = async ({ views }: Host, key: string): Promise<string | null> => {
    const at = { offset: asOffset(0), time: null };
    const { entry } = await time.until(
      views.get({ view: VIEW, partition: 0, key: Buffer.from(key), at, timeoutMs: 1000 }),
    );
    return entry === null ? null : String(entry.value);
  };
  const stats = async ({ views }: Host) => (await views.stats())[0].partitions[0];
  return { time, log, network, host, append, fill, get, stats, disks };
};

type World = Awaited<ReturnType<typeof start>>;

/** What is inside a host, for a test that damages its memory. */
const inside = ({ views }: Host): HostedPartition =>
  (views as unknown as { views: Map<string, HostedView> }).views.get(VIEW)!.partitions[0]!;

const slotOfKey = (key: string): number => slotOf(hashKey(Buffer.from(key)));

/** The host applies something that is not in the log, as if a bit had flipped on its way: its digest follows what it did. */
const misapply = (host: Host, key: string): void => {
  const { view } = inside(host);
  const state = (view as unknown as { state: { slots: ({ digestA: number } | null)[] } }).state;
  // The value, and with it what the digest would be of another one.
  bytesInMemory(view, Buffer.from(key)).value[0] ^= 1;
  state.slots[slotOfKey(key)]!.digestA ^= 0x55;
};

const sizeOf = async ({ stats }: World, host: Host): Promise<unknown> => {
  const { digest, entries, offset } = await stats(host);
  return { digest, entries, offset };
};

describe('a host that starts', () => {
  test('takes the snapshot of another when it has none, and says from where and how far', async () => {
    const world = await start();
    const { time, host, fill, log } = world;
    const one = await host('one');
    await fill(0, 3000);
    await time.until(one.views.upkeep.createSnapshots({ view: VIEW, partition: null }));
    await fill(3000, 200);
    const tails: number[] = [];
    const { tail } = log;
    log.tail = (target, from, options) => {
      tails.push(from);
      return tail.call(log, target, from, options);
    };
    const two = await host('two', { settle: false });
    expect(two.views.health).toEqual([]);
    const seen = new Set<string>();
    for (let n = 0; n < 400; n++) {
      await time.advance(5);
      for (const { restoring } of two.views.health) {
        if (restoring) seen.add(`${restoring.phase} ${restoring.source}`);
      }
    }
    const [{ offset }] = await time.until(one.views.upkeep.snapshots({ view: VIEW, everywhere: false }));
    expect(tails).toEqual([offset + 1]);
    expect([...seen].some((text) => text.includes(`snapshot at offset ${offset} on one:7420`))).toBe(true);
    expect(await sizeOf(world, two)).toEqual(await sizeOf(world, one));
    expect(two.views.health).toEqual([]);
  });

  test('takes its own when that is as good, and the newer of another when it is not', async () => {
    const world = await start();
    const { time, host, fill, log } = world;
    const one = await host('one');
    const two = await host('two');
    await fill(0, 2000);
    for (const each of [one, two]) await time.until(each.views.upkeep.createSnapshots({ view: VIEW, partition: null }));
    await two.crash();
    // It is not served before the leader has said how far the log goes, so there is time to look.
    const { barrier } = log;
    log.barrier = () => Promise.reject(new TidelineError('no-leader', 'not yet'));
    const again = await host('two', { settle: false });
    const sources = new Set<string>();
    const look = async (each: Host): Promise<void> => {
      for (let n = 0; n < 300; n++) {
        await time.advance(5);
        for (const { restoring } of each.views.health) if (restoring) sources.add(restoring.source);
      }
    };
    await look(again);
    log.barrier = barrier;
    await look(again);
    expect(again.views.health).toEqual([]);
    expect([...sources]).toEqual([expect.stringContaining('on this host')]);
    await again.crash();
    await fill(2000, 9000);
    await time.until(one.views.upkeep.createSnapshots({ view: VIEW, partition: null }));
    sources.clear();
    const third = await host('two', { settle: false });
    await look(third);
    expect([...sources][0]).toContain('on one:7420');
    expect(await sizeOf(world, third)).toEqual(await sizeOf(world, one));
  });

  test('goes on slot by slot when the other host is lost on the way, from what else there is', async () => {
    const world = await start();
    const { time, host, fill, network } = world;
    const one = await host('one');
    await fill(0, 3000);
    await time.until(one.views.upkeep.createSnapshots({ view: VIEW, partition: null }));
    const two = await host('two', { settle: false });
    network.cut('one', 'two');
    await time.advance(30_000);
    expect(await sizeOf(world, two)).toEqual(await sizeOf(world, one));
    expect(two.views.health).toEqual([]);
  });

  test('below the start of a trimmed log needs another host, and says so until there is one', async () => {
    const world = await start();
    const { time, host, fill, log, get } = world;
    const one = await host('one');
    await fill(0, 3000);
    await time.until(one.views.upkeep.createSnapshots({ view: VIEW, partition: null }));
    const [{ offset }] = await time.until(one.views.upkeep.snapshots({ view: VIEW, everywhere: false }));
    await fill(3000, 100);
    await one.crash();
    log.cluster.log(VIEW, 0).trimBefore(asOffset(offset - 100));
    await time.until(log.refresh());
    const two = await host('two', { settle: false });
    await time.advance(5000);
    expect(two.views.health).toEqual([
      expect.objectContaining({
        restoring: null,
        problem: expect.stringMatching(/cannot be built: its log begins at offset \d+/),
      }),
    ]);
    await expect(get(two, 'k1')).rejects.toMatchObject({
      code: 'not-ready',
      message: expect.stringContaining('log begins at'),
    });
    await host('one');
    await time.advance(10_000);
    expect(two.views.health).toEqual([]);
    expect(await get(two, 'k1')).not.toBeNull();
  });
});

/** Each has a snapshot, and records after it. */
const threeWithSnapshots = async ({ time, host, fill }: World): Promise<Host[]> => {
  const hosts = [await host('one'), await host('two'), await host('three')];
  await fill(0, 2000);
  for (const { views } of hosts) await time.until(views.upkeep.createSnapshots({ view: VIEW, partition: null }));
  await fill(2000, 500);
  return hosts;
};

describe('hosts that differ', () => {
  test('one of three: it stops the slot, serves the others, and has it again from snapshot and log', async () => {
    const world = await start();
    const { time, get } = world;
    const hosts = await threeWithSnapshots(world);
    const right = await get(hosts[0], 'k7');
    misapply(hosts[2], 'k7');
    expect(await get(hosts[2], 'k7')).not.toBe(right);
    const slot = slotOfKey('k7');
    const other = Array.from({ length: 700 }, (_, n) => `k${n}`).find((key) => slotOfKey(key) !== slot)!;
    const answers = new Set<string | null>();
    let stopped = 0;
    for (let n = 0; n < 600; n++) {
      await time.advance(5);
      if (hosts[2].mismatches.length === 0) continue;
      await get(hosts[2], 'k7').then(
        (value) => answers.add(value),
        (error: { code: string }) => {
          expect(error.code).toBe('not-ready');
          stopped++;
        },
      );
      expect(await get(hosts[2], other)).toBe(await get(hosts[0], other));
    }
    expect(hosts[2].mismatches).toEqual([
      expect.objectContaining({ view: VIEW, partition: 0, slots: [slot], hosts: 3, verdict: 'minority' }),
    ]);
    expect(stopped).toBeGreaterThan(0);
    expect([...answers]).toEqual([right]);
    expect(await sizeOf(world, hosts[2])).toEqual(await sizeOf(world, hosts[0]));
    expect(hosts[2].views.health).toEqual([]);
    for (const each of hosts.slice(0, 2)) {
      // If they looked before the third had stopped it.
      expect(each.mismatches.filter(({ verdict }) => verdict !== 'majority')).toEqual([]);
      expect(each.views.health).toEqual([]);
    }
  });

  test('slots that were being rebuilt when an operator had the view restored are not the last that are', async () => {
    const world = await start();
    const { time, log, get } = world;
    const [one, , three] = await threeWithSnapshots(world);
    // The rebuild gets nothing of the log, and so goes on for as long as this lasts.
    const { tail } = log;
    log.tail = () => NEVER;
    misapply(three, 'k7');
    await time.advance(5 * DIGEST_MS);
    expect(three.views.health).toEqual([expect.objectContaining({ stoppedSlots: [slotOfKey('k7')] })]);
    expect(three.views.health[0].restoring).not.toBeNull();
    log.tail = tail;
    await time.until(three.views.upkeep.restoreSnapshots({ view: VIEW, partition: 0, offset: null }));
    await time.advance(1000);
    expect(three.views.health).toEqual([]);
    expect(await get(three, 'k7')).toBe(await get(one, 'k7'));
    misapply(three, 'k8');
    await time.advance(10 * DIGEST_MS);
    expect(three.mismatches.at(-1)).toMatchObject({ slots: [slotOfKey('k8')], verdict: 'minority' });
    expect(three.views.health).toEqual([]);
    expect(await get(three, 'k8')).toBe(await get(one, 'k8'));
    expect(await sizeOf(world, three)).toEqual(await sizeOf(world, one));
  });

  test('slots found wrong while an operator has the view restored are rebuilt after that', async () => {
    const world = await start();
    const { time, log, get } = world;
    const [one, , three] = await threeWithSnapshots(world);
    const { tail } = log;
    const broken = new Subject<TailChunk>();
    log.tail = () => broken;
    await time.until(three.views.upkeep.restoreSnapshots({ view: VIEW, partition: 0, offset: null }));
    misapply(three, 'k7');
    await time.advance(5 * DIGEST_MS);
    expect(three.views.health).toEqual([expect.objectContaining({ stoppedSlots: [slotOfKey('k7')] })]);
    log.tail = tail;
    // The restore fails; what it was to replace is still there, and its slot is rebuilt.
    broken.error(new TidelineError('connection-lost', 'the log is away'));
    await time.advance(10 * DIGEST_MS);
    expect(three.reports).toEqual([expect.stringContaining('the log is away')]);
    expect(three.views.health).toEqual([]);
    expect(await get(three, 'k7')).toBe(await get(one, 'k7'));
    expect(await sizeOf(world, three)).toEqual(await sizeOf(world, one));
  });

  test('a snapshot that has what is wrong is not what it is built from', async () => {
    const world = await start();
    const { time, host, fill, get } = world;
    const one = await host('one');
    const two = await host('two');
    const three = await host('three');
    await fill(0, 1000);
    misapply(three, 'k7');
    // Sound in itself: it says what is in memory.
    const { view } = inside(three);
    const state = (view as unknown as { state: { slots: { removedA: number }[] } }).state;
    state.slots[slotOfKey('k7')].removedA = (view.slotDigests()[2 * slotOfKey('k7')] - view.slotDigests()[0]) | 0;
    await time.until(three.views.upkeep.createSnapshots({ view: VIEW, partition: null }));
    await fill(1000, 500);
    await time.advance(10_000);
    expect(three.mismatches.at(-1)).toMatchObject({ verdict: 'minority' });
    expect(await get(three, 'k7')).toBe(await get(one, 'k7'));
    expect(await sizeOf(world, three)).toEqual(await sizeOf(world, two));
  });

  test('two: neither is believed, both stop the slot and build it from the log', async () => {
    const world = await start();
    const { time, host, fill, get } = world;
    const one = await host('one');
    const two = await host('two');
    await fill(0, 1500);
    const right = await get(one, 'k7');
    misapply(two, 'k7');
    await time.advance(10_000);
    for (const each of [one, two]) {
      expect(each.mismatches).toEqual([
        expect.objectContaining({ slots: [slotOfKey('k7')], hosts: 2, verdict: 'undecided' }),
      ]);
      expect(await get(each, 'k7')).toBe(right);
      expect(each.views.health).toEqual([]);
    }
    expect(await sizeOf(world, one)).toEqual(await sizeOf(world, two));
  });

  test('are found while records go on coming, at the marks they have in common', async () => {
    const world = await start();
    const { time, host, fill } = world;
    const hosts = [await host('one'), await host('two'), await host('three')];
    await fill(0, 500);
    misapply(hosts[1], 'k7');
    for (let n = 0; n < 60; n++) {
      await fill(500 + n * 300, 300);
      await time.advance(100);
    }
    expect(hosts[1].mismatches.some(({ verdict }) => verdict === 'minority')).toBe(true);
    await time.advance(10_000);
    expect(await sizeOf(world, hosts[1])).toEqual(await sizeOf(world, hosts[0]));
  });

  test('in a view that evicts, where no slot stands alone, the whole partition is built anew', async () => {
    const world = await start({ view: { maxEntries: 100_000 } });
    const { time, host, fill } = world;
    const hosts = [await host('one'), await host('two'), await host('three')];
    await fill(0, 1500);
    misapply(hosts[0], 'k7');
    await time.advance(15_000);
    expect(hosts[0].mismatches[0]).toMatchObject({ verdict: 'minority' });
    expect(await sizeOf(world, hosts[0])).toEqual(await sizeOf(world, hosts[1]));
  });

  test("memory that was changed behind a view's back is found without any other host", async () => {
    const world = await start();
    const { time, host, fill, get } = world;
    const one = await host('one');
    await fill(0, 700);
    const { view } = inside(one);
    const before = view.get(Buffer.from('k7'), view.logTime)!.offset;
    // A bit of the entry's offset, which comes after its flags.
    bytesInMemory(view, Buffer.from('k7')).whole[1] ^= 1;
    expect(view.get(Buffer.from('k7'), view.logTime)!.offset).not.toBe(before);
    await time.advance(SLOTS * 100 + 5000);
    expect(one.mismatches).toEqual([expect.objectContaining({ slots: [slotOfKey('k7')], verdict: 'memory' })]);
    expect(inside(one).view.get(Buffer.from('k7'), view.logTime)!.offset).toBe(before);
    expect(await get(one, 'k7')).toBe('7');
  });
});

describe('an operator', () => {
  test('lists the snapshots of all hosts, takes one, and has a view built from one', async () => {
    const world = await start();
    const { time, host, fill } = world;
    const one = await host('one');
    const two = await host('two');
    await fill(0, 1000);
    const [created] = await time.until(one.views.upkeep.createSnapshots({ view: VIEW, partition: 0 }));
    expect(created).toMatchObject({ host: 'one:7420', view: VIEW, partition: 0, verified: true });
    expect(created.slots).toBeGreaterThan(200);
    await fill(1000, 100);
    const [newer] = await time.until(two.views.upkeep.createSnapshots({ view: VIEW, partition: null }));
    const all = await time.until(one.views.upkeep.snapshots({ view: VIEW, everywhere: true }));
    expect(all.map((info) => [info.host, info.offset])).toEqual([
      ['two:7420', newer.offset],
      ['one:7420', created.offset],
    ]);
    const before = await sizeOf(world, one);
    const restored = one.views.upkeep.restoreSnapshots({ view: VIEW, partition: null, offset: created.offset });
    expect(await time.until(restored)).toEqual([
      { partition: 0, source: `snapshot at offset ${created.offset} on this host`, offset: created.offset },
    ]);
    await time.advance(100);
    expect(await sizeOf(world, one)).toEqual(before);
    await expect(
      time.until(one.views.upkeep.restoreSnapshots({ view: VIEW, partition: null, offset: asOffset(5) })),
    ).rejects.toMatchObject({ code: 'not-found' });
    await expect(
      time.until(one.views.upkeep.createSnapshots({ view: VIEW, partition: asPartitionId(7) })),
    ).rejects.toMatchObject({ code: 'unknown-partition' });
    await expect(
      time.until(one.views.upkeep.createSnapshots({ view: 'nowhere', partition: null })),
    ).rejects.toMatchObject({ code: 'unknown-view' });
  });
});
