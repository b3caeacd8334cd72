import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asOffset, type TidelineError } from '#kernel';
import { encodeBatch } from '#wire';
import type { ViewQuery } from '#views';
import { MemoryCommandLog, VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { GatewayServices } from './gateway-services.js';
import { parsePosition } from './stream-position.js';
import type { TailRequest, TailStream } from './tail-stream.js';

const EARLIEST: TailRequest = {
  topic: 't',
  partition: null,
  start: { kind: 'earliest' },
  after: null,
  keyPrefix: null,
  type: null,
};

const start = async (partitions = 1) => {
  const time = new VirtualTime();
  const log = new MemoryCommandLog({ topics: [{ name: 't', partitions }], clock: time, scheduler: time });
  const services = new GatewayServices({
    log,
    views: {} as ViewQuery,
    time: { clock: time, scheduler: time },
    limits: { tailCreditBytes: 64 * 1024, slowReaderMs: 1000 },
  });
  const until = async <T>(promise: Promise<T>): Promise<T> => {
    const state = { over: false };
    const watched = promise.finally(() => {
      state.over = true;
    });
    watched.catch(() => undefined);
    while (!state.over) await time.advance(10);
    return watched;
  };
  let next = 0;
  const append = (partition: number, count: number) =>
    until(
      log.append(
        { topic: 't', partition },
        encodeBatch(
          Array.from({ length: count }, () => ({ value: Buffer.from(String(next++)) })),
          { createTime: 1 },
        ),
        { acks: 'quorum' },
      ),
    );
  return { time, log, services, until, append };
};

describe('a tail', () => {
  test('gives every record once and in order, however its reader pauses, and resumes exactly where it was', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 6 })), { minLength: 1, maxLength: 12 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
        fc.infiniteStream(fc.boolean()),
        async (batches, runs, cuts) => {
          const { services, append, until, time } = await start(3);
          const seen: { partition: number; offset: number; value: string }[] = [];
          let position = '';
          let written = 0;
          const follow = async (): Promise<TailStream> => {
            let left = runs.next().value;
            const tail = services.tail(
              { ...EARLIEST, after: position === '' ? null : parsePosition(position, 'position') },
              {
                record: ({ partition, record }) => {
                  seen.push({ partition, offset: record.offset, value: String(record.value) });
                  position = tail.positionText;
                  if (--left > 0) return true;
                  left = runs.next().value;
                  return false;
                },
                end: (error) => {
                  throw error ?? new Error('it ended');
                },
              },
            );
            await until(tail.start());
            return tail;
          };
          let tail = await follow();
          for (const [partition, count] of batches) {
            await append(partition, count);
            written += count;
            await time.advance(1);
            tail.resume();
            if (cuts.next().value) {
              tail.stop();
              tail = await follow();
            }
          }
          while (seen.length < written) {
            await time.advance(1);
            tail.resume();
          }
          await time.settle();
          tail.stop();
          expect(seen.map((record) => record.value).toSorted((a, b) => Number(a) - Number(b))).toEqual(
            Array.from({ length: written }, (_, i) => String(i)),
          );
          for (let partition = 0; partition < 3; partition++) {
            const offsets = seen.filter((record) => record.partition === partition).map((record) => record.offset);
            expect(offsets).toEqual(offsets.toSorted((a, b) => a - b));
          }
          await services.close();
        },
      ),
      { numRuns: 15 },
    );
  });

  test('is dropped when its reader takes nothing for too long, and holds no more of the log than its credit', async () => {
    const { services, log, append, until, time } = await start();
    let error: TidelineError | null = null;
    let given = 0;
    const tail = services.tail(EARLIEST, {
      record: () => ++given < 3,
      end: (why) => {
        error = why;
      },
    });
    await until(tail.start());
    for (let i = 0; i < 50; i++) await append(0, 100);
    expect(given).toBe(3);
    await time.advance(2000);
    expect(error).toMatchObject({ code: 'too-slow', details: { position: tail.positionText } });
    await append(0, 10);
    expect(given).toBe(3);
    await until(log.close());
  });

  test('that was stopped while it started subscribes to nothing', async () => {
    const { services, log, until, append } = await start();
    await append(0, 5);
    const tail = services.tail(
      { ...EARLIEST, start: { kind: 'latest' } },
      {
        record: () => {
          throw new Error('nobody listens');
        },
        end: () => undefined,
      },
    );
    const starting = tail.start();
    tail.stop();
    await until(starting);
    expect(log.node.calls.tail).toBe(0);
  });

  test('refuses an offset where it does not say of which partition', async () => {
    const { services, until } = await start(2);
    const tail = services.tail(
      { ...EARLIEST, start: { kind: 'offset', offset: asOffset(5) } },
      { record: () => true, end: () => undefined },
    );
    await expect(until(tail.start())).rejects.toMatchObject({ code: 'bad-request' });
  });
});
