import {
  ByteWriter,
  GET_KEYS_MAX,
  NO_NODE,
  NO_OFFSET,
  NO_TERM,
  TidelineError,
  asLogTime,
  asOffset,
  hashKey,
  isTidelineError,
  partitionOf,
  type NodeId,
  type Offset,
  type Term,
} from '#kernel';
import type { Barrier, CommandLog, PartitionDescription, TopicDescription } from '#command-log';
import type {
  ApplyResult,
  ArchivePage,
  ArchiveRequest,
  DepartedEntry,
  Entry,
  ParkedEvent,
  Position,
  ReadPoint,
  ViewQuery,
  ViewStats,
} from '#views';
import { writeNotAnswered } from '#wire';
import type { GatewayLimits, GatewayTime } from './gateway-options.js';
import type { StreamPosition } from './stream-position.js';
import { partitionOfTopic, type TopicDirectory } from './topic-directory.js';

/**
 * How fresh a read is:
 *
 *     linearizable   sees every write acknowledged before it began: waits for a barrier of its own
 *     session        sees the writes up to `after`, the offsets the caller has got for its own writes
 *     bounded        at most `maxLagMs` old: a barrier asked for within that time will do
 *     stale          what the view has
 */
export type Consistency =
  | { readonly kind: 'linearizable' }
  | { readonly kind: 'session'; readonly after: StreamPosition | Offset }
  | { readonly kind: 'bounded'; readonly maxLagMs: number }
  | { readonly kind: 'stale' };

export const LINEARIZABLE: Consistency = { kind: 'linearizable' };

/** What an answer about data rests on: what the view had applied, and the leader that vouched for it (if one was asked). */
export interface Foundation {
  readonly partition: number;
  readonly position: Position;
  readonly term: Term;
  readonly node: NodeId;
}

export interface EntryRead extends Foundation {
  readonly entry: Entry | null;
  /** Where nothing is live, and it was asked for: what of the key has expired or was evicted last. */
  readonly departed?: DepartedEntry | null;
}

export interface ScanRequest {
  readonly prefix: Buffer;
  /** Instead of a prefix: the entries that a projection's index has under a value. */
  readonly index?: { readonly name: string; readonly value: string } | null;
  /** Exclusive lower bound, null for none. */
  readonly after: Buffer | null;
  readonly limit: number;
  readonly values: boolean;
  /** null: all, merged in key order. */
  readonly partition: number | null;
  readonly bytesMax: number;
}

export interface ScanRead {
  readonly entries: readonly Entry[];
  /** There may be more after the last entry. */
  readonly more: boolean;
  readonly foundations: readonly Foundation[];
}

export interface GetManyRequest {
  readonly view: string;
  readonly partition: number;
  /** How many the view has, as the asker knows. If that is not so, the keys may lie elsewhere, and none is answered. */
  readonly partitions: number;
  readonly keys: readonly Buffer[];
  readonly bytesMax: number;
}

export interface ReadPathParts {
  readonly log: CommandLog;
  readonly views: ViewQuery;
  readonly topics: TopicDirectory;
  readonly limits: GatewayLimits;
  readonly time: GatewayTime;
}

interface Vouched {
  readonly at: ReadPoint;
  readonly term: Term;
  readonly node: NodeId;
}

interface CachedBarrier {
  readonly barrier: Barrier;
  /** When it was asked for, monotonic: what it vouches for is at least that fresh. */
  readonly askedMs: number;
}

/** Reads of views at a stated consistency. */
export class ReadPath {
  /** By topic, then partition; as many as there are partitions. */
  private readonly barriers = new Map<string, CachedBarrier[]>();

  constructor(private readonly parts: ReadPathParts) {}

  async get(viewName: string, key: Buffer, consistency: Consistency, timeoutMs?: number): Promise<EntryRead> {
    const { topics, views } = this.parts;
    const { view, topic } = topics.knownView(viewName) ?? (await topics.readable(viewName));
    const partition = partitionOf(hashKey(key), topic.partitions.length);
    const { at, term, node } =
      this.vouchNow(topic, partition, consistency) ?? vouchedBy(await this.barrier(topic.name, partition, timeoutMs));
    const { entry, position } =
      views.getNow?.({ view, partition, key, at }) ??
      (await views.get({ view, partition, key, at, timeoutMs: this.timeout(timeoutMs) }));
    return { entry, partition, position, term, node };
  }

  /** As `get`; where nothing is live, what has departed last, whether the archive has it by now or not. */
  async getOrDeparted(viewName: string, key: Buffer, consistency: Consistency, timeoutMs?: number): Promise<EntryRead> {
    const { view, topic } = await this.parts.topics.readable(viewName);
    const partition = partitionOf(hashKey(key), topic.partitions.length);
    const { at, term, node } = await this.vouch(topic, partition, consistency, timeoutMs);
    const asked = { view, partition, key, at, timeoutMs: this.timeout(timeoutMs) };
    return { ...(await this.parts.views.getOrDeparted(asked)), partition, term, node };
  }

  /** As `get`, where nobody has to be asked or waited for; null: `get` does it. */
  getNow(viewName: string, key: Buffer, consistency: Consistency): EntryRead | null {
    const { topics, views } = this.parts;
    if (consistency.kind === 'linearizable' || views.getNow === undefined) return null;
    const known = topics.knownView(viewName);
    if (known === null) return null;
    const partition = partitionOf(hashKey(key), known.topic.partitions.length);
    const vouched = this.vouchNow(known.topic, partition, consistency);
    if (vouched === null) return null;
    const { at, term, node } = vouched;
    const read = views.getNow({ view: known.view, partition, key, at });
    return read === null ? null : { entry: read.entry, partition, position: read.position, term, node };
  }

  /** As `get`, for keys of one partition, as whoever asks has placed them; answered as it is to be passed on. */
  async getMany(
    request: GetManyRequest,
    consistency: Consistency,
    timeoutMs?: number,
  ): Promise<{ readonly found: Buffer; readonly position: Position }> {
    const { topics, views } = this.parts;
    const { partition, keys, bytesMax } = request;
    if (keys.length > GET_KEYS_MAX) {
      throw new TidelineError('bad-request', `${keys.length} keys in one request; at most ${GET_KEYS_MAX} are allowed`);
    }
    const { view, topic } = topics.knownView(request.view) ?? (await topics.readable(request.view));
    if (request.partitions !== topic.partitions.length) return notAnswered(keys.length);
    partitionOfTopic(topic, partition);
    const { at } = await this.vouch(topic, partition, consistency, timeoutMs);
    return views.getMany({ view, partition, keys, bytesMax, at, timeoutMs: this.timeout(timeoutMs) });
  }

  /** What has expired and is in the view's archive, page by page. */
  async archive(request: ArchiveRequest): Promise<ArchivePage> {
    const { view } = await this.parts.topics.readable(request.view);
    return this.parts.views.archive({ ...request, view });
  }

  async scan(viewName: string, request: ScanRequest, consistency: Consistency, timeoutMs?: number): Promise<ScanRead> {
    const { view, topic } = await this.parts.topics.readable(viewName);
    if (request.partition !== null) partitionOfTopic(topic, request.partition);
    const partitions = request.partition === null ? topic.partitions.map((_, index) => index) : [request.partition];
    if (
      consistency.kind === 'session' &&
      typeof consistency.after === 'number' &&
      consistency.after > 0 &&
      partitions.length > 1
    ) {
      const message = 'minOffset of several partitions is a position such as 0:12,1:7';
      throw new TidelineError('bad-request', message, { details: { parameter: 'minOffset' } });
    }
    const pages = await Promise.all(
      partitions.map(async (partition) => {
        const { at, term, node } = await this.vouch(topic, partition, consistency, timeoutMs);
        const asked = {
          view,
          partition,
          after: request.after,
          limit: request.limit,
          bytesMax: Math.max(1, Math.floor(request.bytesMax / partitions.length)),
          values: request.values,
          at,
          timeoutMs: this.timeout(timeoutMs),
        };
        const { index, prefix } = request;
        const page = await (index
          ? this.parts.views.lookup({ ...asked, index: index.name, value: index.value })
          : this.parts.views.scan({ ...asked, prefix }));
        return { ...page, partition, term, node };
      }),
    );
    const merged = mergePages(pages, request.limit);
    return {
      ...merged,
      foundations: pages.map(({ partition, position, term, node }) => ({ partition, position, term, node })),
    };
  }

  results(request: {
    readonly view: string;
    readonly partition: number;
    readonly firstOffset: Offset;
    readonly lastOffset: Offset;
    readonly timeoutMs: number;
  }): Promise<{ readonly results: readonly ApplyResult[]; readonly position: Position }> {
    return this.parts.views.results({ ...request, timeoutMs: this.timeout(request.timeoutMs) });
  }

  /** Events that a projection set aside; partitions one after the other, `after` a position among them. */
  async parked(
    viewName: string,
    request: { readonly after: { readonly partition: number; readonly offset: Offset }; readonly limit: number },
  ): Promise<{ readonly events: readonly ParkedEvent[]; readonly more: boolean }> {
    const { view, topic } = await this.parts.topics.readable(viewName);
    const events: ParkedEvent[] = [];
    for (let { partition } = request.after; partition < topic.partitions.length; partition++) {
      if (events.length === request.limit) return { events, more: true };
      const { offset, time } = await this.barrier(topic.name, partition, undefined);
      const asked = {
        view,
        partition,
        after: partition === request.after.partition ? request.after.offset : NO_OFFSET,
        limit: request.limit - events.length,
        timeoutMs: this.timeout(undefined),
      };
      const page = await this.parts.views.parked({ ...asked, at: { offset, time } }).catch((error: unknown) => {
        // It will not get there, but what it has set aside can be looked at.
        if (!isTidelineError(error, 'view-halted')) throw error;
        return this.parts.views.parked({ ...asked, at: { offset: NO_OFFSET, time: null } });
      });
      events.push(...page.events);
      if (page.more) return { events, more: true };
    }
    return { events, more: false };
  }

  async stats(): Promise<readonly ViewStats[]> {
    const stats = await this.parts.views.stats();
    return stats.filter((view) => this.parts.topics.known(view.topic) !== null);
  }

  private timeout(asked: number | undefined): number {
    return asked ? Math.min(asked, this.parts.limits.readTimeoutMs) : this.parts.limits.readTimeoutMs;
  }

  /** What a read must wait for, and who says so. */
  private async vouch(
    topic: TopicDescription,
    partition: number,
    consistency: Consistency,
    timeoutMs: number | undefined,
  ): Promise<Vouched> {
    return (
      this.vouchNow(topic, partition, consistency) ?? vouchedBy(await this.barrier(topic.name, partition, timeoutMs))
    );
  }

  /** Null: a barrier is needed. */
  private vouchNow(topic: TopicDescription, partition: number, consistency: Consistency): Vouched | null {
    switch (consistency.kind) {
      case 'linearizable':
        return null;
      case 'session': {
        const { after } = consistency;
        const offset = typeof after === 'number' ? after : (after.get(partition) ?? NO_OFFSET);
        return { at: { offset, time: null }, ...leaderOf(partitionOfTopic(topic, partition)) };
      }
      case 'bounded': {
        const cached = this.barriers.get(topic.name)?.[partition];
        const freshEnough = this.parts.time.clock.monotonicMs() - consistency.maxLagMs;
        return cached && cached.askedMs >= freshEnough ? vouchedBy(cached.barrier) : null;
      }
      case 'stale':
        return { at: { offset: NO_OFFSET, time: null }, ...leaderOf(partitionOfTopic(topic, partition)) };
    }
  }

  private async barrier(topic: string, partition: number, timeoutMs: number | undefined): Promise<Barrier> {
    const askedMs = this.parts.time.clock.monotonicMs();
    const barrier = await this.parts.log.barrier({ topic, partition }, { timeoutMs: this.timeout(timeoutMs) });
    let ofTopic = this.barriers.get(topic);
    if (!ofTopic) this.barriers.set(topic, (ofTopic = []));
    const cached = ofTopic[partition];
    if (!cached || cached.askedMs < askedMs) ofTopic[partition] = { barrier, askedMs };
    return barrier;
  }
}

const notAnswered = (count: number): { found: Buffer; position: Position } => {
  const writer = new ByteWriter(count);
  for (let i = 0; i < count; i++) writeNotAnswered(writer);
  return { found: writer.finish(), position: { offset: NO_OFFSET, logTime: asLogTime(0) } };
};

const vouchedBy = ({ offset, time, term, node }: Barrier): Vouched => ({ at: { offset, time }, term, node });

/** Nobody was asked: the leader as last heard. */
const leaderOf = ({ leader, term }: PartitionDescription): { term: Term; node: NodeId } => ({
  term: term ?? NO_TERM,
  node: leader ?? NO_NODE,
});

interface Page {
  readonly entries: readonly Entry[];
  readonly more: boolean;
}

/** Pages of several partitions as one, ascending by key; ends where a page that has more ran out: what follows there is not known. */
export const mergePages = (pages: readonly Page[], limit: number): { entries: Entry[]; more: boolean } => {
  const next = pages.map(() => 0);
  const entries: Entry[] = [];
  while (entries.length < limit) {
    let least = -1;
    for (let i = 0; i < pages.length; i++) {
      const { entries: ofPage, more } = pages[i];
      if (next[i] === ofPage.length) {
        if (more) return { entries, more: true };
        continue;
      }
      if (least < 0 || Buffer.compare(ofPage[next[i]].key, pages[least].entries[next[least]].key) < 0) least = i;
    }
    if (least < 0) return { entries, more: false };
    entries.push(pages[least].entries[next[least]++]);
  }
  return { entries, more: pages.some((page, i) => page.more || next[i] < page.entries.length) };
};

/* ---- as a request says it ---- */

export const CONSISTENCIES = ['linearizable', 'session', 'bounded', 'stale'] as const;

export interface ConsistencyFields {
  readonly consistency: (typeof CONSISTENCIES)[number];
  /** An offset (for a view of one partition), or a position; null when not given. */
  readonly minOffset: StreamPosition | Offset | null;
  readonly maxLagMs: number | null;
}

/** @throws TidelineError `bad-request` when a field is missing or belongs to another consistency */
export const consistencyOf = ({ consistency, minOffset, maxLagMs }: ConsistencyFields): Consistency => {
  const refuse = (parameter: string, why: string): never => {
    throw new TidelineError('bad-request', `${parameter} ${why}`, { details: { parameter } });
  };
  if (minOffset !== null && consistency !== 'session') refuse('minOffset', 'goes with consistency=session');
  if (maxLagMs !== null && consistency !== 'bounded') refuse('maxLagMs', 'goes with consistency=bounded');
  switch (consistency) {
    case 'session':
      return { kind: 'session', after: minOffset ?? asOffset(0) };
    case 'bounded':
      return maxLagMs === null
        ? refuse('maxLagMs', 'is needed with consistency=bounded')
        : { kind: 'bounded', maxLagMs };
    default:
      return { kind: consistency };
  }
};
