import type { Archive } from '#catalog';
import { SLOTS, TidelineError, asLogTime, assert, type Clock, type Offset, type Scheduler } from '#kernel';
import type { ClusterDescription, CommandLog, TopicDescription } from '#command-log';
import {
  BUILT_IN_TYPES,
  MapView,
  type MapViewOptions,
  type ApplyResult,
  type ArchivePage,
  type ArchiveRequest,
  type Entry,
  type Position,
  type ReadPoint,
  type ScanPage,
  type ViewQuery,
  type ViewStats,
  type WatchEvent,
} from '#views';
import { Observable, type Subscription } from 'rxjs';
import { ArchiveWriter } from './archive-writer.js';
import {
  askForTime,
  closeView,
  isOpen,
  positionOf,
  type HostedPartition,
  type HostedView,
} from './hosted-partition.js';
import { PartitionFeed } from './partition-feed.js';
import { PositionWaiters } from './position-waiters.js';
import { SnapshotRounds } from './snapshot-rounds.js';
import type { SnapshotSource, SnapshotStore } from './snapshot-store.js';

/** Expired entries removed from memory in one go, so that a million of them do not stop the process. */
const EXPIRE_SLICE = 1000;
const RECLAIM_SLICE_BYTES = 1024 * 1024;
const HOUSEKEEPING_MS = 100;
const LOG_END_RETRY_MS = 200;
/** Entries of one page of a watch's first part. */
const WATCH_PAGE = 500;
const WATCH_PAGE_BYTES = 1024 * 1024;

/**
 * The views this process hosts: one of its own name for every topic that has one, built from the committed log and from nothing else.
 * Follows the cluster's description: a new topic gets its view, a deleted one loses it.
 */
export class ViewHost implements ViewQuery {
  private readonly views = new Map<string, HostedView>();
  private readonly subscription: Subscription;
  private cancelHousekeeping: (() => void) | null = null;
  private closed = false;
  /** Ends when all restoring asked for so far has. */
  private restoring: Promise<void> = Promise.resolve();
  private readonly rounds: SnapshotRounds | null;
  private snapshotFailed: (view: string, partition: number, error: TidelineError) => void = () => undefined;
  private expired: (view: string, partition: number, count: number) => void = () => undefined;
  private archiveFailed: (view: string, partition: number, error: TidelineError) => void = () => undefined;

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
      readonly snapshots?: { readonly store: SnapshotStore; readonly intervalMs: number };
    },
  ) {
    this.subscription = options.log.changes.subscribe((cluster) => this.follow(cluster));
    this.cancelHousekeeping = options.scheduler.after(HOUSEKEEPING_MS, this.housekeeping);
    const { snapshots, clock, scheduler } = options;
    this.rounds = !snapshots
      ? null
      : new SnapshotRounds({
          ...snapshots,
          clock,
          scheduler,
          views: () => this.views.values(),
          failed: (view, partition, error) => this.snapshotFailed(view, partition, error),
        });
  }

  private follow(cluster: ClusterDescription): void {
    if (cluster.topics.length === 0) return;
    const wanted = new Map(
      cluster.topics.filter((topic) => topic.view.kind === 'map').map((topic) => [topic.name, topic]),
    );
    for (const [name, view] of this.views) {
      if (wanted.has(name)) continue;
      this.views.delete(name);
      closeView(view);
    }
    for (const [name, topic] of wanted) if (!this.views.has(name)) this.open(topic, cluster.clusterId);
  }

  private open(topic: TopicDescription, clusterId: string): void {
    const { snapshots, resultsMax, archive } = this.options;
    assert(!topic.view.archive || archive !== undefined, 'a view has an archive, its host has none');
    const options: MapViewOptions = {
      dataTypes: BUILT_IN_TYPES,
      archive: topic.view.archive,
      ...(resultsMax !== undefined && { resultsMax }),
    };
    const hosted: HostedView = { name: topic.name, topic: topic.name, partitions: topic.partitions.map(() => null) };
    this.views.set(topic.name, hosted);
    for (const [index, { partition, group }] of topic.partitions.entries()) {
      const source = { clusterId, view: topic.name, partition, group };
      if (!snapshots) {
        hosted.partitions[index] = this.host(topic, source, new MapView(options));
        continue;
      }
      // One after the other: a snapshot takes memory while it is read.
      this.restoring = this.restoring.then(async () => {
        if (this.closed || this.views.get(topic.name) !== hosted) return;
        const restored = await snapshots.store.restore(source, options);
        const start = (view: MapView): void => {
          if (this.closed || this.views.get(topic.name) !== hosted) return;
          hosted.partitions[index] = this.host(topic, source, view);
        };
        if (restored === null) start(new MapView(options));
        // Not waited for: a partition without a leader must not hold up the others.
        else void this.isWithinLog(source, restored).then((within) => start(within ? restored : new MapView(options)));
      });
    }
  }

  /**
   * Whether the log reaches as far as the snapshot. It may not, when the log was lost with the power (durability below `sync`) or replaced:
   * then what follows would be taken for what the view has already. Only the leader knows, so it is asked until it answers.
   */
  private async isWithinLog({ view, partition }: SnapshotSource, restored: MapView): Promise<boolean> {
    const { log, scheduler } = this.options;
    while (!this.closed) {
      try {
        const { offset } = await log.barrier({ topic: view, partition });
        if (restored.offset <= offset) return true;
        const message = `the snapshot is at offset ${restored.offset}, the log ends at ${offset}`;
        this.snapshotFailed(view, partition, new TidelineError('storage-damaged', message));
        return false;
      } catch {
        await new Promise<void>((resolve) => {
          scheduler.after(LOG_END_RETRY_MS, resolve);
        });
      }
    }
    return false;
  }

  /** Feeds the view from where it is. */
  private host(topic: TopicDescription, source: SnapshotSource, view: MapView): HostedPartition {
    const { log, clock, scheduler, archive } = this.options;
    const { partition } = source;
    const waiters = new PositionWaiters(clock, scheduler);
    const target = { topic: topic.name, partition };
    const archiver = !topic.view.archive
      ? null
      : new ArchiveWriter({
          archive: archive!,
          view: topic.name,
          partition,
          state: view,
          scheduler,
          removed: (count) => {
            this.expired(topic.name, partition, count);
            if (!archiver!.full) feed.resume();
          },
          failed: (error) => this.archiveFailed(topic.name, partition, error),
        });
    const feed: PartitionFeed = new PartitionFeed({
      log,
      target,
      view,
      clock,
      scheduler,
      applied: () => waiters.reached(view.offset),
      full: () => archiver?.full === true,
    });
    return { partition, view, feed, waiters, archiver, source, snapshotOffset: view.offset, askingTime: false };
  }

  private hosted(view: string, partition: number): HostedPartition {
    const found = this.views.get(view);
    if (!found) {
      if (this.options.log.describe().topics.length === 0)
        throw new TidelineError('not-ready', 'the views are not known yet');
      throw new TidelineError('unknown-view', `no view named ${JSON.stringify(view)}`, { details: { view } });
    }
    const hosted = found.partitions[partition];
    if (hosted === null) throw new TidelineError('not-ready', `view ${view}, partition ${partition} is being restored`);
    if (!hosted)
      throw new TidelineError('unknown-partition', `view ${view} has no partition ${partition}`, {
        details: { view, partition },
      });
    return hosted;
  }

  /** Calls `read` when the partition has applied `offset`; at once, without waiting for a turn, when it has already. */
  private when<T>(
    request: { view: string; partition: number; timeoutMs: number },
    offset: Offset,
    read: (hosted: HostedPartition) => T,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const hosted = this.hosted(request.view, request.partition);
      const run = (): void => {
        try {
          resolve(read(hosted));
        } catch (error) {
          reject(error as Error);
        }
      };
      if (hosted.view.offset >= offset) run();
      else hosted.waiters.add(offset, request.timeoutMs, (error) => (error ? reject(error) : run()));
    });
  }

  get(request: {
    view: string;
    partition: number;
    key: Buffer;
    at: ReadPoint;
    timeoutMs: number;
  }): Promise<{ entry: Entry | null; position: Position }> {
    return this.when(request, request.at.offset, ({ view }) => ({
      entry: view.get(request.key, request.at.time ?? view.logTime),
      position: positionOf(view),
    }));
  }

  scan(request: {
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
    return this.when(request, at.offset, ({ view }) => {
      const page = view.scan({ prefix, after, limit, bytesMax, values, time: at.time ?? view.logTime });
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

  watch({
    view: name,
    partition,
    prefix,
  }: {
    view: string;
    partition: number;
    prefix: Buffer;
  }): Observable<WatchEvent> {
    return new Observable((subscriber) => {
      const { view } = this.hosted(name, partition);
      // Entries first, changes after: in one turn, so that none falls between. Pages keep a single scan short, not the whole.
      let after: Buffer | null = null;
      for (let more = true; more && !subscriber.closed;) {
        const page: ScanPage = view.scan({
          prefix,
          after,
          limit: WATCH_PAGE,
          bytesMax: WATCH_PAGE_BYTES,
          values: true,
          time: view.logTime,
        });
        for (const entry of page.entries) subscriber.next({ type: 'put', partition, entry });
        after = page.entries.at(-1)?.key ?? after;
        ({ more } = page);
      }
      subscriber.next({ type: 'live', partition, offset: view.offset });
      return view.onChange((change) => {
        if (change.type === 'put') subscriber.next({ type: 'put', partition, entry: change.entry });
        else subscriber.next({ type: change.type, partition, key: change.key, offset: change.offset });
      }, prefix);
    });
  }

  stats(): Promise<readonly ViewStats[]> {
    return Promise.resolve([...this.views.values()].map(statsOf));
  }

  async archive(request: ArchiveRequest): Promise<ArchivePage> {
    this.hosted(request.view, 0);
    const { archive } = this.options;
    if (archive === undefined) return { entries: [], cursor: null };
    const { view, key, from, to, limit, cursor } = request;
    const page = await archive.query({
      view,
      limit,
      ...(key !== null && { key }),
      ...(from !== null && { from }),
      ...(to !== null && { to }),
      ...(cursor !== null && { cursor }),
    });
    return {
      entries: page.entries.map((entry) => ({
        key: Buffer.from(entry.key),
        value: Buffer.from(entry.value),
        contentType: entry.contentType ?? null,
        offset: entry.offset,
        logTime: entry.logTime,
        expiresAt: entry.expiresAt,
        partition: entry.partition,
        archivedAt: entry.archivedAt,
      })),
      cursor: page.cursor ?? null,
    };
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
    for (const { partitions } of this.views.values()) {
      for (const hosted of partitions) {
        if (hosted === null) return null;
        lag = Math.max(lag, hosted.feed.commitOffset - hosted.view.offset);
      }
    }
    return lag;
  }

  /** What the metrics say of each partition of each view. */
  partitionStats(): readonly {
    view: string;
    partition: number;
    offset: Offset;
    commitOffset: Offset;
    lagSeconds: number;
    entries: number;
    bytes: number;
  }[] {
    return [...this.views.values()].flatMap(({ name, partitions }) =>
      partitions.filter(isOpen).map(({ partition, view, feed }) => {
        const behind = feed.commitOffset > view.offset;
        const lagSeconds = behind ? Math.max(0, this.options.clock.wallMs() - view.logTime) / 1000 : 0;
        return {
          view: name,
          partition,
          offset: view.offset,
          commitOffset: feed.commitOffset,
          lagSeconds,
          entries: view.entries,
          bytes: view.bytes,
        };
      }),
    );
  }

  /** Entries were removed from memory after they had expired. */
  onExpired(listener: (view: string, partition: number, count: number) => void): void {
    this.expired = listener;
  }

  /** A write to the archive failed; the entries stay, unseen, and it is tried again. */
  onArchiveFailed(listener: (view: string, partition: number, error: TidelineError) => void): void {
    this.archiveFailed = listener;
  }

  /** Removes what has expired and gives memory back, a little at a time. */
  private readonly housekeeping = (): void => {
    if (this.closed) return;
    let busy = false;
    for (const { name, topic, partitions } of this.views.values()) {
      for (const hosted of partitions.filter(isOpen)) {
        const { view } = hosted;
        if (hosted.archiver) {
          hosted.archiver.work();
        } else {
          const removed = view.expire({ until: view.logTime, max: EXPIRE_SLICE });
          if (removed > 0) this.expired(name, hosted.partition, removed);
          if (removed === EXPIRE_SLICE) busy = true;
        }
        view.reclaim(RECLAIM_SLICE_BYTES);
        askForTime(topic, hosted, this.options.log, this.options.clock.wallMs());
      }
    }
    if (busy) this.options.scheduler.defer(this.housekeeping);
    else this.cancelHousekeeping = this.options.scheduler.after(HOUSEKEEPING_MS, this.housekeeping);
  };

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
    this.cancelHousekeeping?.();
    this.subscription.unsubscribe();
    for (const view of this.views.values()) closeView(view);
    this.views.clear();
  }
}

const statsOf = ({ name, topic, partitions }: HostedView): ViewStats => {
  const stats = partitions.filter(isOpen).map(({ partition, view, feed }) => ({
    partition,
    offset: view.offset,
    logTime: asLogTime(view.logTime),
    commitOffset: feed.commitOffset,
    digest: view.digest,
    entries: view.entries,
    bytes: view.bytes,
  }));
  const sum = (pick: (partition: (typeof stats)[number]) => number): number =>
    stats.reduce((total, partition) => total + pick(partition), 0);
  return {
    view: name,
    topic,
    kind: 'map',
    slots: SLOTS,
    partitions: stats,
    entries: sum((p) => p.entries),
    bytes: sum((p) => p.bytes),
  };
};
