import { describe, expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { MUTANTS } from './mutants.js';
import { SCENARIOS } from './scenarios/index.js';

/** The simulator is a program of its own, compiled; `npm test` compiles it before. */
const PROGRAM = join(import.meta.dirname, '..', '..', 'dist', 'test', 'sim', 'main.js');
const SEEDS = Number(process.env['SIM_SEEDS'] ?? 300);
const PROCESSES = Math.min(4, availableParallelism());
const MINUTE = 60_000;
/** A mutant must be found within so many seeds. */
const MUTANT_SEEDS = 200;

interface Ended {
  readonly code: number;
  readonly output: string;
}

const simulate = (...args: readonly string[]): Promise<Ended> =>
  new Promise((resolve, reject) => {
    expect(existsSync(PROGRAM)).toBe(true);
    execFile(
      process.execPath,
      [PROGRAM, '--quiet', ...args],
      { maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : Number(error.code);
        if (code === 0 || code === 1) resolve({ code, output: `${stdout}${stderr}` });
        else reject(error!);
      },
    );
  });

/** The output is what a reader needs when it fails. */
const expectNoFailure = ({ code, output }: Ended): void => {
  if (code !== 0) throw new Error(output);
};

describe('the simulator', () => {
  test(
    `finds nothing wrong in ${SEEDS} seeds`,
    async () => {
      const each = Math.ceil(SEEDS / PROCESSES);
      const parts = Array.from({ length: PROCESSES }, (_, i) => i * each);
      const ended = await Promise.all(
        parts.map((from) => simulate('--seeds', String(Math.min(each, SEEDS - from)), '--from', String(from + 1))),
      );
      for (const one of ended) expectNoFailure(one);
    },
    8 * MINUTE,
  );

  test(
    'does the same again for the same seed, and something else for another',
    async () => {
      const hashes = await Promise.all(
        ['7', '7', '8'].map(async (seed) => {
          const ended = await simulate('--seed', seed);
          expectNoFailure(ended);
          return /^trace hash ([0-9a-f]{16})$/m.exec(ended.output)?.[1];
        }),
      );
      expect(hashes[0]).toBeDefined();
      expect(hashes[1]).toBe(hashes[0]);
      expect(hashes[2]).not.toBe(hashes[0]);
    },
    MINUTE,
  );

  test('refuses what it does not know', async () => {
    await expect(simulate('--mutant', 'no-such-defect')).rejects.toMatchObject({ code: 2 });
    await expect(simulate('--scenario', 'no-such-story')).rejects.toMatchObject({ code: 2 });
  });

  test.each(Object.keys(SCENARIOS))(
    'scenario: %s',
    async (scenario) => {
      expectNoFailure(await simulate('--scenario', scenario, '--seeds', '3'));
    },
    2 * MINUTE,
  );

  test.each(Object.keys(MUTANTS))(
    `finds the mutant %s within ${MUTANT_SEEDS} seeds, and says how to see it again`,
    async (mutant) => {
      const { code, output } = await simulate('--seeds', String(MUTANT_SEEDS), '--mutant', mutant);
      expect(code).toBe(1);
      expect(output).toMatch(/^(invariant \d+|failed): /m);
      expect(output).toMatch(new RegExp(`^seed \\d+, commit .*, mutant ${mutant}$`, 'm'));
      expect(output).toMatch(new RegExp(`^again: npm run sim -- --seed \\d+ --mutant ${mutant}$`, 'm'));
    },
    3 * MINUTE,
  );
});
