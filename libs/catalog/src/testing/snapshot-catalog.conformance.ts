import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { asLogTime, asOffset, asPartitionId, asTerm } from '#kernel';
import { ALL_SLOTS, type SnapshotCatalog, type SnapshotEntry } from '../snapshot-catalog.js';

export interface OpenSnapshotCatalog {
  readonly snapshots: SnapshotCatalog;
  close(): Promise<void>;
}

const entry = (offset: number, changes: Partial<SnapshotEntry> = {}): SnapshotEntry => ({
  view: 'orders',
  partition: asPartitionId(0),
  slot: 7,
  host: 'm1',
  offset: asOffset(offset),
  term: asTerm(3),
  logTime: asLogTime(1_700_000_000_000 + offset),
  digest: 'a1b2c3d4',
  bytes: 4096,
  path: `/data/snapshots/orders/0/7/${offset}.snap`,
  createdAt: 1_700_000_000_500,
  verified: true,
  slotTable: Buffer.from([0, 1, 0xff]),
  archivedUntil: null,
  ...changes,
});

/** What every snapshot catalog must do. Each test uses views of its own, so a shared database is fine. */
export function snapshotCatalogConformance(name: string, open: () => Promise<OpenSnapshotCatalog>): void {
  describe(`snapshot catalog: ${name}`, () => {
    let opened: OpenSnapshotCatalog;
    let catalog: SnapshotCatalog;

    beforeAll(async () => {
      opened = await open();
      catalog = opened.snapshots;
    });
    afterAll(() => opened.close());

    const offsetsOf = (entries: readonly SnapshotEntry[]) => entries.map(({ offset }) => Number(offset));

    test('gives back an entry as it was added, with numbers up to 2^53 − 1', async () => {
      const view = 'exact';
      const added = entry(Number.MAX_SAFE_INTEGER, {
        view,
        term: asTerm(Number.MAX_SAFE_INTEGER),
        logTime: asLogTime(Number.MAX_SAFE_INTEGER),
        bytes: Number.MAX_SAFE_INTEGER,
        slot: ALL_SLOTS,
        archivedUntil: asLogTime(Number.MAX_SAFE_INTEGER),
      });
      await catalog.add(added);
      expect(await catalog.list({ view })).toEqual([added]);
      expect(await catalog.newest({ view, partition: added.partition, slot: ALL_SLOTS })).toEqual(added);
    });

    test('the newest is the verified one of the highest offset of that slot', async () => {
      const view = 'newest';
      const slot = { view, partition: asPartitionId(0), slot: 7 };
      expect(await catalog.newest(slot)).toBeUndefined();
      await catalog.add(entry(10, { view }));
      await catalog.add(entry(30, { view, verified: false }));
      await catalog.add(entry(20, { view, host: 'm2' }));
      await catalog.add(entry(99, { view, slot: 8 }));
      await catalog.add(entry(99, { view, partition: asPartitionId(1) }));
      await catalog.add(entry(99, { view: 'another' }));
      expect((await catalog.newest(slot))?.offset).toBe(20);
      expect((await catalog.newest({ ...slot, host: 'm1' }))?.offset).toBe(10);
      expect(await catalog.newest({ ...slot, host: 'm3' })).toBeUndefined();
    });

    test('a file found damaged is no longer the newest', async () => {
      const view = 'marked';
      const slot = { view, partition: asPartitionId(0), slot: 7 };
      await catalog.add(entry(1, { view }));
      await catalog.add(entry(2, { view }));
      expect(await catalog.mark(entry(2, { view }), false)).toBe(true);
      expect((await catalog.newest(slot))?.offset).toBe(1);
      expect(await catalog.mark(entry(2, { view }), true)).toBe(true);
      expect((await catalog.newest(slot))?.offset).toBe(2);
      expect(await catalog.mark(entry(3, { view }), true)).toBe(false);
    });

    test('adding the same snapshot again replaces its entry', async () => {
      const view = 'again';
      await catalog.add(entry(5, { view, verified: false }));
      await catalog.add(entry(5, { view, bytes: 1 }));
      expect(await catalog.list({ view })).toEqual([entry(5, { view, bytes: 1 })]);
    });

    test('lists in order, by any part of the place', async () => {
      const view = 'listed';
      await catalog.add(entry(1, { view, slot: 2 }));
      await catalog.add(entry(1, { view, slot: 1 }));
      await catalog.add(entry(2, { view, slot: 1 }));
      await catalog.add(entry(2, { view, slot: 1, host: 'm0' }));
      await catalog.add(entry(9, { view, slot: 0, partition: asPartitionId(1) }));
      const places = (await catalog.list({ view })).map((e) => [e.partition, e.slot, e.offset, e.host].join(' '));
      expect(places).toEqual(['0 1 2 m0', '0 1 2 m1', '0 1 1 m1', '0 2 1 m1', '1 0 9 m1']);
      expect(await catalog.list({ view, host: 'm0' })).toHaveLength(1);
      expect(await catalog.list({ view, partition: asPartitionId(0), slot: 1 })).toHaveLength(3);
      expect(await catalog.list({ view: 'nobody' })).toEqual([]);
      expect((await catalog.list()).length).toBeGreaterThanOrEqual(5);
    });

    test('removes one entry, once', async () => {
      const view = 'removed';
      await catalog.add(entry(1, { view }));
      await catalog.add(entry(2, { view }));
      expect(await catalog.remove(entry(1, { view }))).toBe(true);
      expect(await catalog.remove(entry(1, { view }))).toBe(false);
      expect(offsetsOf(await catalog.list({ view }))).toEqual([2]);
    });

    test('keeping the newest returns what was taken out, and touches no other slot or host', async () => {
      const view = 'kept';
      const slot = { view, partition: asPartitionId(0), slot: 7, host: 'm1' };
      for (const offset of [1, 2, 3, 4]) await catalog.add(entry(offset, { view }));
      await catalog.add(entry(1, { view, host: 'm2' }));
      await catalog.add(entry(1, { view, slot: 8 }));
      expect(offsetsOf(await catalog.keepNewest(slot, 2))).toEqual([2, 1]);
      expect(await catalog.keepNewest(slot, 2)).toEqual([]);
      expect(offsetsOf(await catalog.list(slot))).toEqual([4, 3]);
      expect(await catalog.list({ view })).toHaveLength(4);
    });

    test('unverified snapshots do not push out good ones, and go once a good one is newer', async () => {
      const view = 'unverified';
      const slot = { view, partition: asPartitionId(0), slot: 7, host: 'm1' };
      await catalog.add(entry(1, { view }));
      await catalog.add(entry(2, { view, verified: false }));
      await catalog.add(entry(3, { view }));
      await catalog.add(entry(4, { view, verified: false }));
      expect(offsetsOf(await catalog.keepNewest(slot, 1))).toEqual([2, 1]);
      expect(offsetsOf(await catalog.list(slot))).toEqual([4, 3]);
    });

    test('refuses a number that is not whole', async () => {
      await expect(catalog.add(entry(1, { view: 'odd', bytes: 1.5 }))).rejects.toThrow('whole number');
      await expect(catalog.add(entry(1, { view: 'odd', bytes: 2 ** 53 }))).rejects.toThrow('whole number');
      expect(await catalog.list({ view: 'odd' })).toEqual([]);
    });
  });
}
