import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  GET_KEYS_MAX,
  TidelineError,
  asLogTime,
  asNodeId,
  asOffset,
  asTerm,
  systemClock,
  systemScheduler,
} from '#kernel';
import type { Entry } from '#views';
import { readAllFound } from '#wire';
import { LINEARIZABLE, ReadPath, consistencyOf, mergePages } from './read-path.js';

const entryOf = (key: string): Entry => ({
  key: Buffer.from(key),
  value: Buffer.alloc(0),
  contentType: null,
  offset: asOffset(1),
  logTime: asLogTime(1),
  expiresAt: null,
});

test('pages merged and asked for again from where they ended give every key once, in order', () => {
  const keys = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 3 }), { maxLength: 60 });
  fc.assert(
    fc.property(
      keys,
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 1, max: 9 }),
      (all, partitions, pageMax, limit) => {
        const sorted = all.map((key) => entryOf(key)).sort((a, b) => a.key.compare(b.key));
        const seen: string[] = [];
        let after: Buffer | null = null;
        for (let more = true; more;) {
          // A host may end a page before the limit, when it has become too large.
          const pages = Array.from({ length: partitions }, (_, partition) => {
            const mine = sorted.filter(
              (entry, i) => i % partitions === partition && (after === null || entry.key.compare(after) > 0),
            );
            const size = Math.min(limit, pageMax);
            return { entries: mine.slice(0, size), more: mine.length > size };
          });
          const merged = mergePages(pages, limit);
          expect(merged.entries.length).toBeLessThanOrEqual(limit);
          if (merged.more) expect(merged.entries.length).toBeGreaterThan(0);
          seen.push(...merged.entries.map((entry) => entry.key.toString()));
          after = merged.entries.at(-1)?.key ?? after;
          ({ more } = merged);
        }
        expect(seen).toEqual(sorted.map((entry) => entry.key.toString()));
      },
    ),
  );
});

describe('a consistency', () => {
  const none = { minOffset: null, maxLagMs: null };
  test('has the fields that belong to it', () => {
    expect(consistencyOf({ consistency: 'linearizable', ...none })).toEqual({ kind: 'linearizable' });
    expect(consistencyOf({ consistency: 'session', minOffset: asOffset(5), maxLagMs: null })).toEqual({
      kind: 'session',
      after: 5,
    });
    expect(consistencyOf({ consistency: 'bounded', minOffset: null, maxLagMs: 10 })).toEqual({
      kind: 'bounded',
      maxLagMs: 10,
    });
  });

  test('refuses those of another', () => {
    expect(() => consistencyOf({ consistency: 'bounded', ...none })).toThrow('maxLagMs');
    expect(() => consistencyOf({ consistency: 'stale', minOffset: asOffset(1), maxLagMs: null })).toThrow('minOffset');
    expect(() => consistencyOf({ consistency: 'session', minOffset: null, maxLagMs: 1 })).toThrow('maxLagMs');
  });
});

describe('a read of many keys', () => {
  const KEYS = [Buffer.from('a'), Buffer.from('b')];
  const reads = (asked: object[]) =>
    new ReadPath({
      log: {
        barrier: () =>
          Promise.resolve({ offset: asOffset(10), time: asLogTime(1), term: asTerm(3), node: asNodeId(2) }),
      } as never,
      views: {
        getMany: (request: object) => {
          asked.push(request);
          return Promise.resolve({
            found: Buffer.from([0, 0]),
            position: { offset: asOffset(10), logTime: asLogTime(1) },
          });
        },
      } as never,
      topics: {
        knownView: () => null,
        readable: (view: string) =>
          Promise.resolve({ view, topic: { name: 'things', partitions: [{ partition: 0 }, { partition: 1 }] } }),
      } as never,
      limits: { readTimeoutMs: 100 } as never,
      time: { clock: systemClock, scheduler: systemScheduler },
    });
  const request = { view: 'things', partition: 1, partitions: 2, keys: KEYS, bytesMax: 1000 };

  test('asks for all of them at one barrier', async () => {
    const asked: object[] = [];
    const read = await reads(asked).getMany(request, LINEARIZABLE);
    expect(readAllFound(read.found, 2)).toEqual([null, null]);
    expect(asked).toEqual([
      { view: 'things', partition: 1, keys: KEYS, bytesMax: 1000, at: { offset: 10, time: 1 }, timeoutMs: 100 },
    ]);
  });

  test('answers none when the keys were placed among other partitions than there are', async () => {
    const asked: object[] = [];
    const read = await reads(asked).getMany({ ...request, partitions: 1, partition: 0 }, LINEARIZABLE);
    expect(readAllFound(read.found, 2)).toEqual([undefined, undefined]);
    expect(asked).toEqual([]);
  });

  test('refuses a partition there is not, and more keys than are allowed', async () => {
    await expect(reads([]).getMany({ ...request, partition: 2 }, LINEARIZABLE)).rejects.toMatchObject({
      code: 'unknown-partition',
    });
    const keys = Array.from({ length: GET_KEYS_MAX + 1 }, () => KEYS[0]);
    await expect(reads([]).getMany({ ...request, keys }, LINEARIZABLE)).rejects.toMatchObject({ code: 'bad-request' });
  });
});

describe('a read at a node that does not lead', () => {
  /** A view that has applied offset 10, and a log that counts how often the leader is asked. */
  const follower = () => {
    const counts = { barriers: 0 };
    const clock = { now: 0, monotonicMs: () => clock.now, wallMs: () => clock.now };
    const topic = { name: 'things', partitions: [{ partition: 0, leader: asNodeId(2), term: asTerm(3) }] };
    const position = { offset: asOffset(10), logTime: asLogTime(1) };
    const reads = new ReadPath({
      log: {
        barrier: () => {
          counts.barriers++;
          return Promise.resolve({ offset: asOffset(10), time: asLogTime(1), term: asTerm(3), node: asNodeId(2) });
        },
      } as never,
      views: {
        getNow: ({ at }: { at: { offset: number } }) => (at.offset > 10 ? null : { entry: entryOf('key'), position }),
        get: () => Promise.reject(new TidelineError('timeout', 'the view is not there yet')),
      } as never,
      topics: { knownView: (view: string) => ({ view, topic }) } as never,
      limits: { readTimeoutMs: 100 } as never,
      time: { clock, scheduler: systemScheduler },
    });
    return { reads, counts, clock };
  };
  const KEY = Buffer.from('key');

  test('is answered by its own view, and at once, where it asks for no more than that: stale, or a session whose writes are there', async () => {
    const { reads, counts } = follower();
    for (const consistency of [{ kind: 'stale' }, { kind: 'session', after: asOffset(10) }] as const) {
      const read = reads.getNow('things', KEY, consistency);
      expect(read).toMatchObject({ position: { offset: 10 }, node: 2 });
      expect(await reads.get('things', KEY, consistency)).toEqual(read);
    }
    expect(counts.barriers).toBe(0);
  });

  test('waits for its own view, and for nobody else, when the writes of its session are not there yet', async () => {
    const { reads, counts } = follower();
    const session = { kind: 'session', after: asOffset(11) } as const;
    expect(reads.getNow('things', KEY, session)).toBeNull();
    await expect(reads.get('things', KEY, session)).rejects.toMatchObject({ code: 'timeout' });
    expect(counts.barriers).toBe(0);
  });

  test('asks the leader once for all that may be as old as the bound', async () => {
    const { reads, counts, clock } = follower();
    const bounded = { kind: 'bounded', maxLagMs: 50 } as const;
    expect(reads.getNow('things', KEY, bounded)).toBeNull();
    await reads.get('things', KEY, bounded);
    clock.now = 50;
    expect(reads.getNow('things', KEY, bounded)).not.toBeNull();
    await reads.get('things', KEY, bounded);
    expect(counts.barriers).toBe(1);
    clock.now = 51;
    expect(reads.getNow('things', KEY, bounded)).toBeNull();
    await reads.get('things', KEY, bounded);
    expect(counts.barriers).toBe(2);
  });

  test('has a barrier of its own where it is linearizable', async () => {
    const { reads, counts } = follower();
    expect(reads.getNow('things', KEY, LINEARIZABLE)).toBeNull();
    await reads.get('things', KEY, LINEARIZABLE);
    expect(counts.barriers).toBe(1);
  });
});
