import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findOnPath } from './processes.js';
import type { Sample } from './bench.js';

/** Load over HTTP by wrk (Debian's), which takes little of the machine away from the server. */
export interface WrkLoad {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  /** Lua that defines request(). */
  readonly script: string;
  readonly directory: string;
}

export const wrkIsInstalled = (): boolean => findOnPath('wrk') !== null;

/** @throws when wrk is missing, or when any answer was not 2xx or 3xx */
export const runWrk = (load: WrkLoad): Promise<Sample> => {
  const binary = findOnPath('wrk');
  if (!binary) return Promise.reject(new Error('wrk is not installed (Debian: apt-get install wrk)'));
  const file = join(load.directory, `wrk-${process.pid}-${Math.floor(performance.now() * 1000)}.lua`);
  const report = `
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end`;
  writeFileSync(file, load.script + report);
  const args = [
    '-t',
    '1',
    '-c',
    String(load.connections),
    '-d',
    `${Math.max(1, Math.round(load.seconds))}s`,
    '--timeout',
    '10s',
    '--latency',
    '-s',
    file,
    load.url,
  ];
  return new Promise((resolve, reject) => {
    execFile(binary, args, { timeout: (load.seconds + 30) * 1000 }, (error, stdout) => {
      if (error) return reject(error);
      const match = /RESULT (\d+) (\d+) (\d+) (\d+) (\d+)/.exec(stdout);
      if (!match) return reject(new Error(`wrk said: ${stdout}`));
      const [requests, durationUs, p50Us, p99Us, errors] = match.slice(1).map(Number);
      if (errors > 0) return reject(new Error(`${errors} of ${requests} answers were errors`));
      resolve({
        value: requests / (durationUs / 1e6),
        operations: requests,
        p50Ms: p50Us / 1000,
        p99Ms: p99Us / 1000,
      });
    });
  });
};
