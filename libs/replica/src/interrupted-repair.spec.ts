import { asOffset } from '#kernel';
import { describe, expect, test } from '@jest/globals';
import { DiskDown } from '../../storage/src/testing/index.js';
import { ReplicaCluster, textBatch, type ClusterMachine } from './testing/replica-cluster.js';

const fill = (cluster: ReplicaCluster, count: number): void => {
  const leader = cluster.elect();
  const pending = Array.from({ length: count }, (_, i) => cluster.append(leader, textBatch(`${i}`.padEnd(200, '.'))));
  for (const each of pending) cluster.finish(each);
};

const segmentsOf = (machine: ClusterMachine): string[] => machine.disk.files().filter((path) => path.endsWith('.log'));

interface Scene {
  readonly cluster: ReplicaCluster;
  readonly victim: ClusterMachine;
  /** The victim helped to commit everything up to here. */
  readonly acknowledged: number;
}

const open = (): ReplicaCluster => {
  const log = { segmentBytes: 4096, preallocateFirstBytes: 0, preallocateBytes: 0, validate: 'all' } as const;
  return new ReplicaCluster({ log });
};

/** The end of the log, from committed batches on into such as never were, is damaged: it is cut, and the peers' put in its place. */
const cutScene = (): Scene => {
  const cluster = open();
  fill(cluster, 40);
  cluster.converge();
  const victim = cluster.elect();
  const acknowledged = victim.group().commitOffset;
  cluster.cutOff(victim);
  for (let i = 0; i < 20; i++) cluster.append(victim, textBatch('never'.padEnd(200, '.')));
  cluster.time.pass(3000);
  victim.kill();
  // From some of what is committed to some of what is not.
  const path = segmentsOf(victim).findLast((name) => Number(/(\d{20})\.log$/.exec(name)![1]) <= acknowledged)!;
  victim.disk.zero(path, 100, victim.disk.durableBytes(path)!.length - 300);
  cluster.network.heal();
  cluster.elect(1, victim);
  fill(cluster, 60);
  return { cluster, victim, acknowledged };
};

/** The end of the log is lost, and its beginning has been trimmed from the peers' logs: their state and what follows takes its place. */
const installScene = (): Scene => {
  const cluster = open();
  fill(cluster, 60);
  cluster.converge();
  cluster.time.pass(3000);
  const [victim] = cluster.others(cluster.elect());
  const acknowledged = victim.group().commitOffset;
  victim.kill();
  for (const path of segmentsOf(victim).slice(1)) victim.disk.lose(path);
  for (const machine of cluster.up) machine.group().trimBefore(asOffset(40));
  cluster.time.until(() => cluster.up.every((machine) => machine.group().logStartOffset > 20));
  return { cluster, victim, acknowledged };
};

describe.each([
  ['cuts the log', cutScene],
  ['installs a state', installScene],
])('a repair that %s', (_what, scene) => {
  test('leaves a damaged log or a whole one, whenever the power fails', () => {
    const calm = scene();
    calm.victim.start();
    expect(calm.victim.has()).toBe(false);
    const first = calm.victim.disk.operations;
    calm.cluster.time.until(() => calm.victim.has());
    const count = calm.victim.disk.operations - first;
    expect(count).toBeGreaterThan(5);

    let unfinished = 0;
    for (let operation = 1; operation <= count; operation++) {
      const { cluster, victim, acknowledged } = scene();
      victim.start();
      victim.disk.crashAtOperation = victim.disk.operations + operation;
      try {
        cluster.time.until(() => victim.disk.isDown || victim.has());
      } catch (error) {
        if (!(error instanceof DiskDown)) throw error;
      }
      if (victim.isUp) victim.crash();
      victim.start();
      if (victim.has()) expect(victim.group().status().lastOffset).toBeGreaterThanOrEqual(acknowledged);
      else unfinished++;
      cluster.converge();
    }
    expect(unfinished).toBeGreaterThan(3);
  });
});
