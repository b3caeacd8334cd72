import { afterEach, describe, expect, test } from '@jest/globals';
import { asOffset, type TidelineError } from '#kernel';
import type { WatchEvent } from '#views';
import { encodeBatch, encodeConditionalOp, PUT_IF, readAllFound, type RecordInput } from '#wire';
import { MemoryCommandLog, VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { ViewHost } from './view-host.js';

const TOPIC = 'default';
const TARGET = { topic: TOPIC, partition: 0 };
const TIMEOUT_MS = 1000;

interface World {
  readonly time: VirtualTime;
  readonly log: MemoryCommandLog;
  readonly host: ViewHost;
  append(...records: RecordInput[]): Promise<{ firstOffset: number; lastOffset: number }>;
}

const worlds: World[] = [];

const start = async (options: { resultsMax?: number } = {}): Promise<World> => {
  const time = new VirtualTime();
  const log = new MemoryCommandLog({ topics: [{ name: TOPIC }], clock: time, scheduler: time });
  const host = new ViewHost({ log, clock: time, scheduler: time, ...options });
  const world: World = {
    time,
    log,
    host,
    append: (...records) => time.until(log.append(TARGET, encodeBatch(records, { createTime: 1 }), { acks: 'quorum' })),
  };
  worlds.push(world);
  await time.until(log.topic(TOPIC));
  return world;
};

afterEach(async () => {
  for (const { host, log } of worlds.splice(0)) {
    host.close();
    await log.close();
  }
});

const key = (text: string): Buffer => Buffer.from(text);
const put = (name: string, value: string, more: Partial<RecordInput> = {}): RecordInput => ({
  key: key(name),
  value: Buffer.from(value),
  ...more,
});

const get = async (world: World, name: string, offset = 0): Promise<string | null> => {
  const { entry } = await world.time.until(
    world.host.get({
      view: TOPIC,
      partition: 0,
      key: key(name),
      at: { offset: asOffset(offset), time: null },
      timeoutMs: TIMEOUT_MS,
    }),
  );
  return entry === null ? null : entry.value.toString();
};

const errorOf = (promise: Promise<unknown>): Promise<TidelineError> =>
  promise.then(
    () => {
      throw new Error('expected an error');
    },
    (error: unknown) => error as TidelineError,
  );

describe('reading', () => {
  test('a read that names an offset sees what was written there', async () => {
    const world = await start();
    const { lastOffset } = await world.append(put('a', '1'), put('b', '2'));
    expect(await get(world, 'a', lastOffset)).toBe('1');
    expect(await get(world, 'b', lastOffset)).toBe('2');
    expect(await get(world, 'c', lastOffset)).toBeNull();
  });

  test('a read of many keys sees what each by itself would, and waits as it would', async () => {
    const world = await start();
    const keys = ['a', 'c', 'b', 'a'].map(key);
    const getMany = (offset: number) =>
      world.host.getMany({
        view: TOPIC,
        partition: 0,
        keys,
        bytesMax: 1000,
        at: { offset: asOffset(offset), time: null },
        timeoutMs: TIMEOUT_MS,
      });
    const { lastOffset } = await world.append(put('a', '1'), put('b', '2'));
    const { found, position } = await world.time.until(getMany(lastOffset));
    const values = readAllFound(found, keys.length).map((entry) => entry && String(entry.value));
    expect(values).toEqual(['1', null, '2', '1']);
    expect(position.offset).toBe(lastOffset);
    const late = errorOf(getMany(1000));
    await world.time.advance(TIMEOUT_MS + 200);
    expect(await late).toMatchObject({ code: 'timeout' });
  });

  test('a read of an offset that does not come ends as a timeout, outcome unknown', async () => {
    const world = await start();
    const read = errorOf(
      world.host.get({
        view: TOPIC,
        partition: 0,
        key: key('a'),
        at: { offset: asOffset(1000), time: null },
        timeoutMs: TIMEOUT_MS,
      }),
    );
    await world.time.advance(TIMEOUT_MS + 200);
    expect(await read).toMatchObject({ code: 'timeout', outcome: 'unknown' });
  });

  test('a view or partition that is not there is named', async () => {
    const { host, time } = await start();
    const at = { offset: asOffset(0), time: null };
    const view = errorOf(host.get({ view: 'nowhere', partition: 0, key: key('a'), at, timeoutMs: 1 }));
    const partition = errorOf(host.get({ view: TOPIC, partition: 5, key: key('a'), at, timeoutMs: 1 }));
    await time.settle();
    expect(await view).toMatchObject({ code: 'unknown-view' });
    expect(await partition).toMatchObject({ code: 'unknown-partition' });
  });

  test('a scan gives a page in the order of the keys and says whether there is more', async () => {
    const world = await start();
    const { lastOffset } = await world.append(put('b', '2'), put('a', '1'), put('c', '3'), put('x', '4'));
    const scan = (after: Buffer | null): ReturnType<ViewHost['scan']> =>
      world.host.scan({
        view: TOPIC,
        partition: 0,
        prefix: key(''),
        after,
        limit: 2,
        bytesMax: 1e6,
        values: true,
        at: { offset: asOffset(lastOffset), time: null },
        timeoutMs: TIMEOUT_MS,
      });
    const first = await world.time.until(scan(null));
    expect(first.entries.map((entry) => String(entry.key))).toEqual(['a', 'b']);
    expect(first.more).toBe(true);
    const second = await world.time.until(scan(first.entries[1].key));
    expect(second.entries.map((entry) => String(entry.key))).toEqual(['c', 'x']);
  });
});

describe('results', () => {
  test('a conditional write that fails says so and changes nothing', async () => {
    const world = await start();
    const { lastOffset: first } = await world.append(put('a', '1'));
    const op = encodeConditionalOp(PUT_IF, { kind: 'absent' });
    const { firstOffset, lastOffset } = await world.append(put('a', '2', { op }), put('b', '3', { op }));
    const { results } = await world.time.until(
      world.host.results({
        view: TOPIC,
        partition: 0,
        firstOffset: asOffset(firstOffset),
        lastOffset: asOffset(lastOffset),
        timeoutMs: TIMEOUT_MS,
      }),
    );
    expect(results.map(({ ok, code }) => [ok, code])).toEqual([
      [false, 'condition-failed'],
      [true, ''],
    ]);
    expect(results[0].entryOffset).toBe(first);
    expect(await get(world, 'a')).toBe('1');
  });
});

describe('expiry', () => {
  test('an entry expires although nothing is written: the host asks for the time', async () => {
    const world = await start();
    const events: WatchEvent[] = [];
    const { lastOffset } = await world.append(put('a', '1', { ttlMs: 5000 }), put('b', '2'));
    expect(await get(world, 'a', lastOffset)).toBe('1');
    const subscription = world.host
      .watch({ view: TOPIC, partition: 0, prefix: key('') })
      .subscribe(({ events: some, release }) => {
        events.push(...some);
        release();
      });
    await world.time.advance(8000);
    subscription.unsubscribe();
    expect(await get(world, 'a')).toBeNull();
    expect(await get(world, 'b')).toBe('2');
    expect(events.map((event) => event.type)).toEqual(['put', 'put', 'live', 'expire']);
    const [stats] = await world.host.stats();
    expect(stats.entries).toBe(1);
  });
});

describe('watching', () => {
  test('current entries come first, then live, then each change once', async () => {
    const world = await start();
    const { lastOffset } = await world.append(put('a/1', '1'), put('b/1', 'x'));
    await get(world, 'a/1', lastOffset);
    const events: WatchEvent[] = [];
    const subscription = world.host
      .watch({ view: TOPIC, partition: 0, prefix: key('a/') })
      .subscribe(({ events: some, release }) => {
        events.push(...some);
        release();
      });
    // The keys are put in order first, a few a turn.
    await world.time.advance(10);
    const { lastOffset: last } = await world.append(put('a/2', '2'), put('b/2', 'x'), { key: key('a/1'), value: null });
    await get(world, 'a/2', last);
    subscription.unsubscribe();
    await world.append(put('a/3', '3'));
    await world.time.advance(100);
    expect(
      events.map((event) =>
        event.type === 'live' ? 'live' : `${event.type} ${String(event.type === 'put' ? event.entry.key : event.key)}`,
      ),
    ).toEqual(['put a/1', 'live', 'put a/2', 'delete a/1']);
  });
});

describe('following the cluster', () => {
  test('a topic that comes later gets its view', async () => {
    const world = await start();
    world.log.cluster.createTopic({ name: 'later' });
    await world.time.until(world.log.topic('later'));
    await world.time.until(
      world.log.append({ topic: 'later', partition: 0 }, encodeBatch([put('k', 'v')], { createTime: 1 }), {
        acks: 'quorum',
      }),
    );
    await world.time.advance(2000);
    const { entry } = await world.time.until(
      world.host.get({
        view: 'later',
        partition: 0,
        key: key('k'),
        at: { offset: asOffset(1), time: null },
        timeoutMs: TIMEOUT_MS,
      }),
    );
    expect(entry?.value.toString()).toBe('v');
  });

  test('readers that wait when the host closes are told', async () => {
    const { host } = await start();
    const read = errorOf(
      host.get({
        view: TOPIC,
        partition: 0,
        key: key('a'),
        at: { offset: asOffset(1000), time: null },
        timeoutMs: TIMEOUT_MS,
      }),
    );
    host.close();
    expect(await read).toMatchObject({ code: 'not-ready' });
  });
});
