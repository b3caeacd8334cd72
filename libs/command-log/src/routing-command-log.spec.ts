import { describe, expect, test } from '@jest/globals';
import { NO_NODE, SeededRng, TidelineError, asNodeId, asOffset } from '#kernel';
import { batchLastOffset, decodeRecords, encodeBatch, forEachBatch, type BatchSession } from '#wire';
import type { ClusterDescription, LogNode } from './command-log.js';
import { FixedLogNodeDirectory } from './log-node-directory.js';
import { RoutingCommandLog } from './routing-command-log.js';
import { MemoryLogCluster, VirtualTime } from './testing/index.js';

const TARGET = { topic: 'orders', partition: 0 };
const QUORUM = { acks: 'quorum' } as const;

const setUp = (options: { readonly local?: number; readonly down?: boolean } = {}) => {
  const time = new VirtualTime();
  const cluster = new MemoryLogCluster({ nodes: 3, topics: [{ name: 'orders' }], clock: time, scheduler: time });
  if (options.down) for (const node of cluster.nodes) node.stop();
  const local: LogNode | null = options.local === undefined ? null : cluster.nodes[options.local];
  const log = new RoutingCommandLog({
    directory: new FixedLogNodeDirectory({ local, others: cluster.nodes }),
    rng: new SeededRng(7),
    clock: time,
    scheduler: time,
  });
  const [one, two, three] = cluster.nodes;
  return { time, cluster, log, data: cluster.log('orders'), one, two, three };
};

const batchOf = (value: string, session?: BatchSession): Buffer =>
  encodeBatch([{ value: Buffer.from(value) }], { createTime: 0, ...(session && { session }) });

const valuesIn = (batches: readonly Buffer[]): string[] =>
  batches.flatMap((batch) => {
    const values: string[] = [];
    forEachBatch(batch, (at) => values.push(...decodeRecords(batch, at).map((record) => String(record.value))));
    return values;
  });

const errorOf = (promise: Promise<unknown>): Promise<TidelineError> =>
  promise.then(
    () => {
      throw new Error('expected an error');
    },
    (error: unknown) => error as TidelineError,
  );

describe('appending', () => {
  test('a not-leader hint is followed at once', async () => {
    const { time, cluster, log, data, one, two } = setUp();
    await time.until(log.append(TARGET, batchOf('a'), QUORUM));
    cluster.elect(two.id);
    const before = time.monotonicMs();
    const result = await time.until(log.append(TARGET, batchOf('b'), QUORUM));
    expect(result.node).toBe(two.id);
    expect(time.monotonicMs()).toBe(before);
    expect(one.calls.append).toBe(2);
    expect(valuesIn(data.batches)).toEqual(['a', 'b']);
  });

  test('an append waits for an election and then goes through', async () => {
    const { time, cluster, log, two } = setUp();
    await time.until(log.append(TARGET, batchOf('a'), QUORUM));
    cluster.elect(NO_NODE);
    const pending = log.append(TARGET, batchOf('b'), QUORUM);
    await time.advance(1_500);
    cluster.elect(two.id);
    const result = await time.until(pending);
    expect(result.node).toBe(two.id);
  });

  test('a batch of a session whose answer is lost is sent again and appended once', async () => {
    const { time, log, data, one } = setUp();
    const session = await time.until(log.openSession(TARGET));
    one.loseAnswers(3);
    const result = await time.until(log.append(TARGET, batchOf('a', { low: session, high: 0, sequence: 1 }), QUORUM));
    expect(result.duplicate).toBe(true);
    expect(one.calls.append).toBe(4);
    expect(valuesIn(data.batches)).toEqual(['a']);
  });

  test('a batch without a session whose answer is lost is not sent again: its outcome is unknown', async () => {
    const { time, log, data, one } = setUp();
    one.loseAnswers(1);
    const error = await time.until(errorOf(log.append(TARGET, batchOf('a'), QUORUM)));
    expect(error).toMatchObject({ code: 'connection-lost', outcome: 'unknown' });
    expect(one.calls.append).toBe(1);
    expect(valuesIn(data.batches)).toEqual(['a']);
  });

  test('without a leader an append that was never sent is rejected when its time is over', async () => {
    const { time, cluster, log } = setUp();
    cluster.elect(NO_NODE);
    const error = await time.until(errorOf(log.append(TARGET, batchOf('a'), { acks: 'quorum', timeoutMs: 2_000 })));
    expect(error).toMatchObject({ outcome: 'rejected' });
    expect(['no-leader', 'not-leader']).toContain(error.code);
    expect(time.monotonicMs()).toBeLessThan(2_200);
  });

  test('an append in doubt stays in doubt whatever the later attempts say', async () => {
    const { time, cluster, log, data, one } = setUp();
    const session = await time.until(log.openSession(TARGET));
    const batch = batchOf('a', { low: session, high: 0, sequence: 1 });
    one.loseAnswers(1);
    const pending = errorOf(log.append(TARGET, batch, { acks: 'quorum', timeoutMs: 500 }));
    await time.settle();
    cluster.elect(NO_NODE);
    expect(await time.until(pending)).toMatchObject({ code: 'timeout', outcome: 'unknown' });

    cluster.elect(one.id);
    await time.advance(2_000);
    one.loseAnswers(1);
    const expiring = errorOf(log.append(TARGET, batchOf('b', { low: session, high: 0, sequence: 2 }), QUORUM));
    await time.settle();
    data.expireSessions();
    expect(await time.until(expiring)).toMatchObject({ code: 'session-expired', outcome: 'unknown' });
  });

  test('an append that nobody answers ends as unknown when its time is over', async () => {
    const { time, log, data } = setUp();
    await time.until(log.append(TARGET, batchOf('a'), QUORUM));
    data.commitLimit = 2;
    const error = await time.until(errorOf(log.append(TARGET, batchOf('b'), { acks: 'quorum', timeoutMs: 4_000 })));
    expect(error).toMatchObject({ code: 'timeout', outcome: 'unknown' });
    expect(valuesIn(data.batches)).toEqual(['a', 'b']);
  });

  test('a batch of a session that hangs is asked for again without a second effect', async () => {
    const { time, log, data, one } = setUp();
    const session = await time.until(log.openSession(TARGET));
    const held = data.lastOffset;
    data.commitLimit = held;
    const pending = log.append(TARGET, batchOf('a', { low: session, high: 0, sequence: 1 }), QUORUM);
    await time.advance(3_500);
    expect(one.calls.append).toBe(2);
    data.commitLimit = Number.POSITIVE_INFINITY;
    data.changed();
    expect((await time.until(pending)).firstOffset).toBe(held + 1);
    expect(valuesIn(data.batches)).toEqual(['a']);
  });

  test('a full disk is said at once', async () => {
    const { time, log, one } = setUp();
    one.append = () => Promise.reject(new TidelineError('storage-full', 'no room'));
    const error = await time.until(errorOf(log.append(TARGET, batchOf('a'), QUORUM)));
    expect(error.code).toBe('storage-full');
    expect(time.monotonicMs()).toBe(0);
  });

  test('two nodes that point at each other are not asked in a circle without pause', async () => {
    const { time, log, one, two, three } = setUp();
    let asked = 0;
    const pointTo = (leader: number) => () => {
      asked++;
      return Promise.reject(new TidelineError('not-leader', 'not me', { details: { leader } }));
    };
    one.append = pointTo(two.id);
    two.append = pointTo(one.id);
    three.append = pointTo(one.id);
    const error = await time.until(errorOf(log.append(TARGET, batchOf('a'), { acks: 'quorum', timeoutMs: 1_000 })));
    expect(error).toMatchObject({ code: 'not-leader', outcome: 'rejected' });
    expect(asked).toBeLessThan(200);
  });

  test('a stale description of a node that is cut off does not take a newer leader back', async () => {
    const { time, cluster, log, one, two } = setUp({ local: 0 });
    await time.until(log.append(TARGET, batchOf('a'), QUORUM));
    const stale = await one.describe();
    one.describe = (): Promise<ClusterDescription> => Promise.resolve(stale);
    cluster.elect(two.id);
    await time.until(log.append(TARGET, batchOf('b'), QUORUM));
    await time.advance(5_000);
    const before = one.calls.append;
    await time.until(log.append(TARGET, batchOf('c'), QUORUM));
    expect(one.calls.append).toBe(before);
  });

  test('later attempts do not stamp the bytes that an earlier one may still hold', async () => {
    const { time, log, data, one } = setUp();
    const session = await time.until(log.openSession(TARGET));
    const seen: Buffer[] = [];
    const append = one.append.bind(one);
    one.append = (group, batch, options) => {
      seen.push(batch);
      return append(group, batch, options);
    };
    one.loseAnswers(2);
    await time.until(log.append(TARGET, batchOf('a', { low: session, high: 0, sequence: 1 }), QUORUM));
    expect(new Set(seen).size).toBe(3);
    expect(data.batches).toContain(seen[0]);
  });
});

describe('barriers', () => {
  test('callers of one turn share one barrier', async () => {
    const { time, log, one } = setUp();
    await time.until(log.barrier(TARGET));
    const asked = one.calls.barrier;
    await time.until(Promise.all(Array.from({ length: 100 }, () => log.barrier(TARGET))));
    expect(one.calls.barrier).toBe(asked + 1);
  });

  test('at a node that does not lead cost the leader one for all callers of a turn, and the node itself none', async () => {
    const { time, log, one, two } = setUp({ local: 1 });
    await time.until(log.barrier(TARGET));
    const asked = one.calls.barrier;
    await time.until(Promise.all(Array.from({ length: 100 }, () => log.barrier(TARGET))));
    expect(one.calls.barrier).toBe(asked + 1);
    expect(two.calls.barrier).toBe(0);
  });

  test('who comes while a barrier is under way gets the next one', async () => {
    const { time, log, one } = setUp();
    await time.until(log.barrier(TARGET));
    const asked = one.calls.barrier;
    const answers: (() => void)[] = [];
    const barrier = one.barrier.bind(one);
    one.barrier = async (group) => {
      const answer = await barrier(group);
      await new Promise<void>((resolve) => {
        answers.push(resolve);
      });
      return answer;
    };
    const early = log.barrier(TARGET);
    await time.settle();
    const { lastOffset } = await time.until(log.append(TARGET, batchOf('a'), QUORUM));
    const late = [log.barrier(TARGET), log.barrier(TARGET)];
    await time.settle();
    expect(answers).toHaveLength(1);
    answers[0]();
    expect((await time.until(early)).offset).toBeLessThan(lastOffset);
    await time.settle();
    expect(answers).toHaveLength(2);
    answers[1]();
    for (const each of await time.until(Promise.all(late))) expect(each.offset).toBeGreaterThanOrEqual(lastOffset);
    expect(one.calls.barrier).toBe(asked + 2);
  });

  test('a barrier that fails is asked again at the new leader', async () => {
    const { time, cluster, log, two } = setUp();
    await time.until(log.barrier(TARGET));
    cluster.elect(NO_NODE);
    const pending = log.barrier(TARGET);
    await time.advance(700);
    cluster.elect(two.id);
    expect((await time.until(pending)).node).toBe(two.id);
  });

  test('a caller whose time is over is told, the others go on waiting', async () => {
    const { time, cluster, log, two } = setUp();
    await time.until(log.barrier(TARGET));
    cluster.elect(NO_NODE);
    const patient = log.barrier(TARGET);
    const hasty = errorOf(log.barrier(TARGET, { timeoutMs: 200 }));
    expect((await time.until(hasty)).code).toBe('timeout');
    expect(time.monotonicMs()).toBeLessThan(300);
    cluster.elect(two.id);
    expect((await time.until(patient)).node).toBe(two.id);
  });
});

describe('reading', () => {
  const readAll = (log: RoutingCommandLog, creditBytes: number) => {
    const values: string[] = [];
    const offsets: number[] = [];
    const state = { values, offsets, error: null as unknown };
    const subscription = log.tail(TARGET, asOffset(1), { creditBytes }).subscribe({
      next: (chunk) => {
        forEachBatch(chunk.batches, (at) => offsets.push(batchLastOffset(chunk.batches, at)));
        values.push(...valuesIn([chunk.batches]));
        chunk.release();
      },
      error: (error: unknown) => {
        state.error = error;
      },
    });
    return { ...state, state, stop: () => subscription.unsubscribe() };
  };

  test('a tail goes on at another replica without loss or repetition', async () => {
    const { time, log, data, one, two, three } = setUp({ local: 2 });
    const expected: string[] = [];
    const reader = readAll(log, 500);
    const nodes = [three, one, two];
    for (let i = 0; i < 60; i++) {
      expected.push(`v${i}`);
      data.append(batchOf(`v${i}`));
      const victim = nodes[i % 3];
      if (i % 4 === 0) {
        victim.stop();
        await time.advance(30);
        victim.start();
      }
      if (i % 5 === 0) await time.advance(7);
    }
    await time.advance(5_000);
    expect(reader.values).toEqual(expected);
    expect(new Set(reader.offsets).size).toBe(reader.offsets.length);
    expect(one.calls.tail + two.calls.tail + three.calls.tail).toBeGreaterThan(5);
    reader.stop();
  });

  test('a replica that lags behind the position is waited for', async () => {
    const { time, log, data, one, two, three } = setUp({ local: 2 });
    const reader = readAll(log, 10_000);
    for (const value of ['a', 'b', 'c']) data.append(batchOf(value));
    await time.advance(10);
    expect(reader.values).toEqual(['a', 'b', 'c']);
    one.lagBehind(2);
    two.lagBehind(2);
    three.stop();
    data.append(batchOf('d'));
    await time.advance(1_000);
    expect(reader.values).toEqual(['a', 'b', 'c']);
    one.lagBehind(0);
    two.lagBehind(0);
    await time.advance(1_000);
    expect(reader.values).toEqual(['a', 'b', 'c', 'd']);
    reader.stop();
  });

  test('a tail that moves does not hold more than twice its credit and a chunk', async () => {
    const { time, log, data, one, two, three } = setUp({ local: 2 });
    for (let i = 0; i < 50; i++) data.append(batchOf('x'.repeat(70_000)));
    let held = 0;
    const subscription = log.tail(TARGET, asOffset(1), { creditBytes: 100_000 }).subscribe((chunk) => {
      held += chunk.batches.length;
    });
    for (let i = 0; i < 10; i++) {
      for (const node of [one, two, three]) node.stop();
      await time.advance(50);
      for (const node of [one, two, three]) node.start();
      await time.advance(300);
    }
    expect(held).toBeGreaterThanOrEqual(100_000);
    expect(held).toBeLessThanOrEqual(2 * 100_000 + 71_000);
    subscription.unsubscribe();
  });

  test('a fetch tries the next replica', async () => {
    const { time, log, data, three } = setUp({ local: 2 });
    data.append(batchOf('a'));
    await time.until(log.topic('orders'));
    three.stop();
    const fetched = await time.until(log.fetch(TARGET, asOffset(1), { maxBytes: 10_000, maxWaitMs: 0 }));
    expect(valuesIn([fetched.batches])).toEqual(['a']);
  });

  test('reads go to the local node while it is there', async () => {
    const { time, log, data, one, two, three } = setUp({ local: 2 });
    data.append(batchOf('a'));
    for (let i = 0; i < 5; i++) await time.until(log.fetch(TARGET, asOffset(1), { maxBytes: 10_000, maxWaitMs: 0 }));
    expect([one.calls.fetch, two.calls.fetch, three.calls.fetch]).toEqual([0, 0, 5]);
  });
});

describe('the description', () => {
  test('changes speaks when a leader changes and is silent when only offsets move', async () => {
    const { time, cluster, log, data, two } = setUp();
    await time.until(log.topic('orders'));
    const leaders: number[] = [];
    const subscription = log.changes.subscribe((description) => {
      leaders.push(description.topics[0].partitions[0].leader);
    });
    data.append(batchOf('a'));
    await time.advance(3_000);
    expect(leaders).toEqual([1]);
    cluster.elect(two.id);
    await time.advance(3_000);
    expect(leaders).toEqual([1, 2]);
    subscription.unsubscribe();
  });

  test('before any node answers, calls wait and the topic is not called unknown', async () => {
    const { time, cluster, log } = setUp({ down: true });
    const pending = log.append(TARGET, batchOf('a'), QUORUM);
    expect(await time.until(errorOf(log.topic('orders')))).toMatchObject({ code: 'not-ready' });
    await time.advance(500);
    for (const node of cluster.nodes) node.start();
    expect((await time.until(pending)).node).toBe(asNodeId(1));
  });

  test('close ends what waits', async () => {
    const { time, cluster, log } = setUp();
    await time.until(log.topic('orders'));
    cluster.elect(NO_NODE);
    const pending = errorOf(log.append(TARGET, batchOf('a'), QUORUM));
    await time.settle();
    await log.close();
    expect(await time.until(pending)).toMatchObject({ code: 'shutting-down', outcome: 'rejected' });
    await time.advance(60_000);
    expect(time.pendingTimers).toBe(0);
  });
});
