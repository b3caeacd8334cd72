import type { Archive, ArchiveGaps } from '#catalog';
import {
  LoopShare,
  TidelineError,
  asOffset,
  assert,
  repeatWithin,
  type Clock,
  type MsLeft,
  type Offset,
  type Scheduler,
} from '#kernel';
import type { ClusterDescription, CommandLog, TopicDescription } from '#command-log';
import {
  MapView,
  Projection,
  definitionOf,
  projectionMapOptions,
  unknownIndex,
  type ParkedEvent,
  type ProjectionDefinition,
  type ProjectionDescription,
  type ViewType,
  type MapViewOptions,
  type ApplyResult,
  type ArchivePage,
  type ArchiveRequest,
  type Entry,
  type PartitionHealth,
  type Position,
  type ReadPoint,
  type ScanPage,
  type ViewQuery,
  type ViewStats,
  type WatchChunk,
} from '#views';
import { Observable, type Subscription } from 'rxjs';
import type { ArchiveGapStatus } from './archive-gap-filler.js';
import { ArchiveGapFillers } from './archive-gap-fillers.js';
import { ArchiveReader } from './archive-reader.js';
import { ArchiveSource } from './archive-source.js';
import { ArchiveWriter } from './archive-writer.js';
import { DigestWatch, type DigestMismatch } from './digest-watch.js';
import { Housekeeping } from './housekeeping.js';
import { HostUpkeep } from './host-upkeep.js';
import {
  SUPERSEDED,
  closePartition,
  closeView,
  positionOf,
  type HostedPartition,
  type HostedView,
} from './hosted-partition.js';
import { PartitionFeed } from './partition-feed.js';
import { PartitionKeeper } from './partition-keeper.js';
import type { PeerHosts } from './peer-hosts.js';
import { watchPartition } from './partition-watch.js';
import { PositionWaiters } from './position-waiters.js';
import type { Defect } from './defect-log.js';
import { ProjectionVersions } from './projection-versions.js';
import { departedAt, entryAt, foundAt, type Readable } from './readable.js';
import { viewOptionsOf } from './view-options.js';
import { partitionStatsOf, statsOf, type PartitionStats } from './view-stats.js';
import { SnapshotRounds } from './snapshot-rounds.js';
import type { SnapshotSource, SnapshotStore } from './snapshot-store.js';

/**
 * Of each turn of the event loop, for what is done besides answering: applying, expiring, putting keys in order. All views share it, and who asks waits for
 * it at most, besides one step that takes longer.
 */
const TURN_SHARE_MS = 4;
/** Keys put in order before a scan between looks at the clock. */
const SCAN_STEP_KEYS = 100;

/**
 * The views this process hosts: one of its own name for every topic that has one, built from the committed log and from nothing else.
 * Follows the cluster's description: a new topic gets its view, a deleted one loses it.
 */
export class ViewHost implements ViewQuery {
  private readonly views = new Map<string, HostedView>();
  private readonly subscription: Subscription;
  private readonly share: LoopShare;
  private readonly housekeeping: Housekeeping;
  private closed = false;
  /** Ends when all restoring asked for so far has. */
  private restoring: Promise<void> = Promise.resolve();
  private readonly rounds: SnapshotRounds | null;
  private readonly digestWatch: DigestWatch | null;
  readonly upkeep: HostUpkeep;
  /** Null: there is no archive, or nothing is ever skipped. */
  readonly gapFillers: ArchiveGapFillers | null;
  private readonly projected: ProjectionVersions;
  private readonly archiveReader: ArchiveReader;
  private mismatchFound: (mismatch: DigestMismatch) => void = () => undefined;
  private snapshotFailed: (view: string, partition: number, error: TidelineError) => void = () => undefined;
  private expired: (view: string, partition: number, count: number) => void = () => undefined;
  private swapped: (view: string, version: number) => void = () => undefined;
  private archiveFailed: (view: string, partition: number, error: TidelineError) => void = () => undefined;
  private evicted: (view: string, partition: number, count: number) => void = () => undefined;
  private defect: (defect: Defect) => void = () => undefined;

  constructor(
    private readonly options: {
      readonly log: CommandLog;
      readonly clock: Clock;
      readonly scheduler: Scheduler;
      /** Results of commands kept per partition. */
      readonly resultsMax?: number;
      /** Receives what expires in views that have an archive; must be there when one has. */
      readonly archive?: Archive;
      /** Without them every start reads the log from its beginning. */
      readonly snapshots?: {
        readonly store: SnapshotStore;
        readonly intervalMs: number;
        /** See SnapshotRounds; none for their sake if it is not said. */
        readonly logBytes?: number;
        /** Other hosts of the same views; where there is an archive, its gaps must be there, too. */
        readonly peers?: PeerHosts;
        readonly archiveGaps?: ArchiveGaps;
        /** Between two comparisons of digests with theirs; none if it is not said. */
        readonly digestIntervalMs?: number;
      };
      /** Classes marked with `@View`; the constructor throws `bad-option` for one that is not sound. */
      readonly projections?: readonly ViewType[];
    },
  ) {
    this.projected = new ProjectionVersions((options.projections ?? []).map(definitionOf), {
      host: {
        open: (definition, topic, clusterId) => this.openProjection(definition, topic, clusterId),
        close: (view, successor) => {
          this.views.delete(view.name);
          closeView(view, successor ? SUPERSEDED : undefined);
        },
        restore: (id, definition, where) => this.restoreAll(id, definition, where),
        discard: (ids, by, where) => void this.discardSnapshots(ids, by, where),
      },
      log: options.log,
      clock: options.clock,
      scheduler: options.scheduler,
      swapped: (view, version) => this.swapped(view, version),
    });
    const { archive, snapshots, clock, scheduler } = options;
    const { store, peers = null, archiveGaps: gaps } = snapshots ?? {};
    this.archiveReader = new ArchiveReader(archive);
    this.gapFillers =
      archive && store && gaps
        ? new ArchiveGapFillers({ gaps, archive, peers, host: store.host, clock, scheduler })
        : null;
    assert(
      !archive || peers === null || gaps !== undefined,
      'what is skipped with the snapshots of others must be kept',
    );
    this.share = new LoopShare(options, TURN_SHARE_MS);
    this.subscription = options.log.changes.subscribe((cluster) => this.follow(cluster));
    this.housekeeping = new Housekeeping({
      log: options.log,
      clock,
      scheduler,
      share: this.share,
      views: () => this.views.values(),
      expired: (view, partition, count) => this.expired(view, partition, count),
    });
    this.rounds = !snapshots
      ? null
      : new SnapshotRounds({
          store: snapshots.store,
          intervalMs: snapshots.intervalMs,
          logBytes: snapshots.logBytes ?? Number.POSITIVE_INFINITY,
          clock,
          scheduler,
          views: () => this.views.values(),
          failed: (view, partition, error) => this.snapshotFailed(view, partition, error),
        });
    this.digestWatch =
      snapshots?.digestIntervalMs === undefined
        ? null
        : new DigestWatch({
            peers: snapshots.peers ?? null,
            intervalMs: snapshots.digestIntervalMs,
            clock,
            scheduler,
            views: () => this.views.values(),
            found: (mismatch) => this.mismatchFound(mismatch),
          });
    this.upkeep = new HostUpkeep({
      snapshots: snapshots ?? null,
      rounds: this.rounds,
      archive: archive && gaps ? new ArchiveSource(archive, gaps) : null,
      digestWatch: () => this.digestWatch,
      views: () => this.views.values(),
      named: (name) => {
        const found = this.named(name);
        if ('keepers' in found) return found;
        throw new TidelineError('not-ready', `view ${name} is being built`);
      },
    });
  }

  private follow(cluster: ClusterDescription): void {
    this.options.snapshots?.peers?.follow(cluster.nodes.flatMap(({ addresses }) => addresses['view'] ?? []));
    if (cluster.topics.length === 0) return;
    const wanted = new Map(
      cluster.topics.filter((topic) => topic.view.kind === 'map').map((topic) => [topic.name, topic]),
    );
    for (const [name, view] of this.views) {
      if (wanted.has(name) || view.definition !== null) continue;
      this.views.delete(name);
      closeView(view);
    }
    for (const [name, topic] of wanted) if (!this.views.has(name)) this.open(topic, cluster.clusterId);
    this.projected.follow(cluster);
  }

  private open(topic: TopicDescription, clusterId: string): void {
    const { resultsMax, archive } = this.options;
    assert(!topic.view.archive || archive !== undefined, 'a view has an archive, its host has none');
    const settings = { ...viewOptionsOf(topic), ...(resultsMax !== undefined && { resultsMax }) };
    const hosted: HostedView = {
      name: topic.name,
      definition: null,
      topic: topic.name,
      partitions: topic.partitions.map(() => null),
      keepers: [],
    };
    // Which entries are evicted depends on those of all slots.
    const slotwise = topic.view.maxEntries === null && topic.view.maxBytes === null;
    this.openPartitions(hosted, topic, clusterId, { settings, slotwise });
  }

  private openProjection(definition: ProjectionDefinition, topic: TopicDescription, clusterId: string): HostedView {
    assert(!definition.archive || this.options.archive !== undefined, 'a view has an archive, its host has none');
    const hosted: HostedView = {
      name: definition.id,
      definition,
      topic: topic.name,
      partitions: topic.partitions.map(() => null),
      keepers: [],
    };
    // A projection does not know how to build a slot alone.
    this.openPartitions(hosted, topic, clusterId, { settings: projectionMapOptions(definition), slotwise: false });
    return hosted;
  }

  private openPartitions(
    hosted: HostedView,
    topic: TopicDescription,
    clusterId: string,
    { settings, slotwise }: { readonly settings: MapViewOptions; readonly slotwise: boolean },
  ): void {
    const { snapshots } = this.options;
    const { name, definition, partitions } = hosted;
    this.views.set(name, hosted);
    const gone = (): boolean => this.closed || this.views.get(name) !== hosted;
    for (const [index, { partition, group }] of topic.partitions.entries()) {
      const source = { clusterId, view: name, partition, group };
      const options: MapViewOptions = {
        ...settings,
        onDefect: (error, command) => this.defect({ view: name, partition, error, ...command }),
      };
      const serve = async (view: MapView): Promise<void> => {
        const projection = definition === null ? null : new Projection(definition, view, partition);
        for (const _ of projection?.buildIndexes() ?? []) await this.turn();
        if (!gone()) partitions[index] = this.host(hosted, source, { view, projection, keeper });
      };
      const keeper: PartitionKeeper = new PartitionKeeper({
        ...this.options,
        share: this.share,
        store: snapshots?.store ?? null,
        peers: snapshots?.peers ?? null,
        gap: settings.archive === true ? (this.gapFillers?.of(source) ?? null) : null,
        source,
        topic: topic.name,
        mapOptions: options,
        slotwise,
        serve: (view) => void serve(view),
        withdraw: (why) => {
          const withdrawn = partitions[index];
          partitions[index] = null;
          if (withdrawn) closePartition(withdrawn, why);
        },
        interrupted: (why) => {
          for (const end of partitions[index]?.watches ?? []) end(why);
        },
        rebuilt: () => {
          const rebuilt = partitions[index];
          // Also when nothing was appended since the last one: that has what was wrong.
          if (rebuilt) rebuilt.snapshotOffset = asOffset(0);
          this.rounds?.request(rebuilt);
        },
        report: (error) => this.snapshotFailed(name, partition, error),
      });
      hosted.keepers.push(keeper);
      // One after the other: a snapshot takes memory while it is read.
      if (snapshots) this.restoring = this.restoring.then(() => (gone() ? undefined : keeper.open()));
      else keeper.openEmpty();
    }
  }

  /** Puts the keys of a view in order a few at a time, before its first scan: of a large one that takes seconds. */
  private async prepareScan({ view: name, partition }: { view: string; partition: number }): Promise<void> {
    const prepare = (): boolean => {
      const { view, projection } = this.readable(name, partition);
      return (projection ?? view).prepareScan(SCAN_STEP_KEYS);
    };
    if (prepare()) return;
    while (await this.inShare((left) => repeatWithin(left, () => !prepare())));
  }

  /** What the step returns, in a turn in which there is time for it. */
  private inShare<T>(step: (left: MsLeft) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.share.run((left) => {
        try {
          resolve(step(left));
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }

  private turn(): Promise<void> {
    return new Promise((resolve) => {
      this.options.scheduler.defer(resolve);
    });
  }

  private async restoreAll(
    id: string,
    definition: ProjectionDefinition,
    { topic, clusterId }: { readonly topic: TopicDescription; readonly clusterId: string },
  ): Promise<readonly MapView[] | null> {
    const { snapshots } = this.options;
    const maps: MapView[] = [];
    for (const { partition, group } of topic.partitions) {
      const source = { clusterId, view: id, partition, group };
      const map = (await snapshots?.store.restore(source, projectionMapOptions(definition))) ?? null;
      if (map === null) return null;
      maps.push(map);
    }
    return maps;
  }

  private async discardSnapshots(
    ids: readonly string[],
    by: HostedView,
    { topic, clusterId }: { readonly topic: TopicDescription; readonly clusterId: string },
  ): Promise<void> {
    const { snapshots } = this.options;
    if (!snapshots) return;
    // After a restart there must be something to show. And one that is being written of a view that has just been closed would be left.
    for (const hosted of by.partitions) this.rounds?.request(hosted);
    await this.rounds?.settled();
    for (const id of ids) {
      for (const { partition, group } of topic.partitions) {
        if (this.closed || this.views.has(id)) return;
        await snapshots.store.discardAll({ clusterId, view: id, partition, group });
      }
    }
  }

  /** Feeds the view from where it is. */
  private host(
    hosted: HostedView,
    source: SnapshotSource,
    parts: { readonly view: MapView; readonly projection: Projection | null; readonly keeper: PartitionKeeper },
  ): HostedPartition {
    const { view, projection, keeper } = parts;
    const { log, clock, scheduler, archive } = this.options;
    const { name, topic } = hosted;
    const { partition } = source;
    const waiters = new PositionWaiters(clock, scheduler);
    const archiver = !view.archives
      ? null
      : new ArchiveWriter({
          archive: archive!,
          view: name,
          partition,
          state: view,
          scheduler,
          share: this.share,
          removed: (count) => {
            if (count > 0) this.expired(name, partition, count);
            if (!archiver!.full) feed.resume();
          },
          failed: (error) => this.archiveFailed(name, partition, error),
        });
    let evicted = view.evictedCount;
    const feed: PartitionFeed = new PartitionFeed({
      log,
      target: { topic, partition },
      view: projection ?? view,
      scheduler,
      share: this.share,
      applied: () => {
        waiters.reached(view.offset);
        if (projection?.halt) waiters.failAll(haltedError(name, projection));
        keeper.applied(feed.commitOffset);
        this.rounds?.applied(opened);
        if (view.evictedCount === evicted) return;
        this.evicted(name, partition, view.evictedCount - evicted);
        evicted = view.evictedCount;
      },
      awaited: () => waiters.size > 0,
      trimmed: () => keeper.trimmed(),
      full: () => archiver?.full === true || projection?.halt != null,
    });
    const opened: HostedPartition = {
      partition,
      view,
      projection,
      feed,
      waiters,
      archiver,
      gap: keeper.gap,
      source,
      snapshotOffset: view.offset,
      snapshotLogBytes: 0,
      snapshotViewBytes: view.bytes,
      watches: new Set(),
      askingTime: false,
    };
    return opened;
  }

  /** The view of this name, or the version of a projection that is served under it. */
  private named(view: string): HostedView | { readonly kept: readonly MapView[]; readonly name: string } {
    const found = this.views.get(view) ?? this.projected.serving(view);
    if (found !== null && 'version' in found) return { kept: found.partitions, name: `${view}@${found.version}` };
    if (found) return found;
    if (this.options.log.describe().topics.length === 0)
      throw new TidelineError('not-ready', 'the views are not known yet');
    const refusal = this.projected.refusalOf(view);
    if (refusal !== null) throw new TidelineError('not-ready', `view ${view} is not hosted: ${refusal}`);
    throw new TidelineError('unknown-view', `no view named ${JSON.stringify(view)}`, { details: { view } });
  }

  private readable(view: string, partition: number): Readable {
    const found = this.named(view);
    const ofPartition = 'kept' in found ? found.kept[partition] : found.partitions[partition];
    if (ofPartition === null) {
      const problem = this.views.get(found.name)?.keepers[partition]?.health?.problem;
      throw new TidelineError('not-ready', problem ?? `view ${view}, partition ${partition} is being restored`);
    }
    if (!ofPartition)
      throw new TidelineError('unknown-partition', `view ${view} has no partition ${partition}`, {
        details: { view, partition },
      });
    if (ofPartition instanceof MapView) return { name: found.name, view: ofPartition, projection: null, open: null };
    return { name: found.name, view: ofPartition.view, projection: ofPartition.projection, open: ofPartition };
  }

  private hosted(view: string, partition: number): HostedPartition {
    const { open } = this.readable(view, partition);
    if (open === null) throw new TidelineError('not-ready', `view ${view} is being built`);
    return open;
  }

  /** Calls `read` when the partition has applied `offset`; at once, without waiting for a turn, when it has already. */
  private when<T>(
    request: { view: string; partition: number; timeoutMs: number },
    offset: Offset,
    read: (readable: Readable) => T,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const attempt = (): void => {
        const readable = this.readable(request.view, request.partition);
        const { name, view, projection, open } = readable;
        const run = (): void => {
          try {
            resolve(read(readable));
          } catch (error) {
            reject(error as Error);
          }
        };
        if (view.offset >= offset) run();
        else if (open === null) {
          const message = `view ${request.view} is being built; ${name} has answers as of offset ${view.offset} (consistency=stale)`;
          reject(new TidelineError('not-ready', message, { details: { offset: view.offset } }));
        } else if (projection?.halt) reject(haltedError(name, projection));
        else
          open.waiters.add(offset, request.timeoutMs, (error) => {
            if (error === null) run();
            else if (error !== SUPERSEDED) reject(error);
            else
              try {
                attempt();
              } catch (thrown) {
                reject(thrown as Error);
              }
          });
      };
      attempt();
    });
  }

  get(request: {
    view: string;
    partition: number;
    key: Buffer;
    at: ReadPoint;
    timeoutMs: number;
  }): Promise<{ entry: Entry | null; position: Position }> {
    return this.when(request, request.at.offset, (readable) => entryAt(readable, request));
  }

  async getOrDeparted(request: Parameters<ViewQuery['getOrDeparted']>[0]): ReturnType<ViewQuery['getOrDeparted']> {
    const { name, missing, ...read } = await this.when(request, request.at.offset, (readable) => {
      const { entry, position } = entryAt(readable, request);
      const departed = entry === null ? departedAt(readable, request) : null;
      return { name: readable.name, missing: readable.open?.gap?.missing ?? null, entry, departed, position };
    });
    if (read.entry !== null || read.departed !== null) return read;
    // Memory first: what leaves it meanwhile is in the archive by then.
    return { ...read, departed: await this.archiveReader.latest(name, request.key, missing) };
  }

  getMany(request: Parameters<ViewQuery['getMany']>[0]): ReturnType<ViewQuery['getMany']> {
    return this.when(request, request.at.offset, (readable) => foundAt(readable, request));
  }

  getNow(request: {
    view: string;
    partition: number;
    key: Buffer;
    at: ReadPoint;
  }): { entry: Entry | null; position: Position } | null {
    // Projections and what is being built take the long way.
    const hosted = this.views.get(request.view)?.partitions[request.partition] ?? null;
    if (hosted === null || hosted.projection !== null || hosted.view.offset < request.at.offset) return null;
    return entryAt(hosted, request);
  }

  async scan(request: {
    view: string;
    partition: number;
    prefix: Buffer;
    after: Buffer | null;
    limit: number;
    bytesMax: number;
    values: boolean;
    at: ReadPoint;
    timeoutMs: number;
  }): Promise<ScanPage & { position: Position }> {
    const { prefix, after, limit, bytesMax, values, at } = request;
    await this.prepareScan(request);
    return this.when(request, at.offset, ({ view, projection }) => {
      const page = (projection ?? view).scan({ prefix, after, limit, bytesMax, values, time: at.time ?? view.logTime });
      return { entries: page.entries, more: page.more, position: positionOf(view) };
    });
  }

  results(request: {
    view: string;
    partition: number;
    firstOffset: Offset;
    lastOffset: Offset;
    timeoutMs: number;
  }): Promise<{ results: readonly ApplyResult[]; position: Position }> {
    const { firstOffset, lastOffset } = request;
    return this.when(request, lastOffset, ({ view }) => ({
      results: view.results({ firstOffset, lastOffset }),
      position: positionOf(view),
    }));
  }

  lookup(request: {
    view: string;
    partition: number;
    index: string;
    value: string;
    after: Buffer | null;
    limit: number;
    bytesMax: number;
    values: boolean;
    at: ReadPoint;
    timeoutMs: number;
  }): Promise<ScanPage & { position: Position }> {
    const { at, index } = request;
    return this.when(request, at.offset, ({ view, projection, open }) => {
      if (open === null) throw new TidelineError('not-ready', `view ${request.view} is being built, its indexes too`);
      if (projection === null) throw unknownIndex([], index);
      const { entries, more } = projection.lookup({ ...request, time: at.time ?? view.logTime });
      return { entries, more, position: positionOf(view) };
    });
  }

  parked(request: {
    view: string;
    partition: number;
    after: Offset;
    limit: number;
    at: ReadPoint;
    timeoutMs: number;
  }): Promise<{ events: readonly ParkedEvent[]; more: boolean; position: Position }> {
    return this.when(request, request.at.offset, ({ view, projection }) => {
      const page = projection?.parkedEvents(request) ?? { events: [], more: false };
      return { ...page, position: positionOf(view) };
    });
  }

  projections(): Promise<readonly ProjectionDescription[]> {
    return Promise.resolve(this.projected.descriptions());
  }

  watch({
    view: name,
    partition,
    prefix,
  }: {
    view: string;
    partition: number;
    prefix: Buffer;
  }): Observable<WatchChunk> {
    return new Observable((subscriber) => {
      const { view, projection, watches } = this.hosted(name, partition);
      const opened = (end: (why: TidelineError) => void): (() => void) => {
        watches.add(end);
        return () => watches.delete(end);
      };
      const { scheduler } = this.options;
      return watchPartition(projection ?? view, { partition, prefix, scheduler, opened }).subscribe(subscriber);
    });
  }

  stats(): Promise<readonly ViewStats[]> {
    return Promise.resolve([...this.served()].map(({ name, view }) => statsOf(name, view)));
  }

  async archive(request: ArchiveRequest): Promise<ArchivePage> {
    const found = this.named(request.view);
    const partitions = 'kept' in found ? [] : [...found.partitions.keys()];
    const missing = partitions.map((partition) => this.hosted(found.name, partition).gap?.missing ?? null);
    return this.archiveReader.page(found.name, request, missing);
  }

  /** What archives lack, of all partitions whose archives lack anything. */
  get archiveGaps(): readonly ArchiveGapStatus[] {
    return [...this.views.values()].flatMap(({ keepers }) =>
      keepers.map(({ gap }) => gap?.status ?? null).filter((status) => status !== null),
    );
  }

  /** Why the archive did not take what expired, the last time it was tried; null when it did, everywhere. */
  get archiveError(): TidelineError | null {
    for (const { partitions } of this.views.values()) {
      for (const hosted of partitions) if (hosted?.archiver?.lastError) return hosted.archiver.lastError;
    }
    return null;
  }

  /** Largest number of committed records a view is behind by; null before all are open. */
  get lagRecords(): number | null {
    if (this.views.size === 0) return null;
    let lag = 0;
    for (const view of this.views.values()) {
      if (this.projected.isBuilding(view)) continue;
      const { partitions } = view;
      for (const hosted of partitions) {
        if (hosted === null) return null;
        lag = Math.max(lag, hosted.feed.commitOffset - hosted.view.offset);
      }
    }
    return lag;
  }

  /** Of every partition that is not simply served. */
  get health(): readonly PartitionHealth[] {
    return [...this.views.values()].flatMap(({ keepers }) =>
      keepers.map(({ health }) => health).filter((health) => health !== null),
    );
  }

  /** What the metrics say of each partition of each view. */
  partitionStats(): readonly PartitionStats[] {
    const wallMs = this.options.clock.wallMs();
    return [...this.views.values()].flatMap((view) => partitionStatsOf(view, wallMs));
  }

  /** The views that are served, by the names under which they are. */
  private *served(): Generator<{ readonly name: string; readonly view: HostedView }> {
    for (const view of this.views.values()) {
      const { name, definition } = view;
      if (definition === null) yield { name, view };
      else if (this.projected.serving(definition.name) === view) yield { name: definition.name, view };
    }
  }

  /** What is wrong with projections, in a few words each; empty when all is well. */
  projectionProblems(): string[] {
    return this.projected.descriptions().flatMap(({ view, refusal, halted }) => {
      if (refusal !== '') return [`view ${view} is not hosted: ${refusal}`];
      return halted.map(({ partition, offset, reason }) => `view ${view} halted at ${partition}:${offset}: ${reason}`);
    });
  }

  /** A new version of a projection serves from now on. */
  onSwapped(listener: (view: string, version: number) => void): void {
    this.swapped = listener;
  }

  /** Entries were removed from memory after they had expired. */
  onExpired(listener: (view: string, partition: number, count: number) => void): void {
    this.expired = listener;
  }

  /** Live entries had to make room for others. */
  onEvicted(listener: (view: string, partition: number, count: number) => void): void {
    this.evicted = listener;
  }

  /** A data type failed on a command, here as on every host. */
  onDefect(listener: (defect: Defect) => void): void {
    this.defect = listener;
  }

  /** A write to the archive failed; the entries stay, unseen, and it is tried again. */
  onArchiveFailed(listener: (view: string, partition: number, error: TidelineError) => void): void {
    this.archiveFailed = listener;
  }

  /** A slot here, or on another host, is not what it must be. */
  onMismatch(listener: (mismatch: DigestMismatch) => void): void {
    this.mismatchFound = listener;
  }

  /** A snapshot could not be written; the one before is still there. */
  onSnapshotFailed(listener: (view: string, partition: number, error: TidelineError) => void): void {
    this.snapshotFailed = listener;
  }

  /** Before a stop: snapshots of what has changed, as far as that goes within the time. */
  async finish(withinMs: number): Promise<void> {
    await this.rounds?.finish(withinMs);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.rounds?.close();
    this.digestWatch?.close();
    this.options.snapshots?.peers?.close();
    this.housekeeping.close();
    this.subscription.unsubscribe();
    this.projected.close();
    for (const view of this.views.values()) closeView(view);
    this.views.clear();
  }
}

const haltedError = (name: string, { halt }: Projection): TidelineError => {
  const { offset, reason } = halt!;
  return new TidelineError('view-halted', `view ${name} stopped before offset ${offset}: ${reason}`, {
    details: { offset },
  });
};
