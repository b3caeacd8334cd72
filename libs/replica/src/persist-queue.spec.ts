import { describe, expect, test } from '@jest/globals';
import { asNodeId, asOffset, asTerm } from '#kernel';
import type { PartitionLog, PersistRequest } from '#storage';
import { PersistQueue, type PersistUnit } from './persist-queue.js';

/** Takes requests down and ends them when told to. */
class ManualLog {
  readonly requests: PersistRequest[] = [];
  readonly dones: ((error: Error | null) => void)[] = [];
  readonly state = { term: asTerm(1), vote: asNodeId(0), commit: asOffset(0) };

  persist(request: PersistRequest, done: (error: Error | null) => void): void {
    this.requests.push(request);
    this.dones.push(done);
  }

  end(error: Error | null = null): void {
    this.dones.shift()!(error);
  }
}

const setUp = () => {
  const log = new ManualLog();
  const persisted: number[] = [];
  const failed: Error[] = [];
  const queue = new PersistQueue(log as unknown as PartitionLog, {
    commit: () => asOffset(0),
    monotonicMs: () => 0,
    persisted: (number) => persisted.push(number),
    failed: (error) => failed.push(error),
  });
  return { log, queue, persisted, failed };
};

const unit = (number: number, more: Partial<PersistUnit> = {}): PersistUnit => ({
  number,
  install: undefined,
  hardState: null,
  truncateAfter: null,
  batches: [Buffer.from([number])],
  ...more,
});

describe('group commit', () => {
  test('has one write in flight and sends what gathers as one', () => {
    const { log, queue, persisted } = setUp();
    for (const number of [1, 2, 3, 4]) {
      queue.add(unit(number));
      queue.begin();
    }
    expect(log.requests).toHaveLength(1);
    log.end();
    expect(persisted).toEqual([1]);
    expect(log.requests[1].batches).toEqual([2, 3, 4].map((each) => Buffer.from([each])));
    log.end();
    expect(persisted).toEqual([1, 4]);
    expect(queue.durable).toBe(4);
  });

  test('writes nothing before it is told to begin', () => {
    const { log, queue } = setUp();
    queue.add(unit(1));
    queue.add(unit(2));
    expect(log.requests).toHaveLength(0);
    queue.begin();
    expect(log.requests.map(({ batches }) => batches.length)).toEqual([2]);
  });

  test('saves the newest hard state with what it gathers', () => {
    const { log, queue } = setUp();
    queue.add(unit(1));
    queue.begin();
    queue.add(unit(2, { hardState: { term: asTerm(2), vote: asNodeId(1) } }));
    queue.add(unit(3, { hardState: { term: asTerm(3), vote: asNodeId(2) }, batches: [] }));
    log.end();
    expect(log.requests[1].state).toEqual({ term: 3, vote: 2, commit: 0 });
  });

  test('begins a write of its own for a cut or an installation, in order', () => {
    const { log, queue } = setUp();
    queue.add(unit(1));
    queue.begin();
    queue.add(unit(2));
    queue.add(unit(3, { truncateAfter: asOffset(7) }));
    queue.add(unit(4));
    for (let i = 0; i < 3; i++) log.end();
    expect(log.requests.map(({ truncateAfter, batches }) => [truncateAfter, batches.length])).toEqual([
      [undefined, 1],
      [undefined, 1],
      [7, 2],
    ]);
  });

  test('stops for good when a write fails', () => {
    const { log, queue, persisted, failed } = setUp();
    queue.add(unit(1));
    queue.begin();
    queue.add(unit(2));
    log.end(new Error('EIO'));
    queue.add(unit(3));
    queue.begin();
    expect(failed).toHaveLength(1);
    expect(persisted).toEqual([]);
    expect(log.requests).toHaveLength(1);
  });
});
