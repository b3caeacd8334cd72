import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { asGroupId, asLogTime, asOffset, asPartitionId } from '#kernel';
import type { ArchiveGap, ArchiveGaps } from '../archive-gaps.js';

export interface OpenArchiveGaps {
  readonly gaps: ArchiveGaps;
  close(): Promise<void>;
}

const gap = (changes: Partial<ArchiveGap> = {}): ArchiveGap => ({
  host: 'm1:7420',
  clusterId: 'c1',
  view: 'sessions',
  partition: asPartitionId(3),
  group: asGroupId(7),
  from: asLogTime(1_700_000_000_000),
  to: asLogTime(1_700_000_100_000),
  offset: asOffset(12),
  source: 'm2:7420',
  cursor: null,
  mark: 'a mark',
  ...changes,
});

/** What every keeper of gaps must do. Each test uses hosts of its own, so a shared database is fine. */
export function archiveGapsConformance(name: string, open: () => Promise<OpenArchiveGaps>): void {
  describe(`archive gaps: ${name}`, () => {
    let opened: OpenArchiveGaps;
    let gaps: ArchiveGaps;

    beforeAll(async () => {
      opened = await open();
      ({ gaps } = opened);
    });
    afterAll(() => opened.close());

    test('gives back a gap as it was put, with numbers up to 2^53 − 1', async () => {
      const host = 'exact';
      const largest = Number.MAX_SAFE_INTEGER;
      const put = gap({ host, to: asLogTime(largest), offset: asOffset(largest), cursor: '1.2.3.x' });
      await gaps.put(put);
      expect(await gaps.list(host)).toEqual([put]);
      const whole = gap({ host: 'whole', from: null });
      await gaps.put(whole);
      expect(await gaps.list('whole')).toEqual([whole]);
      expect(await gaps.list('nobody')).toEqual([]);
    });

    test('there is one of a partition of a view on a host, the one that was put last', async () => {
      const host = 'one';
      await gaps.put(gap({ host }));
      await gaps.put(gap({ host, from: null, cursor: '1.2.3.x', mark: 'another' }));
      const others = [
        { clusterId: 'c2' },
        { view: 'carts' },
        { partition: asPartitionId(4) },
        { group: asGroupId(8) },
      ].map((changes) => gap({ host, ...changes }));
      for (const other of others) await gaps.put(other);
      const listed = await gaps.list(host);
      expect(listed).toHaveLength(5);
      expect(listed).toEqual(
        expect.arrayContaining([gap({ host, from: null, cursor: '1.2.3.x', mark: 'another' }), ...others]),
      );
    });

    test('removes one, once', async () => {
      const host = 'removed';
      await gaps.put(gap({ host }));
      await gaps.put(gap({ host, group: asGroupId(8) }));
      expect(await gaps.remove(gap({ host }))).toBe(true);
      expect(await gaps.remove(gap({ host }))).toBe(false);
      expect(await gaps.list(host)).toEqual([gap({ host, group: asGroupId(8) })]);
    });

    test('knows the marks of the gaps that there are, whichever host has them', async () => {
      const host = 'marked';
      await gaps.put(gap({ host, mark: 'first' }));
      expect([await gaps.hasMark('first'), await gaps.hasMark('second')]).toEqual([true, false]);
      await gaps.put(gap({ host, mark: 'second' }));
      expect([await gaps.hasMark('first'), await gaps.hasMark('second')]).toEqual([false, true]);
      await gaps.remove(gap({ host }));
      expect(await gaps.hasMark('second')).toBe(false);
    });

    test('refuses a number that is not whole', async () => {
      await expect(gaps.put(gap({ host: 'odd', to: asLogTime(1.5) }))).rejects.toThrow('whole number');
      expect(await gaps.list('odd')).toEqual([]);
    });
  });
}
