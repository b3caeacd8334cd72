import type { Command } from 'commander';

/** `tideline start`: one process with everything. Its options are the server's own; `tideline start --help` lists them. */
export const registerStartCommand = (program: Command): void => {
  program
    .command('start')
    .description('run one node with everything in it (start --help lists its options)')
    .allowUnknownOption()
    .allowExcessArguments()
    .passThroughOptions()
    .helpOption(false)
    .action(async (_options: unknown, command: Command) => {
      const { startStandalone } = await import('../../../standalone/src/index.js');
      await startStandalone(command.args);
    });
};
