import type { GroupId, LogTime, NodeId, Offset, PartitionId, Term, ViewSettings } from '#kernel';
import type { Observable } from 'rxjs';

/**
 * The port everything above the log uses. Adapters: over this node and its peers (RoutingCommandLog with a local LogNode), over TCP only
 * (the same with remote LogNodes), in memory (MemoryCommandLog, for tests). Contract suite: command-log.conformance.ts.
 */

/** none: fire and forget · leader: durable on the leader · quorum: durable on a majority. (`applied` is quorum plus a question to the view: the gateway's business.) */
export type Acks = 'none' | 'leader' | 'quorum';

export interface Target {
  readonly topic: string;
  readonly partition: number;
}

export interface AppendResult {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly logTime: LogTime;
  readonly term: Term;
  readonly node: NodeId;
  /** The batch had been appended before (same session and sequence): these are its offsets. */
  readonly duplicate: boolean;
}

/** What a read must wait for, and the time it reads at. */
export interface Barrier {
  readonly offset: Offset;
  readonly time: LogTime;
  readonly term: Term;
  readonly node: NodeId;
}

export interface FetchResult {
  /** Whole batches; the first may begin before the offset asked for. Control batches included. */
  readonly batches: Buffer;
  /** Where to go on. */
  readonly nextOffset: Offset;
  readonly commitOffset: Offset;
  readonly logStartOffset: Offset;
}

/** A piece of a tail. The source sends no more than the credit allows until chunks are released. */
export interface TailChunk {
  /** Whole committed batches. */
  readonly batches: Buffer;
  readonly nextOffset: Offset;
  readonly commitOffset: Offset;
  /** Call once when done with it: gives its bytes back as credit. */
  release(): void;
}

export interface PartitionDescription {
  readonly partition: PartitionId;
  readonly group: GroupId;
  /** NO_NODE when none is known. */
  readonly leader: NodeId;
  readonly term: Term;
  readonly replicas: readonly NodeId[];
  readonly learners: readonly NodeId[];
  readonly commitOffset: Offset;
  readonly logStartOffset: Offset;
}

export interface TopicDescription {
  readonly name: string;
  readonly partitions: readonly PartitionDescription[];
  readonly replication: number;
  readonly retention: { readonly ms: number | null; readonly bytes: number | null };
  readonly view: { readonly kind: 'map' | 'none' } & ViewSettings;
}

export interface NodeDescription {
  readonly id: NodeId;
  /** By service: peer, log, view, http, native, nest, resp, grpc. */
  readonly addresses: Readonly<Record<string, string>>;
  readonly region: string;
  /** Whether the describing node is connected to it (or is it). */
  readonly alive: boolean;
}

export interface ClusterDescription {
  readonly clusterId: string;
  /** The node that describes. */
  readonly node: NodeId;
  readonly nodes: readonly NodeDescription[];
  readonly topics: readonly TopicDescription[];
}

export interface NodeAppendOptions {
  readonly acks: Acks;
  /** The caller is on another node and may want to read there what it has appended: that node hears of the commit at once. */
  readonly awaitedElsewhere?: boolean;
}

/**
 * One log node, addressed by group: what a raft-log process offers, in process or over TCP (methods in libs/wire log-service-v1.ts).
 * Errors are TidelineErrors; `not-leader` carries details {leader: NodeId}.
 */
export interface LogNode {
  readonly id: NodeId;
  append(group: GroupId, batch: Buffer, options: NodeAppendOptions): Promise<AppendResult>;
  /** Committed batches from any replica; waits up to maxWaitMs for the first. */
  fetch(
    group: GroupId,
    from: Offset,
    options: { readonly maxBytes: number; readonly maxWaitMs: number },
  ): Promise<FetchResult>;
  tail(group: GroupId, from: Offset, options: { readonly creditBytes: number }): Observable<TailChunk>;
  barrier(group: GroupId): Promise<Barrier>;
  /** Opens a session; resolves with its id when that is committed. */
  openSession(group: GroupId): Promise<number>;
  offsetAtTime(group: GroupId, time: LogTime): Promise<Offset>;
  transferLeadership(group: GroupId, to: NodeId): Promise<void>;
  describe(): Promise<ClusterDescription>;
}

export interface CommandLog {
  /**
   * Appends one encoded batch (see libs/wire). Follows the leader; retries what is safe to retry until `timeoutMs`: everything if the batch has a
   * session or idempotency key, only what was certainly not appended if it has none.
   */
  append(
    target: Target,
    batch: Buffer,
    options: { readonly acks: Acks; readonly timeoutMs?: number },
  ): Promise<AppendResult>;
  fetch(
    target: Target,
    from: Offset,
    options: { readonly maxBytes: number; readonly maxWaitMs: number },
  ): Promise<FetchResult>;
  /** Goes on across disconnects and node failures, from another replica if need be, without loss or repetition. Errors only for good (unknown topic, offset out of range). */
  tail(target: Target, from: Offset, options?: { readonly creditBytes?: number }): Observable<TailChunk>;
  /** Waiting callers share one barrier, but never one that was asked for before they came. */
  barrier(target: Target, options?: { readonly timeoutMs?: number }): Promise<Barrier>;
  openSession(target: Target): Promise<number>;
  offsetAtTime(target: Target, time: LogTime): Promise<Offset>;
  transferLeadership(target: Target, to: NodeId): Promise<void>;
  /** As last heard; no I/O. @throws nothing; an empty list of topics before the first answer. */
  describe(): ClusterDescription;
  /** Asks for the cluster's description now; resolves when there is an answer or none is to be had. Never rejects. */
  refresh(): Promise<void>;
  /** The topic as last heard; asks again once before it throws. Rejects `unknown-topic`. */
  topic(name: string): Promise<TopicDescription>;
  /** The current description, then each that differs. */
  readonly changes: Observable<ClusterDescription>;
  close(): Promise<void>;
}
