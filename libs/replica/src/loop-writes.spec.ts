import { describe, expect, test } from '@jest/globals';
import { ReplicaCluster, textBatch, type ClusterMachine } from './testing/index.js';

const WARM_WRITES = 40;

/** A cluster whose event loops write their logs themselves by now. */
const warm = (options: ConstructorParameters<typeof ReplicaCluster>[0] = {}): ReplicaCluster => {
  const cluster = new ReplicaCluster({ loopWrites: true, ...options });
  cluster.elect();
  cluster.time.pass(2000);
  for (let i = 0; i < WARM_WRITES; i++) cluster.write(`${i}`);
  return cluster;
};

const stick = (machine: ClusterMachine, stallMs: number): void => {
  machine.disk.faults.stallRate = 1;
  machine.disk.faults.stallMs = stallMs;
};

describe('a log that the event loop writes itself', () => {
  test('is durable on a majority when a write is answered', () => {
    const cluster = warm();
    const { lastOffset } = cluster.write('answered');
    const durable = cluster.machines.filter((machine) => machine.group().status().durableOffset >= lastOffset);
    expect(durable.length).toBeGreaterThanOrEqual(2);
    for (const machine of cluster.machines) machine.crash();
    for (const machine of cluster.machines) machine.start();
    cluster.write('after');
    cluster.converge();
    expect(cluster.readAll(cluster.elect()).includes('answered')).toBe(true);
  });

  test('is written in the turn in which it was decided, after the entries have left', () => {
    const cluster = warm();
    const leader = cluster.elect();
    let posted = 0;
    cluster.network.filter = (from) => {
      if (from === leader.id) posted++;
      return true;
    };
    const seen: number[] = [];
    const { holdsUp } = leader.disk;
    leader.disk.holdsUp = (ms) => {
      seen.push(posted);
      holdsUp(ms);
    };
    cluster.write('one');
    expect(seen).toEqual([2]);
  });

  test('holds up only the node whose disk hangs: the others elect another leader', () => {
    const cluster = warm();
    const stuck = cluster.elect();
    stick(stuck, 20_000);
    const unanswered = cluster.append(stuck, textBatch('unanswered'));
    const heir = cluster.elect(1, stuck);
    cluster.finish(cluster.append(heir, textBatch('by the heir')));
    expect(cluster.time.monotonicMs()).toBeLessThan(20_000);
    // Back again, it hears who leads and follows; its pool waits for the disk from now on.
    stuck.disk.faults.stallRate = 0;
    cluster.time.pass(20_000);
    expect(unanswered.isDone).toBe(true);
    cluster.write('together');
    cluster.converge();
    expect(cluster.up).toHaveLength(3);
  });

  test('goes back to the pool after that: heartbeats go on while the disk hangs again', () => {
    const cluster = warm();
    const leader = cluster.elect();
    const { term } = leader.group();
    stick(leader, 300);
    cluster.write('hangs in the loop');
    cluster.time.pass(400);
    stick(leader, 5000);
    cluster.write('hangs in the pool');
    cluster.time.pass(3000);
    expect(cluster.elect()).toBe(leader);
    expect(leader.group().term).toBe(term);
  });

  test('ends its process when a write fails', () => {
    const cluster = warm();
    const leader = cluster.elect();
    leader.disk.failNextWrite('EIO');
    cluster.append(leader, textBatch('lost'));
    cluster.elect(1, leader);
    expect(leader.fatal).toHaveLength(1);
    expect(leader.fatal[0].message).toMatch(/EIO/);
    expect(leader.isUp).toBe(false);
  });

  test('is left to the pool while several logs are written at once', () => {
    const groups = [1, 2, 3];
    const cluster = warm({ nodes: 1, groups });
    const [machine] = cluster.machines;
    for (const group of groups) cluster.elect(group);
    let waits = 0;
    const { holdsUp } = machine.disk;
    machine.disk.holdsUp = (ms) => {
      waits++;
      holdsUp(ms);
    };
    cluster.write('alone');
    expect(waits).toBe(1);
    for (let i = 0; i < 10; i++) {
      const pending = groups.map((group) => cluster.append(machine, textBatch(`${i}`), { group }));
      for (const each of pending) cluster.finish(each);
    }
    cluster.write('just after');
    expect(waits).toBe(1);
    for (let i = 0; i < WARM_WRITES; i++) cluster.write(`alone again ${i}`);
    expect(waits).toBeGreaterThan(1);
  });
});
