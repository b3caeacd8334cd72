import { quantile, type Sample } from './bench.js';

/** Issues operations so that `inFlight` are always under way, for `seconds`. The operation gets a running number. */
export const runInFlight = async (
  options: { readonly inFlight: number; readonly seconds: number },
  operation: (n: number) => Promise<unknown>,
): Promise<Sample> => {
  const { inFlight, seconds } = options;
  const latencies: number[] = [];
  const began = performance.now();
  const until = began + seconds * 1000;
  let issued = 0;
  let completed = 0;
  const worker = async (): Promise<void> => {
    for (let now = performance.now(); now < until;) {
      await operation(issued++);
      const after = performance.now();
      latencies.push(after - now);
      completed++;
      now = after;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  const elapsed = (performance.now() - began) / 1000;
  return {
    value: completed / elapsed,
    operations: completed,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
  };
};
