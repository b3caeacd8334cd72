import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asLogTime, asOffset, asPartitionId, isTidelineError, type Clock } from '#kernel';
import { ARCHIVE_QUERY_ENTRIES_MAX, type Archive, type ArchivedEntry, type ArchiveEntry } from '../archive.js';

export interface OpenArchive {
  readonly archive: Archive;
  close(): Promise<void>;
}

const NOW = 1_700_000_000_000;
const fixedClock: Clock = { wallMs: () => NOW, monotonicMs: () => 0 };

const entry = (offset: number, changes: Partial<ArchiveEntry> = {}): ArchiveEntry => ({
  view: 'sessions',
  partition: asPartitionId(0),
  key: Buffer.from(`key-${offset}`),
  offset: asOffset(offset),
  value: Buffer.from(`value-${offset}`),
  contentType: 'text/plain',
  logTime: asLogTime(1000 + offset),
  expiresAt: asLogTime(2000 + offset),
  evicted: offset % 2 === 0,
  ...changes,
});

/** What every archive must do. Each test uses views of its own, so a shared database is fine. */
export function archiveConformance(name: string, open: (clock: Clock) => Promise<OpenArchive>): void {
  describe(`archive: ${name}`, () => {
    let opened: OpenArchive;
    let archive: Archive;

    beforeAll(async () => {
      opened = await open(fixedClock);
      archive = opened.archive;
    });
    afterAll(() => opened.close());

    const offsetsOf = (entries: readonly ArchivedEntry[]) => entries.map(({ offset }) => Number(offset));

    /** All pages, one after the other. */
    async function all(query: Parameters<Archive['query']>[0]): Promise<ArchivedEntry[]> {
      const entries: ArchivedEntry[] = [];
      let cursor: string | undefined;
      do {
        const page = await archive.query({ ...query, cursor });
        expect(page.entries.length).toBeLessThanOrEqual(query.limit);
        if (page.cursor !== undefined) expect(page.entries.length).toBeGreaterThan(0);
        entries.push(...page.entries);
        cursor = page.cursor;
      } while (cursor !== undefined);
      return entries;
    }

    test('gives back an entry as it was written, with the time of writing', async () => {
      const view = 'exact';
      const key = Buffer.from([0, 255, 10, 39, 92]);
      const written = entry(Number.MAX_SAFE_INTEGER, {
        view,
        key,
        value: Buffer.alloc(0),
        contentType: undefined,
        logTime: asLogTime(Number.MAX_SAFE_INTEGER),
        expiresAt: asLogTime(Number.MAX_SAFE_INTEGER),
      });
      expect(await archive.write([written])).toBe(1);
      const { contentType: _absent, ...rest } = written;
      const expected = { ...rest, archivedAt: NOW };
      expect(await archive.latest(view, key)).toEqual(expected);
      expect(await archive.query({ view, limit: 10 })).toEqual({ entries: [expected] });
    });

    test('bytes need not come in Buffers, and may be part of a larger array', async () => {
      const view = 'arrays';
      const larger = Uint8Array.of(9, 9, 1, 2, 3, 9);
      await archive.write([entry(1, { view, key: larger.subarray(2, 4), value: larger.subarray(4, 5) })]);
      const [found] = (await archive.query({ view, limit: 1 })).entries;
      expect([...found.key]).toEqual([1, 2]);
      expect([...found.value]).toEqual([3]);
    });

    test('writing again changes nothing, whoever does it', async () => {
      const view = 'idempotent';
      const batch = [entry(1, { view }), entry(2, { view })];
      expect(await archive.write(batch)).toBe(2);
      expect(await archive.write([...batch, entry(3, { view })])).toBe(1);
      expect(await archive.write([entry(1, { view, value: Buffer.from('other') })])).toBe(0);
      expect(await archive.write([])).toBe(0);
      const { entries } = await archive.query({ view, limit: 10 });
      expect(entries.map(({ value }) => value.toString())).toEqual(['value-1', 'value-2', 'value-3']);
    });

    test('the same entry twice in one batch is one', async () => {
      const view = 'twice';
      expect(await archive.write([entry(1, { view }), entry(1, { view })])).toBe(1);
    });

    test('one record may have written several keys, and a key may have expired several times', async () => {
      const view = 'generations';
      const [a, b] = [Buffer.from('a'), Buffer.from('b')];
      await archive.write([
        entry(1, { view, key: a }),
        entry(1, { view, key: b }),
        entry(5, { view, key: a }),
        entry(3, { view, key: a }),
      ]);
      expect(await all({ view, limit: 10 })).toHaveLength(4);
      expect(offsetsOf(await all({ view, key: a, limit: 10 }))).toEqual([1, 3, 5]);
      expect((await archive.latest(view, a))?.offset).toBe(5);
      expect((await archive.latest(view, b))?.offset).toBe(1);
      expect(await archive.latest(view, Buffer.from('c'))).toBeUndefined();
      expect(await archive.latest('another', a)).toBeUndefined();
    });

    test('keys of the greatest length are kept apart', async () => {
      const view = 'long';
      const keys = ['x', 'y'].map((last) => Buffer.concat([Buffer.alloc(4095, 7), Buffer.from(last)]));
      await archive.write(keys.map((key, index) => entry(index + 1, { view, key })));
      for (const [index, key] of keys.entries()) {
        expect(offsetsOf(await all({ view, key, limit: 10 }))).toEqual([index + 1]);
      }
    });

    test('a query is bounded by the time of expiry, the end not included', async () => {
      const view = 'bounded';
      await archive.write([1, 2, 3, 4].map((offset) => entry(offset, { view })));
      const offsets = async (from?: number, to?: number) =>
        offsetsOf(
          await all({
            view,
            limit: 10,
            ...(from !== undefined && { from: asLogTime(from) }),
            ...(to !== undefined && { to: asLogTime(to) }),
          }),
        );
      expect(await offsets(2002)).toEqual([2, 3, 4]);
      expect(await offsets(undefined, 2003)).toEqual([1, 2]);
      expect(await offsets(2002, 2004)).toEqual([2, 3]);
      expect(await offsets(2005)).toEqual([]);
    });

    test('pages hold every entry once and in order, however they are cut', async () => {
      const view = 'paged';
      const position = fc.record({
        partition: fc.nat({ max: 2 }),
        offset: fc.nat({ max: 20 }),
        key: fc.constantFrom('a', 'b', 'c'),
        expiresAt: fc.nat({ max: 3 }),
      });
      let run = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(position, { maxLength: 25 }), fc.integer({ min: 1, max: 7 }), async (rows, limit) => {
          const mine = `${view}-${run++}`;
          const entries = rows.map((row) =>
            entry(row.offset, {
              view: mine,
              partition: asPartitionId(row.partition),
              key: Buffer.from(row.key),
              expiresAt: asLogTime(row.expiresAt),
            }),
          );
          const written = await archive.write(entries);
          const whole = (await archive.query({ view: mine, limit: ARCHIVE_QUERY_ENTRIES_MAX })).entries;
          expect(whole).toHaveLength(written);
          expect(await all({ view: mine, limit })).toEqual(whole);
          const order = whole.map((e) => [e.expiresAt, e.partition, e.offset]);
          const sorted = [...order].sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
          expect(order).toEqual(sorted);
        }),
        { numRuns: 25 },
      );
    });

    test('gives the entries of one partition alone, page after page', async () => {
      const view = 'partitions';
      await archive.write(
        Array.from({ length: 30 }, (_, n) => entry(n + 1, { view, partition: asPartitionId(n % 3) })),
      );
      const asked = { view, partition: asPartitionId(1), limit: 4 };
      expect(offsetsOf(await all(asked))).toEqual([2, 5, 8, 11, 14, 17, 20, 23, 26, 29]);
      expect(offsetsOf(await all({ ...asked, from: asLogTime(2008), to: asLogTime(2020) }))).toEqual([8, 11, 14, 17]);
    });

    test('a page has as many bytes as are asked for, or one entry', async () => {
      const view = 'bytes';
      await archive.write([1, 2, 3].map((offset) => entry(offset, { view, value: Buffer.alloc(100) })));
      const page = await archive.query({ view, limit: 10, bytesMax: 250 });
      expect(offsetsOf(page.entries)).toEqual([1, 2]);
      expect(offsetsOf((await archive.query({ view, limit: 10, bytesMax: 1 })).entries)).toEqual([1]);
      expect(offsetsOf(await all({ view, limit: 10, bytesMax: 1 }))).toEqual([1, 2, 3]);
    });

    test('a page ends early when its values are large', async () => {
      const view = 'large';
      const value = Buffer.alloc(6 * 1024 * 1024, 1);
      await archive.write([1, 2, 3].map((offset) => entry(offset, { view, value })));
      const first = await archive.query({ view, limit: 10 });
      expect(offsetsOf(first.entries)).toEqual([1, 2]);
      const second = await archive.query({ view, limit: 10, cursor: first.cursor });
      expect(offsetsOf(second.entries)).toEqual([3]);
      expect(second.cursor).toBeUndefined();
    });

    test('a batch of many entries is written whole, and found again', async () => {
      const view = 'many';
      const batch = Array.from({ length: 2500 }, (_, index) => entry(index + 1, { view }));
      expect(await archive.write(batch)).toBe(2500);
      expect(offsetsOf(await all({ view, limit: 1000 }))).toEqual(batch.map(({ offset }) => offset));
    });

    test('writes that overlap in time all take effect', async () => {
      const view = 'overlapping';
      const writes = Array.from({ length: 8 }, (_, writer) =>
        archive.write(Array.from({ length: 1500 }, (_, index) => entry(writer * 1000 + index + 1, { view }))),
      );
      const written = await Promise.all(writes);
      expect(written.reduce((sum, count) => sum + count, 0)).toBe(8500);
    });

    test.each(['x', '1.2.3', '1.2.3.x', `9999999999999999.0.1.${'A'.repeat(43)}`])(
      'refuses the cursor %j',
      async (cursor) => {
        await expect(archive.query({ view: 'v', limit: 1, cursor })).rejects.toMatchObject({ code: 'bad-request' });
      },
    );

    test('refuses a limit that is none, and numbers that do not fit', async () => {
      for (const limit of [0, -1, 1.5, Number.NaN, ARCHIVE_QUERY_ENTRIES_MAX + 1]) {
        const refusal: unknown = await archive.query({ view: 'v', limit }).catch((error: unknown) => error);
        expect(isTidelineError(refusal, 'bad-request')).toBe(true);
      }
      await expect(archive.write([entry(2 ** 53, { view: 'odd' })])).rejects.toThrow('whole number');
      expect((await archive.query({ view: 'odd', limit: 1 })).entries).toEqual([]);
    });
  });
}
