import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import BetterSqlite3 from 'better-sqlite3';
import fc from 'fast-check';
import { asLogTime, asOffset, asPartitionId } from '#kernel';
import type { ArchiveEntry } from './archive.js';
import { entriesOf, messageOf } from './archive-message.js';
import { openCatalog, type Catalog } from './catalog.js';
import { ThreadedArchiveRows } from './threaded-archive-rows.js';

const entry = (offset: number, changes: Partial<ArchiveEntry> = {}): ArchiveEntry => ({
  view: 'v',
  partition: asPartitionId(3),
  key: Buffer.from(`k${offset}`),
  offset: asOffset(offset),
  value: Buffer.from(`v${offset}`),
  logTime: asLogTime(1),
  expiresAt: asLogTime(2),
  evicted: false,
  ...changes,
});

const WAL_HEADER_BYTES = 32;
const WAL_FRAME_HEADER_BYTES = 24;
const PAGE_BYTES = 4096;

/** By the format of SQLite's write-ahead log: only the last frame of a commit has the size of the database in its header. */
const commitsOf = (log: Buffer): number => {
  let commits = 0;
  for (let at = WAL_HEADER_BYTES; at < log.length; at += WAL_FRAME_HEADER_BYTES + PAGE_BYTES) {
    if (log.readUInt32BE(at + 4) !== 0) commits++;
  }
  return commits;
};

describe('the thread that writes the archive', () => {
  let path: string;
  let catalog: Catalog;
  beforeEach(async () => {
    path = join(await mkdtemp(join(tmpdir(), 'tideline-archive-')), 'catalog.sqlite');
    catalog = await openCatalog(`sqlite:${path}`);
  });
  afterEach(async () => {
    await catalog.close();
    await rm(join(path, '..'), { recursive: true });
  });

  const query = { view: 'v', limit: 100 };

  test('writes what it was given before it is closed, and takes nothing more', async () => {
    const writes = [1, 2, 3].map((n) => catalog.archive.write([entry(n), entry(n + 10)]));
    const closed = catalog.close();
    expect(await Promise.all(writes)).toEqual([2, 2, 2]);
    await closed;
    await expect(catalog.archive.write([entry(9)])).rejects.toMatchObject({ code: 'not-ready' });
    const database = new BetterSqlite3(path);
    expect(database.prepare('SELECT count(*) AS n FROM tideline_archive').get()).toEqual({ n: 6 });
    // All is in the file itself.
    expect(database.pragma('integrity_check')).toEqual([{ integrity_check: 'ok' }]);
    database.close();
  });

  test('what the database refuses is refused with its reason, whole, and taken when the reason is gone', async () => {
    await catalog.archive.write([entry(1)]);
    const database = new BetterSqlite3(path);
    database.exec(`CREATE TRIGGER refuse BEFORE INSERT ON tideline_archive WHEN NEW."offset" = 3
      BEGIN SELECT RAISE(ABORT, 'not this one'); END`);
    await expect(catalog.archive.write([entry(2), entry(3)])).rejects.toMatchObject({
      code: 'not-ready',
      message: expect.stringContaining('not this one'),
    });
    expect((await catalog.archive.query(query)).entries.map(({ offset }) => offset)).toEqual([1]);
    database.exec('DROP TRIGGER refuse');
    database.close();
    expect(await catalog.archive.write([entry(2), entry(3)])).toBe(2);
  });

  test('what has come meanwhile is one transaction, but one that is refused is refused alone', async () => {
    const rows = new ThreadedArchiveRows(path);
    const database = new BetterSqlite3(path);
    database.exec(`CREATE TRIGGER refuse BEFORE INSERT ON tideline_archive WHEN NEW."offset" = 3
      BEGIN SELECT RAISE(ABORT, 'not this one'); END`);
    // All of them are there before the thread is.
    const answers = await Promise.allSettled([
      rows.insert([entry(1), entry(2)], 1),
      rows.insert([entry(3)], 1),
      rows.insert([entry(2), entry(4)], 1),
      rows.insert([], 1),
    ]);
    expect(answers).toEqual([
      { status: 'fulfilled', value: 2 },
      { status: 'rejected', reason: expect.objectContaining({ message: 'not this one' }) },
      { status: 'fulfilled', value: 1 },
      { status: 'fulfilled', value: 0 },
    ]);
    await rows.close();
    // A commit is a frame of the log that says how many pages the database has.
    database.exec('DROP TRIGGER refuse');
    database.pragma('wal_checkpoint(TRUNCATE)');
    const together = new ThreadedArchiveRows(path);
    const writes = [5, 6, 7, 8].map((n) => together.insert([entry(n)], 1));
    expect(await Promise.all(writes)).toEqual([1, 1, 1, 1]);
    expect(commitsOf(await readFile(`${path}-wal`))).toBe(1);
    database.close();
    await together.close();
  });

  test('a file that is gone is said with each write, and nothing is created in its place', async () => {
    const rows = new ThreadedArchiveRows(join(path, '..', 'missing.sqlite'));
    await expect(rows.insert([entry(1)], 1)).rejects.toMatchObject({ code: 'SQLITE_CANTOPEN' });
    await expect(rows.insert([entry(1)], 1)).rejects.toMatchObject({ code: 'SQLITE_CANTOPEN' });
    await rows.close();
  });

  test('one that dies leaves its writes unanswered no longer than that; the next write starts another', async () => {
    const rows = new ThreadedArchiveRows(path);
    expect(await rows.insert([entry(1)], 1)).toBe(1);
    const dying = rows.insert([entry(2)], 1);
    await rows.kill();
    await dying.catch((error: unknown) => expect(String(error)).toContain('the thread that writes it ended'));
    expect(await rows.insert([entry(1), entry(2), entry(3)], 1)).toBeGreaterThanOrEqual(1);
    expect((await catalog.archive.query(query)).entries).toHaveLength(3);
    await rows.close();
  });

  test('the snapshots of the same file are catalogued meanwhile', async () => {
    const entries = Array.from({ length: 5000 }, (_, n) => entry(n + 1));
    const writing = catalog.archive.write(entries);
    await catalog.snapshots.list();
    expect(await writing).toBe(5000);
  });
});

test('a message to the thread has what was put into it', () => {
  const whole = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  const bytes = fc.uint8Array({ maxLength: 40 });
  const any = fc.record({
    view: fc.string(),
    partition: fc.nat().map(asPartitionId),
    key: bytes,
    offset: whole.map(asOffset),
    value: bytes,
    contentType: fc.option(fc.string(), { nil: undefined }),
    logTime: whole.map(asLogTime),
    expiresAt: whole.map(asLogTime),
    evicted: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(any, { maxLength: 20 }), (entries) => {
      const expected = entries.map(({ contentType, ...rest }) => ({
        ...rest,
        ...(contentType !== undefined && { contentType }),
      }));
      expect(entriesOf(messageOf(entries, { id: 1, archivedAt: 2 }))).toEqual(expected);
    }),
  );
});
