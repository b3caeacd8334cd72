import { TidelineClient } from '#client';
import { parseDurationMs } from '#platform';
import type { Command } from 'commander';
import { UsageError } from './exit-code.js';
import { isOutputFormat, type OutputFormat } from './output.js';

const writeFailures = new WeakSet<object>();

/** Whether this error came out of a command that writes: then an unknown outcome has an exit code of its own. */
export const isWriteFailure = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && writeFailures.has(error);

export const asWrite = async <T>(work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    if (typeof error === 'object' && error !== null) writeFailures.add(error);
    throw error;
  }
};

export interface Session {
  readonly client: TidelineClient;
  readonly format: OutputFormat;
}

/** Options given before the command. */
interface GlobalOptions {
  readonly address: string;
  readonly output: string;
  readonly json?: boolean;
  readonly timeout: string;
}

const globalsOf = (command: Command): GlobalOptions => command.optsWithGlobals<GlobalOptions>();

export const formatOf = (command: Command): OutputFormat => {
  const { output, json } = globalsOf(command);
  if (json === true) return 'json';
  if (!isOutputFormat(output)) throw new UsageError(`--output ${output}: table or json`);
  return output;
};

/** Connects, runs, closes. */
export const withClient = async <T>(command: Command, run: (session: Session) => Promise<T>): Promise<T> => {
  const { address, timeout } = globalsOf(command);
  const timeoutMs = durationOption('--timeout', timeout);
  const addresses = address.split(',').map((one) => one.trim());
  const client = await TidelineClient.connect({ addresses, timeoutMs, name: 'tideline cli' });
  try {
    return await run({ client, format: formatOf(command) });
  } finally {
    await client.close();
  }
};

export const durationOption = (name: string, text: string): number => {
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new UsageError(`${name} ${text}: a duration such as 500ms, 30s, 5m, 2h or 7d`);
  return ms;
};

export const countOption = (
  name: string,
  text: string,
  range: { readonly min: number; readonly max: number },
): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < range.min || value > range.max)
    throw new UsageError(`${name} ${text}: a whole number from ${range.min} to ${range.max}`);
  return value;
};
