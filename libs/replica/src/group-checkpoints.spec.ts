import { expect, test } from '@jest/globals';
import { asGroupId, asLogTime, asNodeId, asOffset, asTerm, type Offset } from '#kernel';
import type { PartitionLog } from '#storage';
import { encodeBatch, stampBatch } from '#wire';
import { GroupCheckpoints, type CheckpointedGroup } from './group-checkpoints.js';
import { GroupCounters } from './group-counters.js';
import { baseOf, foldRun } from './log-base.js';
import { LogState } from './log-state.js';
import type { PersistQueue } from './persist-queue.js';
import { REPLICA_LIMITS } from './replica-limits.js';

/** The state after batches of one record each up to the offset. */
const stateAt = (offset: number): LogState => {
  const state = LogState.initial([asNodeId(1)]);
  for (let at = 1; at <= offset; at++) foldRun(state, batchAt(at), asOffset(offset));
  return state;
};

const batchAt = (offset: number): Buffer => {
  const batch = encodeBatch([{ value: Buffer.from(`v${offset}`) }], { createTime: 1 });
  stampBatch(batch, {
    firstOffset: asOffset(offset),
    term: asTerm(1),
    logTime: asLogTime(offset),
    group: asGroupId(2),
  });
  return batch;
};

/** A group whose log has so many batches, all committed, and whose checkpoints are on disk when the test says so. */
const start = (lastOffset: number) => {
  const saves: (() => void)[] = [];
  const trims: Offset[] = [];
  const log = {
    read: ({ from, to }, done) => {
      const run: Buffer[] = [];
      for (let at = from; at <= to!; at++) run.push(batchAt(at));
      done(null, Buffer.concat(run));
    },
    saveCheckpoint: (_checkpoint, done) => void saves.push(() => done(null)),
    trimBefore: (offset) => void trims.push(offset),
  } as Partial<PartitionLog> as PartitionLog;
  const nothing = (): void => undefined;
  const group: CheckpointedGroup = {
    log,
    limits: REPLICA_LIMITS,
    mutants: {},
    counters: new GroupCounters(),
    queue: null as unknown as PersistQueue,
    state: () => stateAt(lastOffset),
    readable: () => asOffset(lastOffset),
    failure: () => null,
    fail: (error) => {
      throw error;
    },
    trimmed: nothing,
    wake: nothing,
  };
  const checkpoints = new GroupCheckpoints(group, baseOf(LogState.initial([asNodeId(1)])));
  const ends: unknown[] = [];
  const trim = (offset: number): void => checkpoints.trimBefore(asOffset(offset), (error) => ends.push(error));
  return { checkpoints, saves, trims, ends, trim };
};

test('the log lets go when the checkpoint that has its base is on disk', () => {
  const { checkpoints, saves, trims, ends, trim } = start(20);
  trim(11);
  checkpoints.settle();
  expect([trims, ends, checkpoints.base.offset]).toEqual([[], [], 0]);
  saves[0]();
  expect([trims, ends, checkpoints.base.offset]).toEqual([[11], [null], 10]);
});

test('a snapshot that takes the place of the log while that checkpoint is saved stays its base', () => {
  const { checkpoints, saves, trims, ends, trim } = start(20);
  trim(11);
  checkpoints.settle();
  checkpoints.replaced(stateAt(25));
  saves[0]();
  expect([trims, ends, checkpoints.base.offset]).toEqual([[], [null], 25]);
  expect(checkpoints.snapshot().offset).toBe(25);
  // Nor does it hold up what comes.
  trim(12);
  expect(ends).toEqual([null, null]);
});
