import { TidelineClient } from '#client';
import type { Benchmark } from '../bench.js';
import { runInFlight } from '../in-flight.js';
import { leadingNumber } from '../looping.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';

/** A batch's, of 100 bytes each. */
const RECORDS = 1000;

export const appendBatches: Benchmark = {
  name: 'append-batches',
  unit: 'records/s',
  higherIsBetter: true,
  summary: `ingest of 100-byte records in batches of ${RECORDS}, replicated and synced`,
  cases: ['16 in flight', '32 in flight'],
  peers: [],
  ours: async ({ directory }, which) => {
    const cluster = await startTideline(directory);
    const client = await TidelineClient.connect({ addresses: [...cluster.addresses] });
    const value = Buffer.alloc(100, 'v');
    const records = Array.from({ length: RECORDS }, () => ({ value }));
    return {
      description: TIDELINE_DESCRIPTION,
      run: (seconds) =>
        cluster.measured(async () => {
          const sample = await runInFlight({ inFlight: leadingNumber(which), seconds }, () =>
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
