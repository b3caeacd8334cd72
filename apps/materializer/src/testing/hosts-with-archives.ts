import type { ArchiveEntry, ArchivePage, ArchiveQuery } from '#catalog';
import { SeededRng, TidelineError, asOffset, type LogTime } from '#kernel';
import { encodeBatch, type RecordInput } from '#wire';
import {
  InMemoryArchive,
  InMemoryArchiveGaps,
  InMemorySnapshotCatalog,
} from '../../../../libs/catalog/src/testing/index.js';
import { MemoryCommandLog, VirtualTime } from '../../../../libs/command-log/src/testing/index.js';
import { MemoryNetwork } from '../../../../libs/net/src/testing/index.js';
import { MemoryFileSystem } from '../../../../libs/storage/src/testing/index.js';
import type { ArchiveGapStatus } from '../archive-gap-filler.js';
import { PeerHosts } from '../peer-hosts.js';
import { serveViewQuery } from '../serve-view-query.js';
import { SnapshotStore } from '../snapshot-store.js';
import { ViewHost } from '../view-host.js';

export const VIEW = 'sessions';
const TARGET = { topic: VIEW, partition: 0 };
const HOUR = 3_600_000;
/** Of the hosts. */
export const NAMES = ['one', 'two', 'three'] as const;
export type Name = (typeof NAMES)[number];
export const addressOf = (name: string): string => `${name}:7420`;

/** An archive that can refuse to be written or read, and says what was asked of it for other hosts. */
export class WilfulArchive extends InMemoryArchive {
  takesNothing = false;
  givesNothing = false;
  /** Pages that it still gives to other hosts. */
  pages = Infinity;
  readonly asked: ArchiveQuery[] = [];

  override async write(entries: readonly ArchiveEntry[]): Promise<number> {
    if (this.takesNothing) throw new TidelineError('not-ready', 'the archive takes nothing');
    return super.write(entries);
  }

  override async query(query: ArchiveQuery): Promise<ArchivePage> {
    const forAnother = query.partition !== undefined;
    if (this.givesNothing || (forAnother && this.pages-- <= 0)) {
      throw new TidelineError('not-ready', 'the archive gives nothing');
    }
    if (forAnother) this.asked.push(query);
    return super.query(query);
  }
}

export const diskOf = (time: VirtualTime) => ({
  fileSystem: new MemoryFileSystem(time),
  catalog: new InMemorySnapshotCatalog(),
  archive: new WilfulArchive(time),
  archiveGaps: new InMemoryArchiveGaps(),
});
export type Disk = ReturnType<typeof diskOf>;

export interface Host {
  readonly name: Name;
  readonly views: ViewHost;
  /** Gaps that it was heard to open, and to fill. */
  readonly opened: ArchiveGapStatus[];
  readonly filled: ArchiveGapStatus[];
  /** Nothing is written any more. */
  crash(): Promise<void>;
}

export const put = (name: string, value: string, ttlMs?: number): RecordInput => ({
  key: Buffer.from(name),
  value: Buffer.from(value),
  ...(ttlMs !== undefined && { ttlMs }),
});

export const many = (count: number, ttlMs: number, name = 'k'): RecordInput[] =>
  Array.from({ length: count }, (_, n) => put(`${name}${n}`, `${n}`, ttlMs));

/** Hosts of the same view over one log, that know each other, each with a catalog of its own. `closing`: what is to be called when the test is over, last first. */
export const startHosts = async (closing: (() => Promise<void> | void)[]) => {
  const time = new VirtualTime();
  const log = new MemoryCommandLog({ topics: [{ name: VIEW, view: { archive: true } }], clock: time, scheduler: time });
  closing.push(() => log.close());
  await time.until(log.topic(VIEW));
  const network = new MemoryNetwork({ clock: time, scheduler: time, rng: new SeededRng(5) });
  const disks = Object.fromEntries(NAMES.map((name) => [name, diskOf(time)])) as Record<Name, Disk>;

  const host = async (name: Name, { settleMs = 1500 } = {}): Promise<Host> => {
    const { fileSystem, catalog, archive, archiveGaps } = disks[name];
    const store = new SnapshotStore({
      fileSystem,
      catalog,
      directory: '/snapshots',
      host: addressOf(name),
      kept: 2,
      clock: time,
      report: () => undefined,
    });
    const transport = network.transport(name);
    const addresses = NAMES.map(addressOf);
    const rng = new SeededRng(7);
    const peers = new PeerHosts({ transport, scheduler: time, rng, own: store.host, addresses });
    const snapshots = { store, peers, archiveGaps, intervalMs: HOUR };
    const views = new ViewHost({ log, archive, clock: time, scheduler: time, snapshots });
    closing.push(() => views.close());
    const [opened, filled]: ArchiveGapStatus[][] = [[], []];
    views.gapFillers!.onOpened((status) => opened.push(status));
    views.gapFillers!.onFilled((status) => filled.push(status));
    const hello = { nodeId: 0, clusterId: '', service: 'view', software: 'spec', addresses: {} };
    const listener = await time.until(transport.listen({ host: name, port: 7420 }, hello, serveViewQuery(views)));
    const crash = async (): Promise<void> => {
      views.close();
      await time.until(listener.close());
    };
    await time.advance(settleMs);
    return { name, views, opened, filled, crash };
  };

  const append = async (...records: RecordInput[]): Promise<number> => {
    const batch = encodeBatch(records, { createTime: 1 });
    return (await time.until(log.append(TARGET, batch, { acks: 'quorum' }))).lastOffset;
  };
  const snapshot = async ({ views }: Host): Promise<number> =>
    (await time.until(views.upkeep.createSnapshots({ view: VIEW, partition: null })))[0].offset;
  /** What the archive has, past what it refuses. */
  const rows = async (archive: InMemoryArchive): Promise<string[]> => {
    const texts: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await InMemoryArchive.prototype.query.call(archive, { view: VIEW, limit: 1000, cursor });
      texts.push(
        ...page.entries.map(
          ({ key, value, offset, expiresAt }) => `${String(key)}=${String(value)} at ${offset} until ${expiresAt}`,
        ),
      );
      ({ cursor } = page);
    } while (cursor !== undefined);
    return texts;
  };
  const archived = (name: Name): Promise<string[]> => rows(disks[name].archive);
  /** The log begins here from now on. */
  const trim = async (before: number): Promise<void> => {
    log.cluster.log(VIEW, 0).trimBefore(asOffset(before));
    await time.until(log.refresh());
  };
  const get = async ({ views }: Host, key: string): Promise<string | null> => {
    const at = { offset: asOffset(0), time: null };
    const request = { view: VIEW, partition: 0, key: Buffer.from(key), at, timeoutMs: 1000 };
    const { entry } = await time.until(views.get(request));
    return entry === null ? null : String(entry.value);
  };
  const lookBack = async ({ views }: Host, key: string): Promise<string | null> => {
    const at = { offset: asOffset(0), time: null };
    const request = { view: VIEW, partition: 0, key: Buffer.from(key), at, timeoutMs: 1000 };
    const { departed } = await time.until(views.getOrDeparted(request));
    return departed === null ? null : String(departed.value);
  };
  const list = async ({ views }: Host, times: { from?: LogTime; to?: LogTime } = {}): Promise<number> => {
    const request = { view: VIEW, key: null, from: null, to: null, limit: 1000, cursor: null, ...times };
    return (await time.until(views.archive(request))).entries.length;
  };
  return { time, log, network, disks, host, append, snapshot, rows, archived, trim, get, lookBack, list };
};

export type World = Awaited<ReturnType<typeof startHosts>>;
