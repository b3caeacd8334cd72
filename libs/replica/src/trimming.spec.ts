import { describe, expect, test } from '@jest/globals';
import { asOffset } from '#kernel';
import { valuesAt } from './testing/log-contents.js';
import { Pending, ReplicaCluster, textBatch, type ClusterMachine } from './testing/replica-cluster.js';

const SMALL = { segmentBytes: 4096, preallocateFirstBytes: 0, preallocateBytes: 0 };

const fill = (cluster: ReplicaCluster, from: number, to: number): void => {
  const leader = cluster.elect();
  const pending = [];
  for (let i = from; i <= to; i++) pending.push(cluster.append(leader, textBatch(`${i}`.padEnd(200, '.'))));
  for (const each of pending) cluster.finish(each);
};

const trim = (cluster: ReplicaCluster, machine: ClusterMachine, offset: number): void => {
  const pending = new Pending<null>();
  machine.group().trimBefore(asOffset(offset), (error) => pending.settle(error));
  cluster.time.until(() => pending.isDone);
  expect(pending.error).toBeNull();
};

const numbersAt = (cluster: ReplicaCluster, machine: ClusterMachine): number[] =>
  valuesAt(cluster, machine, { from: machine.group().logStartOffset }).map((value) => parseInt(value, 10));

const sequence = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('trimming', () => {
  test('lets go of whole segments below the offset and keeps everything from it on', () => {
    const cluster = new ReplicaCluster({ log: SMALL });
    fill(cluster, 1, 100);
    cluster.converge();
    const leader = cluster.elect();
    const { segments } = leader.group().status();
    trim(cluster, leader, 60);
    expect(leader.group().status().segments).toBeLessThan(segments);
    expect(leader.group().logStartOffset).toBeGreaterThan(1);
    expect(leader.group().logStartOffset).toBeLessThanOrEqual(60);
    const kept = numbersAt(cluster, leader);
    expect(kept[kept.length - 1]).toBe(100);
    expect(kept[0]).toBeLessThanOrEqual(59);
    const below = new Pending<unknown>();
    leader.group().read({ from: asOffset(1), maxBytes: 100 }, below.settle);
    expect(below.error?.code).toBe('offset-out-of-range');
    expect(below.error?.details).toEqual({ logStart: leader.group().logStartOffset });
  });

  test('does not go beyond what is committed', () => {
    const cluster = new ReplicaCluster({ log: SMALL });
    fill(cluster, 1, 50);
    const leader = cluster.elect();
    trim(cluster, leader, 1_000_000);
    fill(cluster, 51, 60);
    expect(numbersAt(cluster, leader).slice(-10)).toEqual(sequence(51, 60));
  });

  test('and opening again keeps sessions, configuration and log time', () => {
    const cluster = new ReplicaCluster({ log: SMALL });
    const id = cluster.finish(cluster.openSession(cluster.elect())).firstOffset;
    const answer = cluster.write('in session', { session: { low: id, high: 0, sequence: 1 } });
    fill(cluster, 1, 100);
    const last = cluster.write('last');
    cluster.converge();
    for (const machine of cluster.machines) {
      trim(cluster, machine, 90);
      machine.crash();
    }
    for (const machine of cluster.machines) {
      machine.wallOffsetMs = -3_600_000;
      machine.start();
    }
    const again = cluster.write('in session', { session: { low: id, high: 0, sequence: 1 } });
    expect(again).toMatchObject({ firstOffset: answer.firstOffset, duplicate: true });
    expect(cluster.write('next').logTime).toBeGreaterThanOrEqual(last.logTime + 1000);
    expect(cluster.elect().group().configuration.voters).toEqual([1, 2, 3]);
  });

  test('a follower that missed what was trimmed gets the state in its place, then all that is kept', () => {
    const cluster = new ReplicaCluster({ log: SMALL });
    const id = cluster.finish(cluster.openSession(cluster.elect())).firstOffset;
    const answer = cluster.write('in session', { session: { low: id, high: 0, sequence: 1 } });
    const leader = cluster.elect();
    const [lagging] = cluster.others(leader);
    lagging.crash();
    fill(cluster, 1, 200);
    cluster.converge();
    trim(cluster, leader, 150);
    lagging.start();
    cluster.converge();
    expect(lagging.group().counters.snapshotsInstalled).toBe(1);
    // What was to be kept is there on both, to the batch.
    expect(numbersAt(cluster, lagging).slice(-50)).toEqual(sequence(151, 200));
    expect(lagging.group().logStartOffset).toBeLessThanOrEqual(150);
    // It knows the sessions, also after a restart, and leads with them.
    lagging.crash();
    lagging.start();
    cluster.converge();
    leader.group().transferLeadership(lagging.id, () => {});
    cluster.time.until(() => cluster.leader() === lagging);
    const again = cluster.write('in session', { session: { low: id, high: 0, sequence: 1 } });
    expect(again).toMatchObject({ firstOffset: answer.firstOffset, duplicate: true, node: lagging.id });
  });

  test('two snapshots in a row bring a follower up to date each time', () => {
    const cluster = new ReplicaCluster({ log: SMALL });
    fill(cluster, 1, 10);
    const leader = cluster.elect();
    const [lagging] = cluster.others(leader);
    for (let round = 1; round <= 2; round++) {
      lagging.crash();
      fill(cluster, round * 100, round * 100 + 99);
      for (const machine of cluster.up) trim(cluster, machine, cluster.elect().group().commitOffset - 20);
      lagging.start();
      cluster.converge();
    }
    expect(numbersAt(cluster, lagging).slice(-20)).toEqual(sequence(280, 299));
    expect(lagging.group().status().damaged).toBe(false);
  });

  test('a snapshot whose state does not parse is not installed', () => {
    const cluster = new ReplicaCluster({ log: SMALL });
    fill(cluster, 1, 50);
    cluster.converge();
    const [machine] = cluster.others(cluster.elect());
    const before = machine.group().status();
    machine.group().receive({
      type: 'snapshot-request',
      from: cluster.elect().id,
      to: machine.id,
      term: before.term,
      snapshot: {
        offset: asOffset(10_000),
        term: before.term,
        configuration: before.configuration,
        state: Buffer.from('nonsense'),
      },
    });
    cluster.time.pass(10);
    expect(machine.group().commitOffset).toBe(before.commitOffset);
    expect(machine.group().counters.snapshotsInstalled).toBe(0);
  });

  test('without sessions in snapshots, which only a mutant does, a retry takes effect twice', () => {
    const cluster = new ReplicaCluster({ log: SMALL, mutants: { sessionsLeftOut: true } });
    const id = cluster.finish(cluster.openSession(cluster.elect())).firstOffset;
    cluster.write('in session', { session: { low: id, high: 0, sequence: 1 } });
    fill(cluster, 1, 100);
    cluster.converge();
    for (const machine of cluster.machines) trim(cluster, machine, 90);
    for (const machine of cluster.machines) machine.crash();
    for (const machine of cluster.machines) machine.start();
    const retried = cluster.append(cluster.elect(), textBatch('in session', { low: id, high: 0, sequence: 1 }));
    expect(retried.error?.code).toBe('session-expired');
  });
});
