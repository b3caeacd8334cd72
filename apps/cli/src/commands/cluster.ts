import type { Command } from 'commander';
import { printObject, printRows } from '../output.js';
import { withClient } from '../session.js';

export const registerClusterCommands = (program: Command): void => {
  const cluster = program.command('cluster').description('the cluster and its nodes');
  cluster
    .command('status')
    .description('nodes, partitions, leaders, offsets')
    .action(async (_options: unknown, command: Command) => {
      await withClient(command, async ({ client, format }) => {
        const description = await client.describe();
        if (format === 'json') {
          printObject(format, { ...description });
          return;
        }
        printObject(format, { cluster: description.clusterId, 'answered by node': description.node });
        console.log('');
        printRows(
          format,
          description.nodes.map(({ id, alive, region, addresses }) => ({
            node: id,
            state: alive ? 'up' : 'down',
            region,
            http: addresses['http'],
            native: addresses['native'],
          })),
        );
        console.log('');
        printRows(
          format,
          description.topics.flatMap((topic) =>
            topic.partitions.map((partition) => ({
              topic: topic.name,
              partition: partition.partition,
              leader: partition.leader || null,
              term: partition.term,
              'log start': partition.logStartOffset,
              commit: partition.commitOffset,
              replicas: partition.replicas.join(','),
            })),
          ),
        );
      });
    });
};
