import { describe, expect, test } from '@jest/globals';
import { TidelineError, asOffset } from '#kernel';
import { encodeBatch } from '#wire';
import type { ViewQuery } from '#views';
import { MemoryCommandLog } from '../../../libs/command-log/src/testing/index.js';
import { GatewayServices } from './gateway-services.js';

const gatewayOver = (views: Partial<ViewQuery>, topics = [{ name: 't', partitions: 4 }]) => {
  const log = new MemoryCommandLog({ topics });
  return { log, services: new GatewayServices({ log, views: views as ViewQuery }) };
};

const records = Array.from({ length: 20 }, (_, n) => ({ key: Buffer.from(`k${n}`), value: Buffer.from('v') }));
const QUORUM = { acks: 'quorum', idempotencyKey: null } as const;

describe('an outcome', () => {
  test('is unknown when some partitions have their records and others not, and says which have', async () => {
    const { log, services } = gatewayOver({});
    await services.writes.append('t', records, QUORUM);
    log.cluster.log('t', 2).leader = 0 as never;
    log.cluster.log('t', 2).commitLimit = 0;
    const failing = new GatewayServices({ log, views: {} as ViewQuery, limits: { writeTimeoutMs: 100 } });
    const error: TidelineError = await failing.writes
      .append('t', records, { acks: 'quorum', idempotencyKey: 'once' })
      .then(
        () => {
          throw new Error('it did not fail');
        },
        (thrown: TidelineError) => thrown,
      );
    expect(error).toMatchObject({ outcome: 'unknown' });
    const have = error.details['partitions'] as { partition: number; firstOffset: number }[];
    expect(have.map(({ partition }) => partition)).toEqual([0, 1, 3]);
    log.cluster.log('t', 2).commitLimit = Number.POSITIVE_INFINITY;
    log.cluster.log('t', 2).elect(log.node.id);
    const completed = await services.writes.append('t', records, { acks: 'quorum', idempotencyKey: 'once' });
    expect(completed.partitions).toHaveLength(4);
    for (const { partition, firstOffset } of have)
      expect(completed.partitions[partition].firstOffset).toBe(firstOffset);
    await log.close();
  });

  test('is unknown when the record is in the log and the view does not answer, whatever the view says', async () => {
    for (const code of ['not-ready', 'timeout', 'result-evicted', 'unknown-view'] as const) {
      const { log, services } = gatewayOver({ results: () => Promise.reject(new TidelineError(code, 'no')) });
      const write = services.writes.put(
        't',
        Buffer.from('k'),
        { value: Buffer.from('v'), contentType: null, ttlMs: null, condition: { kind: 'absent' } },
        QUORUM,
      );
      await expect(write).rejects.toMatchObject({ code, outcome: 'unknown' });
      await log.close();
    }
  });

  test('is rejected, with the offset, when the view has refused the record', async () => {
    const { log, services } = gatewayOver({
      results: () =>
        Promise.resolve({
          results: [{ ok: false, code: 'condition-failed', message: '', value: '', entryOffset: asOffset(7) }],
          position: { offset: asOffset(9), logTime: 1 as never },
        }),
    });
    const write = services.writes.delete('t', Buffer.from('k'), { kind: 'present' }, QUORUM);
    await expect(write).rejects.toMatchObject({
      code: 'condition-failed',
      outcome: 'rejected',
      details: { entryOffset: 7, offset: expect.any(Number) },
    });
    await log.close();
  });
});

test('records without a key take turns over the partitions, and with an Idempotency-Key always go to the same', async () => {
  const { log, services } = gatewayOver({});
  const keyless = [{ value: Buffer.from('v') }];
  const where = new Set<number>();
  for (let i = 0; i < 4; i++) where.add((await services.writes.append('t', keyless, QUORUM)).partitions[0].partition);
  expect(where.size).toBe(4);
  const once = { acks: 'quorum', idempotencyKey: 'k' } as const;
  const first = await services.writes.append('t', keyless, once);
  expect((await services.writes.append('t', keyless, once)).partitions[0].firstOffset).toBe(
    first.partitions[0].firstOffset,
  );
  await log.close();
});

test('requests that come together share a batch', async () => {
  const { log, services } = gatewayOver({}, [{ name: 't', partitions: 1 }]);
  await services.writes.append('t', [records[0]], QUORUM);
  const { append } = log.node.calls;
  await Promise.all(records.map((record) => services.writes.append('t', [record], QUORUM)));
  expect(log.node.calls.append - append).toBeLessThanOrEqual(2);
  await log.close();
});

test("a native client's batch is checked before it goes on", async () => {
  const { log, services } = gatewayOver({});
  const batch = encodeBatch([{ key: Buffer.alloc(5000), value: null }], { createTime: 1 });
  const options = { acks: 'quorum', timeoutMs: 0 } as const;
  await expect(services.writes.appendBatch({ topic: 't', partition: 0 }, batch, options)).rejects.toMatchObject({
    code: 'key-too-large',
  });
  expect(log.node.calls.append).toBe(0);
  await log.close();
});

test('a batch that was damaged on its way says so, whatever its records look like', async () => {
  const { log, services } = gatewayOver({});
  const target = { topic: 't', partition: 0 };
  const options = { acks: 'quorum', timeoutMs: 0 } as const;
  const batch = encodeBatch([{ key: Buffer.alloc(5000), value: Buffer.from('v') }], { createTime: 1 });
  for (let at = 0; at < batch.length; at += 7) {
    const damaged = Buffer.from(batch);
    damaged[at] ^= 0x10;
    const error = await services.writes.appendBatch(target, damaged, options).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ outcome: 'rejected' });
    expect(['malformed-batch', 'unsupported-version']).toContain((error as { code: string }).code);
  }
  await log.close();
});
