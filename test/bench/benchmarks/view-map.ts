import { FULL_SIZE_SECONDS, type Benchmark, type Sample } from '../bench.js';
import { viewMapProbe } from '../run-view-map-probe.js';

const ENTRIES: Readonly<Record<string, number>> = { '3 M entries': 3e6, '1 M entries': 1e6 };
const ENTRIES_OF_A_SHORT_RUN = 100_000;

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
        const entries = seconds >= FULL_SIZE_SECONDS ? wanted : ENTRIES_OF_A_SHORT_RUN;
        const alone = await viewMapProbe('alone', entries);
        const hosted = await viewMapProbe('hosted', entries, directory);
        return { value: alone['after inserts B/entry'], also: { ...alone, ...hosted } };
      },
      stop: () => Promise.resolve(),
    }),
};
