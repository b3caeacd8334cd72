import { describe, expect, test } from '@jest/globals';
import { SeededRng, asGroupId, asNodeId, asOffset, asTerm } from '#kernel';
import { openPartitionLog } from './segmented-log.js';
import type { PartitionLog } from './partition-log.js';
import { SimulatedDisk, StepScheduler, sampleBatch } from './testing/index.js';

/** Found by the simulator: a log relied on what it had read from the page cache, and a power failure took it away. */
describe('what a log has recovered after its process was killed', () => {
  test('survives a power failure: batches, term and vote', () => {
    let relevant = 0;
    for (let seed = 1; seed <= 120; seed++) {
      const scheduler = new StepScheduler();
      const disk = new SimulatedDisk(scheduler, new SeededRng(seed), { latencyMsMin: 1, latencyMsMax: 1 });
      const group = asGroupId(1);
      const open = (): PartitionLog =>
        openPartitionLog({ fs: disk, directory: 'log', group, clock: scheduler, scheduler });
      const log = open();
      const state = { term: asTerm(1), vote: asNodeId(2), commit: asOffset(0) };
      const done = (): void => undefined;
      log.persist({ state, batches: [sampleBatch({ firstOffset: 1, term: 1, group })] }, done);
      // Killed while the state or the batch is being written.
      for (let steps = seed % 12; steps > 0; steps--) scheduler.step();
      disk.stop();
      scheduler.clear();
      disk.restart();
      const recovered = open();
      const seen = { last: recovered.lastOffset, term: recovered.state.term, vote: recovered.state.vote };
      if (seen.last > 0 || seen.term > 0) relevant++;
      disk.crash();
      scheduler.clear();
      disk.restart();
      const after = open();
      expect({ last: after.lastOffset, term: after.state.term, vote: after.state.vote }).toEqual(seen);
    }
    expect(relevant).toBeGreaterThan(10);
  });
});
