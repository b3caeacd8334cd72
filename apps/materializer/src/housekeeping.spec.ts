import { describe, expect, test } from '@jest/globals';
import type { CommandLog } from '#command-log';
import { LoopShare, asLogTime } from '#kernel';
import { Housekeeping } from './housekeeping.js';
import type { HostedPartition, HostedView } from './hosted-partition.js';

const SHARE_MS = 4;
const INTERVAL_MS = 100;

/** Views of one partition each; removing an entry takes 10 µs, a step of giving memory back 3 ms. */
const hostOf = (...names: string[]) => {
  let now = 0;
  let deferred: (() => void)[] = [];
  let timer: (() => void) | null = null;
  const clock = { wallMs: () => now, monotonicMs: () => now };
  const scheduler = {
    defer: (task: () => void) => void deferred.push(task),
    after: (_delayMs: number, task: () => void) => {
      timer = task;
      return () => {
        timer = null;
      };
    },
  };
  const seen: string[] = [];
  const states = new Map(names.map((name) => [name, { due: 0, dead: 0, isClosed: false, expired: 0 }]));
  const views = names.map((name): HostedView => {
    const state = states.get(name)!;
    const view = {
      logTime: asLogTime(1),
      nextExpiry: () => (state.due > 0 ? asLogTime(1) : null),
      expire: ({ max }: { readonly max: number }) => {
        const removed = Math.min(max, state.due);
        state.due -= removed;
        now += removed * 0.01;
        return removed;
      },
      reclaim: () => {
        if (state.dead === 0) return 0;
        state.dead--;
        now += 3;
        seen.push(`${name} gives back`);
        return 1;
      },
    };
    const hosted = { partition: 0, view, feed: state, archiver: null } as unknown as HostedPartition;
    return { name, definition: null, topic: name, partitions: [null, hosted], keepers: [] };
  });
  const housekeeping = new Housekeeping({
    log: {} as CommandLog,
    clock,
    scheduler,
    share: new LoopShare({ clock, scheduler }, SHARE_MS),
    views: () => views,
    expired: (name, _partition, count) => {
      states.get(name)!.expired += count;
      seen.push(`${name} removes`);
    },
  });
  /** What was done in the next turn, and how long it took. */
  const turn = (): { done: string[]; ms: number } => {
    const began = now;
    const tasks = deferred;
    deferred = [];
    for (const task of tasks) task();
    return { done: seen.splice(0), ms: now - began };
  };
  const wait = (): void => {
    const due = timer;
    timer = null;
    now += INTERVAL_MS;
    due?.();
  };
  return { housekeeping, state: (name: string) => states.get(name)!, turn, wait, isWaiting: () => timer !== null };
};

describe('housekeeping', () => {
  test('a turn takes no longer for many views than for one, and what is left goes on in the next', () => {
    const { state, turn, wait } = hostOf('a', 'b', 'c');
    for (const name of ['a', 'b', 'c']) Object.assign(state(name), { due: 600, dead: 1 });
    wait();
    const turns = Array.from({ length: 12 }, turn).filter(({ done }) => done.length > 0);
    expect(Math.max(...turns.map(({ ms }) => ms))).toBeLessThan(SHARE_MS + 3);
    expect(turns.map(({ done }) => done)).toEqual([
      ['a removes'],
      ['a gives back'],
      ['b removes'],
      ['b gives back'],
      ['c removes'],
      ['c gives back'],
      ['a removes', 'b removes'],
      ['c removes'],
    ]);
    for (const name of ['a', 'b', 'c']) expect(state(name)).toMatchObject({ due: 0, dead: 0, expired: 600 });
  });

  test('goes on without a pause while more has expired than there was time for, then rests', () => {
    const { state, turn, wait, isWaiting } = hostOf('a');
    state('a').due = 10_000;
    wait();
    let turns = 0;
    for (; !isWaiting(); turns++) turn();
    expect(state('a')).toMatchObject({ due: 0, expired: 10_000 });
    expect(turns).toBeGreaterThan(20);
    state('a').due = 1;
    expect(turn().done).toEqual([]);
    wait();
    expect(turn().done).toEqual(['a removes']);
  });

  test('leaves alone what was closed between two turns, and all when it is closed', () => {
    const { housekeeping, state, turn, wait, isWaiting } = hostOf('a', 'b');
    Object.assign(state('a'), { due: 1000, dead: 5 });
    Object.assign(state('b'), { due: 1000, dead: 5 });
    wait();
    expect(turn().done).toEqual(['a removes']);
    state('a').isClosed = true;
    expect(turn().done).toEqual(['b removes']);
    housekeeping.close();
    expect(turn().done).toEqual([]);
    expect(isWaiting()).toBe(false);
    expect(state('a').dead).toBe(5);
    expect(state('b').dead).toBe(5);
  });
});
