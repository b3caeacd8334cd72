import { asGroupId, asOffset } from '#kernel';
import { openPartitionLog } from '#storage';
import { describe, expect, test } from '@jest/globals';
import { DiskDown } from '../../storage/src/testing/index.js';
import { ReplicaCluster, textBatch } from './testing/replica-cluster.js';

describe('a group that is opened again', () => {
  test('knows what a checkpoint holds to be committed, whenever the power failed while the log was trimmed', () => {
    let trims = 0;
    for (let operation = 1; operation <= 16; operation++) {
      const cluster = new ReplicaCluster({
        nodes: 3,
        seed: operation,
        log: { segmentBytes: 4096, preallocateFirstBytes: 0, preallocateBytes: 0, watermarkDelayMs: 60_000 },
      });
      const leader = cluster.elect();
      const pending = Array.from({ length: 60 }, (_, i) => cluster.append(leader, textBatch(`${i}`.padEnd(200, '.'))));
      for (const each of pending) cluster.finish(each);
      cluster.converge();
      const [machine] = cluster.others(leader);
      machine.disk.crashAtOperation = machine.disk.operations + operation;
      try {
        machine.group().trimBefore(asOffset(50));
        cluster.time.pass(100);
      } catch (error) {
        if (!(error instanceof DiskDown)) throw error;
      }
      if (machine.isUp) machine.crash();
      machine.disk.restart();
      const directory = machine.disk
        .files()
        .find((path) => path.endsWith('/state'))!
        .slice(0, -'/state'.length);
      const log = openPartitionLog({ fs: machine.disk, directory, group: asGroupId(1), scheduler: cluster.time });
      const [checkpoint] = log.checkpoints;
      machine.disk.stop();
      machine.start();
      if (checkpoint.offset > 0) trims++;
      // A snapshot of the base is offered to whoever is behind: it holds committed entries only.
      expect(machine.group().commitOffset).toBeGreaterThanOrEqual(checkpoint.offset);
    }
    expect(trims).toBeGreaterThan(3);
  });
});
