import { describe, expect, test } from '@jest/globals';
import { encodeOp, type RecordInput } from '#wire';
import type { ViewChange } from './change-listeners.js';
import { MapView, type MapViewOptions } from './map-view.js';
import { restoreMapView } from './map-view-restorer.js';
import { BatchSource } from './testing/batch-source.js';
import { TypedEntry } from './testing/typed-entry.js';
import { BUILT_IN_TYPES } from './types/built-in-types.js';

const DAY_MS = 86_400_000;

describe('touch, expire and persist', () => {
  test('answer 1 when there was something to do and 0 when not, as in Redis', () => {
    const e = new TypedEntry(BUILT_IN_TYPES);
    expect([e.run('touch'), e.run('expire', 1000), e.run('persist')]).toEqual([0, 0, 0]);
    e.put('v');
    expect([e.run('touch'), e.run('persist'), e.run('expire', 1000), e.run('persist'), e.run('persist')]).toEqual([
      1, 0, 1, 1, 0,
    ]);
  });

  test('leave value, type, content type and ETag as they are, and work on entries of every type', () => {
    const e = new TypedEntry(BUILT_IN_TYPES);
    e.put('{"a":1}', 'application/json');
    const before = e.entry!;
    e.source.logTime += 50;
    expect(e.apply('expire', [1000])).toMatchObject({ value: '1', entryOffset: before.offset });
    expect(e.entry).toEqual({ ...before, logTime: before.logTime + 50, expiresAt: before.logTime + 1050 });
    expect(e.run('json.get', '/a')).toBe(1);
    for (const [name, ...args] of [
      ['hset', 'f', 'v'],
      ['zadd', 1, 'm'],
      ['lpush', 'x'],
      ['sadd', 'y'],
    ] as const) {
      const own = new TypedEntry(BUILT_IN_TYPES);
      own.run(name, ...args);
      const { offset, value } = own.entry!;
      expect([own.run('expire', 50), own.run('touch'), own.run('persist')]).toEqual([1, 1, 1]);
      expect(own.entry).toMatchObject({ offset, value, expiresAt: null });
      expect(own.run('incr')).toBe('wrong-type');
    }
  });

  test('expire sets a TTL from the command on, under a condition if one is given, and 0 ends the entry', () => {
    const e = new TypedEntry(BUILT_IN_TYPES);
    e.put('v');
    const ttl = (): number | null => (e.entry?.expiresAt == null ? null : e.entry.expiresAt - e.source.logTime);
    const steps: [string, number, number | null][] = [
      ['xx', 0, null],
      ['gt', 0, null],
      ['nx', 1, 100],
      ['NX', 0, 100],
    ];
    for (const [condition, result, expected] of steps) {
      expect([condition, e.run('expire', 100, condition), ttl()]).toEqual([condition, result, expected]);
    }
    expect([e.run('expire', 50, 'gt'), e.run('expire', 200, 'gt'), ttl()]).toEqual([0, 1, 200]);
    expect([e.run('expire', 300, 'lt'), e.run('expire', 20, 'lt'), ttl()]).toEqual([0, 1, 20]);
    expect([e.run('expire', 0), e.entry, e.run('touch')]).toEqual([1, null, 0]);
  });

  test('are refused before they are appended when their arguments make no sense', () => {
    const e = new TypedEntry(BUILT_IN_TYPES);
    for (const args of [[], ['-1'], ['1.5'], [101 * 365 * DAY_MS], [5, 'maybe'], [5, 'nx', 'xx']])
      expect([args, e.problem('expire', ...args)]).toEqual([args, 'bad-request']);
    expect([e.problem('touch', 1), e.problem('persist', 1), e.problem('expire', 5, 'NX')]).toEqual([
      'bad-request',
      'bad-request',
      null,
    ]);
  });

  test('touch takes over the TTL of its record, if it has one', () => {
    const e = new TypedEntry(BUILT_IN_TYPES);
    e.apply('set', ['v'], 1000);
    e.source.logTime += 10;
    e.run('touch');
    expect(e.entry?.expiresAt).toBe(e.source.logTime + 990);
    e.apply('touch', [], 5000);
    expect(e.entry?.expiresAt).toBe(e.source.logTime + 5000);
  });
});

const world = (options: MapViewOptions) => {
  const source = new BatchSource(1000);
  const view = new MapView({ dataTypes: BUILT_IN_TYPES, ...options });
  const changes: ViewChange[] = [];
  view.onChange((change) => changes.push(change));
  const at = (logTime: number, ...records: RecordInput[]): void => {
    source.logTime = logTime;
    view.applyBatches(records.length === 0 ? source.beacon() : source.records(records));
  };
  const shown = (): string =>
    view
      .scan({ prefix: Buffer.alloc(0), after: null, limit: 99, bytesMax: 1e9, values: false, time: view.logTime })
      .entries.map(({ key }) => String(key))
      .join('');
  return { source, view, changes, at, shown };
};
const put = (key: string, value = 'v', ttlMs?: number): RecordInput => ({
  key: Buffer.from(key),
  value: Buffer.from(value),
  ttlMs,
});
const command = (key: string, name: string, ...args: string[]): RecordInput => ({
  key: Buffer.from(key),
  op: encodeOp(
    name,
    args.map((arg) => Buffer.from(arg)),
  ),
});

describe('a view whose entries go when they are not used', () => {
  test('keeps those that are written or touched, by the log and by nothing else', () => {
    const { view, at, shown } = world({ maxIdleMs: 100 });
    at(1000, put('a'), put('b'), put('c'), put('d', 'v', 30));
    at(1080, command('a', 'touch'), put('b', 'new'), command('d', 'touch'));
    expect(view.get(Buffer.from('c'), view.logTime)?.expiresAt).toBe(1100);
    expect(view.get(Buffer.from('a'), view.logTime)?.expiresAt).toBe(1180);
    at(1100);
    expect(shown()).toBe('ab');
    at(1180);
    expect(shown()).toBe('');
    expect(view.expire({ until: view.logTime, max: 10 })).toBe(4);
  });

  test('lets an entry go at the end of its own TTL, however often it is touched, and idle ones without TTL too', () => {
    const { view, at, shown } = world({ maxIdleMs: 100 });
    at(1000, put('a', 'v', 150), put('b'));
    at(1090, command('a', 'touch'), command('b', 'expire', '1000'));
    expect(view.get(Buffer.from('a'), view.logTime)?.expiresAt).toBe(1150);
    expect(view.get(Buffer.from('b'), view.logTime)?.expiresAt).toBe(1190);
    at(1149, command('a', 'touch'), command('b', 'persist'));
    at(1150);
    expect(shown()).toBe('b');
    at(1249);
    expect(shown()).toBe('');
  });

  test('comes back from a snapshot as it was', () => {
    const { view, at, source } = world({ maxIdleMs: 100 });
    at(1000, put('a'), put('b', 'v', 500));
    at(1050, command('a', 'touch'));
    const other = restoreMapView(view.freeze(), { maxIdleMs: 100, dataTypes: BUILT_IN_TYPES });
    expect([other.digest, other.nextExpiry()]).toEqual([view.digest, view.nextExpiry()]);
    source.logTime = 1100;
    const batch = source.records([command('b', 'touch'), command('a', 'touch')]);
    for (const each of [view, other]) each.applyBatches(batch);
    expect(other.digest).toBe(view.digest);
    expect(other.get(Buffer.from('b'), other.logTime)).toBeNull();
    expect(other.get(Buffer.from('a'), other.logTime)?.expiresAt).toBe(1200);
  });
});

describe('a view with a default TTL', () => {
  test('gives it to what is written without one, and to what a command makes, but takes nothing from what was persisted', () => {
    const { view, at } = world({ defaultTtlMs: 100 });
    const ttl = (key: string): number | null | undefined => view.get(Buffer.from(key), view.logTime)?.expiresAt;
    at(1000, put('a'), put('b', 'v', 30), command('n', 'incr'), command('s', 'set', 'v'), put('p'));
    expect(['a', 'b', 'n', 's'].map(ttl)).toEqual([1100, 1030, 1100, 1100]);
    at(1010, command('n', 'incr'), command('s', 'set', 'w'), command('p', 'persist'), command('p', 'append', '!'));
    expect(['n', 's', 'p'].map(ttl)).toEqual([1100, 1110, null]);
    at(1020, put('p'));
    expect(ttl('p')).toBe(1120);
  });
});

describe('a view that may hold only so much', () => {
  test('lets go of the least recently written or touched, and tells who listens', () => {
    const { view, at, shown, changes } = world({ maxEntries: 3 });
    at(1000, put('a'), put('b'), put('c'));
    at(1001, command('a', 'touch'));
    at(1002, put('d'));
    expect(shown()).toBe('acd');
    expect(changes.at(-1)).toEqual({ type: 'expire', key: Buffer.from('b'), offset: 2, evicted: true });
    at(1003, command('c', 'append', '!'), put('e'));
    expect(shown()).toBe('cde');
    expect(view.evictedCount).toBe(2);
  });

  test('counts keys, values and a fixed part of live entries, and keeps the last entry whatever its size', () => {
    const { at, shown } = world({ maxBytes: 3 * (48 + 2) });
    at(1000, put('a'), put('b'), put('c'));
    expect(shown()).toBe('abc');
    at(1001, put('b', 'vv'));
    expect(shown()).toBe('bc');
    at(1002, put('c', ''), put('d', 'x'.repeat(1000)));
    expect(shown()).toBe('d');
  });

  test('evicts nothing on account of entries that have expired, removed or not', () => {
    for (const removed of [true, false]) {
      const { view, at, shown } = world({ maxEntries: 3 });
      at(1000, put('a'), put('b', 'v', 10), put('c', 'v', 10));
      at(1020);
      if (removed) view.expire({ until: view.logTime, max: 10 });
      at(1021, put('d'), put('e'));
      expect([shown(), view.evictedCount, view.entries]).toEqual(['ade', 0, 3]);
      at(1022, put('f'));
      expect([shown(), view.evictedCount]).toEqual(['def', 1]);
    }
  });

  test('hands what it evicts to its archive, and what had expired before it', () => {
    const { view, at, shown } = world({ maxEntries: 2, archive: true });
    at(1000, put('a'), put('b', 'v', 10));
    at(1020, put('c'), put('d'));
    expect(shown()).toBe('cd');
    const due = view.take({ until: view.logTime, max: 10, bytesMax: 1e9 });
    expect(due.entries.map(({ key, evicted, expiresAt, offset }) => [String(key), evicted, expiresAt, offset])).toEqual(
      [
        ['b', false, 1010, 2],
        ['a', true, 1020, 1],
      ],
    );
    expect(view.archiveQueueBytes).toBeGreaterThan(0);
    expect(view.removeExpired(due)).toBe(2);
    expect(view.archiveQueueBytes).toBe(0);
  });

  test('stops as a whole when one of its slots is not to be trusted, and goes on with all of them', () => {
    const { view, at, source } = world({ maxEntries: 3 });
    const runs = [source.records([put('a'), put('b'), put('c')]), source.records([put('d')])];
    for (const run of runs) view.applyBatches(run);
    view.stopSlots([7]);
    expect(view.stoppedSlots).toHaveLength(256);
    const anew = new MapView({ dataTypes: BUILT_IN_TYPES, maxEntries: 3 });
    for (const run of runs) anew.applyBatches(run);
    view.adoptSlots(anew, view.stoppedSlots);
    at(1001, put('e'));
    expect(['a', 'b', 'c', 'd', 'e'].filter((key) => view.get(Buffer.from(key), view.logTime))).toEqual([
      'c',
      'd',
      'e',
    ]);
  });
});
