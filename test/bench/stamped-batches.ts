import { BatchSource } from '../../libs/views/src/testing/index.js';
import { VALUE } from './workload.js';

/** A committed log of sets, as a host of views is given it: batches of 1,000 records of a 20-byte key and a 100-byte value. */
export const BATCH_RECORDS = 1000;

export const setsOf = function* (
  entries: number,
  options: { readonly ttlMs?: number; readonly source?: BatchSource } = {},
): Generator<Buffer> {
  const { ttlMs, source = new BatchSource() } = options;
  for (let from = 0; from < entries; from += BATCH_RECORDS) {
    const size = Math.min(BATCH_RECORDS, entries - from);
    yield source.records(
      Array.from({ length: size }, (_, i) => ({
        key: Buffer.from(`bench-key-${String(from + i).padStart(10, '0')}`),
        value: VALUE,
        ...(ttlMs !== undefined && { ttlMs }),
      })),
    );
  }
};
