import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { asOffset, asLogTime, isTidelineError, type Offset, type TidelineError } from '#kernel';
import {
  batchFirstOffset,
  batchLastOffset,
  decodeRecords,
  encodeBatch,
  forEachBatch,
  idempotencySession,
  type BatchSession,
  type LogRecord,
} from '#wire';
import type { CommandLog, TailChunk, Target } from '../command-log.js';

export interface CommandLogHarness {
  /** Has the topic `orders` of two partitions and no topic `nowhere`. */
  readonly log: CommandLog;
  /** Lets go of what lies below the offset, if the adapter can be made to. */
  trim?(target: Target, offset: Offset): Promise<void>;
  /** Forgets all sessions, if the adapter can be made to. */
  expireSessions?(target: Target): Promise<void>;
  close(): Promise<void>;
}

const TARGET: Target = { topic: 'orders', partition: 0 };
const OTHER: Target = { topic: 'orders', partition: 1 };
const QUORUM = { acks: 'quorum' } as const;

const batchOf = (values: readonly string[], session?: BatchSession): Buffer =>
  encodeBatch(
    values.map((value) => ({ key: Buffer.from('k'), value: Buffer.from(value) })),
    { createTime: 1_000, ...(session && { session }) },
  );

const recordsOf = (batches: Buffer): LogRecord[] => {
  const records: LogRecord[] = [];
  forEachBatch(batches, (at) => {
    records.push(...decodeRecords(batches, at));
  });
  return records;
};

const valuesOf = (batches: Buffer): string[] => recordsOf(batches).map((record) => String(record.value));

const errorOf = async (promise: Promise<unknown>): Promise<TidelineError> => {
  try {
    await promise;
  } catch (error) {
    if (isTidelineError(error)) return error;
    throw error;
  }
  throw new Error('expected an error');
};

/** Everything a tail gave, and a way to wait until it has given enough. */
class Reader {
  readonly chunks: TailChunk[] = [];
  readonly records: LogRecord[] = [];
  error: unknown = null;
  private wake: (() => void) | null = null;
  private readonly subscription;

  constructor(
    log: CommandLog,
    target: Target,
    from: Offset,
    private readonly options: { readonly creditBytes?: number; readonly release?: boolean } = {},
  ) {
    const { creditBytes, release = true } = this.options;
    this.subscription = log.tail(target, from, creditBytes === undefined ? {} : { creditBytes }).subscribe({
      next: (chunk) => {
        this.chunks.push(chunk);
        this.records.push(...recordsOf(chunk.batches));
        if (release) chunk.release();
        this.wake?.();
      },
      error: (error: unknown) => {
        this.error = error;
        this.wake?.();
      },
    });
  }

  get values(): string[] {
    return this.records.map((record) => String(record.value));
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition() && this.error === null) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  stop(): void {
    this.subscription.unsubscribe();
  }
}

/** What any CommandLog must do, whatever is underneath. */
export const commandLogConformance = (name: string, create: () => Promise<CommandLogHarness>): void => {
  describe(`${name} is a command log`, () => {
    let harness: CommandLogHarness;
    let log: CommandLog;
    const readers: Reader[] = [];

    beforeEach(async () => {
      harness = await create();
      log = harness.log;
    });

    afterEach(async () => {
      for (const reader of readers.splice(0)) reader.stop();
      await harness.close();
    });

    const read = (
      target: Target,
      from: Offset,
      options?: { readonly creditBytes?: number; readonly release?: boolean },
    ): Reader => {
      const reader = new Reader(log, target, from, options);
      readers.push(reader);
      return reader;
    };

    test('an append answers the offsets of its records, which rise by one a record', async () => {
      const first = await log.append(TARGET, batchOf(['a', 'b']), QUORUM);
      const second = await log.append(TARGET, batchOf(['c']), QUORUM);
      expect(first.lastOffset).toBe(first.firstOffset + 1);
      expect(second.firstOffset).toBeGreaterThan(first.lastOffset);
      expect(second.logTime).toBeGreaterThanOrEqual(first.logTime);
      expect(first.duplicate).toBe(false);
    });

    test('partitions of a topic are logs of their own', async () => {
      await log.append(TARGET, batchOf(['here']), QUORUM);
      await log.append(OTHER, batchOf(['there']), QUORUM);
      const fetched = await log.fetch(OTHER, asOffset(1), { maxBytes: 65_536, maxWaitMs: 0 });
      expect(valuesOf(fetched.batches)).toEqual(['there']);
    });

    test('every level of acknowledgement is taken', async () => {
      for (const acks of ['none', 'leader', 'quorum'] as const) await log.append(TARGET, batchOf([acks]), { acks });
      const fetched = await log.fetch(TARGET, asOffset(1), { maxBytes: 65_536, maxWaitMs: 0 });
      expect(valuesOf(fetched.batches)).toEqual(['none', 'leader', 'quorum']);
    });

    test('fetch gives whole batches from the one that contains the offset, and says where to go on', async () => {
      const { firstOffset, lastOffset } = await log.append(TARGET, batchOf(['a', 'b', 'c']), QUORUM);
      const next = await log.append(TARGET, batchOf(['d']), QUORUM);
      const fetched = await log.fetch(TARGET, asOffset(firstOffset + 1), { maxBytes: 1, maxWaitMs: 0 });
      expect(batchFirstOffset(fetched.batches)).toBe(firstOffset);
      expect(batchLastOffset(fetched.batches)).toBe(lastOffset);
      expect(fetched.nextOffset).toBe(lastOffset + 1);
      expect(fetched.commitOffset).toBe(next.lastOffset);
      const rest = await log.fetch(TARGET, fetched.nextOffset, { maxBytes: 65_536, maxWaitMs: 0 });
      expect(valuesOf(rest.batches)).toEqual(['d']);
    });

    test('fetch at the end waits for the next batch', async () => {
      const { lastOffset } = await log.append(TARGET, batchOf(['a']), QUORUM);
      const waiting = log.fetch(TARGET, asOffset(lastOffset + 1), { maxBytes: 65_536, maxWaitMs: 20_000 });
      await log.append(TARGET, batchOf(['b']), QUORUM);
      expect(valuesOf((await waiting).batches)).toEqual(['b']);
    });

    test('fetch at the end gives nothing when its time is over, and the same place to go on', async () => {
      const { lastOffset } = await log.append(TARGET, batchOf(['a']), QUORUM);
      const from = asOffset(lastOffset + 1);
      const fetched = await log.fetch(TARGET, from, { maxBytes: 65_536, maxWaitMs: 1 });
      expect(fetched.batches).toHaveLength(0);
      expect(fetched.nextOffset).toBe(from);
    });

    test('tail gives what is there and then what comes, in order and once', async () => {
      for (const value of ['a', 'b']) await log.append(TARGET, batchOf([value]), QUORUM);
      const reader = read(TARGET, asOffset(1));
      await reader.until(() => reader.records.length >= 2);
      for (const value of ['c', 'd']) await log.append(TARGET, batchOf([value]), QUORUM);
      await reader.until(() => reader.records.length >= 4);
      expect(reader.values).toEqual(['a', 'b', 'c', 'd']);
    });

    test('tail from a position goes on exactly there', async () => {
      for (const value of ['a', 'b', 'c']) await log.append(TARGET, batchOf([value]), QUORUM);
      const first = read(TARGET, asOffset(1));
      await first.until(() => first.values.includes('b'));
      first.stop();
      const seen = first.records.length;
      const second = read(TARGET, first.chunks.at(-1)!.nextOffset);
      await log.append(TARGET, batchOf(['d']), QUORUM);
      await second.until(() => second.values.includes('d'));
      expect([...first.values.slice(0, seen), ...second.values]).toEqual(['a', 'b', 'c', 'd']);
    });

    test('tail stops when its credit is used up and goes on when chunks are released', async () => {
      const big = 'x'.repeat(4_000);
      for (let i = 0; i < 100; i++) await log.append(TARGET, batchOf([big]), QUORUM);
      const reader = read(TARGET, asOffset(1), { creditBytes: 1_000, release: false });
      // A control batch at the head of the log may come first; it leaves credit.
      await reader.until(() => reader.records.length >= 1);
      // A later answer of the log shows that the source had its chance to send more.
      for (let i = 0; i < 3; i++) await log.barrier(TARGET);
      expect(reader.chunks.filter((chunk) => recordsOf(chunk.batches).length > 0)).toHaveLength(1);
      while (reader.records.length < 100) {
        const { length } = reader.chunks;
        reader.chunks.at(-1)!.release();
        await reader.until(() => reader.chunks.length > length);
        expect(reader.error).toBeNull();
      }
      expect(reader.records).toHaveLength(100);
    });

    test('releasing a chunk twice gives its credit once', async () => {
      const big = 'x'.repeat(40_000);
      for (let i = 0; i < 20; i++) await log.append(TARGET, batchOf([big]), QUORUM);
      const reader = read(TARGET, asOffset(1), { creditBytes: 1_000, release: false });
      await reader.until(() => reader.chunks.length >= 1);
      const { length } = reader.chunks;
      reader.chunks[length - 1].release();
      reader.chunks[length - 1].release();
      await reader.until(() => reader.chunks.length > length);
      for (let i = 0; i < 3; i++) await log.barrier(TARGET);
      expect(reader.chunks).toHaveLength(length + 1);
    });

    test('a barrier covers every append acknowledged before it, and its time does not go back', async () => {
      const { lastOffset, logTime } = await log.append(TARGET, batchOf(['a']), QUORUM);
      const first = await log.barrier(TARGET);
      expect(first.offset).toBeGreaterThanOrEqual(lastOffset);
      expect(first.time).toBeGreaterThanOrEqual(logTime);
      const appended = await log.append(TARGET, batchOf(['b']), QUORUM);
      const barriers = await Promise.all([log.barrier(TARGET), log.barrier(TARGET), log.barrier(TARGET)]);
      for (const barrier of barriers) {
        expect(barrier.offset).toBeGreaterThanOrEqual(appended.lastOffset);
        expect(barrier.time).toBeGreaterThanOrEqual(first.time);
      }
    });

    test('the description names topics, partitions and leaders', async () => {
      const topic = await log.topic('orders');
      expect(topic.partitions.map((partition) => partition.partition)).toEqual([0, 1]);
      const description = log.describe();
      expect(description.topics.map((each) => each.name)).toContain('orders');
      const leader = topic.partitions[0].leader;
      expect(description.nodes.map((node) => node.id)).toContain(leader);
    });

    test('changes begins with the description as it is', async () => {
      await log.topic('orders');
      let heard: unknown = null;
      const subscription = log.changes.subscribe((description) => {
        heard = description.topics.map((topic) => topic.name);
      });
      subscription.unsubscribe();
      expect(heard).toContain('orders');
    });

    test('a batch of a session that comes again takes effect once and gets its first answer', async () => {
      const session = await log.openSession(TARGET);
      const batch = (): Buffer => batchOf(['once'], { low: session, high: 0, sequence: 1 });
      const first = await log.append(TARGET, batch(), QUORUM);
      const again = await log.append(TARGET, batch(), QUORUM);
      expect(again).toMatchObject({ firstOffset: first.firstOffset, lastOffset: first.lastOffset, duplicate: true });
      const fetched = await log.fetch(TARGET, first.firstOffset, { maxBytes: 65_536, maxWaitMs: 0 });
      expect(valuesOf(fetched.batches)).toEqual(['once']);
    });

    test('a batch of a session waits for its predecessor', async () => {
      const session = await log.openSession(TARGET);
      const second = log.append(TARGET, batchOf(['2'], { low: session, high: 0, sequence: 2 }), QUORUM);
      const first = log.append(TARGET, batchOf(['1'], { low: session, high: 0, sequence: 1 }), QUORUM);
      expect((await second).firstOffset).toBeGreaterThan((await first).lastOffset);
    });

    test('a gap that is not filled in time is a rejection, or unknown if an attempt was under way then', async () => {
      const session = await log.openSession(TARGET);
      const batch = batchOf(['2'], { low: session, high: 0, sequence: 2 });
      const error = await errorOf(log.append(TARGET, batch, { acks: 'quorum', timeoutMs: 100 }));
      const { code, outcome } = error;
      expect([
        { code: 'sequence-gap', outcome: 'rejected' },
        { code: 'timeout', outcome: 'unknown' },
      ]).toContainEqual({ code, outcome });
      const first = await log.append(TARGET, batchOf(['1'], { low: session, high: 0, sequence: 1 }), QUORUM);
      expect(first.duplicate).toBe(false);
    });

    test('a sequence number used for another batch is a rejection', async () => {
      const session = await log.openSession(TARGET);
      await log.append(TARGET, batchOf(['a'], { low: session, high: 0, sequence: 1 }), QUORUM);
      const error = await errorOf(
        log.append(TARGET, batchOf(['other'], { low: session, high: 0, sequence: 1 }), QUORUM),
      );
      expect(error).toMatchObject({ code: 'sequence-reused', outcome: 'rejected' });
    });

    test('a session nobody opened is a rejection', async () => {
      const error = await errorOf(
        log.append(TARGET, batchOf(['a'], { low: 987_654_321, high: 0, sequence: 1 }), QUORUM),
      );
      expect(error).toMatchObject({ code: 'session-expired', outcome: 'rejected' });
    });

    test('an expired session is a rejection', async () => {
      if (!harness.expireSessions) return;
      const session = await log.openSession(TARGET);
      await harness.expireSessions(TARGET);
      const error = await errorOf(log.append(TARGET, batchOf(['a'], { low: session, high: 0, sequence: 1 }), QUORUM));
      expect(error).toMatchObject({ code: 'session-expired', outcome: 'rejected' });
    });

    test('an idempotency key makes a batch take effect once, and another batch under it a conflict', async () => {
      const session = idempotencySession('order 42');
      const first = await log.append(TARGET, batchOf(['a'], session), QUORUM);
      const again = await log.append(TARGET, batchOf(['a'], session), QUORUM);
      expect(again.firstOffset).toBe(first.firstOffset);
      expect(again.duplicate).toBe(true);
      const error = await errorOf(log.append(TARGET, batchOf(['b'], session), QUORUM));
      expect(error.code).toBe('idempotency-conflict');
    });

    test('an unknown topic and an unknown partition are errors of every call', async () => {
      const nowhere = { topic: 'nowhere', partition: 0 };
      const beyond = { topic: 'orders', partition: 7 };
      expect((await errorOf(log.append(nowhere, batchOf(['a']), QUORUM))).code).toBe('unknown-topic');
      expect((await errorOf(log.append(beyond, batchOf(['a']), QUORUM))).code).toBe('unknown-partition');
      expect((await errorOf(log.barrier(nowhere))).code).toBe('unknown-topic');
      expect((await errorOf(log.topic('nowhere'))).code).toBe('unknown-topic');
      const fetching = log.fetch(nowhere, asOffset(1), { maxBytes: 1_024, maxWaitMs: 0 });
      expect((await errorOf(fetching)).code).toBe('unknown-topic');
      const reader = read(nowhere, asOffset(1));
      await reader.until(() => false);
      expect(reader.error).toMatchObject({ code: 'unknown-topic' });
    });

    test('an offset below the log start is out of range', async () => {
      if (!harness.trim) return;
      await log.append(TARGET, batchOf(['a']), QUORUM);
      const { firstOffset } = await log.append(TARGET, batchOf(['b']), QUORUM);
      await harness.trim(TARGET, firstOffset);
      const fetching = log.fetch(TARGET, asOffset(1), { maxBytes: 1_024, maxWaitMs: 0 });
      expect((await errorOf(fetching)).code).toBe('offset-out-of-range');
      const reader = read(TARGET, asOffset(1));
      await reader.until(() => false);
      expect(reader.error).toMatchObject({ code: 'offset-out-of-range' });
    });

    test('a batch that is damaged is refused', async () => {
      const batch = batchOf(['a']);
      batch[batch.length - 1] ^= 1;
      const error = await errorOf(log.append(TARGET, batch, QUORUM));
      expect(error).toMatchObject({ code: 'malformed-batch', outcome: 'rejected' });
    });

    test('the offset at a time is that of the first batch not before it', async () => {
      const first = await log.append(TARGET, batchOf(['a']), QUORUM);
      expect(await log.offsetAtTime(TARGET, asLogTime(0))).toBeLessThanOrEqual(first.firstOffset);
      expect(await log.offsetAtTime(TARGET, asLogTime(first.logTime + 3_600_000))).toBeGreaterThan(first.lastOffset);
    });

    test('after close calls are refused and tails end', async () => {
      const reader = read(TARGET, asOffset(1));
      await log.append(TARGET, batchOf(['a']), QUORUM);
      await reader.until(() => reader.records.length > 0);
      await log.close();
      await reader.until(() => false);
      expect(reader.error).toMatchObject({ code: 'shutting-down' });
      expect((await errorOf(log.append(TARGET, batchOf(['b']), QUORUM))).code).toBe('shutting-down');
    });
  });
};
