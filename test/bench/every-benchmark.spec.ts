import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from '@jest/globals';
import { benchmarks } from './benchmarks/index.js';
import { wrkIsInstalled } from './wrk.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** These have tests of their own in bench.spec.ts. */
const MEASURED_ELSEWHERE = new Set(['put-native', 'tail', 'replay']);

const NEED_WRK = new Set(['put-rest', 'get-rest']);

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const run = (args: readonly string[], timeout: number): Promise<Ended> =>
  new Promise((resolve) => {
    execFile(
      process.execPath,
      [...args],
      { cwd: root, timeout, maxBuffer: 16 * 1024 * 1024 },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr }),
    );
  });

beforeAll(async () => {
  expect((await run([join(root, 'apps/cli/bin/build.mjs'), '--if-needed'], 60_000)).code).toBe(0);
}, 60_000);

/** Whether it works, from the start of what it needs to the end of it; what it measures in a moment says nothing. */
test.each(benchmarks.map(({ name }) => name).filter((name) => !MEASURED_ELSEWHERE.has(name)))(
  '%s measures its first case for a moment',
  async (name) => {
    const program = join(root, 'dist', 'test', 'bench', 'main.js');
    const { code, stdout, stderr } = await run(
      [program, name, '--first', '--seconds', '0.5', '--runs', '1', '--json'],
      100_000,
    );
    if (NEED_WRK.has(name) && !wrkIsInstalled()) {
      expect(code).not.toBe(0);
      expect(stderr).toContain('wrk is not installed (Debian: apt-get install wrk)');
      return;
    }
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { ours, unit } = JSON.parse(stdout) as { readonly ours: number; readonly unit: string };
    expect(ours).toBeGreaterThan(0);
    expect(unit).not.toBe('');
  },
  110_000,
);
