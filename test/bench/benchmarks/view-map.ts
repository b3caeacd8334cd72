import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SERVER_NODE_FLAGS } from '../../../apps/cli/src/cluster-launcher.js';
import { FULL_SIZE_SECONDS, type Benchmark, type Sample } from '../bench.js';

const program = join(dirname(fileURLToPath(import.meta.url)), '..', 'view-map-probe.js');

const ENTRIES: Readonly<Record<string, number>> = { '3 M entries': 3e6, '1 M entries': 1e6 };
const ENTRIES_OF_A_SHORT_RUN = 100_000;

/** Each part in a process of its own: the memory of the one is not what the other one left behind. */
const probe = (args: readonly string[], flags: readonly string[] = []): Promise<Record<string, number>> =>
  new Promise((resolve, reject) => {
    const child = fork(program, args, { execArgv: ['--expose-gc', ...flags], stdio: 'inherit' });
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
        const entries = String(seconds >= FULL_SIZE_SECONDS ? wanted : ENTRIES_OF_A_SHORT_RUN);
        const alone = await probe(['alone', entries]);
        // With the flags of a server: how much room V8 gives itself says how often it collects garbage.
        const hosted = await probe(['hosted', entries, directory], SERVER_NODE_FLAGS);
        return { value: alone['after inserts B/entry'], also: { ...alone, ...hosted } };
      },
      stop: () => Promise.resolve(),
    }),
};
