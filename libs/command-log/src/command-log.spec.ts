import { SeededRng } from '#kernel';
import type { CommandLog, Target } from './command-log.js';
import { FixedLogNodeDirectory } from './log-node-directory.js';
import { RoutingCommandLog } from './routing-command-log.js';
import { commandLogConformance, type CommandLogHarness } from './testing/command-log.conformance.js';
import { MemoryCommandLog, MemoryLogCluster } from './testing/index.js';

const TOPICS = [{ name: 'orders', partitions: 2 }];

const harness = (log: CommandLog, cluster: MemoryLogCluster): CommandLogHarness => ({
  log,
  trim: async (target: Target, offset) => cluster.log(target.topic, target.partition).trimBefore(offset),
  expireSessions: async (target: Target) => cluster.log(target.topic, target.partition).expireSessions(),
  close: () => log.close(),
});

commandLogConformance('MemoryCommandLog', async () => {
  const log = new MemoryCommandLog({ topics: TOPICS });
  return harness(log, log.cluster);
});

commandLogConformance('RoutingCommandLog beside a follower', async () => {
  const cluster = new MemoryLogCluster({ nodes: 3, topics: TOPICS });
  const directory = new FixedLogNodeDirectory({ local: cluster.nodes[2], others: cluster.nodes });
  return harness(new RoutingCommandLog({ directory, rng: new SeededRng(1) }), cluster);
});

commandLogConformance('RoutingCommandLog without a log node of its own', async () => {
  const cluster = new MemoryLogCluster({ nodes: 3, topics: TOPICS });
  const directory = new FixedLogNodeDirectory({ local: null, others: cluster.nodes });
  return harness(new RoutingCommandLog({ directory, rng: new SeededRng(2) }), cluster);
});
