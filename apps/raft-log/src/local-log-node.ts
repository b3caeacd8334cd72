import {
  NO_NODE,
  TidelineError,
  asOffset,
  asPartitionId,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
  type Scheduler,
} from '#kernel';
import type {
  AppendResult,
  Barrier,
  ClusterDescription,
  FetchResult,
  LogNode,
  NodeAppendOptions,
  NodeDescription,
  TailChunk,
  TopicDescription,
} from '#command-log';
import type { Group, ReplicaNode, TopicEntry } from '#replica';
import { Observable } from 'rxjs';

/** Bytes of one chunk of a tail, unless a single batch is larger. */
const TAIL_CHUNK_BYTES = 256 * 1024;
/** Followers of a partition's commit offset: fetches that wait and tails. */
export const FOLLOWERS_MAX = 10_000;
const TRANSFER_TIMEOUT_MS = 10_000;

export interface LocalLogNodeOptions {
  readonly node: ReplicaNode;
  readonly scheduler: Scheduler;
  readonly clusterId: () => string;
  /** Topics as the metadata log says. */
  readonly topics: () => readonly TopicEntry[];
  /** All nodes of the cluster, this one included, as far as known. */
  readonly nodes: () => readonly NodeDescription[];
}

/** The groups of this process as a log node: what the raft-log service serves and what the standalone process calls directly. */
export class LocalLogNode implements LogNode {
  readonly id: NodeId;
  private followers = 0;

  constructor(private readonly options: LocalLogNodeOptions) {
    this.id = options.node.nodeId;
  }

  append(group: GroupId, batch: Buffer, options: NodeAppendOptions): Promise<AppendResult> {
    return new Promise((resolve, reject) => {
      this.group(group).append(batch, options, (error, appended) => (error ? reject(error) : resolve(appended!)));
    });
  }

  openSession(group: GroupId): Promise<number> {
    return new Promise((resolve, reject) => {
      this.group(group).openSession((error, appended) => (error ? reject(error) : resolve(appended!.firstOffset)));
    });
  }

  barrier(group: GroupId): Promise<Barrier> {
    return new Promise((resolve, reject) => {
      this.group(group).barrier((error, barrier) => (error ? reject(error) : resolve(barrier!)));
    });
  }

  offsetAtTime(group: GroupId, time: LogTime): Promise<Offset> {
    return new Promise((resolve, reject) => {
      this.group(group).offsetAtTime(time, (error, offset) => (error ? reject(error) : resolve(offset!)));
    });
  }

  transferLeadership(group: GroupId, to: NodeId): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = this.options.scheduler.after(TRANSFER_TIMEOUT_MS, () =>
        reject(new TidelineError('timeout', `leadership was not taken over by node ${to} in time`)),
      );
      this.group(group).transferLeadership(to, (error) => {
        cancel();
        if (error) reject(error);
        else resolve();
      });
    });
  }

  fetch(
    group: GroupId,
    from: Offset,
    options: { readonly maxBytes: number; readonly maxWaitMs: number },
  ): Promise<FetchResult> {
    return new Promise((resolve, reject) => {
      const hosted = this.group(group);
      const read = (): void =>
        this.read(hosted, { from, maxBytes: options.maxBytes }, (error, result) =>
          error ? reject(error) : resolve(result!),
        );
      if (from <= hosted.status().readableOffset || options.maxWaitMs <= 0) {
        read();
        return;
      }
      const unfollow = this.follow(hosted, () => {
        if (hosted.status().readableOffset < from) return;
        unfollow();
        cancel();
        read();
      });
      const cancel = this.options.scheduler.after(options.maxWaitMs, () => {
        unfollow();
        read();
      });
    });
  }

  tail(group: GroupId, from: Offset, options: { readonly creditBytes: number }): Observable<TailChunk> {
    return new Observable((subscriber) => {
      const hosted = this.group(group);
      let position = from;
      let credit = options.creditBytes;
      let reading = false;
      let pumping = false;
      const atEnd = (): boolean => position > hosted.readableOffset && position >= hosted.logStartOffset;
      const pumpLater = (): void => {
        // At the end of the log the next commit pumps.
        if (pumping || reading || credit <= 0 || atEnd()) return;
        pumping = true;
        this.options.scheduler.defer(pump);
      };
      const pump = (): void => {
        pumping = false;
        if (reading || subscriber.closed || credit <= 0 || atEnd()) return;
        reading = true;
        this.read(hosted, { from: position, maxBytes: Math.min(credit, TAIL_CHUNK_BYTES) }, (error, result) => {
          reading = false;
          if (subscriber.closed) return;
          if (error) {
            subscriber.error(error);
            return;
          }
          const { batches, nextOffset, commitOffset } = result!;
          if (batches.length === 0) return;
          position = nextOffset;
          credit -= batches.length;
          let released = false;
          const release = (): void => {
            if (released) return;
            released = true;
            credit += batches.length;
            pumpLater();
          };
          subscriber.next({ batches, nextOffset, commitOffset, release });
          // A read may answer at once, from memory: a long log is not walked in one turn.
          pumpLater();
        });
      };
      const unfollow = this.follow(hosted, pump);
      pump();
      return unfollow;
    });
  }

  describe(): Promise<ClusterDescription> {
    return Promise.resolve({
      clusterId: this.options.clusterId(),
      node: this.id,
      nodes: this.options.nodes(),
      topics: this.options.topics().map((topic) => this.describeTopic(topic)),
    });
  }

  private describeTopic({ name, partitions, replication, retention, view }: TopicEntry): TopicDescription {
    return {
      name,
      replication,
      retention,
      view,
      partitions: partitions.map((group, i) => {
        const status = this.options.node.group(group)?.status();
        return {
          partition: asPartitionId(i),
          group,
          leader: status?.leader ?? NO_NODE,
          term: status?.term ?? (0 as never),
          replicas: status?.configuration.voters ?? [],
          learners: status?.configuration.learners ?? [],
          commitOffset: status?.readableOffset ?? asOffset(0),
          logStartOffset: status?.logStartOffset ?? asOffset(1),
        };
      }),
    };
  }

  /**
   * Whoever asks has the group from somebody's description. A node that does not have it open may have only just heard of the topic, or not
   * yet, or repairs its log: another node, or this one a little later, will answer.
   */
  private group(id: GroupId): Group {
    const group = this.options.node.group(id);
    if (!group) {
      throw new TidelineError('not-ready', `group ${id} is not open on node ${this.id}`, { details: { group: id } });
    }
    return group;
  }

  private follow(group: Group, listener: () => void): () => void {
    if (this.followers >= FOLLOWERS_MAX)
      throw new TidelineError('overloaded', `${FOLLOWERS_MAX} tails and fetches are waiting on this node already`);
    this.followers++;
    const unlisten = group.onCommit(listener);
    let following = true;
    return () => {
      if (!following) return;
      following = false;
      this.followers--;
      unlisten();
    };
  }

  private read(
    group: Group,
    request: { readonly from: Offset; readonly maxBytes: number },
    done: (error: Error | null, result: FetchResult | null) => void,
  ): void {
    group.read(request, done);
  }
}
