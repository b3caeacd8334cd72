import { describe, expect, test } from '@jest/globals';
import { SeededRng, asLogTime, hashKey, randomBelow, randomChance, slotOf } from '#kernel';
import type { RecordInput } from '#wire';
import type { LeavingEntry } from './archive-queue.js';
import type { LeavingBatch } from './leaving-batch.js';
import { MapView } from './map-view.js';
import { BatchSource } from './testing/batch-source.js';
import type { Entry } from './view-query.js';

const put = (key: string, value: string, ttlMs?: number): RecordInput => ({
  key: Buffer.from(key),
  value: Buffer.from(value),
  ttlMs,
});
const remove = (key: string): RecordInput => ({ key: Buffer.from(key), value: null });
const randomOf = (rng: SeededRng, names: readonly string[]): string => names[randomBelow(rng, names.length)];
const take = (view: MapView, max = 1000, bytesMax = 1e9): LeavingBatch =>
  view.take({ until: view.logTime, max, bytesMax });
/** What would be taken. */
const due = (view: MapView, max = 1000, bytesMax = 1e9): LeavingEntry[] => {
  const batch = take(view, max, bytesMax);
  const entries = [...batch.entries];
  view.putBack(batch);
  return entries;
};
const shown = (entries: readonly Entry[]): string[] =>
  entries.map(({ key, value }) => `${String(key)}=${String(value)}`);

const start = (): { source: BatchSource; view: MapView; apply(at: number, ...records: RecordInput[]): void } => {
  const source = new BatchSource(1000);
  const view = new MapView({ archive: true });
  return {
    source,
    view,
    apply: (at, ...records) => {
      source.logTime = at;
      view.applyBatches(records.length === 0 ? source.beacon() : source.records(records));
    },
  };
};

/** There is more for the archive, of which nothing is on its way. */
const isDue = (view: MapView): boolean => (view.earliestToArchive() ?? Infinity) <= view.logTime;

/** Two keys with the same hash. */
const keysOfOneHash = (): readonly [string, string] => {
  const names = new Map<number, string>();
  for (let n = 0; ; n++) {
    const name = `k${n}`;
    const hash = hashKey(Buffer.from(name));
    const twin = names.get(hash);
    if (twin !== undefined) return [twin, name];
    names.set(hash, name);
  }
};

describe('a view with an archive', () => {
  test('lists what is due, earliest first, and keeps it unseen until it is archived', () => {
    const { view, apply } = start();
    apply(1000, put('c', '3', 30), put('a', '1', 10), put('b', '2', 20), put('d', '4'));
    expect(due(view)).toEqual([]);
    apply(1025);
    expect(shown(due(view))).toEqual(['a=1', 'b=2']);
    expect(shown(due(view))).toEqual(['a=1', 'b=2']);
    expect(view.entries).toBe(4);
    expect(view.get(Buffer.from('a'), view.logTime)).toBeNull();
    const gone: string[] = [];
    view.onChange((change) => gone.push(`${change.type} ${change.type === 'put' ? '' : String(change.key)}`));
    expect(view.removeExpired(take(view, 1))).toBe(1);
    expect(view.removeExpired(take(view))).toBe(1);
    expect(gone).toEqual(['expire a', 'expire b']);
    expect(view.entries).toBe(2);
    expect(view.nextExpiry()).toBe(1030);
    expect(() => view.expire({ until: view.logTime, max: 1 })).toThrow(/archive/);
  });

  test('lists an entry that was overwritten or deleted after it had expired, before what is due of the same key', () => {
    const { view, apply } = start();
    apply(1000, put('a', '1', 10), put('b', '1', 10), put('alive', '1', 500));
    apply(1010, put('a', '2', 10), remove('b'), put('alive', '2'));
    expect(view.archiveQueueBytes).toBeGreaterThan(0);
    apply(1020);
    expect(shown(due(view))).toEqual(['a=1', 'b=1', 'a=2']);
    expect(view.removeExpired(take(view))).toBe(3);
    expect(due(view)).toEqual([]);
    expect(view.archiveQueueBytes).toBe(0);
    expect(String(view.get(Buffer.from('alive'), view.logTime)?.value)).toBe('2');
  });

  test('does not let go of what was written while the archive was being written', () => {
    const { view, apply } = start();
    apply(1000, put('a', '1', 10), put('b', '1', 10));
    apply(1010);
    const archiving = take(view);
    apply(1011, put('a', '2', 10), remove('b'));
    expect(view.removeExpired(archiving)).toBe(0);
    expect(String(view.get(Buffer.from('a'), view.logTime)?.value)).toBe('2');
    apply(1030);
    expect(shown(due(view))).toEqual(['a=1', 'b=1', 'a=2']);
  });

  test('gives pages of bounded size, at least one entry', () => {
    const { view, apply } = start();
    apply(1000, put('a', 'x'.repeat(5000), 1), put('b', 'x', 2), put('c', 'x', 3));
    apply(1010);
    expect(due(view, 1000, 1000).map(({ key }) => String(key))).toEqual(['a']);
    expect(due(view, 2)).toHaveLength(2);
  });

  test('lists two keys of the same hash that expire at the same time', () => {
    const twins = keysOfOneHash();
    const { view, apply } = start();
    apply(1000, ...twins.map((name) => put(name, '1', 10)));
    apply(1010);
    expect(
      due(view)
        .map(({ key }) => String(key))
        .toSorted(),
    ).toEqual(twins.toSorted());
    expect(view.removeExpired(take(view))).toBe(2);
    expect(view.entries).toBe(0);
  });

  test('what is taken is not given again until it is put back, and no two that are taken have entries of one key', () => {
    const { view, apply } = start();
    apply(1000, put('a', '1', 8), put('b', '1', 9), put('c', '1', 10), put('d', '1', 500));
    apply(1010);
    const first = take(view, 2);
    const second = take(view, 2);
    expect([first, second, take(view)].map(({ entries }) => shown(entries))).toEqual([['a=1', 'b=1'], ['c=1'], []]);
    apply(1011, put('a', '2', 2), put('c', '2', 500));
    apply(1020);
    // a=1 and c=1 wait in the queue now, and may be on their way: a=2 must not overtake them.
    expect(take(view)).toHaveLength(0);
    expect(view.removeExpired(second)).toBe(0);
    expect(take(view)).toHaveLength(0);
    view.putBack(first);
    const rest = take(view);
    expect(shown(rest.entries)).toEqual(['a=1', 'c=1', 'b=1', 'a=2']);
    expect(view.removeExpired(rest)).toBe(4);
    expect([take(view).length, view.archiveQueueBytes, view.entries]).toEqual([0, 0, 2]);
  });

  test('what is taken is let go of in parts, also when it is known by its keys alone, and what is left may be put back', () => {
    for (const isReleased of [false, true]) {
      const { view, apply } = start();
      const names = ['a', 'bb', '', 'dddd', 'e', 'f'];
      apply(1000, ...names.map((name, n) => put(name, name, 10 + n)), put('q', '1', 5));
      apply(1006, remove('q'));
      apply(1020);
      const batch = take(view);
      expect(shown(batch.entries)).toEqual(['q=1', ...names.map((name) => `${name}=${name}`)]);
      expect([batch.length, batch.queued, batch.earliest, batch.bytes]).toEqual([7, 1, 1005, 20]);
      if (isReleased) batch.release();
      expect(batch.entries).toHaveLength(isReleased ? 0 : 7);
      expect([view.removeExpired(batch, 3), view.entries, view.archiveQueueBytes]).toEqual([3, 4, 0]);
      // Not of this batch any more.
      apply(1021, put('dddd', 'new'), put('a', 'new', 10));
      expect([view.removeExpired(batch, 2), batch.isSettled]).toEqual([1, false]);
      view.putBack(batch);
      expect(batch.isSettled).toBe(true);
      apply(1040);
      expect(shown(due(view))).toEqual(['dddd=dddd', 'e=e', 'f=f', 'a=new']);
      const rest = take(view);
      // None of those before is kept.
      expect(rest.number).toBe(0);
      expect(view.removeExpired(rest)).toBe(4);
      expect(due(view)).toEqual([]);
      expect(String(view.get(Buffer.from('dddd'), view.logTime)?.value)).toBe('new');
    }
  });

  test('takes what there is time for', () => {
    const { view, apply } = start();
    apply(1000, ...Array.from({ length: 500 }, (_, n) => put(`k${n}`, '1', 10)));
    apply(1010);
    let asked = 0;
    const batch = view.take({ until: view.logTime, max: 1000, bytesMax: 1e9, isOverdue: () => ++asked === 3 });
    expect(batch.length).toBeGreaterThan(0);
    expect(batch.length).toBeLessThan(500);
    expect(due(view)).toHaveLength(500 - batch.length);
  });

  test('gives each of two keys of one hash once, though the other is on its way, whatever becomes of that', () => {
    const twins = keysOfOneHash();
    for (const [firstIsWritten, isOfOneRecord] of [
      [true, false],
      [false, false],
      [true, true],
      [false, true],
    ]) {
      const { view, source, apply } = start();
      const namesOf = (...batches: readonly LeavingBatch[]): string[] =>
        batches.flatMap(({ entries }) => entries.map(({ key }) => String(key))).toSorted();
      for (const name of twins) {
        // As a projection makes several entries of one record.
        if (isOfOneRecord) source.nextOffset = 1;
        view.applyDerived(source.records([put(name, '1', 10)]));
      }
      apply(1010);
      const [first, second] = [take(view, 1), take(view, 1)];
      const firstNames = namesOf(first);
      expect(namesOf(first, second)).toEqual(twins.toSorted());
      first.release();
      expect(take(view, 1)).toHaveLength(0);
      if (firstIsWritten) expect(view.removeExpired(first)).toBe(1);
      else view.putBack(first);
      const again = take(view, 1);
      expect(namesOf(again)).toEqual(firstIsWritten ? [] : firstNames);
      expect([second, again].map((batch) => view.removeExpired(batch))).toEqual([1, firstIsWritten ? 0 : 1]);
      expect([view.entries, due(view)]).toEqual([0, []]);
    }
  });

  test('looks at so many times of expiry at once, though most are of entries that were overwritten', () => {
    const { view, apply } = start();
    const names = Array.from({ length: 500 }, (_, n) => `k${n}`);
    apply(1000, ...names.map((name) => put(name, '1', 10)));
    apply(1001, ...names.map((name) => put(name, '2')), put('late', '1', 10));
    apply(1011);
    let looks = 0;
    let found: readonly LeavingEntry[] = [];
    for (; found.length === 0; looks++) {
      expect(view.nextExpiry()).toBeLessThanOrEqual(view.logTime);
      found = take(view, 50).entries;
    }
    expect(looks).toBeGreaterThan(9);
    expect(shown(found)).toEqual(['late=1']);
  });

  test('archives every entry that expired, once at least and in order per key, however slow and faulty the archive is', () => {
    const names = [...keysOfOneHash(), ...Array.from({ length: 10 }, (_, n) => `k${n}`)];
    for (let seed = 1; seed <= 20; seed++) {
      const rng = new SeededRng(seed);
      const { view, source, apply } = start();
      const alive = new Map<string, { offset: number; expiresAt: number }>();
      const expired = new Set<string>();
      const archived = new Map<string, Set<number>>();
      const underWay: LeavingBatch[] = [];
      const overtake = (key: string, at: number): void => {
        const old = alive.get(key);
        if (old && old.expiresAt <= at) expired.add(`${key} ${old.offset}`);
        alive.delete(key);
      };
      const settle = (batch: LeavingBatch, written: boolean): void => {
        for (const { key, offset } of written ? batch.entries : []) {
          const offsets = archived.get(String(key)) ?? new Set();
          // New to the archive: later than all it has of the key.
          if (!offsets.has(offset)) expect(offset).toBeGreaterThan(Math.max(0, ...offsets));
          archived.set(String(key), offsets.add(offset));
        }
        if (randomChance(rng, 0.5)) batch.release();
        if (written) {
          for (let removed = randomBelow(rng, 4); !batch.isSettled; removed = 1 + randomBelow(rng, 4)) {
            view.removeExpired(batch, removed);
          }
        } else view.putBack(batch);
      };
      /** In memory or in the archive: whatever is under way, of what has expired under the key the newest is found, and in memory nothing else. */
      const findsNewest = (key: string): void => {
        const own = alive.get(key);
        const gone = [...expired].filter((name) => name.startsWith(`${key} `));
        const offsets = gone.map((name) => Number(name.slice(key.length)));
        const newest = Math.max(0, ...offsets, own && own.expiresAt <= view.logTime ? own.offset : 0);
        const leaving = view.leaving(Buffer.from(key), view.logTime);
        expect(leaving?.offset ?? Math.max(0, ...(archived.get(key) ?? []))).toBe(newest);
      };
      for (let step = 0; step < 400; step++) {
        const at = source.logTime + randomBelow(rng, 5);
        const key = randomOf(rng, names);
        const offset = source.nextOffset;
        const ttl = randomChance(rng, 0.8) ? randomBelow(rng, 20) : undefined;
        overtake(key, at);
        if (randomChance(rng, 0.2)) apply(at, remove(key));
        else {
          apply(at, put(key, 'v', ttl));
          alive.set(key, { offset, expiresAt: ttl === undefined ? Infinity : at + ttl });
        }
        if (randomChance(rng, 0.3)) underWay.push(take(view, 1 + randomBelow(rng, 6)));
        // They may end in any order.
        if (underWay.length > 0 && randomChance(rng, 0.3)) {
          const [batch] = underWay.splice(randomBelow(rng, underWay.length), 1);
          settle(batch, randomChance(rng, 0.5));
        }
        if (randomChance(rng, 0.05)) view.reclaim(1e6);
        findsNewest(randomOf(rng, names));
      }
      for (const batch of underWay) settle(batch, false);
      apply(source.logTime + 1000);
      for (const key of alive.keys()) overtake(key, source.logTime);
      while (isDue(view)) settle(take(view, 5), true);
      const found = [...archived].flatMap(([key, offsets]) => [...offsets].map((offset) => `${key} ${offset}`));
      expect(found.toSorted()).toEqual([...expired].toSorted());
    }
  });
});

describe('a view with an archive that may hold only so much', () => {
  const CAN_HOLD = 5;
  const names = [...keysOfOneHash(), 'a', 'b', 'c', 'd', 'e', 'f'];
  const kept = (view: MapView): string => names.filter((name) => view.get(Buffer.from(name), view.logTime)).join();
  const named = ({ key, offset, expiresAt, evicted }: LeavingEntry): string =>
    `${String(key)} ${offset} ${expiresAt} ${evicted}`;

  test('lets go of what is on its way to the archive before anything that is alive', () => {
    const source = new BatchSource(1000);
    const view = new MapView({ archive: true, maxEntries: 3 });
    const apply = (at: number, ...records: RecordInput[]): void => {
      source.logTime = at;
      view.applyBatches(source.records(records));
    };
    apply(1000, put('alive', '1'), put('a', '1', 10), put('b', '1', 10));
    apply(1010, put('alive', '2'));
    const batch = take(view);
    expect(shown(batch.entries).toSorted()).toEqual(['a=1', 'b=1']);
    apply(1011, put('c', '1'), put('d', '1'));
    expect([view.entries, view.evictedCount]).toEqual([3, 0]);
    expect(String(view.get(Buffer.from('alive'), view.logTime)?.value)).toBe('2');
    // It may not get there, so it is given once more.
    view.putBack(batch);
    expect(due(view).map(named).toSorted()).toEqual(['a 2 1010 false', 'b 3 1010 false']);
  });

  test('holds the same whatever is on its way to the archive, arrives there or fails', () => {
    for (let seed = 1; seed <= 30; seed++) {
      const rng = new SeededRng(seed);
      const source = new BatchSource(1000);
      const busy = new MapView({ archive: true, maxEntries: CAN_HOLD });
      const idle = new MapView({ archive: true, maxEntries: CAN_HOLD });
      const underWay: LeavingBatch[] = [];
      const departed = { busy: new Set<string>(), idle: new Set<string>() };
      const settle = (batch: LeavingBatch, written: boolean): void => {
        if (written) {
          for (const entry of batch.entries) departed.busy.add(named(entry));
          if (randomChance(rng, 0.5)) batch.release();
          busy.removeExpired(batch);
        } else busy.putBack(batch);
      };
      for (let step = 0; step < 300; step++) {
        source.logTime += randomBelow(rng, 6);
        const name = randomOf(rng, names);
        const ttl = randomChance(rng, 0.7) ? 1 + randomBelow(rng, 20) : undefined;
        const batch = source.records([randomChance(rng, 0.1) ? remove(name) : put(name, 'v', ttl)]);
        for (const view of [busy, idle]) view.applyBatches(batch);
        if (randomChance(rng, 0.5)) underWay.push(take(busy, 1 + randomBelow(rng, 4)));
        if (underWay.length > 0 && randomChance(rng, 0.4)) {
          const [batchUnderWay] = underWay.splice(randomBelow(rng, underWay.length), 1);
          settle(batchUnderWay, randomChance(rng, 0.5));
        }
        expect(kept(busy)).toBe(kept(idle));
        expect([busy.digest, busy.evictedCount]).toEqual([idle.digest, idle.evictedCount]);
      }
      for (const batch of underWay) settle(batch, false);
      while (isDue(busy)) settle(take(busy, 5), true);
      while (isDue(idle)) {
        const batch = take(idle, 5);
        for (const entry of batch.entries) departed.idle.add(named(entry));
        idle.removeExpired(batch);
      }
      expect([...departed.busy].toSorted()).toEqual([...departed.idle].toSorted());
    }
  });
});

describe('what is on its way to the archive, by key', () => {
  const leaving = (view: MapView, key: string, time = view.logTime): string | null => {
    const entry = view.leaving(Buffer.from(key), time);
    return entry === null ? null : `${shown([entry]).join()} ${entry.expiresAt}${entry.evicted ? ' evicted' : ''}`;
  };

  test('is found from the moment it has expired until it is archived, whether a batch has it or not', () => {
    const { view, apply } = start();
    apply(1000, put('a', '1', 10), put('b', '2'));
    expect([leaving(view, 'a'), leaving(view, 'a', asLogTime(1009))]).toEqual([null, null]);
    // A read may be of a later time than the view has heard of.
    expect(leaving(view, 'a', asLogTime(1010))).toBe('a=1 1010');
    apply(1010);
    expect(leaving(view, 'a')).toBe('a=1 1010');
    const batch = view.take({ until: view.logTime, max: 10, bytesMax: 1e9 });
    expect(leaving(view, 'a')).toBe('a=1 1010');
    view.putBack(batch);
    expect(leaving(view, 'a')).toBe('a=1 1010');
    view.removeExpired(take(view));
    expect([leaving(view, 'a'), leaving(view, 'b'), leaving(view, 'never')]).toEqual([null, null, null]);
  });

  test('is the newest, also when that was overwritten or deleted after it had expired', () => {
    const { view, apply } = start();
    apply(1000, put('a', '1', 10), put('b', '1', 10));
    apply(1010, put('a', '2', 10), remove('b'));
    expect([leaving(view, 'a'), leaving(view, 'b')]).toEqual(['a=1 1010', 'b=1 1010']);
    apply(1020);
    expect(leaving(view, 'a')).toBe('a=2 1020');
    apply(1021, put('a', '3', 100));
    expect(leaving(view, 'a')).toBe('a=2 1020');
    view.removeExpired(take(view, 1));
    expect([leaving(view, 'a'), leaving(view, 'b')]).toEqual(['a=2 1020', 'b=1 1010']);
    view.removeExpired(take(view));
    expect([leaving(view, 'a'), leaving(view, 'b')]).toEqual([null, null]);
  });

  test('is nothing that was deleted or overwritten alive', () => {
    const { view, apply } = start();
    apply(1000, put('a', '1', 10), put('b', '1', 10));
    apply(1005, remove('a'), put('b', '2'));
    apply(1010, put('a', '2', 100));
    apply(1020, remove('a'));
    expect([leaving(view, 'a'), leaving(view, 'b')]).toEqual([null, null]);
  });

  test('is an entry that had to make room, with when that was', () => {
    const source = new BatchSource(1000);
    const view = new MapView({ archive: true, maxEntries: 2 });
    view.applyBatches(source.records(['a', 'b', 'c'].map((key) => put(key, '1', 500))));
    expect([leaving(view, 'a'), leaving(view, 'b')]).toEqual(['a=1 1000 evicted', null]);
  });

  test('is told apart from another key of the same hash', () => {
    const [one, other] = keysOfOneHash();
    const { view, apply } = start();
    apply(1000, put(one, '1', 10), put(other, '2', 10));
    apply(1010, remove(one), remove(other));
    expect([leaving(view, one), leaving(view, other)]).toEqual([`${one}=1 1010`, `${other}=2 1010`]);
    view.removeExpired(take(view, 1));
    expect([leaving(view, one), leaving(view, other)]).toEqual([null, `${other}=2 1010`]);
    apply(1020, put(one, '3', 1));
    apply(1030, remove(one));
    expect([leaving(view, one), leaving(view, other)]).toEqual([`${one}=3 1021`, `${other}=2 1010`]);
  });

  test('is nothing in a view without an archive', () => {
    const source = new BatchSource(1000);
    const view = new MapView();
    view.applyBatches(source.records([put('a', '1', 10)]));
    source.logTime = 1010;
    view.applyBatches(source.beacon());
    expect([view.get(Buffer.from('a'), view.logTime), leaving(view, 'a')]).toEqual([null, null]);
  });

  test('is not known in a slot that is being rebuilt', () => {
    const { view, apply } = start();
    apply(1000, put('a', '1', 10));
    apply(1010);
    view.stopSlots([slotOf(hashKey(Buffer.from('a')))]);
    expect(() => leaving(view, 'a')).toThrow(/being rebuilt/);
  });
});
