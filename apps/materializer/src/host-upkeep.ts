import { TidelineError, type Offset } from '#kernel';
import type { PartitionHealth, SnapshotInfo, SnapshotRestored, ViewUpkeep } from '#views';
import {
  SNAPSHOT_PIECE_BYTES_MAX,
  snapshotServiceV1,
  type DepartedPage,
  type DepartedRequest,
  type DigestMarksMessage,
  type SnapshotPiece,
  type SnapshotPieceRequest,
  type ViewPart,
} from '#wire';
import type { ArchiveSource } from './archive-source.js';
import { digestsAt, isSamePart, marksOf, type DigestWatch } from './digest-watch.js';
import { isOpen, type HostedPartition, type HostedView } from './hosted-partition.js';
import type { PeerHosts } from './peer-hosts.js';
import type { SnapshotRounds } from './snapshot-rounds.js';
import { infoOf, type SnapshotStore } from './snapshot-store.js';

export interface HostUpkeepOptions {
  /** Null: this host keeps no snapshots. */
  readonly snapshots: { readonly store: SnapshotStore; readonly peers?: PeerHosts } | null;
  readonly rounds: SnapshotRounds | null;
  /** Null: nothing is archived here, or not for others. */
  readonly archive: ArchiveSource | null;
  readonly digestWatch: () => DigestWatch | null;
  readonly views: () => Iterable<HostedView>;
  /** The view that is served under this name. Throws `unknown-view` | `not-ready`. */
  readonly named: (view: string) => HostedView;
}

/** What operators and other hosts ask of this one. */
export class HostUpkeep implements ViewUpkeep {
  constructor(private readonly options: HostUpkeepOptions) {}

  async snapshots(request: { readonly view: string | null; readonly everywhere: boolean }): Promise<SnapshotInfo[]> {
    const { snapshots, views, named } = this.options;
    if (snapshots === null) return [];
    const { store, peers } = snapshots;
    const wanted = request.view === null ? [...views()] : [named(request.view)];
    const lists = await Promise.all(wanted.flatMap(({ keepers }) => keepers.map(({ source }) => store.list(source))));
    const infos = lists.flat().map(infoOf);
    if (request.everywhere && peers) {
      for (const view of wanted) {
        const answers = await peers.askAll(snapshotServiceV1.snapshots, { view: view.name, everywhere: false });
        for (const { answer } of answers) infos.push(...answer.filter(({ host }) => host !== store.host));
      }
    }
    const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
    return infos.sort(
      (a, b) => compare(a.view, b.view) || a.partition - b.partition || b.offset - a.offset || compare(a.host, b.host),
    );
  }

  async createSnapshots(request: {
    readonly view: string;
    readonly partition: number | null;
  }): Promise<SnapshotInfo[]> {
    const { snapshots, rounds } = this.options;
    const view = this.options.named(request.view);
    const created: SnapshotInfo[] = [];
    for (const partition of partitionsOf(view, request.partition)) {
      const hosted = this.open(view, partition);
      if (snapshots === null || rounds === null) throw new TidelineError('not-ready', 'this host keeps no snapshots');
      const entry = await rounds.take(hosted);
      const newest = entry ?? (await snapshots.store.list(hosted.source)).find(({ verified }) => verified);
      if (newest === undefined) {
        throw new TidelineError(
          'not-ready',
          `view ${view.name}, partition ${partition} cannot be written now: ${reasonOf(hosted)}`,
        );
      }
      created.push(infoOf(newest));
    }
    return created;
  }

  async restoreSnapshots(request: {
    readonly view: string;
    readonly partition: number | null;
    readonly offset: Offset | null;
  }): Promise<SnapshotRestored[]> {
    const view = this.options.named(request.view);
    const restored: SnapshotRestored[] = [];
    for (const partition of partitionsOf(view, request.partition)) {
      restored.push(await view.keepers[partition].restore(request.offset));
    }
    return restored;
  }

  health({ view }: { readonly view: string | null }): Promise<PartitionHealth[]> {
    const { views, named } = this.options;
    const wanted = view === null ? [...views()] : [named(view)];
    return Promise.resolve(
      wanted.flatMap(({ keepers }) => keepers.map(({ health }) => health).filter((health) => health !== null)),
    );
  }

  /* ---- for other hosts ---- */

  async piece(request: SnapshotPieceRequest): Promise<SnapshotPiece> {
    const { snapshots } = this.options;
    const source = this.find(request)?.keepers[request.partition]?.source;
    if (snapshots === null || source === undefined) {
      throw new TidelineError('not-found', `view ${request.view} of that cluster is not hosted here`);
    }
    if (request.length > SNAPSHOT_PIECE_BYTES_MAX) {
      throw new TidelineError('request-too-large', `a piece has ${SNAPSHOT_PIECE_BYTES_MAX} bytes at most`);
    }
    return snapshots.store.piece(source, request);
  }

  marks(): DigestMarksMessage {
    const { snapshots, views } = this.options;
    const parts = [...views()].flatMap(({ partitions }) =>
      partitions.filter(isOpen).map((hosted) => ({ ...hosted.source, marks: marksOf(hosted) })),
    );
    return { host: snapshots?.store.host ?? '', parts };
  }

  digests(request: ViewPart & { readonly offset: Offset }): Uint32Array | null {
    const hosted = this.find(request)?.partitions[request.partition];
    return hosted ? digestsAt(hosted, request.offset) : null;
  }

  dispute(request: ViewPart & { readonly offset: Offset; readonly digests: Uint32Array }): void {
    this.options.digestWatch()?.disputed(request, request.offset, request.digests);
  }

  async departed(request: DepartedRequest): Promise<DepartedPage> {
    const { archive, hosted } = this.archived(request);
    return archive.departed(hosted, request);
  }

  async kept(request: DepartedRequest): Promise<DepartedPage> {
    const { archive, hosted } = this.archived(request);
    return archive.kept(hosted, request);
  }

  private archived(part: ViewPart): { readonly archive: ArchiveSource; readonly hosted: HostedPartition } {
    const { archive } = this.options;
    const view = this.find(part);
    if (archive !== null && view !== undefined) return { archive, hosted: this.open(view, part.partition) };
    throw new TidelineError('not-found', `view ${part.view} of that cluster is not archived here`);
  }

  private find(part: ViewPart): HostedView | undefined {
    return [...this.options.views()].find(({ keepers }) => keepers.some(({ source }) => isSamePart(source, part)));
  }

  private open(view: HostedView, partition: number): HostedPartition {
    const hosted = view.partitions[partition];
    if (hosted) return hosted;
    throw new TidelineError('not-ready', `view ${view.name}, partition ${partition} is being restored`);
  }
}

const partitionsOf = ({ name, keepers }: HostedView, wanted: number | null): number[] => {
  if (wanted === null) return keepers.map((_, partition) => partition);
  if (wanted < keepers.length) return [wanted];
  throw new TidelineError('unknown-partition', `view ${name} has no partition ${wanted}`);
};

const reasonOf = ({ view }: HostedPartition): string => {
  if (view.offset === 0) return 'nothing is applied yet';
  if (view.stoppedSlots.length > 0) return `slots ${view.stoppedSlots.join(', ')} are being rebuilt`;
  return 'entries that were overwritten wait for the archive, or the host is stopping';
};
