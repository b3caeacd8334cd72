/**
 * Fills one map view and says what memory that took; a process of its own, so that nothing else is in it.
 *
 *   node --expose-gc memory-probe.js ENTRIES [TTL_MS]
 */
import { BUILT_IN_TYPES, MapView } from '#views';
import { setsOf } from './stamped-batches.js';

const [entries, ttlMs] = process.argv.slice(2).map(Number);

const collect = (): void => {
  for (let i = 0; i < 4; i++) (globalThis as { gc?: () => void }).gc?.();
};

/** The code and its garbage are there before it is measured. */
const warm = new MapView({ dataTypes: BUILT_IN_TYPES });
for (const batch of setsOf(20_000)) warm.applyBatches(batch);
collect();

const before = process.memoryUsage();
const view = new MapView({ dataTypes: BUILT_IN_TYPES });
for (const batch of setsOf(entries, ttlMs ? { ttlMs } : {})) view.applyBatches(batch);
collect();
const after = process.memoryUsage();

process.send!({
  entries: view.entries,
  resident: after.rss - before.rss,
  heap: after.heapUsed - before.heapUsed,
  external: after.external - before.external,
  own: view.bytes,
});
