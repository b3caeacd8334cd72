import { afterEach, describe, expect, test } from '@jest/globals';
import { FixedLogNodeDirectory, RoutingCommandLog, type CommandLog, type TailChunk } from '#command-log';
import {
  META_GROUP,
  SeededRng,
  asGroupId,
  asNodeId,
  asOffset,
  systemClock,
  systemScheduler,
  type GroupId,
} from '#kernel';
import { MetaController, ReplicaNode } from '#replica';
import { openPartitionLog } from '#storage';
import { encodeBatch } from '#wire';
import { commandLogConformance } from '../../../libs/command-log/src/testing/command-log.conformance.js';
import { MemoryFileSystem } from '../../../libs/storage/src/testing/index.js';
import { LocalLogNode } from './local-log-node.js';

const NODE = asNodeId(1);

interface Running {
  readonly log: CommandLog;
  readonly local: LocalLogNode;
  readonly node: ReplicaNode;
  groupOf(topic: string, partition: number): GroupId;
  close(): Promise<void>;
}

const started: Running[] = [];

/** A whole log node of a cluster of one, over memory. */
const start = async (): Promise<Running> => {
  const fs = new MemoryFileSystem();
  fs.mkdirSync('data');
  const directoryOf = (group: GroupId): string => `data/${group}`;
  const node = new ReplicaNode({
    nodeId: NODE,
    clock: systemClock,
    scheduler: systemScheduler,
    rng: new SeededRng(7),
    network: { post: () => false },
    openLog: (group, directory) => openPartitionLog({ fs, directory, group }),
    onFatal: (_group, error) => {
      throw error;
    },
  });
  const group = node.openGroup({ group: META_GROUP, directory: directoryOf(META_GROUP), bootstrapVoters: [NODE] })!;
  const meta = new MetaController({
    node,
    group,
    wallMs: () => systemClock.wallMs(),
    scheduler: systemScheduler,
    directoryOf,
    onOpenFailed: (_group, error) => {
      throw error;
    },
  });
  const ready = new Promise<void>((resolve) => {
    const stop = meta.onChange(() => {
      if (!meta.directory.topics.has('orders')) return;
      stop();
      resolve();
    });
  });
  meta.ensureTopics([{ name: 'orders', partitions: 2 }]);
  node.start();
  await ready;
  const local = new LocalLogNode({
    node,
    scheduler: systemScheduler,
    clusterId: () => 'test',
    topics: () => [...meta.directory.topics.values()],
    nodes: () => [{ id: NODE, addresses: {}, region: '', alive: true }],
  });
  const log = new RoutingCommandLog({ directory: new FixedLogNodeDirectory({ local }), rng: new SeededRng(8) });
  const running: Running = {
    log,
    local,
    node,
    groupOf: (topic, partition) => meta.directory.topics.get(topic)!.partitions[partition],
    close: async () => {
      await log.close();
      meta.close();
      await new Promise<void>((resolve) => node.close(resolve));
    },
  };
  started.push(running);
  // A barrier waits for the leader.
  for (const partition of [0, 1]) await log.barrier({ topic: 'orders', partition });
  await log.refresh();
  return running;
};

commandLogConformance('a log node in this process', async () => {
  const running = await start();
  return { log: running.log, close: () => Promise.resolve() };
});

afterEach(async () => {
  for (const running of started.splice(0)) await running.close();
});

const batch = (value: string): Buffer => encodeBatch([{ value: Buffer.from(value) }], { createTime: 1 });

describe('a log node in this process', () => {
  test('a group that is not open here, while its log is repaired or before its topic is known, is worth another try', async () => {
    const { local } = await start();
    const notReady = { code: 'not-ready', outcome: 'rejected', retriable: true };
    await expect(local.append(asGroupId(99), batch('x'), { acks: 'quorum' })).rejects.toMatchObject(notReady);
    await expect(local.barrier(asGroupId(99))).rejects.toMatchObject(notReady);
    await expect(local.fetch(asGroupId(99), asOffset(1), { maxBytes: 1, maxWaitMs: 0 })).rejects.toMatchObject(
      notReady,
    );
  });

  test('a tail stops reading when its credit is used up and goes on when a chunk is released', async () => {
    const { local, groupOf } = await start();
    const group = groupOf('orders', 0);
    const value = 'v'.repeat(1000);
    for (let i = 0; i < 20; i++) await local.append(group, batch(value), { acks: 'quorum' });
    const end = (await local.barrier(group)).offset;
    const chunks: TailChunk[] = [];
    let wake: () => void = () => undefined;
    const subscription = local.tail(group, asOffset(1), { creditBytes: 3000 }).subscribe((chunk) => {
      chunks.push(chunk);
      wake();
    });
    let taken = 0;
    while ((chunks.at(-1)?.nextOffset ?? 0) <= end) {
      // Without a release no more than the credit and one batch beyond it may be under way.
      const waiting = chunks.slice(taken).reduce((bytes, chunk) => bytes + chunk.batches.length, 0);
      expect(waiting).toBeLessThanOrEqual(3000 + 1200);
      if (taken < chunks.length) chunks[taken++].release();
      else await new Promise<void>((resolve) => (wake = resolve));
    }
    subscription.unsubscribe();
    expect(chunks.length).toBeGreaterThan(3);
    const { length } = chunks;
    await local.append(group, batch('after'), { acks: 'quorum' });
    await local.barrier(group);
    expect(chunks).toHaveLength(length);
  });

  test('a waiting fetch answers as soon as something is committed, and empty when nothing is', async () => {
    const { local, groupOf } = await start();
    const group = groupOf('orders', 1);
    const { offset } = await local.barrier(group);
    const empty = await local.fetch(group, asOffset(offset + 1), { maxBytes: 1000, maxWaitMs: 1 });
    expect(empty).toMatchObject({ nextOffset: offset + 1, commitOffset: offset });
    expect(empty.batches).toHaveLength(0);
    const waiting = local.fetch(group, asOffset(offset + 1), { maxBytes: 1000, maxWaitMs: 60_000 });
    await local.append(group, batch('x'), { acks: 'quorum' });
    expect((await waiting).nextOffset).toBe(offset + 2);
  });

  test('leadership cannot go to a node that is no member', async () => {
    const { local, groupOf } = await start();
    await expect(local.transferLeadership(groupOf('orders', 0), asNodeId(9))).rejects.toMatchObject({
      code: 'not-a-member',
    });
  });
});
