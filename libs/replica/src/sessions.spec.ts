import { describe, expect, test } from '@jest/globals';
import { idempotencySession } from '#wire';
import { valuesAt } from './testing/log-contents.js';
import { ReplicaCluster, textBatch, type ClusterMachine } from './testing/replica-cluster.js';

const session = (id: number, sequence: number) => ({ low: id, high: 0, sequence });

const open = (cluster: ReplicaCluster): number => cluster.finish(cluster.openSession(cluster.elect())).firstOffset;

/** Whoever leads, once anybody does. */
const write = (cluster: ReplicaCluster, id: number, sequence: number, value = `${sequence}`) =>
  cluster.finish(cluster.append(cluster.elect(), textBatch(value, session(id, sequence))));

const attempt = (cluster: ReplicaCluster, machine: ClusterMachine, id: number, sequence: number) =>
  cluster.append(machine, textBatch(`${sequence}`, session(id, sequence)));

describe('a session', () => {
  test('has the offset that opened it as its id', () => {
    const cluster = new ReplicaCluster();
    const first = open(cluster);
    const second = open(cluster);
    expect(second).toBeGreaterThan(first);
    expect(write(cluster, first, 1).duplicate).toBe(false);
  });

  test('gets the first offsets again for a batch that is retried', () => {
    const cluster = new ReplicaCluster();
    const id = open(cluster);
    const first = write(cluster, id, 1);
    const again = write(cluster, id, 1);
    expect(again).toEqual({ ...first, duplicate: true });
    expect(valuesAt(cluster, cluster.elect())).toEqual(['1']);
  });

  test('gets one effect and one answer for a batch that comes twice while the first is in flight', () => {
    const cluster = new ReplicaCluster();
    const id = open(cluster);
    const leader = cluster.elect();
    const first = attempt(cluster, leader, id, 1);
    const second = attempt(cluster, leader, id, 1);
    expect(second.isDone).toBe(false);
    expect(cluster.finish(second).firstOffset).toBe(cluster.finish(first).firstOffset);
    expect(second.value!.duplicate).toBe(true);
    expect(valuesAt(cluster, leader)).toEqual(['1']);
  });

  test('may have many batches in flight, in order', () => {
    const cluster = new ReplicaCluster();
    const id = open(cluster);
    const leader = cluster.elect();
    const pending = [1, 2, 3, 4].map((sequence) => attempt(cluster, leader, id, sequence));
    for (const each of pending) cluster.finish(each);
    expect(valuesAt(cluster, leader)).toEqual(['1', '2', '3', '4']);
  });

  test('is told of a gap, and goes on once it is filled', () => {
    const cluster = new ReplicaCluster();
    const id = open(cluster);
    const leader = cluster.elect();
    const gap = attempt(cluster, leader, id, 2);
    expect(gap.error?.code).toBe('sequence-gap');
    expect(gap.error?.outcome).toBe('rejected');
    expect(gap.error?.details).toEqual({ expected: 1 });
    write(cluster, id, 1);
    write(cluster, id, 2);
    expect(valuesAt(cluster, leader)).toEqual(['1', '2']);
  });

  test('is told when a sequence is too old to be answered', () => {
    const cluster = new ReplicaCluster();
    const id = open(cluster);
    for (let sequence = 1; sequence <= 9; sequence++) write(cluster, id, sequence);
    const leader = cluster.elect();
    expect(attempt(cluster, leader, id, 1).error?.code).toBe('sequence-reused');
    expect(attempt(cluster, leader, id, 2).value?.duplicate).toBe(true);
    expect(attempt(cluster, leader, id, 0).error?.code).toBe('bad-request');
  });

  test('that nobody opened is refused', () => {
    const cluster = new ReplicaCluster();
    const { error } = attempt(cluster, cluster.elect(), 12345, 1);
    expect(error?.code).toBe('session-expired');
    expect(error?.outcome).toBe('rejected');
  });

  test('gets its answer from the next leader, also for what the old one never answered', () => {
    const cluster = new ReplicaCluster();
    const id = open(cluster);
    const first = write(cluster, id, 1);
    const old = cluster.elect();
    // The second batch is committed by the others, and the leader's answer is lost with it.
    cluster.network.block(cluster.others(old)[0].id, old.id);
    cluster.network.block(cluster.others(old)[1].id, old.id);
    attempt(cluster, old, id, 2);
    cluster.time.pass(5);
    old.crash();
    cluster.network.heal();
    const second = write(cluster, id, 2);
    expect(second.duplicate).toBe(true);
    expect(write(cluster, id, 1)).toMatchObject({
      firstOffset: first.firstOffset,
      logTime: first.logTime,
      duplicate: true,
    });
    old.start();
    cluster.converge();
    for (const machine of cluster.machines) expect(valuesAt(cluster, machine)).toEqual(['1', '2']);
  });

  test('may append again what was cut off with a leader that lost its office', () => {
    const cluster = new ReplicaCluster();
    const id = open(cluster);
    const old = cluster.elect();
    cluster.cutOff(old);
    const lost = attempt(cluster, old, id, 1);
    const next = cluster.elect(1, old);
    const kept = cluster.finish(attempt(cluster, next, id, 1));
    expect(kept.duplicate).toBe(false);
    cluster.network.heal();
    cluster.time.until(() => lost.isDone);
    expect(lost.error?.outcome).toBe('rejected');
    cluster.converge();
    // The old leader's table followed its log back, and leads right when it leads again.
    old.group().campaign();
    next.group().transferLeadership(old.id, () => {});
    cluster.time.until(() => cluster.leader() === old);
    expect(attempt(cluster, old, id, 1).value).toMatchObject({ firstOffset: kept.firstOffset, duplicate: true });
    write(cluster, id, 2);
    expect(valuesAt(cluster, old)).toEqual(['1', '2']);
  });

  test('is known after a power failure of all, from the log and from checkpoints', () => {
    for (const checkpointBytes of [1, 1000, 1_000_000]) {
      const cluster = new ReplicaCluster({ limits: { checkpointBytes } });
      const id = open(cluster);
      const answers = Array.from({ length: 12 }, (_, i) => write(cluster, id, i + 1));
      cluster.converge();
      for (const machine of cluster.machines) machine.crash();
      for (const machine of cluster.machines) machine.start();
      const again = write(cluster, id, 12);
      expect(again).toMatchObject({ firstOffset: answers[11].firstOffset, duplicate: true });
      expect(attempt(cluster, cluster.elect(), id, 14).error?.code).toBe('sequence-gap');
      expect(write(cluster, id, 13).duplicate).toBe(false);
      expect(valuesAt(cluster, cluster.elect())).toHaveLength(13);
    }
  });

  test('expires by log time, and only by it', () => {
    const cluster = new ReplicaCluster({ limits: { sessions: limits({ sessionIdleMsMax: 10_000 }) } });
    const id = open(cluster);
    const used = write(cluster, id, 1);
    const leader = cluster.elect();
    leader.wallOffsetMs = -60_000;
    cluster.time.pass(30_000);
    // The log's time has stood still with the leader's clock.
    expect(write(cluster, id, 2).logTime).toBe(used.logTime);
    leader.wallOffsetMs = 0;
    expect(attempt(cluster, leader, id, 3).error?.code).toBe('session-expired');
    cluster.write('others move the log time on');
    expect(leader.group().status().sessions).toBe(0);
  });

  test('that is used does not expire', () => {
    const cluster = new ReplicaCluster({ limits: { sessions: limits({ sessionIdleMsMax: 10_000 }) } });
    const id = open(cluster);
    for (let sequence = 1; sequence <= 5; sequence++) {
      cluster.time.pass(9000);
      write(cluster, id, sequence);
    }
  });

  test('is dropped when there are too many, the one unused the longest first, and never executes again', () => {
    const cluster = new ReplicaCluster({ limits: { sessions: limits({ sessionsMax: 2 }) } });
    const [first, second] = [open(cluster), open(cluster)];
    write(cluster, first, 1);
    const third = open(cluster);
    const leader = cluster.elect();
    expect(attempt(cluster, leader, second, 1).error?.code).toBe('session-expired');
    write(cluster, first, 2);
    write(cluster, third, 1);
    for (const machine of cluster.machines) machine.crash();
    for (const machine of cluster.machines) machine.start();
    expect(attempt(cluster, cluster.elect(), second, 1).error?.code).toBe('session-expired');
    write(cluster, first, 3);
  });
});

describe('an idempotency key', () => {
  test('makes a retry take effect once, also across failover', () => {
    const cluster = new ReplicaCluster();
    const key = idempotencySession('order-17');
    const first = cluster.write('order', { session: key });
    expect(first.duplicate).toBe(false);
    cluster.elect().crash();
    const again = cluster.write('order', { session: key });
    expect(again).toMatchObject({ firstOffset: first.firstOffset, logTime: first.logTime, duplicate: true });
    expect(valuesAt(cluster, cluster.elect())).toEqual(['order']);
  });

  test('that was used for something else is a conflict', () => {
    const cluster = new ReplicaCluster();
    const key = idempotencySession('order-17');
    cluster.write('order', { session: key });
    const { error } = cluster.append(cluster.elect(), textBatch('another', key));
    expect(error?.code).toBe('idempotency-conflict');
    expect(error?.outcome).toBe('rejected');
  });

  test('expires by log time and may then be used anew', () => {
    const cluster = new ReplicaCluster({ limits: { sessions: limits({ idempotencyKeyMsMax: 1000 }) } });
    const key = idempotencySession('order-17');
    cluster.write('order', { session: key });
    cluster.time.pass(2000);
    expect(cluster.write('order', { session: key }).duplicate).toBe(false);
  });
});

const limits = (some: object) => ({
  sessionsMax: 100,
  idempotencyKeysMax: 100,
  sessionIdleMsMax: 3_600_000,
  idempotencyKeyMsMax: 3_600_000,
  ...some,
});
