import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FULL_SIZE_SECONDS, type Benchmark, type Sample } from '../bench.js';

const program = join(dirname(fileURLToPath(import.meta.url)), '..', 'memory-probe.js');

interface Probe {
  readonly entries: number;
  readonly resident: number;
  readonly heap: number;
  readonly external: number;
  readonly own: number;
}

const ENTRIES: Readonly<Record<string, number>> = { '3 M entries': 3e6, '1 M entries': 1e6, '100 k entries': 1e5 };
const EXPIRING = '1 M expiring entries';
const ENTRIES_OF_A_SHORT_RUN = 100_000;
const DAY_MS = 24 * 3600 * 1000;

const probe = (args: readonly number[]): Promise<Probe> =>
  new Promise((resolve, reject) => {
    const child = fork(program, args.map(String), { execArgv: ['--expose-gc'], stdio: 'inherit' });
    child.once('message', (message) => resolve(message as Probe));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the probe ended with ${code}`)));
  });

export const memory: Benchmark = {
  name: 'memory',
  unit: 'bytes/entry',
  higherIsBetter: false,
  summary: 'resident memory that a map view of 20-byte keys and 100-byte values takes, all told, per entry',
  cases: [...Object.keys(ENTRIES), EXPIRING],
  peers: [],
  ours: (_settings, which) => {
    const wanted = ENTRIES[which] ?? 1e6;
    const ttlMs = which === EXPIRING ? [DAY_MS] : [];
    return Promise.resolve({
      description: 'a map view in a process of its own',
      warmUp: () => Promise.resolve(),
      run: async (seconds): Promise<Sample> => {
        const entries = seconds >= FULL_SIZE_SECONDS ? wanted : Math.min(wanted, ENTRIES_OF_A_SHORT_RUN);
        const taken = await probe([entries, ...ttlMs]);
        return {
          value: taken.resident / taken.entries,
          also: {
            'heap bytes': taken.heap / taken.entries,
            'outside the heap bytes': taken.external / taken.entries,
            'as the view says bytes': taken.own / taken.entries,
          },
        };
      },
      stop: () => Promise.resolve(),
    });
  },
};
