import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { asLogTime, asOffset, asPartitionId, type Clock } from '#kernel';
import { keyDigest, type Archive, type ArchiveEntry } from './archive.js';
import { ARCHIVE, CATALOG, CatalogModule, SNAPSHOT_CATALOG } from './catalog-module.js';
import { openCatalog, type Catalog } from './catalog.js';
import { dataSourceOptions, openDataSource, withoutPassword } from './data-source.js';
import { SqlArchive } from './sql-archive.js';
import { archiveGapsConformance } from './testing/archive-gaps.conformance.js';
import { archiveConformance } from './testing/archive.conformance.js';
import { InMemoryArchive, InMemoryArchiveGaps, InMemorySnapshotCatalog } from './testing/index.js';
import { snapshotCatalogConformance } from './testing/snapshot-catalog.conformance.js';

const POSTGRES = process.env.TIDELINE_TEST_POSTGRES;
const nothing = async (): Promise<void> => undefined;

archiveConformance('in memory', async (clock) => ({ archive: new InMemoryArchive(clock), close: nothing }));
archiveGapsConformance('in memory', async () => ({ gaps: new InMemoryArchiveGaps(), close: nothing }));
snapshotCatalogConformance('in memory', async () => ({ snapshots: new InMemorySnapshotCatalog(), close: nothing }));

const entry: ArchiveEntry = {
  view: 'v',
  partition: asPartitionId(0),
  key: Buffer.from('k'),
  offset: asOffset(1),
  value: Buffer.from('v'),
  logTime: asLogTime(1),
  expiresAt: asLogTime(2),
  evicted: false,
};

async function sqlite(clock?: Clock): Promise<Catalog> {
  const directory = await mkdtemp(join(tmpdir(), 'tideline-catalog-'));
  const catalog = await openCatalog(`sqlite:${directory}/catalog.sqlite`, clock);
  const close = async () => {
    await catalog.close();
    await rm(directory, { recursive: true });
  };
  return { ...catalog, close };
}

const gapsOf = (open: () => Promise<Catalog>) => async () => {
  const { archiveGaps, close } = await open();
  return { gaps: archiveGaps, close };
};

archiveConformance('SQLite', sqlite);
archiveGapsConformance('SQLite', gapsOf(sqlite));
snapshotCatalogConformance('SQLite', () => sqlite());

/** The suites name their own views; what an earlier run left behind goes first. */
async function postgres(clock?: Clock): Promise<Catalog> {
  const dataSource = await openDataSource(POSTGRES as string);
  await dataSource.query('TRUNCATE tideline_archive, tideline_archive_gaps, tideline_snapshots');
  await dataSource.destroy();
  return openCatalog(POSTGRES as string, clock);
}

if (POSTGRES === undefined) {
  process.stderr.write('catalog: Postgres left out; set TIDELINE_TEST_POSTGRES=postgres://… to include it\n');
} else {
  archiveConformance('Postgres', postgres);
  archiveGapsConformance('Postgres', gapsOf(postgres));
  snapshotCatalogConformance('Postgres', () => postgres());

  test('several processes may migrate Postgres at once', async () => {
    const fresh = await openDataSource(POSTGRES);
    await fresh.query('DROP TABLE tideline_archive, tideline_archive_gaps, tideline_snapshots, tideline_migrations');
    await fresh.destroy();
    const catalogs = await Promise.all(Array.from({ length: 4 }, () => openCatalog(POSTGRES)));
    await Promise.all(catalogs.map((catalog) => catalog.ping()));
    await Promise.all(catalogs.map((catalog) => catalog.close()));
  });
}

describe('the catalog on SQLite', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tideline-catalog-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  test('refuses what the disk has no room for, in words, and takes it when there is', async () => {
    const dataSource = await openDataSource(`sqlite:${join(directory, 'full.sqlite')}`);
    try {
      const archive = new SqlArchive(dataSource, 'sqlite');
      await dataSource.query('PRAGMA max_page_count = 200');
      const large = { ...entry, offset: asOffset(2), value: Buffer.alloc(2 * 1024 * 1024) };
      await expect(archive.write([entry, large])).rejects.toMatchObject({ code: 'storage-full' });
      expect(await archive.latest('v', entry.key)).toBeUndefined();
      await dataSource.query('PRAGMA max_page_count = 100000');
      expect(await archive.write([entry, large])).toBe(2);
    } finally {
      await dataSource.destroy();
    }
  });

  test('says in its own words that the database does not answer', async () => {
    const dataSource = await openDataSource('sqlite::memory:');
    const archive = new SqlArchive(dataSource, 'sqlite');
    await dataSource.query('DROP TABLE tideline_archive');
    for (const asked of [archive.query({ view: 'v', limit: 1 }), archive.latest('v', entry.key)]) {
      const error: unknown = await asked.catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'not-ready' });
      expect(String(error)).toContain('the archive cannot be read: ');
    }
    await dataSource.destroy();
    await expect(archive.write([entry])).rejects.toMatchObject({ code: 'not-ready' });
  });

  test('keeps what it has when it is opened again, and creates its folder', async () => {
    const url = `sqlite:${directory}/a/b/catalog.sqlite`;
    const first = await openCatalog(url);
    await first.archive.write([entry]);
    await first.close();
    const second = await openCatalog(url);
    expect(await second.archive.latest('v', Buffer.from('k'))).toMatchObject({ offset: 1 });
    await second.close();
    await expect(second.ping()).rejects.toThrow();
    await second.close();
  });

  test('syncs every commit of its write-ahead log', async () => {
    const dataSource = await openDataSource(`sqlite:${directory}/pragmas.sqlite`);
    expect(await dataSource.query('PRAGMA journal_mode')).toEqual([{ journal_mode: 'wal' }]);
    expect(await dataSource.query('PRAGMA synchronous')).toEqual([{ synchronous: 2 }]);
    await dataSource.destroy();
  });

  test('an archive from before its rows had an order keeps them all', async () => {
    const url = `sqlite:${directory}/before.sqlite`;
    const before = await openDataSource(url);
    // Archive gaps, and that order.
    for (let n = 0; n < 2; n++) await before.undoLastMigration();
    const columns = 'view, key_digest, "offset", partition, key, value, log_time, expires_at, archived_at, evicted';
    const values = [...Array(10).keys()].map((n) => [keyDigest(Buffer.from(`k${n % 3}`)), n, Buffer.from(`k${n % 3}`)]);
    for (const [digest, offset, key] of values) {
      await before.query(`INSERT INTO tideline_archive (${columns}) VALUES ('v', ?, ?, 4, ?, x'01', 5, 6, 7, ?)`, [
        digest,
        offset,
        key,
        Number(offset) % 2,
      ]);
    }
    await before.destroy();
    const { archive, close } = await openCatalog(url);
    const page = await archive.query({ view: 'v', limit: 100 });
    expect(page.entries.map(({ key, offset, evicted }) => [String(key), offset, evicted])).toEqual(
      values.map(([, offset, key]) => [String(key), offset, Number(offset) % 2 === 1]),
    );
    expect(await archive.latest('v', Buffer.from('k1'))).toMatchObject({ offset: 7, partition: 4, archivedAt: 7 });
    const [again] = page.entries;
    expect(await archive.write([again, { ...again, offset: asOffset(10) }])).toBe(1);
    await close();
  });

  test('a snapshot from before the gaps of archives were kept does not say what the archive had', async () => {
    const url = `sqlite:${directory}/before-gaps.sqlite`;
    const before = await openDataSource(url);
    await before.undoLastMigration();
    await before.query(`INSERT INTO tideline_snapshots VALUES ('v', 0, -1, 'h', 7, 1, 1, 'd', 1, 'p', 1, 1, x'00')`);
    await before.destroy();
    const { snapshots, close } = await openCatalog(url);
    expect(await snapshots.list()).toEqual([expect.objectContaining({ offset: 7, archivedUntil: null })]);
    await close();
  });

  test('finds what is asked for by an index', async () => {
    const dataSource = await openDataSource(`sqlite:${directory}/plans.sqlite`);
    const archive = new SqlArchive(dataSource, 'sqlite');
    await archive.write(Array.from({ length: 500 }, (_, n) => ({ ...entry, key: Buffer.from(`k${n}`) })));
    const asked: { query: string; parameters: unknown[] }[] = [];
    const nothing = (): void => undefined;
    dataSource.logger = {
      logQuery: (query, parameters) => void asked.push({ query, parameters: parameters as unknown[] }),
      logQueryError: nothing,
      logQuerySlow: nothing,
      logSchemaBuild: nothing,
      logMigration: nothing,
      log: nothing,
    };
    const plansOf = async (work: () => Promise<unknown>): Promise<string[]> => {
      asked.length = 0;
      await work();
      const plans: { detail: string }[][] = [];
      for (const { query, parameters } of asked.splice(0)) {
        plans.push(await dataSource.query(`EXPLAIN QUERY PLAN ${query}`, parameters));
      }
      return plans.map((steps) => steps.map(({ detail }) => detail).join('; '));
    };
    const key = Buffer.from('k7');
    const byKey = expect.stringContaining('USING INDEX tideline_archive_by_key');
    expect(await plansOf(() => archive.latest('v', key))).toEqual([byKey]);
    expect(await plansOf(() => archive.query({ view: 'v', key, limit: 10 }))).toEqual([byKey, byKey]);
    const inOrder = expect.stringMatching(/USING INDEX tideline_archive_by_expiry [^;]*$/);
    const from = asLogTime(1);
    expect(await plansOf(() => archive.query({ view: 'v', from, limit: 10 }))).toEqual([inOrder, inOrder]);
    const { partition } = entry;
    expect(await plansOf(() => archive.query({ view: 'v', partition, from, limit: 10 }))).toEqual([inOrder, inOrder]);
    await dataSource.destroy();
  });

  test('refuses a file that is no database, and says which', async () => {
    const path = join(directory, 'text.sqlite');
    await writeFile(path, 'this is not a database, but long enough to look at; '.repeat(50));
    await expect(openCatalog(`sqlite:${path}`)).rejects.toMatchObject({
      code: 'storage-damaged',
      message: expect.stringContaining(path),
    });
  });

  test('a number a table cannot hold exactly stops the reader', async () => {
    const dataSource = await openDataSource(`sqlite:${directory}/large.sqlite`);
    await dataSource.query(
      `INSERT INTO tideline_snapshots VALUES ('v', 0, 0, 'h', 9007199254740993, 1, 1, 'd', 1, 'p', 1, 1, x'', NULL)`,
    );
    await dataSource.destroy();
    const catalog = await openCatalog(`sqlite:${directory}/large.sqlite`);
    await expect(catalog.snapshots.list()).rejects.toThrow('2^53');
    await catalog.close();
  });
});

test('writes to Postgres leave connections to those who read', async () => {
  const statements: (() => void)[] = [];
  const dataSource = {
    getRepository: () => null,
    query: () => new Promise((resolve) => statements.push(() => resolve([{}]))),
  } as unknown as ConstructorParameters<typeof SqlArchive>[0];
  const archive = new SqlArchive(dataSource, 'postgres');
  const written = Promise.all(
    Array.from({ length: 40 }, (_, n) => archive.write([{ ...entry, partition: asPartitionId(n) }])),
  );
  let most = 0;
  for (let left = 40; left > 0; left--) {
    while (statements.length === 0) await new Promise(setImmediate);
    most = Math.max(most, statements.length);
    statements.shift()!();
  }
  expect(await written).toEqual(Array.from({ length: 40 }, () => 1));
  expect(most).toBe(4);
});

describe('opening a catalog', () => {
  test('that does not answer says where, without the password', async () => {
    // Port 1 is listened on by nobody.
    const error = await openCatalog('postgres://u:hunter2@127.0.0.1:1/tideline').catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'not-ready', message: expect.stringContaining('u:***@127.0.0.1:1') });
    expect((error as Error).message).not.toContain('hunter2');
  });

  test('of another kind is refused', () => {
    expect(() => dataSourceOptions('mysql://h/d')).toThrow('sqlite:PATH or postgres://');
    expect(withoutPassword('sqlite::memory:')).toBe('sqlite::memory:');
    expect(withoutPassword('postgres://u@h/d')).toBe('postgres://u@h/d');
  });

  test('as a Nest module gives its parts, and closes with the app', async () => {
    const module = await Test.createTestingModule({ imports: [CatalogModule.forRoot('sqlite::memory:')] }).compile();
    await module.init();
    const catalog = module.get<Catalog>(CATALOG);
    expect(module.get(SNAPSHOT_CATALOG)).toBe(catalog.snapshots);
    expect(module.get<Archive>(ARCHIVE)).toBe(catalog.archive);
    await catalog.ping();
    await module.close();
    await expect(catalog.ping()).rejects.toThrow();
  });
});
