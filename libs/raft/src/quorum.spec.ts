import { expect, test } from '@jest/globals';
import { asNodeId, type NodeId } from '#kernel';
import fc from 'fast-check';
import { majorityValue, tally } from './quorum.js';

test('a majority of the values reaches the majority value, and none above it', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20), { minLength: 1, maxLength: 9 }), (values) => {
      const value = majorityValue([...values]);
      const reach = (n: number): number => values.filter((v) => v >= n).length;
      expect(reach(value) * 2).toBeGreaterThan(values.length);
      expect(reach(value + 1) * 2).toBeLessThanOrEqual(values.length);
    }),
  );
});

test('a joint election is won in both sets and lost in either', () => {
  const configuration = { voters: [1, 2, 3].map(asNodeId), outgoing: [3, 4, 5].map(asNodeId), learners: [] };
  const votes = (granted: number[], refused: number[] = []): Map<NodeId, boolean> =>
    new Map([
      ...granted.map((id): [NodeId, boolean] => [asNodeId(id), true]),
      ...refused.map((id): [NodeId, boolean] => [asNodeId(id), false]),
    ]);
  expect(tally(configuration, votes([1, 2, 3]))).toBe('open');
  expect(tally(configuration, votes([1, 3, 4]))).toBe('won');
  expect(tally(configuration, votes([1, 2], [4, 5]))).toBe('lost');
  expect(tally(configuration, votes([3, 4, 5], [1, 2]))).toBe('lost');
  expect(tally(configuration, votes([7, 8, 9]))).toBe('open');
});
