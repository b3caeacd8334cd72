import { expect, test } from '@jest/globals';
import { LoopShare, repeatWithin } from './loop-share.js';

/** Turns go by one at a time, and time only when a step takes some. */
const loopOf = (ms: number) => {
  let now = 0;
  let deferred: (() => void)[] = [];
  const seen: string[] = [];
  const share = new LoopShare(
    {
      clock: { wallMs: () => now, monotonicMs: () => now },
      scheduler: { defer: (task) => deferred.push(task), after: () => () => undefined },
    },
    ms,
  );
  /** A step that takes so long. */
  const step = (name: string, took: number) => (): void => {
    seen.push(name);
    now += took;
  };
  /** What was done in the next turn. */
  const turn = (): string[] => {
    const tasks = deferred;
    deferred = [];
    for (const task of tasks) task();
    return seen.splice(0);
  };
  const pass = (took: number): void => {
    now += took;
  };
  return { share, step, turn, pass };
};

test('steps share what a turn has for them; those for whom nothing is left come first in the next', () => {
  const { share, step, turn } = loopOf(4);
  for (const name of ['a', 'b', 'c', 'd']) share.run(step(name, 2));
  expect(turn()).toEqual(['a', 'b']);
  share.run(step('e', 1));
  expect(turn()).toEqual(['c', 'd']);
  expect(turn()).toEqual(['e']);
  expect(turn()).toEqual([]);
});

test('one that takes longer than all that there is gets its turn', () => {
  const { share, step, turn } = loopOf(4);
  share.run(step('long', 9));
  share.run(step('short', 1));
  expect(turn()).toEqual(['long']);
  expect(turn()).toEqual(['short']);
});

test('a step that asks again comes in a turn after this one, behind those that wait', () => {
  const { share, step, turn } = loopOf(4);
  let rounds = 0;
  const again = (): void => {
    step(`again ${rounds++}`, 1)();
    if (rounds < 3) share.run(again);
  };
  share.run(again);
  share.run(step('other', 4));
  share.run(step('late', 1));
  expect(turn()).toEqual(['again 0', 'other']);
  expect(turn()).toEqual(['late', 'again 1']);
  expect(turn()).toEqual(['again 2']);
});

test('a step that throws takes none of the others with it', () => {
  const { share, step, turn } = loopOf(4);
  share.run(() => {
    throw new Error('a defect');
  });
  share.run(step('other', 1));
  expect(turn).toThrow('a defect');
  expect(turn()).toEqual(['other']);
});

test('a step is told what is left, and what begins now has a whole share', () => {
  const { share, turn, pass } = loopOf(4);
  const told: number[] = [];
  share.run((left) => {
    pass(3);
    told.push(left());
    told.push(share.begin()());
  });
  share.run((left) => told.push(left()));
  turn();
  expect(told).toEqual([1, 4, 1]);
});

test('a part is repeated while another like it fits in, but done once', () => {
  const { share, pass } = loopOf(10);
  const repeated = (took: number, parts: number): [number, boolean] => {
    let done = 0;
    const more = repeatWithin(share.begin(), () => {
      pass(took);
      return ++done < parts;
    });
    return [done, more];
  };
  expect(repeated(3, 100)).toEqual([3, true]);
  expect(repeated(5, 100)).toEqual([2, true]);
  expect(repeated(6, 100)).toEqual([1, true]);
  expect(repeated(40, 100)).toEqual([1, true]);
  expect(repeated(1, 4)).toEqual([4, false]);
  expect(repeated(40, 1)).toEqual([1, false]);
});
