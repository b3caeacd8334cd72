import { mkdirSync } from 'node:fs';
import { FULL_SIZE_SECONDS, type Benchmark, type Sample } from '../bench.js';
import { viewMapProbe } from '../run-view-map-probe.js';

const ENTRIES: Readonly<Record<string, number>> = { '3 M entries': 3e6, '1 M entries': 1e6 };
const ENTRIES_OF_A_SHORT_RUN = 20_000;

export const archiveTurn: Benchmark = {
  name: 'archive-turn',
  unit: 'ms',
  higherIsBetter: false,
  summary:
    'the longest turn of a host’s event loop while a million entries expire at once and leave by way of their archive in SQLite',
  cases: Object.keys(ENTRIES),
  peers: [],
  ours: ({ directory }, which) =>
    Promise.resolve({
      description: 'a host of a view with an archive, in a process of its own',
      warmUp: () => Promise.resolve(),
      run: async (seconds): Promise<Sample> => {
        const entries = seconds >= FULL_SIZE_SECONDS ? ENTRIES[which] : ENTRIES_OF_A_SHORT_RUN;
        mkdirSync(directory, { recursive: true });
        const figures = await viewMapProbe('archived', entries, directory);
        return { value: figures['expiring pause ms'], also: figures };
      },
      stop: () => Promise.resolve(),
    }),
};
