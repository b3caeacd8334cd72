import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { TidelineError } from '#kernel';
import { ExitCode, UsageError, exitCodeOf } from './exit-code.js';
import { buildProgram, main } from './main.js';

const before = process.exitCode;
const written = jest.spyOn(process.stderr, 'write').mockReturnValue(true);

afterEach(() => {
  process.exitCode = before;
  written.mockClear();
});

const exitCodeFor = async (...args: string[]): Promise<number | string | undefined> => {
  process.exitCode = undefined;
  await main(['node', 'tideline', ...args]);
  const { exitCode } = process;
  return exitCode ?? undefined;
};

describe('exit codes', () => {
  test('a write of unknown outcome has one of its own', () => {
    expect(exitCodeOf(new TidelineError('timeout', 'x'), true)).toBe(ExitCode.OutcomeUnknown);
    expect(exitCodeOf(new TidelineError('timeout', 'x'), false)).toBe(ExitCode.Failed);
    expect(exitCodeOf(new TidelineError('overloaded', 'x'), true)).toBe(ExitCode.Failed);
    expect(exitCodeOf(new UsageError('x'), true)).toBe(ExitCode.Usage);
  });

  test('a command that is not there, and an argument that makes no sense, are usage errors', async () => {
    expect(await exitCodeFor('bogus')).toBe(ExitCode.Usage);
    expect(await exitCodeFor('get')).toBe(ExitCode.Usage);
    expect(await exitCodeFor('get', 'x', '--output', 'xml')).toBe(ExitCode.Usage);
    expect(await exitCodeFor('scan', '--limit', 'many')).toBe(ExitCode.Usage);
    expect(await exitCodeFor('set', 'k', 'v', '--ttl', 'soon')).toBe(ExitCode.Usage);
    expect(await exitCodeFor('import', '/nowhere/at/all.json')).toBe(ExitCode.Usage);
  });

  test('nobody at the address is a failure, wherever the address is given', async () => {
    expect(await exitCodeFor('get', 'x', '--address', '127.0.0.1:1', '--timeout', '200ms')).toBe(ExitCode.Failed);
    expect(await exitCodeFor('--address', '127.0.0.1:1', '--timeout', '200ms', 'get', 'x')).toBe(ExitCode.Failed);
    expect(await exitCodeFor('set', 'k', 'v', '-a', '127.0.0.1:1', '--timeout', '200ms')).toBe(ExitCode.Failed);
  });
});

test('every command of the list is there', () => {
  const names = buildProgram().commands.map((command) => command.name());
  for (const name of [
    'start',
    'cluster',
    'append',
    'tail',
    'get',
    'set',
    'del',
    'scan',
    'import',
    'export',
    'snapshot',
    'view',
    'verify',
  ])
    expect(names).toContain(name);
});
