import { describe, expect, test } from '@jest/globals';
import { Chaos } from './testing/index.js';

/**
 * The invariants of docs/correctness.md over seeded runs in which messages, disks, nodes and membership misbehave (testing/chaos.ts), then
 * convergence once the faults end. A failing run is repeated by its seed, which the test's name gives.
 */
const SEEDS = 200;
const SEEDS_PER_TEST = 25;
const STEPS = 2000;

describe('whatever goes wrong', () => {
  for (let from = 1; from <= SEEDS; from += SEEDS_PER_TEST) {
    test(`no invariant breaks, and a healed cluster converges, for seeds ${from} to ${from + SEEDS_PER_TEST - 1}`, () => {
      for (let seed = from; seed < from + SEEDS_PER_TEST; seed++) {
        const chaos = new Chaos(seed);
        try {
          chaos.run(STEPS);
          chaos.heal();
        } catch (error) {
          throw new Error(`seed ${seed}: ${chaos.describe()}`, { cause: error });
        }
        expect(chaos.invariants.committed.length).toBeGreaterThan(0);
      }
    });
  }

  test('the same seed gives the same run', () => {
    const print = (seed: number): string => {
      const chaos = new Chaos(seed);
      chaos.run(2000);
      return chaos.fingerprint();
    };
    expect(print(7)).toBe(print(7));
    expect(print(7)).not.toBe(print(8));
  });

  test('the runs do see elections, crashes, cuts, snapshots, changes of membership and reads', () => {
    const seen = { proposed: 0, reads: 0, elections: 0, crashes: 0, snapshots: 0, changes: 0, truncations: 0 };
    for (let seed = 1; seed <= 20; seed++) {
      const chaos = new Chaos(seed);
      chaos.run(2000);
      for (const key of Object.keys(seen) as (keyof typeof seen)[]) seen[key] += chaos.counts[key];
    }
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(5);
  });
});
