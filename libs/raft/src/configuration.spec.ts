import { describe, expect, test } from '@jest/globals';
import { asNodeId, asOffset, isTidelineError } from '#kernel';
import fc from 'fast-check';
import {
  ConfigurationHistory,
  decodeConfiguration,
  encodeConfiguration,
  isValidTarget,
  towards,
} from './configuration.js';
import type { Configuration } from './types.js';

const ids = (...numbers: number[]): Configuration['voters'] => numbers.map(asNodeId);
const of = (voters: number[], outgoing: number[] = [], learners: number[] = []): Configuration => ({
  voters: ids(...voters),
  outgoing: ids(...outgoing),
  learners: ids(...learners),
});

describe('encoding', () => {
  test('a configuration comes back as it was', () => {
    const list = fc.uniqueArray(fc.integer({ min: 1, max: 0x7fff_ffff }), { maxLength: 20 });
    fc.assert(
      fc.property(list, list, list, (voters, outgoing, learners) => {
        const configuration = of(voters, outgoing, learners);
        expect(decodeConfiguration(encodeConfiguration(configuration))).toEqual(configuration);
      }),
    );
  });

  test('the bytes of version 1 stay what they are', () => {
    const bytes = encodeConfiguration(of([1, 2, 300], [1], [4]));
    expect([...bytes]).toEqual([1, 3, 1, 2, 0xac, 0x02, 1, 1, 1, 4]);
  });

  test('any other bytes are a clear error, and none allocates what a length only claims', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          decodeConfiguration(bytes);
        } catch (error) {
          expect(isTidelineError(error, 'malformed-frame') || isTidelineError(error, 'unsupported-version')).toBe(true);
        }
      }),
    );
    expect(() => decodeConfiguration(Uint8Array.of(2, 0, 0, 0))).toThrow(/version 2/);
    expect(() => decodeConfiguration(Uint8Array.of(1, 0xff, 0xff, 0x7f))).toThrow(/members/);
    expect(() => decodeConfiguration(Uint8Array.of(1, 2, 7, 7, 0, 0))).toThrow(/distinct/);
  });
});

describe('targets', () => {
  test('somebody votes and nobody is named twice', () => {
    expect(isValidTarget(of([1, 2], [], [3]))).toBe(true);
    expect(isValidTarget(of([]))).toBe(false);
    expect(isValidTarget(of([1, 1]))).toBe(false);
    expect(isValidTarget(of([1], [], [1]))).toBe(false);
    expect(isValidTarget(of([0]))).toBe(false);
    expect(isValidTarget(of([1.5]))).toBe(false);
  });

  test('a change of learners alone needs no joint configuration', () => {
    expect(towards(of([1, 2], [], [3]), of([2, 1], [], [4]))).toEqual(of([2, 1], [], [4]));
    expect(towards(of([1, 2]), of([1, 3], [], [2]))).toEqual(of([1, 3], [1, 2], [2]));
  });
});

test('a truncation brings the configuration before it back, and a commit makes that impossible', () => {
  const history = new ConfigurationHistory({
    current: { configuration: of([1]), offset: asOffset(3) },
    previous: undefined,
    commit: asOffset(3),
  });
  history.append(of([1, 2], [1]), asOffset(7));
  history.truncateAfter(asOffset(7));
  expect(history.current).toEqual(of([1, 2], [1]));
  history.truncateAfter(asOffset(6));
  expect(history.current).toEqual(of([1]));
  history.append(of([2], [1]), asOffset(8));
  expect(history.mayCampaign(asNodeId(1))).toBe(true);
  history.append(of([2]), asOffset(9));
  history.settle(asOffset(9));
  expect(history.mayCampaign(asNodeId(1))).toBe(false);
  expect(() => history.truncateAfter(asOffset(8))).toThrow(/one before it/);
});
