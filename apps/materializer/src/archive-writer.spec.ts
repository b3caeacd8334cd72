import { afterEach, describe, expect, test } from '@jest/globals';
import type { ArchiveEntry } from '#catalog';
import type { Barrier } from '#command-log';
import { TidelineError, asOffset, type Offset, type ViewSettings } from '#kernel';
import type { ReadPoint } from '#views';
import { encodeBatch, encodeOp, type RecordInput } from '#wire';
import { InMemoryArchive } from '../../../libs/catalog/src/testing/index.js';
import { MemoryCommandLog, VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { ARCHIVE_BATCH_ENTRIES_MAX, ARCHIVE_WRITTEN_ENTRIES_MAX } from './archive-writer.js';
import { ViewHost } from './view-host.js';

const VIEW = 'sessions';
const TARGET = { topic: VIEW, partition: 0 };

/** An archive that can be down, or stay under way until it is let go on, and that says what it was given. */
class ObservedArchive extends InMemoryArchive {
  down = false;
  readonly writes: string[][] = [];
  /** New ones, in the order in which they came. */
  readonly stored: string[] = [];
  attempts = 0;
  hold: Promise<void> | null = null;
  reads = 0;
  holdReads: Promise<void> | null = null;

  override async write(entries: readonly ArchiveEntry[]): Promise<number> {
    this.attempts++;
    if (this.hold) await this.hold;
    if (this.down) throw new TidelineError('not-ready', 'the archive is down');
    this.writes.push(entries.map(({ key, value }) => `${String(key)}=${String(value)}`));
    for (const entry of entries) {
      if ((await super.write([entry])) === 1) this.stored.push(`${String(entry.key)}=${String(entry.value)}`);
    }
    return entries.length;
  }

  override async latest(view: string, key: Uint8Array): ReturnType<InMemoryArchive['latest']> {
    this.reads++;
    const found = await super.latest(view, key);
    if (this.holdReads) await this.holdReads;
    return found;
  }
}

/** A promise and how to fulfil it. */
const held = (): { readonly promise: Promise<void>; release(): void } => {
  let release = (): void => undefined;
  const promise = new Promise<void>((resolve) => (release = resolve));
  return { promise, release };
};

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const put = (name: string, value: string, ttlMs?: number): RecordInput => ({
  key: Buffer.from(name),
  value: Buffer.from(value),
  ...(ttlMs !== undefined && { ttlMs }),
});

const start = async (settings: Partial<ViewSettings> = {}) => {
  const time = new VirtualTime();
  const topics = [{ name: VIEW, view: { archive: true, ...settings } }];
  const log = new MemoryCommandLog({ topics, clock: time, scheduler: time });
  closing.push(() => log.close());
  const archive = new ObservedArchive(time);
  const host = (): { views: ViewHost; expired: () => number; failures: () => number } => {
    const views = new ViewHost({ log, clock: time, scheduler: time, archive });
    closing.push(() => views.close());
    let expired = 0;
    let failures = 0;
    views.onExpired((_view, _partition, count) => (expired += count));
    views.onArchiveFailed(() => failures++);
    return { views, expired: () => expired, failures: () => failures };
  };
  const first = host();
  await time.until(log.topic(VIEW));
  const append = async (...records: RecordInput[]): Promise<Offset> => {
    const batch = encodeBatch(records, { createTime: 1 });
    return (await time.until(log.append(TARGET, batch, { acks: 'quorum' }))).lastOffset;
  };
  const get = async (views: ViewHost, name: string): Promise<string | null> => {
    const at = { offset: asOffset(0), time: null };
    const { entry } = await time.until(
      views.get({ view: VIEW, partition: 0, key: Buffer.from(name), at, timeoutMs: 1000 }),
    );
    return entry === null ? null : String(entry.value);
  };
  const now = (): Promise<Barrier> => time.until(log.barrier(TARGET));
  const lookBack = async (views: ViewHost, name: string, at: ReadPoint): Promise<string | null> => {
    const request = { view: VIEW, partition: 0, key: Buffer.from(name), at, timeoutMs: 1000 };
    const { entry, departed: gone } = await views.getOrDeparted(request);
    expect(entry === null || gone === null).toBe(true);
    if (entry !== null) return `${String(entry.value)} live`;
    if (gone === null) return null;
    return `${String(gone.value)} ${gone.evicted ? 'evicted' : 'expired'}, ${gone.archivedAt === null ? 'waiting' : 'archived'}`;
  };
  const departed = async (views: ViewHost, name: string): Promise<string | null> =>
    time.until(lookBack(views, name, await now()));
  const inMemory = async (views: ViewHost): Promise<number> => (await views.stats())[0].entries;
  return { time, log, archive, host, append, get, now, lookBack, departed, inMemory, ...first };
};

describe('a view with an archive', () => {
  test('keeps what has expired, unseen, until the archive has it', async () => {
    const { time, archive, append, get, inMemory, views, expired } = await start();
    const { promise, release } = held();
    archive.hold = promise;
    await append(put('a', '1', 1000), put('b', '2'));
    await time.advance(4000);
    expect(archive.attempts).toBe(1);
    expect(archive.stored).toEqual([]);
    expect(await get(views, 'a')).toBeNull();
    expect(await inMemory(views)).toBe(2);
    release();
    await time.advance(200);
    expect(archive.stored).toEqual(['a=1']);
    expect(await inMemory(views)).toBe(1);
    expect(expired()).toBe(1);
  });

  test('tries again, later each time, while the archive is down, counts, and archives once', async () => {
    const { time, archive, append, get, inMemory, views, failures } = await start();
    archive.down = true;
    await append(put('a', '1', 1000), put('b', '2', 1000));
    await time.advance(60_000);
    expect(failures()).toBeGreaterThan(5);
    expect(failures()).toBeLessThan(12);
    expect(failures()).toBe(archive.attempts);
    expect(views.archiveError).toMatchObject({ code: 'not-ready' });
    expect(await get(views, 'a')).toBeNull();
    expect(await inMemory(views)).toBe(2);
    archive.down = false;
    await time.advance(31_000);
    expect(archive.stored.toSorted()).toEqual(['a=1', 'b=2']);
    expect(views.archiveError).toBeNull();
    expect(await inMemory(views)).toBe(0);
  });

  test('archives an entry that was overwritten or deleted after it had expired, those of a key in order', async () => {
    const { time, archive, append, get, inMemory, views } = await start();
    archive.down = true;
    await append(put('a', '1', 1000), put('b', '1', 1000));
    await time.advance(2000);
    await append(put('a', '2', 1000), { key: Buffer.from('b'), value: null });
    await time.advance(2000);
    await append(put('a', '3'));
    expect(await get(views, 'a')).toBe('3');
    archive.down = false;
    await time.advance(31_000);
    expect(archive.stored).toEqual(['a=1', 'b=1', 'a=2']);
    expect(await get(views, 'a')).toBe('3');
    expect(await inMemory(views)).toBe(1);
  });

  test('does not archive what was overwritten or deleted alive', async () => {
    const { time, archive, append } = await start();
    await append(put('a', '1', 1000), put('b', '1', 1000));
    await append(put('a', '2'), { key: Buffer.from('b'), value: null });
    await time.advance(10_000);
    expect(archive.attempts).toBe(0);
  });

  test('comes to what has expired at once, though much else was overwritten before it did', async () => {
    const { time, archive, append } = await start();
    const names = Array.from({ length: 5 * ARCHIVE_BATCH_ENTRIES_MAX }, (_, n) => `k${n}`);
    await append(...names.map((name) => put(name, 'v', 1000)), put('first', 'v', 990));
    await append(...names.map((name) => put(name, 'w')), put('last', 'v', 1001));
    while (archive.stored.length === 0) await time.advance(10);
    // Not so much at a time as often as what expires is looked for.
    await time.advance(150);
    expect(archive.stored).toEqual(['first=v', 'last=v']);
  });

  test('writes in batches of bounded size', async () => {
    const { time, archive, append, inMemory, views } = await start();
    const count = ARCHIVE_BATCH_ENTRIES_MAX * 2 + 7;
    await append(...Array.from({ length: count }, (_, n) => put(`k${n}`, 'v', 1000)));
    await time.advance(10_000);
    expect(archive.writes.map((write) => write.length)).toEqual([
      ARCHIVE_BATCH_ENTRIES_MAX,
      ARCHIVE_BATCH_ENTRIES_MAX,
      7,
    ]);
    expect(await inMemory(views)).toBe(0);
  });

  test('has a bounded number of entries under way, and lets go of them batch by batch', async () => {
    const { time, archive, append, inMemory, views } = await start();
    let release = (): void => undefined;
    archive.hold = new Promise((resolve) => (release = resolve));
    const batches = ARCHIVE_WRITTEN_ENTRIES_MAX / ARCHIVE_BATCH_ENTRIES_MAX;
    const count = ARCHIVE_BATCH_ENTRIES_MAX * (batches + 2);
    for (let n = 0; n < count; n += ARCHIVE_BATCH_ENTRIES_MAX) {
      await append(...Array.from({ length: ARCHIVE_BATCH_ENTRIES_MAX }, (_, k) => put(`k${n + k}`, 'v', 60_000)));
    }
    await time.advance(61_000);
    expect(archive.attempts).toBe(batches);
    expect(await inMemory(views)).toBe(count);
    const gone: number[] = [];
    views.onExpired((_view, _partition, some) => gone.push(some));
    archive.hold = null;
    release();
    await time.advance(1000);
    expect(gone).toEqual(Array.from({ length: batches + 2 }, () => ARCHIVE_BATCH_ENTRIES_MAX));
    expect(await inMemory(views)).toBe(0);
  });

  test('has a bounded number of bytes under way', async () => {
    const { time, archive, append } = await start();
    archive.hold = new Promise(() => undefined);
    const value = 'x'.repeat(900_000);
    for (let n = 0; n < 40; n++) await append(put(`k${n}`, value, 60_000));
    await time.advance(61_000);
    // Each of more than 4 MiB, the last of which reaches 16.
    expect(archive.attempts).toBe(4);
  });

  test('archives nothing twice when a host starts anew on the same log', async () => {
    const { time, archive, append, host, inMemory, views } = await start();
    await append(put('a', '1', 1000), put('b', '1', 1000));
    await time.advance(3000);
    await append(put('a', '2', 1000));
    await time.advance(3000);
    const stored = ['a=1', 'a=2', 'b=1'];
    expect(archive.stored.toSorted()).toEqual(stored);
    views.close();
    const second = host();
    await time.advance(3000);
    expect(await inMemory(second.views)).toBe(0);
    expect(archive.writes.flat().length).toBeGreaterThan(stored.length);
    expect(archive.stored.toSorted()).toEqual(stored);
  });

  test('stops applying when too much waits for the archive, and goes on when it has it', async () => {
    const { time, archive, append, get, views } = await start();
    archive.down = true;
    const value = 'x'.repeat(900_000);
    // Each is overwritten after it has expired, and waits: 90 MB in all.
    for (let n = 0; n < 100; n++) {
      await append(put('a', value, 1));
      await time.advance(10);
    }
    const last = await append(put('z', 'last'));
    await time.advance(100);
    expect(await get(views, 'z')).toBeNull();
    expect(views.lagRecords).toBeGreaterThan(0);
    archive.down = false;
    await time.advance(40_000);
    expect(await get(views, 'z')).toBe('last');
    expect((await views.stats())[0].partitions[0].offset).toBeGreaterThanOrEqual(last);
    expect(archive.stored).toHaveLength(100);
  });

  test('archives again, and once, what a host that ended had written but not let go of', async () => {
    const { time, archive, host, append, get, inMemory, views } = await start();
    await append(put('a', '1', 1000), put('b', '2', 1000), put('c', '3'));
    // Ends after the write took effect and before it knows.
    const write = archive.write.bind(archive);
    archive.write = async (entries) => {
      await write(entries);
      views.close();
      throw new TidelineError('connection-lost', 'gone');
    };
    await time.advance(3000);
    expect(archive.stored.toSorted()).toEqual(['a=1', 'b=2']);
    archive.write = write;
    const next = host();
    await time.advance(3000);
    expect(archive.writes).toHaveLength(2);
    expect(archive.stored.toSorted()).toEqual(['a=1', 'b=2']);
    expect([await get(next.views, 'a'), await inMemory(next.views), next.expired()]).toEqual([null, 1, 2]);
  });

  test('archives what has to make room before it is gone, with the reason, and counts it', async () => {
    const { time, archive, append, get, inMemory, views, expired } = await start({ maxEntries: 3 });
    let evicted = 0;
    views.onEvicted((_view, _partition, count) => (evicted += count));
    archive.down = true;
    await append(...[1, 2, 3, 4, 5].map((n) => put(`k${n}`, `${n}`)));
    await time.advance(1000);
    expect([await get(views, 'k2'), await inMemory(views), evicted, archive.stored]).toEqual([null, 3, 2, []]);
    archive.down = false;
    await time.advance(40_000);
    expect(archive.stored).toEqual(['k1=1', 'k2=2']);
    // They are counted as evicted, and as nothing else.
    expect([evicted, expired()]).toEqual([2, 0]);
    await append(put('k6', '6', 1000));
    await time.advance(40_000);
    expect([evicted, expired()]).toEqual([3, 1]);
    const asked = { view: VIEW, key: null, from: null, to: null, limit: 9, cursor: null };
    const { entries } = await views.archive(asked);
    expect(entries.map(({ key, evicted: byRoom }) => [String(key), byRoom])).toEqual([
      ['k1', true],
      ['k2', true],
      ['k3', true],
      ['k6', false],
    ]);
  });

  test('has the lifetimes that its topic says', async () => {
    const { append, time, get, views } = await start({ defaultTtlMs: 5000, maxIdleMs: 2000 });
    await append(put('a', '1'), put('b', '2', 60_000));
    await time.advance(1500);
    await append({ key: Buffer.from('b'), op: encodeOp('touch', []) });
    await time.advance(1900);
    expect([await get(views, 'a'), await get(views, 'b')]).toEqual([null, '2']);
  });

  test('answers questions about its archive', async () => {
    const { time, append, departed, views } = await start();
    await append(put('a', '1', 1000), put('b', '2', 2000));
    await time.advance(10_000);
    const all = { view: VIEW, key: null, from: null, to: null, limit: 1, cursor: null };
    const first = await views.archive(all);
    expect(first.entries.map(({ key, partition }) => [String(key), partition])).toEqual([['a', 0]]);
    const second = await views.archive({ ...all, cursor: first.cursor });
    expect(second.entries.map(({ key }) => String(key))).toEqual(['b']);
    expect(second.cursor).toBeNull();
    const { entries } = await views.archive({ ...all, key: Buffer.from('b') });
    expect(entries.map(({ value }) => String(value))).toEqual(['2']);
    await append(put('b', '3', 1000));
    await time.advance(10_000);
    expect(await departed(views, 'b')).toBe('3 expired, archived');
    expect(await departed(views, 'z')).toBeNull();
    await expect(views.archive({ ...all, view: 'nowhere' })).rejects.toMatchObject({ code: 'unknown-view' });
  });
});

describe('a read that may look back', () => {
  test('finds what has expired while the archive is down, the newest of its key, and what is live first', async () => {
    const { time, archive, append, departed, views } = await start();
    archive.down = true;
    await append(put('a', '1', 1000));
    expect(await departed(views, 'a')).toBe('1 live');
    await time.advance(2000);
    expect(await departed(views, 'a')).toBe('1 expired, waiting');
    await append({ key: Buffer.from('a'), value: null });
    expect(await departed(views, 'a')).toBe('1 expired, waiting');
    await append(put('a', '2', 1000));
    expect(await departed(views, 'a')).toBe('2 live');
    await time.advance(2000);
    expect(await departed(views, 'a')).toBe('2 expired, waiting');
    await append(put('a', '3'));
    await append({ key: Buffer.from('a'), value: null });
    expect(await departed(views, 'a')).toBe('2 expired, waiting');
    expect(archive.reads).toBe(0);
    archive.down = false;
    await time.advance(31_000);
    expect(await departed(views, 'a')).toBe('2 expired, archived');
  });

  test('finds it while it goes from memory to the archive, however slow that is to answer', async () => {
    const { time, archive, append, now, lookBack, departed, inMemory, views } = await start();
    const writing = held();
    archive.hold = writing.promise;
    await append(put('a', '1', 1000));
    await time.advance(2000);
    expect([archive.attempts, await departed(views, 'a')]).toEqual([1, '1 expired, waiting']);
    const at = await now();
    // It leaves memory while the archive, if that was asked before, still says that it has nothing.
    const reading = held();
    archive.holdReads = reading.promise;
    const read = lookBack(views, 'a', at);
    writing.release();
    await time.advance(200);
    expect(await inMemory(views)).toBe(0);
    reading.release();
    expect(await read).toMatch(/^1 expired/);
    expect(await departed(views, 'a')).toBe('1 expired, archived');
  });

  test('finds it on a host that has just started, and on one that has it from the log alone', async () => {
    const { time, archive, append, departed, host, views } = await start();
    archive.down = true;
    await append(put('a', '1', 1000), put('b', '1', 1000));
    await time.advance(2000);
    await append(put('b', '2'));
    await append({ key: Buffer.from('b'), value: null });
    views.close();
    const next = host();
    await time.advance(10);
    expect([await departed(next.views, 'a'), await departed(next.views, 'b')]).toEqual([
      '1 expired, waiting',
      '1 expired, waiting',
    ]);
  });

  test('finds what had to make room', async () => {
    const { archive, append, departed, views } = await start({ maxEntries: 1 });
    archive.down = true;
    await append(put('a', '1'), put('b', '1'));
    expect([await departed(views, 'a'), await departed(views, 'b')]).toEqual(['1 evicted, waiting', '1 live']);
  });

  test('finds nothing that was deleted alive, and nothing in a view without an archive', async () => {
    const { archive, append, departed, views } = await start();
    archive.down = true;
    await append(put('a', '1', 1000), { key: Buffer.from('a'), value: null });
    expect(await departed(views, 'a')).toBeNull();
    const plain = await start({ archive: false });
    await plain.append(put('a', '1', 1000));
    expect(await plain.departed(plain.views, 'a')).toBe('1 live');
    await plain.time.advance(1000);
    expect(await plain.departed(plain.views, 'a')).toBeNull();
  });
});
