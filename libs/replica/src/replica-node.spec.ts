import { describe, expect, test } from '@jest/globals';
import { asGroupId, asNodeId } from '#kernel';
import { valuesAt } from './testing/log-contents.js';
import { ReplicaCluster, textBatch } from './testing/replica-cluster.js';

const GROUPS = Array.from({ length: 50 }, (_, i) => i + 1);

describe('a node with many groups', () => {
  test('puts the heartbeats of all idle groups into one frame per peer and turn', () => {
    const cluster = new ReplicaCluster({ groups: GROUPS, heartbeatMs: 100 });
    for (const group of GROUPS) cluster.elect(group);
    cluster.time.pass(2000);
    const before = cluster.network.framesPosted;
    cluster.time.pass(1000);
    // 20 ticks a second, from up to three leaders to two peers each, and the answers. One by one it would be 50 × 10 × 2 × 2.
    expect(cluster.network.framesPosted - before).toBeLessThanOrEqual(20 * 6 * 2);
  });

  test('commits in all of them, each with offsets of its own', () => {
    const cluster = new ReplicaCluster({ groups: GROUPS });
    for (const group of GROUPS) cluster.write(`in ${group}`, { group });
    for (const group of GROUPS) {
      cluster.converge(group);
      for (const machine of cluster.machines) expect(valuesAt(cluster, machine, { group })).toEqual([`in ${group}`]);
    }
  });

  test('sends what many groups appended in a turn as one frame per peer', () => {
    const cluster = new ReplicaCluster({ groups: GROUPS });
    for (const group of GROUPS) cluster.elect(group);
    const machine = cluster.machines[0];
    for (const group of GROUPS) {
      const leader = cluster.leader(group)!;
      if (leader !== machine) leader.group(group).transferLeadership(machine.id, () => {});
    }
    cluster.time.until(() => GROUPS.every((group) => cluster.leader(group) === machine));
    cluster.time.pass(10);
    const large: number[] = [];
    cluster.network.filter = (from, to, frame) => {
      if (from === machine.id && to !== from && frame.length > 3000) large.push(to);
      return true;
    };
    const pending = GROUPS.map((group) => cluster.append(machine, textBatch('x'.repeat(100)), { group }));
    for (const each of pending) cluster.finish(each);
    expect(large.sort()).toEqual([2, 3]);
  });
});

describe('a turn', () => {
  test('sends its entries before they are written here: followers have the longer way', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.write('before');
    const order: string[] = [];
    const counted = leader.disk.operations;
    cluster.network.filter = (from, to, frame) => {
      if (from === leader.id && frame.length > 1000)
        order.push(`to ${to}, ${leader.disk.operations - counted} operations`);
      return true;
    };
    const pending = cluster.append(leader, textBatch('z'.repeat(1000)));
    cluster.time.settle();
    expect(order.sort()).toEqual(cluster.others(leader).map(({ id }) => `to ${id}, 0 operations`));
    expect(leader.disk.operations).toBeGreaterThan(counted);
    cluster.finish(pending);
  });
});

describe('a node', () => {
  test('ignores messages of groups it does not have, and counts them', () => {
    const cluster = new ReplicaCluster();
    cluster.elect();
    cluster.machines[0].open(7);
    cluster.time.pass(5000);
    expect(cluster.machines[1].replica!.counters.messagesUnknown).toBeGreaterThan(0);
    cluster.machines[1].open(7);
    cluster.machines[2].open(7);
    cluster.write('in a group opened later', { group: 7 });
  });

  test('survives frames of any bytes, and counts them', () => {
    const cluster = new ReplicaCluster();
    const { replica } = cluster.machines[0];
    for (const frame of [Buffer.alloc(0), Buffer.from([9]), Buffer.from([1, 99]), Buffer.alloc(1000, 0xff)]) {
      replica!.receive(asNodeId(2), frame);
    }
    expect(replica!.counters.framesMalformed).toBe(4);
    cluster.write('still there');
  });

  test('drops a message whose batch was damaged on the way, and gets it again', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    let damaged = 0;
    cluster.network.filter = (from, _to, frame) => {
      if (from === leader.id && frame.length > 1000 && damaged < 5) {
        frame[frame.length - 100] ^= 0x10;
        damaged++;
      }
      return true;
    };
    cluster.finish(cluster.append(leader, textBatch('y'.repeat(1000))));
    cluster.converge();
    expect(damaged).toBe(5);
    const corrupt = cluster.machines.map((machine) => machine.replica!.counters.messagesCorrupt);
    expect(corrupt.reduce((sum, each) => sum + each, 0)).toBe(5);
    for (const machine of cluster.machines) expect(valuesAt(cluster, machine)).toEqual(['y'.repeat(1000)]);
  });

  test('measures the round trip to its peers', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.network.delayMsMin = cluster.network.delayMsMax = 7;
    cluster.time.pass(1000);
    for (const other of cluster.others(leader)) {
      expect(leader.replica!.peerRttMs(other.id)).toBeGreaterThanOrEqual(14);
      expect(leader.replica!.peerRttMs(other.id)).toBeLessThan(15);
    }
  });

  test('of one is leader without waiting for an election timeout', () => {
    const cluster = new ReplicaCluster({ nodes: 1 });
    cluster.elect();
    expect(cluster.time.monotonicMs()).toBeLessThan(10);
    cluster.write('alone');
    cluster.machines[0].crash();
    cluster.machines[0].start();
    cluster.write('again');
    expect(valuesAt(cluster, cluster.machines[0])).toEqual(['alone', 'again']);
  });

  test('closes a group and opens it again with what it had', () => {
    const cluster = new ReplicaCluster({ nodes: 1 });
    cluster.write('kept');
    const [machine] = cluster.machines;
    let closed = false;
    machine.replica!.closeGroup(asGroupId(1), () => {
      closed = true;
    });
    cluster.time.until(() => closed);
    expect(machine.replica!.group(asGroupId(1))).toBeUndefined();
    machine.open(1);
    cluster.elect();
    expect(valuesAt(cluster, machine)).toEqual(['kept']);
  });
});

describe('under loss, duplication and delay', () => {
  test.each([1, 2, 3, 4, 5, 6])('what was acknowledged is on every node in order (seed %i)', (seed) => {
    const cluster = new ReplicaCluster({ seed, log: { segmentBytes: 8192 } });
    cluster.network.lossRate = 0.1;
    cluster.network.duplicationRate = 0.1;
    cluster.network.delayMsMax = 20;
    const acknowledged: { offset: number; value: string }[] = [];
    for (let round = 0; round < 40; round++) {
      const leader = cluster.leader();
      if (leader === undefined) {
        cluster.time.pass(500);
        continue;
      }
      const pending = Array.from({ length: 5 }, (_, i) => ({
        value: `${round}-${i}`,
        call: cluster.append(leader, textBatch(`${round}-${i}`)),
      }));
      cluster.time.pass(60);
      for (const { value, call } of pending) {
        if (call.value !== null) acknowledged.push({ offset: call.value.firstOffset, value });
      }
      if (round % 9 === 4) {
        leader.crash();
        cluster.time.pass(300);
        leader.start();
      }
      if (round % 9 === 8) {
        cluster.cutOff(leader);
        cluster.time.pass(3000);
        cluster.network.heal();
      }
    }
    cluster.network.lossRate = 0;
    cluster.converge();
    expect(acknowledged.length).toBeGreaterThan(50);
    const [first, ...others] = cluster.machines.map((machine) => valuesAt(cluster, machine));
    for (const other of others) expect(other).toEqual(first);
    let at = -1;
    for (const { value } of acknowledged.sort((a, b) => a.offset - b.offset)) {
      const found = first.indexOf(value);
      expect(found).toBeGreaterThan(at);
      at = found;
    }
  });
});
