import type { Command } from 'commander';

/** `tideline start`: one process with everything in it. */
export const runStart = async (args: readonly string[]): Promise<void> => {
  const { startStandalone } = await import('../../../standalone/src/index.js');
  await startStandalone(args);
};

/** Here for the list of commands; main() runs it before anything else reads its options. */
export const registerStartCommand = (program: Command): void => {
  program.command('start').description('run one node with everything in it (start --help lists its options)');
};
