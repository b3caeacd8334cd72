import { TidelineError } from '#kernel';
import { batchLength, decodeRecords, forEachBatch } from '#wire';
import type { ClusterMachine, ReplicaCluster } from './replica-cluster.js';

/** The batches of a run, as views. */
export const batchesOf = (run: Buffer): Buffer[] => {
  const batches: Buffer[] = [];
  forEachBatch(run, (at) => {
    batches.push(run.subarray(at, at + batchLength(run, at)));
  });
  return batches;
};

/** Values of all records a node serves, in order. */
export const valuesAt = (
  cluster: ReplicaCluster,
  machine: ClusterMachine,
  options: { group?: number; from?: number } = {},
): string[] =>
  batchesOf(cluster.readAll(machine, options.group, options.from)).flatMap((batch) =>
    decodeRecords(batch).map((record) => String(record.value)),
  );

/** The code of the TidelineError that the work throws; 'none' when it throws nothing. */
export const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof TidelineError) return error.code;
    throw error;
  }
  return 'none';
};
