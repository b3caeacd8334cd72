import {
  NO_NODE,
  PARTITIONS_MAX,
  TidelineError,
  VIEW_DEFAULTS,
  asGroupId,
  asLogTime,
  asNodeId,
  asOffset,
  asPartitionId,
  assert,
  systemClock,
  systemScheduler,
  type Clock,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
  type Scheduler,
  type ViewSettings,
} from '#kernel';
import { batchLastOffset, forEachBatch } from '#wire';
import { Observable } from 'rxjs';
import type {
  Acks,
  AppendResult,
  Barrier,
  ClusterDescription,
  FetchResult,
  LogNode,
  TailChunk,
  TopicDescription,
} from '../command-log.js';
import { MemoryLog } from './memory-log.js';

const CHUNK_BYTES = 64 * 1024;

export interface MemoryTopic {
  readonly name: string;
  readonly partitions?: number;
  /** Of its view; the rest has defaults. */
  readonly view?: Partial<ViewSettings>;
}

/** Log nodes that share their logs without Raft: every write is replicated at once. Leaders move when a test says so. */
export class MemoryLogCluster {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly nodes: readonly MemoryLogNode[];
  readonly logs = new Map<GroupId, MemoryLog>();
  readonly topics: {
    readonly name: string;
    readonly groups: readonly GroupId[];
    readonly view: ViewSettings;
  }[] = [];

  constructor(
    options: {
      readonly nodes?: number;
      readonly topics?: readonly MemoryTopic[];
      readonly clock?: Clock;
      readonly scheduler?: Scheduler;
    } = {},
  ) {
    this.clock = options.clock ?? systemClock;
    this.scheduler = options.scheduler ?? systemScheduler;
    this.nodes = Array.from({ length: options.nodes ?? 1 }, (_, i) => new MemoryLogNode(asNodeId(i + 1), this));
    for (const topic of options.topics ?? []) this.createTopic(topic);
  }

  createTopic({ name, partitions = 1, view }: MemoryTopic): void {
    assert(partitions >= 1 && partitions <= PARTITIONS_MAX, 'a topic has 1 to 256 partitions');
    const groups = Array.from({ length: partitions }, () => {
      const group = asGroupId(this.logs.size + 1);
      this.logs.set(group, new MemoryLog(group, this.clock, this.nodes[0].id));
      return group;
    });
    this.topics.push({ name, groups, view: { ...VIEW_DEFAULTS, ...view } });
  }

  /** The log of a partition. @throws when there is none */
  log(topic: string, partition = 0): MemoryLog {
    const group = this.topics.find((candidate) => candidate.name === topic)?.groups[partition];
    assert(group !== undefined, 'no such partition');
    return this.logs.get(group)!;
  }

  /** Makes the node the leader of every partition; NO_NODE: none. */
  elect(node: NodeId): void {
    for (const log of this.logs.values()) {
      if (node === NO_NODE) log.leader = NO_NODE;
      else log.elect(node);
    }
  }
}

/** A log node over memory. Real batches, offsets, log times and sessions; faults by request. */
export class MemoryLogNode implements LogNode {
  /** Calls and tails end with `connection-lost`, as if the process were gone. */
  private down = false;
  /** Appends that take effect but whose answer gets lost. */
  private answersToLose = 0;
  /** Committed offsets this node has not heard of yet. */
  private lag = 0;
  private readonly breakOff = new Set<(error: TidelineError) => void>();
  /** What was asked of this node, by method. */
  readonly calls = { append: 0, fetch: 0, tail: 0, barrier: 0, describe: 0 };
  /** Tails being read now. */
  openTails = 0;
  /** Bytes that tails were given. */
  bytesRead = 0;
  /** Where the service of that name listens. */
  readonly addresses: Record<string, string> = {};

  constructor(
    readonly id: NodeId,
    private readonly cluster: MemoryLogCluster,
  ) {}

  stop(): void {
    this.down = true;
    for (const breakOff of this.breakOff) breakOff(lost());
  }

  start(): void {
    this.down = false;
  }

  loseAnswers(count: number): void {
    this.answersToLose = count;
  }

  lagBehind(offsets: number): void {
    this.lag = offsets;
    for (const log of this.cluster.logs.values()) log.changed();
  }

  async append(group: GroupId, batch: Buffer, options: { readonly acks: Acks }): Promise<AppendResult> {
    this.calls.append++;
    const log = this.leading(group);
    const result = log.append(batch);
    if (this.answersToLose > 0) {
      this.answersToLose--;
      throw lost();
    }
    if (options.acks === 'quorum') await this.committed(log, result.lastOffset);
    return result;
  }

  async openSession(group: GroupId): Promise<number> {
    const log = this.leading(group);
    const session = log.openSession();
    await this.committed(log, asOffset(session));
    return session;
  }

  async barrier(group: GroupId): Promise<Barrier> {
    this.calls.barrier++;
    const log = this.leading(group);
    const now = this.cluster.clock.wallMs();
    if (now > log.lastLogTime + 1_000) log.beacon();
    const time = asLogTime(Math.max(now, log.lastLogTime));
    await this.committed(log, log.commitOffset);
    return { offset: log.commitOffset, time, term: log.term, node: this.id };
  }

  async offsetAtTime(group: GroupId, time: LogTime): Promise<Offset> {
    return this.leading(group).offsetAtTime(time);
  }

  async transferLeadership(group: GroupId, to: NodeId): Promise<void> {
    const log = this.leading(group);
    if (!this.cluster.nodes.some((node) => node.id === to)) throw new TidelineError('not-a-member', `no node ${to}`);
    log.elect(to);
  }

  async fetch(
    group: GroupId,
    from: Offset,
    options: { readonly maxBytes: number; readonly maxWaitMs: number },
  ): Promise<FetchResult> {
    this.calls.fetch++;
    const log = this.hosting(group);
    assertInLog(log, from);
    if (from > this.visible(log) && options.maxWaitMs > 0) await this.moreThan(log, from, options.maxWaitMs);
    const batches = log.read({ from, to: this.visible(log), bytesMax: options.maxBytes });
    return {
      batches,
      nextOffset: nextAfter(batches, from),
      commitOffset: this.visible(log),
      logStartOffset: log.logStartOffset,
    };
  }

  tail(group: GroupId, from: Offset, options: { readonly creditBytes: number }): Observable<TailChunk> {
    return new Observable((subscriber) => {
      this.calls.tail++;
      let log: MemoryLog;
      try {
        log = this.hosting(group);
        assertInLog(log, from);
      } catch (error) {
        subscriber.error(error);
        return undefined;
      }
      let position = from;
      let credit = options.creditBytes;
      let scheduled = false;
      const wake = (): void => {
        if (scheduled) return;
        scheduled = true;
        this.cluster.scheduler.defer(pump);
      };
      const pump = (): void => {
        scheduled = false;
        while (!subscriber.closed && credit > 0 && position <= this.visible(log)) {
          const batches = log.read({ from: position, to: this.visible(log), bytesMax: CHUNK_BYTES });
          if (batches.length === 0) return;
          position = nextAfter(batches, position);
          credit -= batches.length;
          this.bytesRead += batches.length;
          let released = false;
          subscriber.next({
            batches,
            nextOffset: position,
            commitOffset: this.visible(log),
            release: () => {
              if (released) return;
              released = true;
              credit += batches.length;
              wake();
            },
          });
        }
      };
      const breakOff = (error: TidelineError): void => subscriber.error(error);
      this.breakOff.add(breakOff);
      const forget = log.onChange(wake);
      this.openTails++;
      wake();
      return () => {
        this.openTails--;
        this.breakOff.delete(breakOff);
        forget();
      };
    });
  }

  async describe(): Promise<ClusterDescription> {
    this.calls.describe++;
    if (this.down) throw lost();
    const { nodes, topics, logs } = this.cluster;
    const replicas = nodes.map((node) => node.id);
    return {
      clusterId: 'memory',
      node: this.id,
      nodes: nodes.map((node) => ({
        id: node.id,
        addresses: { ...node.addresses },
        region: '',
        alive: !node.down,
      })),
      topics: topics.map(({ name, groups, view }): TopicDescription => ({
        name,
        partitions: groups.map((group, partition) => {
          const log = logs.get(group)!;
          return {
            partition: asPartitionId(partition),
            group,
            leader: log.leader,
            term: log.term,
            replicas,
            learners: [],
            commitOffset: this.visible(log),
            logStartOffset: log.logStartOffset,
          };
        }),
        replication: nodes.length,
        retention: { ms: null, bytes: null },
        view: { kind: 'map', ...view },
      })),
    };
  }

  private visible(log: MemoryLog): Offset {
    return asOffset(Math.max(0, log.commitOffset - this.lag));
  }

  private hosting(group: GroupId): MemoryLog {
    if (this.down) throw new TidelineError('connection-lost', 'the node is down', { outcome: 'rejected' });
    const log = this.cluster.logs.get(group);
    if (log === undefined) throw new TidelineError('unknown-partition', `no group ${group}`);
    return log;
  }

  private leading(group: GroupId): MemoryLog {
    const log = this.hosting(group);
    if (log.leader !== this.id) {
      throw new TidelineError('not-leader', `node ${this.id} does not lead group ${group}`, {
        details: { leader: log.leader },
      });
    }
    return log;
  }

  /** Resolves when the offset is committed; rejects when the node goes down before. */
  private committed(log: MemoryLog, offset: Offset): Promise<void> {
    if (log.commitOffset >= offset) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        forget();
        this.breakOff.delete(breakOff);
      };
      const breakOff = (error: TidelineError): void => {
        finish();
        reject(error);
      };
      const forget = log.onChange(() => {
        if (log.commitOffset < offset) return;
        finish();
        resolve();
      });
      this.breakOff.add(breakOff);
    });
  }

  private moreThan(log: MemoryLog, from: Offset, maxWaitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (error?: TidelineError): void => {
        forget();
        cancel();
        this.breakOff.delete(finish);
        if (error) reject(error);
        else resolve();
      };
      const forget = log.onChange(() => {
        if (from <= this.visible(log)) finish();
      });
      const cancel = this.cluster.scheduler.after(maxWaitMs, finish);
      this.breakOff.add(finish);
    });
  }
}

const lost = (): TidelineError => new TidelineError('connection-lost', 'the node went away');

const assertInLog = (log: MemoryLog, from: Offset): void => {
  if (from >= log.logStartOffset) return;
  throw new TidelineError('offset-out-of-range', `offset ${from} is below the log start ${log.logStartOffset}`, {
    details: { logStartOffset: log.logStartOffset },
  });
};

const nextAfter = (batches: Buffer, from: Offset): Offset => {
  let next = from;
  forEachBatch(batches, (at) => {
    next = asOffset(batchLastOffset(batches, at) + 1);
  });
  return next;
};
