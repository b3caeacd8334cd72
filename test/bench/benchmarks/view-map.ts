import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FULL_SIZE_SECONDS, type Benchmark, type Sample } from '../bench.js';

const program = join(dirname(fileURLToPath(import.meta.url)), '..', 'view-map-probe.js');

const ENTRIES: Readonly<Record<string, number>> = { '3 M entries': 3e6, '1 M entries': 1e6 };
const ENTRIES_OF_A_SHORT_RUN = 100_000;

const probe = (entries: number, directory: string): Promise<Record<string, number>> =>
  new Promise((resolve, reject) => {
    const child = fork(program, [String(entries), directory], { execArgv: ['--expose-gc'], stdio: 'inherit' });
    child.once('message', (message) => resolve(message as Record<string, number>));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the probe ended with ${code}`)));
  });

export const viewMap: Benchmark = {
  name: 'view-map',
  unit: 'bytes/entry',
  higherIsBetter: false,
  summary:
    'a map view of 20-byte keys and 100-byte values: memory, sets and gets of one core, and the longest turns of its host’s event loop',
  cases: Object.keys(ENTRIES),
  peers: [],
  ours: ({ directory }, which) =>
    Promise.resolve({
      description: 'a map view and its host in a process of their own',
      warmUp: () => Promise.resolve(),
      run: async (seconds): Promise<Sample> => {
        const wanted = ENTRIES[which];
        const also = await probe(seconds >= FULL_SIZE_SECONDS ? wanted : ENTRIES_OF_A_SHORT_RUN, directory);
        return { value: also['after inserts B/entry'], also };
      },
      stop: () => Promise.resolve(),
    }),
};
