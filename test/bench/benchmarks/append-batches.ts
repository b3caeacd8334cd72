import { TidelineClient } from '#client';
import type { Benchmark } from '../bench.js';
import { runInFlight } from '../in-flight.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';

/** Batches of 1,000 records of 100 bytes, 16 under way. */
const RECORDS = 1000;
const IN_FLIGHT = 16;

export const appendBatches: Benchmark = {
  name: 'append-batches',
  unit: 'records/s',
  higherIsBetter: true,
  summary: `ingest of 100-byte records in batches of ${RECORDS}, ${IN_FLIGHT} in flight, replicated and synced`,
  cases: [''],
  peers: [],
  ours: async ({ directory }) => {
    const cluster = await startTideline(directory);
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    const value = Buffer.alloc(100, 'v');
    const records = Array.from({ length: RECORDS }, () => ({ value }));
    return {
      description: TIDELINE_DESCRIPTION,
      run: (seconds) =>
        cluster.measured(async () => {
          const sample = await runInFlight({ inFlight: IN_FLIGHT, seconds }, () =>
            client.append('default', records, { partition: 0 }),
          );
          return { ...sample, value: sample.value * RECORDS, operations: sample.operations! * RECORDS };
        }),
      stop: async () => {
        await client.close();
        await cluster.stop();
      },
    };
  },
};
