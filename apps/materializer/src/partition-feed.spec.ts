import { describe, expect, test } from '@jest/globals';
import { LoopShare, asOffset } from '#kernel';
import type { CommandLog, TailChunk } from '#command-log';
import { encodeBatch } from '#wire';
import { Subject } from 'rxjs';
import { VirtualTime } from '../../../libs/command-log/src/testing/index.js';
import { PartitionFeed } from './partition-feed.js';

const SHARE_MS = 4;
/** Of a batch that is a step by itself. */
const BATCH_VALUE_BYTES = 32 * 1024;

const feedOf = () => {
  const time = new VirtualTime();
  const tail = new Subject<TailChunk>();
  const applied: number[] = [];
  const state = { awaited: false, released: 0, turns: 0 };
  const feed = new PartitionFeed({
    log: { tail: () => tail } as unknown as CommandLog,
    target: { topic: 'orders', partition: 0 },
    view: { offset: asOffset(0), applyBatches: (batches) => applied.push(batches.length) },
    scheduler: time,
    share: new LoopShare({ clock: time, scheduler: time }, SHARE_MS),
    applied: () => state.turns++,
    awaited: () => state.awaited,
  });
  const commit = (valueBytes = 8192): void => {
    const batches = encodeBatch([{ key: Buffer.from('k'), value: Buffer.alloc(valueBytes) }], { createTime: 1 });
    const release = (): void => {
      state.released++;
    };
    tail.next({ batches, nextOffset: asOffset(2), commitOffset: asOffset(1), release });
  };
  return { time, feed, applied, state, commit };
};

describe('what is committed is applied', () => {
  test('after the turn in which it was, so that those who wait for the log alone are answered first; what came since goes along', () => {
    const { time, applied, state, commit } = feedOf();
    commit();
    commit();
    expect(applied).toHaveLength(0);
    time.advance(0);
    expect(applied).toHaveLength(2);
    expect(state).toMatchObject({ released: 2, turns: 1 });
  });

  test('at once when somebody waits for it', () => {
    const { applied, state, commit } = feedOf();
    state.awaited = true;
    commit();
    expect(applied).toHaveLength(1);
    expect(state.released).toBe(1);
  });

  test('at once when it is little', () => {
    const { applied, state, commit } = feedOf();
    commit(100);
    expect(applied).toHaveLength(1);
    expect(state).toMatchObject({ released: 1, turns: 1 });
  });

  test('in order: little that comes behind what waits for the end of the turn waits, too', () => {
    const { time, applied, commit } = feedOf();
    commit();
    commit(100);
    expect(applied).toHaveLength(0);
    time.advance(0);
    expect(applied).toHaveLength(2);
    expect(applied[0]).toBeGreaterThan(applied[1]);
  });

  test('not after the feed was closed', () => {
    const { time, feed, applied, state, commit } = feedOf();
    commit();
    feed.close();
    time.advance(0);
    expect(applied).toHaveLength(0);
    expect(state.released).toBe(1);
  });

  test('no more in a turn than there is time for, but a batch', () => {
    const time = new VirtualTime();
    const tail = new Subject<TailChunk>();
    let now = 0;
    let turn: () => void = () => undefined;
    const share = new LoopShare(
      {
        clock: { wallMs: () => now, monotonicMs: () => now },
        scheduler: { defer: (task) => (turn = task), after: () => () => undefined },
      },
      SHARE_MS,
    );
    const applied: number[] = [];
    let took = 1;
    const feed = new PartitionFeed({
      log: { tail: () => tail } as unknown as CommandLog,
      target: { topic: 'orders', partition: 0 },
      view: {
        offset: asOffset(0),
        applyBatches: (batches) => {
          applied.push(batches.length);
          now += took;
        },
      },
      scheduler: time,
      share,
      applied: () => undefined,
      awaited: () => false,
    });
    const batch = encodeBatch([{ key: Buffer.from('k'), value: Buffer.alloc(BATCH_VALUE_BYTES) }], { createTime: 1 });
    const batches = Buffer.concat(Array.from({ length: 10 }, () => batch));
    tail.next({ batches, nextOffset: asOffset(11), commitOffset: asOffset(10), release: () => undefined });
    const appliedInTurn = (): number => {
      applied.length = 0;
      turn();
      return applied.length;
    };
    expect(appliedInTurn()).toBe(4);
    took = 9;
    expect(appliedInTurn()).toBe(1);
    expect(appliedInTurn()).toBe(1);
    took = 0.1;
    expect(appliedInTurn()).toBe(4);
    expect(applied).toEqual(Array(4).fill(batch.length));
    feed.close();
  });
});
