import {
  NO_NODE,
  NO_TERM,
  TidelineError,
  type GroupId,
  type NodeId,
  type Rng,
  type Scheduler,
  type Term,
  randomBelow,
} from '#kernel';
import { BehaviorSubject, type Observable } from 'rxjs';
import type {
  ClusterDescription,
  LogNode,
  NodeDescription,
  PartitionDescription,
  Target,
  TopicDescription,
} from './command-log.js';
import type { Deadlines } from './deadlines.js';
import type { LogNodeDirectory } from './log-node-directory.js';

interface KnownLeader {
  readonly leader: NodeId;
  readonly term: Term;
}

export const NO_CLUSTER: ClusterDescription = { clusterId: '', node: NO_NODE, nodes: [], topics: [] };

/** All that routing depends on: what moves with every append is left out, so that `changes` speaks only when something has changed. */
const shapeOf = (description: ClusterDescription): string =>
  JSON.stringify(description, (name, value: unknown) =>
    name === 'commitOffset' || name === 'logStartOffset' ? undefined : value,
  );

/**
 * What is known of the cluster: the last description heard, and who leads each group.
 *
 * Leaders are learned from descriptions of any node and from `not-leader` hints; of two claims the one with the higher term counts, so
 * a node that is cut off and behind cannot take back what another has said.
 */
export class ClusterMap {
  private readonly subject = new BehaviorSubject<ClusterDescription>(NO_CLUSTER);
  readonly changes: Observable<ClusterDescription> = this.subject.asObservable();
  private shape = shapeOf(NO_CLUSTER);
  private readonly leaders = new Map<GroupId, KnownLeader>();
  private asking: Promise<void> | null = null;
  private preferred: LogNode | null;
  /** Round robin over those that can be asked besides the preferred one. */
  private turn = 0;
  private stopPolling: (() => void) | null = null;
  private closed = false;
  private known: ClusterDescription = NO_CLUSTER;

  constructor(
    private readonly options: {
      readonly directory: LogNodeDirectory;
      readonly scheduler: Scheduler;
      readonly rng: Rng;
      readonly deadlines: Deadlines;
      readonly pollMs: number;
      readonly describeTimeoutMs: number;
      /** Region to prefer for reads when there is no local node. */
      readonly region: string;
    },
  ) {
    this.preferred = options.directory.local;
    this.turn = randomBelow(options.rng, 1024);
    this.poll();
  }

  get current(): ClusterDescription {
    return this.known;
  }

  private readonly poll = (): void => {
    if (this.closed) return;
    void this.refresh();
    this.stopPolling = this.options.scheduler.after(this.options.pollMs, this.poll);
  };

  /**
   * Asks the node that is asked always (the local one, else the last that answered) and one other, all callers sharing the question. Resolves
   * when both have answered or failed; never rejects.
   */
  refresh(): Promise<void> {
    if (this.closed) return Promise.resolve();
    this.asking ??= this.ask().finally(() => {
      this.asking = null;
    });
    return this.asking;
  }

  /** One description from now: of the node that is asked always if it answers, else of any. Never rejects. */
  async hear(): Promise<void> {
    const description = this.preferred && (await this.describe(this.preferred));
    if (description) this.learn(description);
    else await this.refresh();
  }

  private async ask(): Promise<void> {
    const preferred = this.preferred;
    const others = this.others();
    const other = others.length > 0 ? others[this.turn++ % others.length] : null;
    let foreign: ClusterDescription | null = null as ClusterDescription | null;
    // Each answer counts when it comes: a node that is gone must not hold back what the other says.
    let heardFromPreferred = false;
    await Promise.all([
      preferred &&
        this.describe(preferred).then((description) => {
          if (description === null) return;
          heardFromPreferred = true;
          this.learn(description);
        }),
      other &&
        this.describe(other).then((description) => {
          if (description === null) return;
          if (preferred === null || this.known === NO_CLUSTER) this.learn(description);
          else this.learnLeaders(description);
          foreign = description;
        }),
    ]);
    if (heardFromPreferred || foreign === null || this.options.directory.local !== null) return;
    this.preferred = other;
    this.learn(foreign);
  }

  private learn(description: ClusterDescription): void {
    if (this.closed) return;
    this.learnLeaders(description);
    this.known = description;
    const shape = shapeOf(description);
    if (shape === this.shape) return;
    this.shape = shape;
    this.subject.next(description);
  }

  private others(): LogNode[] {
    const found = new Set<LogNode>();
    const { directory } = this.options;
    for (const description of this.known.nodes) {
      const node = directory.node(description);
      if (node !== null && node !== this.preferred && description.alive) found.add(node);
    }
    // Without an answer so far, or when all that were known are gone, the seeds are what is left.
    if (found.size === 0) for (const node of directory.seeds) found.add(node);
    return [...found];
  }

  private describe(node: LogNode): Promise<ClusterDescription | null> {
    return new Promise((resolve) => {
      const cancel = this.options.deadlines.add(this.options.describeTimeoutMs, () => resolve(null));
      node.describe().then(
        (description) => {
          cancel();
          resolve(description);
        },
        () => {
          cancel();
          resolve(null);
        },
      );
    });
  }

  private learnLeaders(description: ClusterDescription): void {
    for (const topic of description.topics) {
      for (const { group, leader, term } of topic.partitions) {
        const known = this.leaders.get(group);
        if (known && (known.term > term || (known.term === term && leader === NO_NODE && known.leader !== NO_NODE))) {
          continue;
        }
        this.leaders.set(group, { leader, term });
      }
    }
  }

  /** What a `not-leader` answer of `node` says. */
  learnNotLeader(group: GroupId, node: NodeId, hint: NodeId): void {
    const known = this.leaders.get(group);
    if (hint !== NO_NODE && hint !== node) this.leaders.set(group, { leader: hint, term: known?.term ?? NO_TERM });
    else if (known?.leader === node) this.leaders.set(group, { leader: NO_NODE, term: known.term });
  }

  leaderOf(group: GroupId): NodeId {
    return this.leaders.get(group)?.leader ?? NO_NODE;
  }

  /** The log node that leads, null when none is known or it cannot be reached. */
  leaderNode(group: GroupId): LogNode | null {
    const leader = this.leaderOf(group);
    return leader === NO_NODE ? null : this.nodeById(leader);
  }

  nodeById(id: NodeId): LogNode | null {
    const { directory } = this.options;
    if (directory.local?.id === id) return directory.local;
    const description = this.known.nodes.find((node) => node.id === id);
    return description ? directory.node(description) : null;
  }

  /** Replicas to read from, best first: this process, then nodes that are up, of the same region first, equals in random order. */
  replicasOf(partition: PartitionDescription): LogNode[] {
    const { directory, rng } = this.options;
    const region = this.known.nodes.find((node) => node.id === directory.local?.id)?.region ?? this.options.region;
    const rank = (node: NodeDescription): number =>
      node.id === directory.local?.id ? 0 : (node.alive ? 1 : 3) + (node.region === region ? 0 : 1);
    const ids = new Set([...partition.replicas, ...partition.learners]);
    return this.known.nodes
      .filter((node) => ids.has(node.id))
      .map((node) => ({ node, rank: rank(node), lot: rng.nextU32() }))
      .sort((a, b) => a.rank - b.rank || a.lot - b.lot)
      .map(({ node }) => (node.id === directory.local?.id ? directory.local : directory.node(node)))
      .filter((node) => node !== null);
  }

  has(target: Target): boolean {
    const topic = this.known.topics.find((candidate) => candidate.name === target.topic);
    return topic?.partitions.some((candidate) => candidate.partition === target.partition) ?? false;
  }

  /** @throws TidelineError `unknown-topic` · `unknown-partition` · `not-ready` before the first description. */
  partition(target: Target): PartitionDescription {
    const topic = this.topicOrThrow(target.topic);
    const partition = topic.partitions.find((candidate) => candidate.partition === target.partition);
    if (!partition) {
      throw new TidelineError('unknown-partition', `topic ${target.topic} has no partition ${target.partition}`, {
        details: { partitions: topic.partitions.length },
      });
    }
    return partition;
  }

  private topicOrThrow(name: string): TopicDescription {
    const topic = this.known.topics.find((candidate) => candidate.name === name);
    if (topic) return topic;
    if (this.known === NO_CLUSTER) throw new TidelineError('not-ready', 'no log node has described the cluster yet');
    throw new TidelineError('unknown-topic', `no topic ${name}`);
  }

  /** As `topicOrThrow`, but asks once more before it gives up. */
  async topic(name: string): Promise<TopicDescription> {
    const topic = this.known.topics.find((candidate) => candidate.name === name);
    if (topic) return topic;
    await this.refresh();
    return this.topicOrThrow(name);
  }

  close(): void {
    this.closed = true;
    this.stopPolling?.();
    this.subject.complete();
  }
}
