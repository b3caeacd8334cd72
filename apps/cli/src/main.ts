import { Command, CommanderError, Option } from 'commander';
import { ExitCode, UsageError, exitCodeOf } from './exit-code.js';
import { registerArchiveCommand } from './commands/archive.js';
import { registerClusterCommands } from './commands/cluster.js';
import { registerEntryCommands } from './commands/entries.js';
import { registerExportCommand } from './commands/export.js';
import { registerImportCommand } from './commands/import.js';
import { registerRecordCommands } from './commands/records.js';
import { registerSnapshotCommands } from './commands/snapshot.js';
import { registerStartCommand, runStart } from './commands/start.js';
import { registerViewCommands } from './commands/view.js';
import { registerVerifyCommand } from './commands/verify.js';
import { isWriteFailure } from './session.js';

/** The `tideline` command. */
export const buildProgram = (): Command => {
  const program = new Command('tideline')
    .description('A replicated append log with materialized, expiring map views')
    .addOption(
      new Option('-a, --address <host:port,…>', 'native addresses of one or more nodes')
        .default('127.0.0.1:7401')
        .env('TIDELINE_ADDRESS'),
    )
    .addOption(
      new Option('-o, --output <format>', 'how results are printed').choices(['table', 'json']).default('table'),
    )
    .option('--json', 'the same as --output json')
    .addOption(
      new Option(
        '--http <host:port,…>',
        'REST addresses of the nodes, where they are not one below the native ones',
      ).env('TIDELINE_HTTP'),
    )
    .option('--timeout <duration>', 'whole time of one request, e.g. 500ms or 10s', '10s')
    .showHelpAfterError('(tideline --help lists the commands)')
    .exitOverride();
  registerStartCommand(program);
  registerClusterCommands(program);
  registerRecordCommands(program);
  registerEntryCommands(program);
  registerArchiveCommand(program);
  registerSnapshotCommands(program);
  registerExportCommand(program);
  registerImportCommand(program);
  registerViewCommands(program);
  registerVerifyCommand(program);
  return program;
};

/** Runs one command; the exit code is set, nothing is thrown. */
export const main = async (argv: readonly string[]): Promise<void> => {
  try {
    // A server's options are its own, --help included.
    if (argv[2] === 'start') await runStart(argv.slice(3));
    else await buildProgram().parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? ExitCode.Done : ExitCode.Usage;
      return;
    }
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`tideline: ${message}\n`);
    const code = exitCodeOf(error, isWriteFailure(error));
    if (code === ExitCode.OutcomeUnknown) process.stderr.write('tideline: the write may still take effect\n');
    if (error instanceof UsageError) process.stderr.write('(tideline --help lists the commands)\n');
    process.exitCode = code;
  }
};
