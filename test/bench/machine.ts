import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { findOnPath } from './processes.js';

/** First line of what a program says, or null. */
const firstLine = (program: string, args: readonly string[]): string | null => {
  const binary = findOnPath(program);
  if (!binary) return null;
  try {
    // wrk says its version with its usage, and exit status 1.
    return execFileSync('/bin/sh', ['-c', '"$0" "$@" 2>&1 || true', binary, ...args], {
      encoding: 'utf8',
      timeout: 5000,
    })
      .split('\n')[0]
      .trim();
  } catch {
    return null;
  }
};

/** What a figure depends on, for the JSON: a peer that is not installed is null. */
export const machine = (): Readonly<Record<string, unknown>> => ({
  cores: availableParallelism(),
  cpu: cpus()[0]?.model ?? '',
  memoryGiB: Math.round(totalmem() / 1024 ** 3),
  platform: `${process.platform} ${release()} ${process.arch}`,
  versions: {
    node: process.version,
    etcd: firstLine('etcd', ['--version']),
    nats: firstLine('nats-server', ['--version']),
    wrk: firstLine('wrk', ['--version']),
  },
});
