import { describe, expect, test } from '@jest/globals';
import { asLogTime, asNodeId, asOffset, type Offset } from '#kernel';
import {
  ControlKind,
  batchControlKind,
  batchIsControl,
  batchLength,
  batchLogTime,
  batchTerm,
  checkBatch,
  decodeRecords,
  forEachBatch,
} from '#wire';
import type { ClusterMachine } from './testing/replica-cluster.js';
import { ReplicaCluster, textBatch } from './testing/replica-cluster.js';

const batchesOf = (run: Buffer): Buffer[] => {
  const batches: Buffer[] = [];
  forEachBatch(run, (at) => {
    batches.push(run.subarray(at, at + batchLength(run, at)));
  });
  return batches;
};

/** Values of all records a node serves. */
const valuesAt = (cluster: ReplicaCluster, machine: ClusterMachine, from = 1): string[] =>
  batchesOf(cluster.readAll(machine, 1, from)).flatMap((batch) => decodeRecords(batch).map((record) => String(record.value)));

const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};

describe('a group of three', () => {
  test('commits what the leader takes, and every node reads the same bytes back', () => {
    const cluster = new ReplicaCluster();
    const first = cluster.write('one');
    const second = cluster.write('two');
    expect(second.firstOffset).toBe(first.lastOffset + 1);
    cluster.converge();
    const [a, b, c] = cluster.machines.map((machine) => cluster.readAll(machine));
    expect(b.equals(a)).toBe(true);
    expect(c.equals(a)).toBe(true);
    for (const batch of batchesOf(a)) checkBatch(batch);
    expect(valuesAt(cluster, cluster.machines[2])).toEqual(['one', 'two']);
  });
});
