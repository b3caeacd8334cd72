import { nodeFileSystem, verifyDataDirectory, type DirectoryReport } from '#storage';
import type { Command } from 'commander';
import { ExitCode } from '../exit-code.js';
import { formatOf } from '../session.js';

export const registerVerifyCommand = (program: Command): void => {
  program
    .command('verify')
    .description('check a data directory without starting a node: says what is wrong, where, and what to do')
    .argument('<directory>')
    .action((directory: string, _options: unknown, command: Command) => {
      const report = verifyDataDirectory(nodeFileSystem, directory);
      if (formatOf(command) === 'json') console.log(JSON.stringify(report, null, 2));
      else for (const line of reportLines(report)) console.log(line);
      if (!report.ok) process.exitCode = ExitCode.Failed;
    });
};

const reportLines = (report: DirectoryReport): string[] => {
  const lines = [
    `${report.directory}: node ${report.nodeId ?? '?'} of cluster ${report.clusterId ?? '?'}${report.inUse ? ' (in use: what is being written may look torn)' : ''}`,
  ];
  for (const group of report.groups) {
    lines.push(
      `  group ${group.group}: offsets ${group.baseOffset + 1} … ${group.lastOffset} in ${group.segments} segments, ${group.batches} batches, ${group.bytes} bytes; term ${group.term}, committed at least ${group.commit}`,
    );
  }
  for (const problem of report.problems) {
    const place = problem.position === null ? problem.file : `${problem.file} at byte ${problem.position}`;
    const offsets = problem.fromOffset === null ? '' : `, offsets ${problem.fromOffset} … ${problem.toOffset ?? '?'}`;
    lines.push(`${problem.severity}: ${place}${offsets}: ${problem.what}`, `  what to do: ${problem.advice}`);
  }
  lines.push(report.ok ? 'no damage found' : 'DAMAGED');
  return lines;
};
