import type { TidelineClient } from '#client';

/** What all benchmarks of entries write and read: values of 100 bytes under keys of 20. */
export const VALUE = Buffer.alloc(100, 'v');
export const KEYS = 100_000;

export const keyOf = (n: number): string => `bench-key-${String(n % KEYS).padStart(10, '0')}`;

const FILL_BATCH = 1000;
const FILL_IN_FLIGHT = 16;

/** Sets `count` entries by appending them in batches, the quickest way there is; resolves when all are committed. */
export const fillEntries = async (
  client: TidelineClient,
  count: number,
  options: { readonly topic?: string; readonly key?: (n: number) => string } = {},
): Promise<void> => {
  const { topic = 'default', key = keyOf } = options;
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const from = next;
      next = Math.min(count, from + FILL_BATCH);
      const size = next - from;
      await client.append(
        topic,
        Array.from({ length: size }, (_, i) => ({ key: key(from + i), value: VALUE })),
      );
    }
  };
  await Promise.all(Array.from({ length: FILL_IN_FLIGHT }, worker));
};

/** Calls `put` for 0 … count − 1, 64 at a time: for peers that take entries one by one. */
export const fillOneByOne = async (count: number, put: (n: number) => Promise<unknown>): Promise<void> => {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await put(next++);
  };
  await Promise.all(Array.from({ length: 64 }, worker));
};
