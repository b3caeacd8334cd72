import { setImmediate as immediate } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { eventLoopTurn } from './event-loop-turn.js';

/** Lets the passes of the event loop go by that are needed for what was asked so far. */
const settled = async (): Promise<void> => {
  for (let pass = 0; pass < 4; pass++) await immediate();
};

describe('a turn of the event loop', () => {
  test('runs deferred tasks in order, then promise reactions, then endings', async () => {
    const seen: string[] = [];
    eventLoopTurn.atEnd(() => seen.push('ending 1'));
    eventLoopTurn.defer(() => {
      seen.push('task 1');
      eventLoopTurn.atEnd(() => seen.push('ending 2'));
      void Promise.resolve()
        .then(() => undefined)
        .then(() => {
          seen.push('reaction');
          eventLoopTurn.atEnd(() => seen.push('ending 3'));
        });
    });
    eventLoopTurn.defer(() => seen.push('task 2'));
    await settled();
    expect(seen).toEqual(['task 1', 'task 2', 'reaction', 'ending 1', 'ending 2', 'ending 3']);
  });

  test('lets endings of a task leave in the same pass', async () => {
    const seen: string[] = [];
    eventLoopTurn.defer(() => {
      eventLoopTurn.atEnd(() => seen.push('ending'));
      setImmediate(() => seen.push('next pass'));
    });
    await settled();
    expect(seen).toEqual(['ending', 'next pass']);
  });

  test('has nothing deferred wait for more than one pass, and lets callbacks in between', async () => {
    const seen: string[] = [];
    eventLoopTurn.defer(() => {
      seen.push('first');
      eventLoopTurn.defer(() => seen.push('second'));
      setImmediate(() => seen.push('somebody else'));
    });
    await settled();
    expect(new Set(seen)).toEqual(new Set(['first', 'second', 'somebody else']));
    expect(seen[0]).toBe('first');
  });

  test('runs endings alone when nothing was deferred', async () => {
    const seen: string[] = [];
    eventLoopTurn.atEnd(() => {
      seen.push('one');
      eventLoopTurn.atEnd(() => seen.push('two'));
    });
    expect(seen).toEqual([]);
    await settled();
    expect(seen).toEqual(['one', 'two']);
  });
});
