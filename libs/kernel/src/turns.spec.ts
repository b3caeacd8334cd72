import { expect, test } from '@jest/globals';
import { Turns } from './turns.js';

test('so many at a time, in the order in which they came, whether they succeed or not', async () => {
  const turns = new Turns(2);
  const begun: number[] = [];
  const ends: ((fails: boolean) => void)[] = [];
  const taken = [0, 1, 2, 3, 4].map((n) =>
    turns.take(
      () =>
        new Promise<number>((resolve, reject) => {
          begun.push(n);
          ends.push((fails) => (fails ? reject(new Error(`${n} failed`)) : resolve(n)));
        }),
    ),
  );
  const outcomes = Promise.allSettled(taken);
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  await settle();
  expect(begun).toEqual([0, 1]);
  ends[1](true);
  await settle();
  expect(begun).toEqual([0, 1, 2]);
  ends[0](false);
  ends[2](false);
  await settle();
  expect(begun).toEqual([0, 1, 2, 3, 4]);
  ends[3](false);
  ends[4](true);
  expect((await outcomes).map(({ status }) => status === 'fulfilled')).toEqual([true, false, true, true, false]);
  expect(await turns.take(() => Promise.resolve('again'))).toBe('again');
});
