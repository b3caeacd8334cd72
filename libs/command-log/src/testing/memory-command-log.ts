import { SeededRng, type Clock, type Scheduler } from '#kernel';
import { FixedLogNodeDirectory } from '../log-node-directory.js';
import { RoutingCommandLog } from '../routing-command-log.js';
import { MemoryLogCluster, type MemoryLogNode, type MemoryTopic } from './memory-log-node.js';

/**
 * A command log of one node in memory: real batches, offsets, log time and sessions, so that a gateway or a view can be tested
 * without Raft. `cluster` and `node` give a test its hands on leaders, commits and faults.
 */
export class MemoryCommandLog extends RoutingCommandLog {
  readonly cluster: MemoryLogCluster;
  readonly node: MemoryLogNode;

  constructor(
    options: {
      readonly topics?: readonly MemoryTopic[];
      readonly clock?: Clock;
      readonly scheduler?: Scheduler;
      readonly seed?: number;
    } = {},
  ) {
    const { clock, scheduler } = options;
    const cluster = new MemoryLogCluster({
      nodes: 1,
      topics: options.topics ?? [{ name: 'default' }],
      ...(clock && { clock }),
      ...(scheduler && { scheduler }),
    });
    const node = cluster.nodes[0];
    super({
      directory: new FixedLogNodeDirectory({ local: node }),
      rng: new SeededRng(options.seed ?? 1),
      ...(clock && { clock }),
      ...(scheduler && { scheduler }),
    });
    this.cluster = cluster;
    this.node = node;
  }
}
