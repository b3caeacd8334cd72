import { afterEach, describe, expect, test } from '@jest/globals';
import { TidelineError, asOffset, type Clock, type Scheduler } from '#kernel';
import { Apply, View, encodeReplay, type ProjectionDescription, type ViewEvent, type WatchEvent } from '#views';
import { encodeBatch, readAllFound, type RecordInput } from '#wire';
import { InMemoryArchive, InMemorySnapshotCatalog } from '../../../libs/catalog/src/testing/index.js';
import { MemoryCommandLog, VirtualTime, type MemoryTopic } from '../../../libs/command-log/src/testing/index.js';
import { MemoryFileSystem } from '../../../libs/storage/src/testing/index.js';
import { FEED_CREDIT_BYTES } from './partition-feed.js';
import { SnapshotStore } from './snapshot-store.js';
import { ViewHost } from './view-host.js';

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

interface Count {
  readonly count: number;
  readonly last: string;
}

@View<Count>({ topic: 'events', name: 'counts', version: 1, indexes: { last: ({ last }) => last } })
class Counts {
  @Apply('bad')
  bad(): never {
    throw new Error('not this one');
  }
  @Apply()
  any(state: Count | null, { bytes }: ViewEvent): Count {
    return { count: (state?.count ?? 0) + 1, last: String(bytes) };
  }
}

@View<Count>({ topic: 'events', name: 'counts', version: 2, indexes: { last: ({ last }) => last } })
class CountsByTen extends Counts {
  @Apply()
  override any(state: Count | null, event: ViewEvent): Count {
    const { count, last } = super.any(state, event);
    return { count: count + 9, last };
  }
}

@View<Count>({ topic: 'events', name: 'leases', version: 1, ttlMs: 1000, archive: true })
class Leases extends Counts {
  @Apply()
  override any(state: Count | null, event: ViewEvent): Count {
    return super.any(state, event);
  }
}

@View<Count>({ topic: 'events', name: 'leases', version: 2, ttlMs: 1000, archive: true })
class LaterLeases extends Leases {
  @Apply()
  override any(state: Count | null, event: ViewEvent): Count {
    return super.any(state, event);
  }
}

class World {
  readonly time = new VirtualTime();
  readonly log: MemoryCommandLog;
  readonly reports: string[] = [];
  readonly fileSystem = new MemoryFileSystem(this.time);
  readonly catalog = new InMemorySnapshotCatalog();
  readonly archive = new InMemoryArchive(this.time);

  constructor(topics: readonly MemoryTopic[] = [{ name: 'events', partitions: 2 }]) {
    this.log = new MemoryCommandLog({ topics, clock: this.time, scheduler: this.time });
    closing.push(() => this.log.close());
  }

  host(
    projections: readonly (new () => object)[],
    clock: Clock = this.time,
    scheduler: Scheduler = this.time,
  ): ViewHost {
    const store = new SnapshotStore({
      fileSystem: this.fileSystem,
      catalog: this.catalog,
      directory: '/snapshots',
      host: 'here',
      kept: 2,
      clock: this.time,
      report: (message) => this.reports.push(message),
    });
    const host = new ViewHost({
      log: this.log,
      archive: this.archive,
      snapshots: { store, intervalMs: 1_000_000 },
      clock,
      scheduler,
      projections,
    });
    closing.push(() => host.close());
    return host;
  }

  append(partition: number, ...records: RecordInput[]): Promise<{ lastOffset: number }> {
    const batch = encodeBatch(records, { createTime: 1 });
    return this.time.until(this.log.append({ topic: 'events', partition }, batch, { acks: 'quorum' }));
  }

  /** As of all that is committed when `linearizable`. */
  async get(host: ViewHost, key: string, linearizable = true, view = 'counts'): Promise<unknown> {
    const barrier = await this.time.until(this.log.barrier({ topic: 'events', partition: 0 }));
    const at = linearizable ? barrier : { offset: asOffset(0), time: null };
    const read = host.get({ view, partition: 0, key: Buffer.from(key), at, timeoutMs: 5000 });
    const { entry } = await this.time.until(read);
    return entry === null ? null : JSON.parse(entry.value.toString());
  }

  /** As `get`, where a state that has expired does as well. */
  async getOrDeparted(host: ViewHost, key: string, linearizable = true): Promise<unknown> {
    const barrier = await this.time.until(this.log.barrier({ topic: 'events', partition: 0 }));
    const at = linearizable ? barrier : { offset: asOffset(0), time: null };
    const asked = { view: 'leases', partition: 0, key: Buffer.from(key), at, timeoutMs: 5000 };
    const { entry, departed } = await this.time.until(host.getOrDeparted(asked));
    const { value } = entry ?? departed ?? { value: Buffer.from('null') };
    return { state: JSON.parse(value.toString()) as unknown, archived: departed && departed.archivedAt !== null };
  }

  async described(host: ViewHost): Promise<ProjectionDescription> {
    return (await host.projections())[0];
  }
}

const event = (key: string, value: string, type?: string): RecordInput => ({
  key: Buffer.from(key),
  value: Buffer.from(value),
  ...(type !== undefined && { type }),
});

const errorOf = (promise: Promise<unknown>): Promise<TidelineError> =>
  promise.then(
    () => {
      throw new Error('expected an error');
    },
    (error: unknown) => error as TidelineError,
  );

describe('a projection on a host', () => {
  test('is read, scanned, looked up by index and described under its name', async () => {
    const world = new World();
    const host = world.host([Counts]);
    await world.append(0, event('a', 'x'), event('a', 'y'), event('b', 'y'));
    await world.append(1, event('c', 'y'));
    expect(await world.get(host, 'a')).toEqual({ count: 2, last: 'y' });
    const keys = ['b', 'none', 'a'].map((key) => Buffer.from(key));
    const getMany = async (bytesMax: number) => {
      const at = { offset: asOffset(3), time: null };
      const request = { view: 'counts', partition: 0, keys, bytesMax, at, timeoutMs: 1000 };
      const read = await world.time.until(host.getMany(request));
      return readAllFound(read.found, keys.length).map(
        (entry) => entry && (JSON.parse(String(entry.value)) as unknown),
      );
    };
    expect(await getMany(1000)).toEqual([{ count: 1, last: 'y' }, null, { count: 2, last: 'y' }]);
    expect(await getMany(1)).toEqual([{ count: 1, last: 'y' }, undefined, undefined]);
    const lookup = (partition: number, index: string) =>
      host.lookup({
        view: 'counts',
        partition,
        index,
        value: 'y',
        after: null,
        limit: 10,
        bytesMax: 1e6,
        values: true,
        at: { offset: asOffset(1), time: null },
        timeoutMs: 1000,
      });
    const found = await world.time.until(Promise.all([lookup(0, 'last'), lookup(1, 'last')]));
    expect(found.map(({ entries }) => entries.map(({ key }) => String(key)))).toEqual([['a', 'b'], ['c']]);
    expect(await errorOf(lookup(0, 'first'))).toMatchObject({ code: 'bad-request' });
    const stats = (await host.stats()).find(({ view }) => view === 'counts')!;
    expect(stats).toMatchObject({ kind: 'projection', topic: 'events', entries: 3 });
    await world.time.advance(1000);
    expect(await world.described(host)).toMatchObject({
      view: 'counts',
      version: 1,
      state: 'live',
      building: null,
      indexes: ['last'],
      refusal: '',
    });
  });

  test('starts from its snapshot, with its indexes and what was set aside', async () => {
    const world = new World();
    const first = world.host([Counts]);
    await world.append(0, event('a', 'x'), event('a', 'y', 'bad'), event('b', 'y'));
    await world.append(1, event('c', 'y'));
    expect(await world.get(first, 'b')).toEqual({ count: 1, last: 'y' });
    await world.time.until(first.finish(1000));
    first.close();
    const tailed: number[] = [];
    const { tail } = world.log;
    world.log.tail = (target, from, options) => {
      tailed.push(from);
      return tail.call(world.log, target, from, options);
    };
    const second = world.host([Counts]);
    await world.time.advance(1000);
    expect(Math.min(...tailed)).toBeGreaterThan(1);
    expect(await world.get(second, 'b')).toEqual({ count: 1, last: 'y' });
    const lookup = second.lookup({
      view: 'counts',
      partition: 0,
      index: 'last',
      value: 'y',
      after: null,
      limit: 10,
      bytesMax: 1e6,
      values: false,
      at: { offset: asOffset(1), time: null },
      timeoutMs: 1000,
    });
    expect((await world.time.until(lookup)).entries.map(({ key }) => String(key))).toEqual(['b']);
    expect((await world.described(second)).parked).toBe(1);
  });

  test('that cannot be hosted right is refused by name, and the rest goes on', async () => {
    @View({ topic: 'events', name: 'by-value', version: 1, key: ({ bytes }) => bytes })
    class Rekeyed {
      @Apply()
      any(): number {
        return 1;
      }
    }
    @View({ topic: 'events', name: 'events', version: 1 })
    class Clash extends Rekeyed {}
    @View({ topic: 'nowhere', name: 'lost', version: 1 })
    class Lost extends Rekeyed {}
    const world = new World();
    const host = world.host([Rekeyed, Clash, Lost, Counts]);
    await world.append(0, event('a', 'x'));
    expect(await world.get(host, 'a')).toEqual({ count: 1, last: 'x' });
    await world.time.advance(500);
    const refusals = (await host.projections()).map(({ state, refusal }) => [state, refusal]);
    expect(refusals).toEqual([
      ['refused', expect.stringContaining('has 2 partitions')],
      ['refused', 'topic events has a map view of that name'],
      ['refused', 'there is no topic nowhere'],
      ['live', ''],
    ]);
    expect(await errorOf(world.get(host, 'x', true, 'by-value'))).toMatchObject({ code: 'not-ready' });
    const other = new World([{ name: 'events', partitions: 1 }]);
    const single = other.host([Rekeyed]);
    await other.append(0, event('a', 'x'));
    expect(await other.get(single, 'x', true, 'by-value')).toBe(1);
    expect(() => other.host([Counts, Counts])).toThrow('view counts has two classes of version 1');
  });

  test('sets events aside, lists them, and tries them again when the log says so', async () => {
    const world = new World();
    let mended = false;
    @View({ topic: 'events', name: 'counts', version: 1 })
    class Mendable {
      @Apply()
      any(): number {
        if (!mended) throw new Error('not yet');
        return 1;
      }
    }
    const host = world.host([Mendable]);
    const parked = async (after: number): Promise<(readonly [number, string, number])[]> => {
      const at = await world.time.until(world.log.barrier({ topic: 'events', partition: 0 }));
      const asked = { view: 'counts', partition: 0, after: asOffset(after), limit: 1, at, timeoutMs: 1000 };
      const { events } = await world.time.until(host.parked(asked));
      return events.map(({ offset, error, attempts }) => [offset, error, attempts]);
    };
    const { lastOffset } = await world.append(0, event('a', 'x'), event('b', 'x'));
    expect(await parked(0)).toEqual([[lastOffset - 1, 'Error: not yet', 1]]);
    expect(await parked(lastOffset - 1)).toEqual([[lastOffset, 'Error: not yet', 1]]);
    await world.append(0, encodeReplay({ view: 'counts', offset: asOffset(lastOffset) }));
    expect(await parked(lastOffset - 1)).toEqual([[lastOffset, 'Error: not yet', 2]]);
    mended = true;
    await world.append(0, encodeReplay({ view: 'counts', offset: null }));
    expect(await parked(0)).toEqual([]);
    expect(await world.get(host, 'a')).toBe(1);
  });

  test('that halts says so to who reads beyond, and keeps what it has', async () => {
    @View<Count>({ topic: 'events', name: 'counts', version: 1, onError: 'halt' })
    class Halting extends Counts {}
    const world = new World();
    const host = world.host([Halting]);
    await world.append(0, event('a', 'x'));
    expect(await world.get(host, 'a')).toEqual({ count: 1, last: 'x' });
    const waiting = errorOf(
      host.get({
        view: 'counts',
        partition: 0,
        key: Buffer.from('a'),
        at: { offset: asOffset(100), time: null },
        timeoutMs: 60_000,
      }),
    );
    const { lastOffset } = await world.append(0, event('a', 'y', 'bad'), event('a', 'z'));
    expect(await world.time.until(waiting)).toMatchObject({ code: 'view-halted', details: { offset: lastOffset - 1 } });
    expect(await errorOf(world.get(host, 'a'))).toMatchObject({ code: 'view-halted' });
    expect(await world.get(host, 'a', false)).toEqual({ count: 1, last: 'x' });
    expect(await world.described(host)).toMatchObject({
      state: 'halted',
      halted: [{ partition: 0, offset: lastOffset - 1, reason: 'version 1: Error: not this one' }],
    });
  });
});

describe('a new version', () => {
  /** A log of some events, and the snapshot that a host of version 1 left. */
  const withSnapshot = async (): Promise<World> => {
    const world = new World();
    const host = world.host([Counts]);
    for (let n = 0; n < 20; n++) await world.append(0, event('a', `${n}`));
    expect(await world.get(host, 'a')).toEqual({ count: 20, last: '19' });
    await world.append(1, event('c', 'y'));
    await world.time.advance(100);
    await world.time.until(host.finish(1000));
    host.close();
    return world;
  };
  /** Lets nothing through from the start of the log until it is opened. */
  const gate = (world: World): (() => void) => {
    const held: (() => void)[] = [];
    let open = false;
    const { tail } = world.log;
    world.log.tail = (target, from, options) => {
      const source = tail.call(world.log, target, from, options);
      if (from > 1 || open) return source;
      const subscribe = source.subscribe.bind(source);
      source.subscribe = ((observer: never) => {
        let inner: { unsubscribe(): void } | null = null;
        held.push(() => (inner = subscribe(observer)));
        return { unsubscribe: () => inner?.unsubscribe() };
      }) as never;
      return source;
    };
    return () => {
      open = true;
      for (const start of held.splice(0)) start();
    };
  };

  test('is built beside the old one and takes its place at once when it has caught up', async () => {
    const world = await withSnapshot();
    const release = gate(world);
    const host = world.host([Counts, CountsByTen]);
    const swaps: [string, number][] = [];
    host.onSwapped((view, version) => swaps.push([view, version]));
    await world.time.advance(3000);
    await world.append(0, event('a', 'new'));
    expect(await world.get(host, 'a')).toEqual({ count: 21, last: 'new' });
    expect(await world.described(host)).toMatchObject({
      version: 1,
      state: 'live',
      building: { version: 2, percent: 0 },
    });
    expect((await world.described(host)).building!.target).toBeGreaterThan(20);
    const ends: TidelineError[] = [];
    host
      .watch({ view: 'counts', partition: 0, prefix: Buffer.alloc(0) })
      .subscribe({ error: (error: TidelineError) => ends.push(error) });
    // One that waits at the old version gets its answer from the new one.
    const waiting = host.get({
      view: 'counts',
      partition: 0,
      key: Buffer.from('a'),
      at: { offset: asOffset(26), time: null },
      timeoutMs: 60_000,
    });
    release();
    await world.time.advance(1000);
    expect(swaps).toEqual([['counts', 2]]);
    expect(ends).toMatchObject([{ code: 'not-ready' }]);
    expect(await world.described(host)).toMatchObject({ version: 2, state: 'live', building: null });
    expect(await world.get(host, 'a')).toEqual({ count: 210, last: 'new' });
    await world.append(0, ...Array.from({ length: 9 }, () => event('b', 'x')));
    expect(JSON.parse((await world.time.until(waiting)).entry!.value.toString())).toEqual({ count: 210, last: 'new' });
    await expect(world.get(host, 'a', true, 'counts@1')).rejects.toMatchObject({ code: 'unknown-view' });
  });

  /** Views of which there are snapshots: in the catalog, and as files. */
  const snapshotsOf = async (world: World): Promise<string[]> => {
    const catalogued = (await world.catalog.list()).map(({ view }) => `${view} catalogued`);
    const [cluster] = world.fileSystem.readdirSync('/snapshots');
    const folders = world.fileSystem.readdirSync(`/snapshots/${cluster}`);
    const filed = folders.flatMap((folder) =>
      world.fileSystem.readdirSync(`/snapshots/${cluster}/${folder}`).map(() => `${folder.split('-')[0]} file`),
    );
    return [...new Set([...catalogued, ...filed])].toSorted();
  };

  test.each([
    ['was served until then', [Counts, CountsByTen]],
    ['had no code any more', [CountsByTen]],
  ])('leaves no snapshots of an old version that %s, once it serves and has one itself', async (_which, views) => {
    const world = await withSnapshot();
    const release = gate(world);
    const host = world.host(views);
    await world.time.advance(3000);
    const before = await snapshotsOf(world);
    expect(before).toEqual(expect.arrayContaining(['counts@1 catalogued', 'counts@1 file']));
    expect(before.join()).not.toContain('counts@2');
    release();
    await world.time.advance(1000);
    expect(await world.described(host)).toMatchObject({ version: 2, state: 'live' });
    const after = await snapshotsOf(world);
    expect(after).toEqual(expect.arrayContaining(['counts@2 catalogued', 'counts@2 file']));
    expect(after.join()).not.toContain('counts@1');
    expect(world.reports).toEqual([]);
  });

  test('without the old code leaves the old snapshot to stale reads until it has caught up', async () => {
    const world = await withSnapshot();
    const release = gate(world);
    const host = world.host([CountsByTen]);
    await world.time.advance(3000);
    await world.append(0, event('a', 'new'));
    expect(await world.get(host, 'a', false)).toEqual({ count: 20, last: '19' });
    const refused = await errorOf(world.get(host, 'a'));
    expect(refused).toMatchObject({
      code: 'not-ready',
      message: expect.stringContaining('counts@1 has answers as of'),
    });
    expect(await world.described(host)).toMatchObject({ version: 1, state: 'building', building: { version: 2 } });
    release();
    await world.time.advance(1000);
    expect(await world.get(host, 'a')).toEqual({ count: 210, last: 'new' });
    expect(await world.described(host)).toMatchObject({ version: 2, state: 'live' });
  });

  test('shows what has expired on its way to the archive, also when only a snapshot of it is left', async () => {
    const world = new World();
    const write = world.archive.write.bind(world.archive);
    world.archive.write = () => Promise.reject(new TidelineError('not-ready', 'the archive is down'));
    const first = world.host([Leases]);
    await world.append(0, event('a', 'x'));
    expect(await world.getOrDeparted(first, 'a')).toEqual({ state: { count: 1, last: 'x' }, archived: null });
    await world.time.advance(2000);
    expect(await world.getOrDeparted(first, 'a')).toEqual({ state: { count: 1, last: 'x' }, archived: false });
    await world.time.until(first.finish(1000));
    first.close();
    const release = gate(world);
    const second = world.host([LaterLeases]);
    await world.time.advance(3000);
    expect(await world.getOrDeparted(second, 'a', false)).toEqual({ state: { count: 1, last: 'x' }, archived: false });
    release();
    await world.time.advance(1000);
    expect(await world.getOrDeparted(second, 'a')).toEqual({ state: { count: 1, last: 'x' }, archived: false });
    world.archive.write = write;
    await world.time.advance(31_000);
    expect(await world.getOrDeparted(second, 'a')).toEqual({ state: { count: 1, last: 'x' }, archived: true });
  });

  test('is not ready before it has anything to show when nothing is left of the old one', async () => {
    const world = new World();
    await world.append(0, event('a', '1'));
    const release = gate(world);
    const host = world.host([CountsByTen]);
    await world.time.advance(500);
    const read = world.get(host, 'a');
    release();
    expect(await read).toEqual({ count: 10, last: '1' });
  });
});

test('a slow projection slows its own tail and nothing else, and holds no more of the log than its credit', async () => {
  const world = new World([{ name: 'events' }, { name: 'others' }]);
  let spentMs = 0;
  @View({ topic: 'events', name: 'slow', version: 1 })
  class Slow {
    @Apply()
    any(): number {
      spentMs += 20; // longer than a turn may take
      return 1;
    }
  }
  @View({ topic: 'events', name: 'quick', version: 1 })
  class Quick {
    @Apply()
    any(state: number | null): number {
      return (state ?? 0) + 1;
    }
  }
  let unreleased = 0;
  let most = 0;
  let tails = 0;
  const { tail } = world.log;
  world.log.tail = (target, from, options) => {
    const source = tail.call(world.log, target, from, options);
    // The tails of topic events: of its map view, then of the projections in their order.
    if (target.topic !== 'events' || ++tails !== 2) return source;
    const subscribe = source.subscribe.bind(source);
    source.subscribe = ((observer: { next(chunk: never): void }) =>
      subscribe({
        ...observer,
        next: (chunk: { batches: Buffer; release(): void }) => {
          unreleased += chunk.batches.length;
          most = Math.max(most, unreleased);
          const release = (): void => {
            unreleased -= chunk.batches.length;
            chunk.release();
          };
          observer.next({ ...chunk, release } as never);
        },
      } as never)) as never;
    return source;
  };
  const clock: Clock = { wallMs: () => world.time.wallMs(), monotonicMs: () => world.time.monotonicMs() + spentMs };
  const records = Array.from({ length: 64 }, (_, n) => event(`k${n}`, 'v'.repeat(16 * 1024)));
  for (let n = 0; n < 24; n++) await world.append(0, ...records);
  /** What is deferred runs a turn at a time, as in an event loop. */
  let deferred: (() => void)[] = [];
  const scheduler: Scheduler = {
    defer: (task) => void deferred.push(task),
    after: (delayMs, task) => world.time.after(delayMs, task),
  };
  const host = world.host([Slow, Quick], clock, scheduler);
  const offsetOf = (view: string): number => host.partitionStats().find((stats) => stats.view === view)?.offset ?? 0;
  const { offset: end } = await world.time.until(world.log.barrier({ topic: 'events', partition: 0 }));
  for (let turn = 0; turn < 400 && (offsetOf('quick@1') < end || offsetOf('events') < end); turn++) {
    const turnTasks = deferred;
    deferred = [];
    for (const task of turnTasks) task();
    // What was released is replaced.
    world.time.advance(0);
  }
  expect([offsetOf('quick@1') >= end, offsetOf('events') >= end]).toEqual([true, true]);
  expect(offsetOf('slow@1')).toBeLessThan(end);
  expect(unreleased).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(2 * FEED_CREDIT_BYTES + 2 * 1024 * 1024);
});

test('a watch reads the entries when its reader takes them, and shows every key as it is last', async () => {
  const world = new World();
  const host = world.host([Counts]);
  const keys = Array.from({ length: 3000 }, (_, n) => `k${String(n).padStart(4, '0')}`);
  await world.append(0, ...keys.map((key) => event(key, 'x')));
  await world.get(host, 'k0000');
  const seen = new Map<string, number>();
  const types: string[] = [];
  const wentBack: string[] = [];
  const waiting: (() => void)[] = [];
  const take = ({ events, release }: { events: readonly WatchEvent[]; release(): void }): void => {
    for (const one of events) {
      types.push(one.type);
      if (one.type === 'live') continue;
      const key = String(one.type === 'put' ? one.entry.key : one.key);
      if (one.type === 'put') {
        const { count } = JSON.parse(one.entry.value.toString()) as Count;
        if (count <= (seen.get(key) ?? 0)) wentBack.push(key);
        seen.set(key, count);
      } else seen.delete(key);
    }
    waiting.push(release);
  };
  const watching = host.watch({ view: 'counts', partition: 0, prefix: Buffer.from('k') }).subscribe(take);
  await world.time.advance(10);
  const given = types.length;
  expect(given).toBeLessThan(1500);
  // Passed already, and still to come.
  await world.append(0, event('k0000', 'y'), event('k2999', 'y'), event('k2999', 'z'), event('a', 'x'));
  await world.time.advance(10);
  expect(types.length).toBe(given);
  while (waiting.length > 0) {
    for (const release of waiting.splice(0)) release();
    await world.time.advance(10);
  }
  expect(types.filter((type) => type === 'live')).toHaveLength(1);
  expect(seen.size).toBe(3000);
  expect(wentBack).toEqual([]);
  expect([seen.get('k0000'), seen.get('k2999')]).toEqual([2, 3]);
  expect(types.length).toBe(3000 + 1 + 1);
  watching.unsubscribe();
});
