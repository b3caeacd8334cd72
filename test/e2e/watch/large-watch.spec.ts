import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ViewHost } from '#apps/materializer';
import { TidelineClient } from '#client';
import { asOffset, systemClock, systemScheduler } from '#kernel';
import { encodeBatch } from '#wire';
import { EventReader } from '../support/event-source.js';
import { startTestGateway, type TestGateway } from '../support/test-gateway.js';
import { serveOverTcp, type ViewHostOverTcp } from '../support/view-host-over-tcp.js';

const ENTRIES = 100_000;
const BATCH = 5_000;
const TARGET = { topic: 'default', partition: 0 };

let gateway: TestGateway;
let served: ViewHostOverTcp;

const append = (keys: readonly string[], value = 'v'): Promise<unknown> =>
  gateway.log.append(
    TARGET,
    encodeBatch(
      keys.map((key) => ({ key: Buffer.from(key), value: Buffer.from(value) })),
      { createTime: 1 },
    ),
    { acks: 'quorum' },
  );

const keyOf = (n: number): string => `key-${String(n).padStart(6, '0')}`;

beforeAll(async () => {
  gateway = await startTestGateway({
    viewQuery: async (log) => {
      const host = new ViewHost({ log, clock: systemClock, scheduler: systemScheduler });
      served = await serveOverTcp(host);
      return served.query;
    },
  });
  for (let n = 0; n < ENTRIES; n += BATCH) await append(Array.from({ length: BATCH }, (_, i) => keyOf(n + i)));
  await served.query.get({
    view: 'default',
    partition: 0,
    key: Buffer.from('k'),
    at: { offset: asOffset(ENTRIES), time: null },
    timeoutMs: 20_000,
  });
});
afterAll(async () => {
  await gateway.stop();
  await served.close();
});

test('a view of 100,000 entries elsewhere is watched over HTTP by a reader that pauses, to the last entry', async () => {
  const watch = new EventReader(`${gateway.url}/v1/views/default/watch`);
  try {
    await watch.first(1);
    watch.pause();
    // Passed already, and still to come.
    await append([keyOf(0), keyOf(ENTRIES - 1)], 'changed');
    watch.resume();
    let looked = 0;
    await watch.until(() => {
      while (looked < watch.events.length && watch.events[looked].event === 'put') looked++;
      return looked < watch.events.length;
    });
    await append(['zzz']);
    await watch.until(() => watch.events.at(-1)!.data.includes('zzz'));
    expect(watch.events.map(({ event }) => event).filter((event) => event !== 'put')).toEqual(['live']);
    const last = new Map<string, string>();
    for (const { event, data } of watch.events) {
      if (event !== 'put') continue;
      const { key, value } = JSON.parse(data) as { key: string; value: string };
      last.set(key, value);
    }
    expect(last.size).toBe(ENTRIES + 1);
    expect([last.get(keyOf(0)), last.get(keyOf(1)), last.get(keyOf(ENTRIES - 1))]).toEqual(['changed', 'v', 'changed']);
  } finally {
    watch.close();
  }
});

test('and through the SDK', async () => {
  const client = await TidelineClient.connect({ addresses: [`127.0.0.1:${gateway.nativePort}`] });
  try {
    const keys = new Set<string>();
    let restarts = 0;
    await new Promise<void>((resolve, reject) => {
      const subscription = client.watch('default', { prefix: 'key-' }).subscribe({
        next: (event) => {
          if (event.type === 'put') keys.add(event.entry.key.toString());
          if (event.type === 'restart') restarts++;
          if (event.type !== 'live') return;
          subscription.unsubscribe();
          resolve();
        },
        error: reject,
      });
    });
    expect([keys.size, restarts]).toEqual([ENTRIES, 0]);
  } finally {
    await client.close();
  }
});
