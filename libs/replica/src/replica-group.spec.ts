import { describe, expect, test } from '@jest/globals';
import { asNodeId } from '#kernel';
import {
  ControlKind,
  batchControlKind,
  batchFirstOffset,
  batchIsControl,
  batchLogTime,
  batchRecordCount,
  checkBatch,
  encodeControlBatch,
} from '#wire';
import { Pending, ReplicaCluster, recordsBatch, textBatch } from './testing/replica-cluster.js';
import { batchesOf, codeOf, valuesAt } from './testing/log-contents.js';

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

  test('gives a batch of many records consecutive offsets', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const batch = recordsBatch([{ value: Buffer.from('a') }, { value: Buffer.from('b') }, { value: Buffer.from('c') }]);
    const appended = cluster.finish(cluster.append(leader, batch));
    expect(appended.lastOffset - appended.firstOffset).toBe(2);
    expect(cluster.write('d').firstOffset).toBe(appended.lastOffset + 1);
    expect(valuesAt(cluster, leader)).toEqual(['a', 'b', 'c', 'd']);
  });

  test('begins a term with a noop that carries the offset and group it was stamped with', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const [noop] = batchesOf(cluster.readAll(leader));
    expect(batchIsControl(noop)).toBe(true);
    expect(batchControlKind(noop)).toBe(ControlKind.Noop);
    expect(batchFirstOffset(noop)).toBe(1);
    expect(batchRecordCount(noop)).toBe(1);
  });

  test('refuses at a follower and names the leader', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const [follower] = cluster.others(leader);
    cluster.time.pass(500);
    const { error } = cluster.append(follower, textBatch('no'));
    expect(error?.code).toBe('not-leader');
    expect(error?.outcome).toBe('rejected');
    expect(error?.details).toEqual({ leader: leader.id });
  });

  test('refuses what is not a good batch, what is too large, and control batches of others', () => {
    const cluster = new ReplicaCluster({ limits: { batchBytesMax: 1000 } });
    const leader = cluster.elect();
    const broken = textBatch('broken');
    broken[broken.length - 1] ^= 1;
    expect(cluster.append(leader, broken).error?.code).toBe('malformed-batch');
    expect(cluster.append(leader, Buffer.alloc(3)).error?.code).toBe('malformed-batch');
    expect(cluster.append(leader, textBatch('x'.repeat(1000))).error?.code).toBe('request-too-large');
    const control = encodeControlBatch(ControlKind.OpenSession, Buffer.alloc(0), 0);
    expect(cluster.append(leader, control).error?.code).toBe('bad-request');
  });

  test('refuses more than it may hold uncommitted, and takes more once that is committed', () => {
    const cluster = new ReplicaCluster({ limits: { uncommittedBytesMax: 4096 } });
    const leader = cluster.elect();
    const pending = Array.from({ length: 4 }, () => cluster.append(leader, textBatch('x'.repeat(1500))));
    expect(pending.map((each) => each.error?.code ?? 'taken')).toEqual(['taken', 'taken', 'overloaded', 'overloaded']);
    cluster.finish(pending[0]);
    cluster.finish(pending[1]);
    cluster.finish(cluster.append(leader, textBatch('later')));
  });

  test('refuses more callers than it may keep waiting', () => {
    const cluster = new ReplicaCluster({ limits: { pendingAppendsMax: 2 } });
    const leader = cluster.elect();
    const pending = ['a', 'b', 'c'].map((value) => cluster.append(leader, textBatch(value)));
    expect(pending[2].error?.code).toBe('overloaded');
  });

  test('appends a batch again that was stamped before without touching the first', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const batch = textBatch('twice');
    const first = cluster.append(leader, batch);
    const second = cluster.append(leader, batch);
    expect(cluster.finish(first).firstOffset).toBe(2);
    expect(cluster.finish(second).firstOffset).toBe(3);
    cluster.converge();
    for (const machine of cluster.machines) expect(valuesAt(cluster, machine)).toEqual(['twice', 'twice']);
  });
});

describe('acks', () => {
  test('none answers at once, leader when the leader has it on disk, quorum when a majority has', () => {
    const cluster = new ReplicaCluster({ disk: { latencyMsMin: 1, latencyMsMax: 1 } });
    const leader = cluster.elect();
    cluster.network.delayMsMin = cluster.network.delayMsMax = 20;
    const none = cluster.append(leader, textBatch('none'), { acks: 'none' });
    expect(none.value?.firstOffset).toBe(2);
    const onLeader = cluster.append(leader, textBatch('leader'), { acks: 'leader' });
    const onQuorum = cluster.append(leader, textBatch('quorum'), { acks: 'quorum' });
    expect(onLeader.isDone).toBe(false);
    cluster.finish(onLeader);
    expect(onQuorum.isDone).toBe(false);
    expect(leader.group().commitOffset).toBe(1);
    cluster.finish(onQuorum);
    expect(leader.group().commitOffset).toBe(4);
  });

  test('leader is not answered by a leader that has not written yet', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    leader.disk.faults.latencyMsMin = leader.disk.faults.latencyMsMax = 50;
    for (const follower of cluster.others(leader))
      follower.disk.faults.latencyMsMin = follower.disk.faults.latencyMsMax = 50;
    const pending = cluster.append(leader, textBatch('slow'), { acks: 'leader' });
    cluster.time.pass(40);
    expect(pending.isDone).toBe(false);
    cluster.finish(pending);
  });

  test('quorum counts the followers while the disk of the leader is slow, but readers of the leader wait for it', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    leader.disk.faults.latencyMsMin = leader.disk.faults.latencyMsMax = 50;
    const { lastOffset } = cluster.finish(cluster.append(leader, textBatch('value')));
    expect(leader.group().commitOffset).toBe(lastOffset);
    expect(leader.group().readableOffset).toBe(lastOffset - 1);
    expect(valuesAt(cluster, leader)).toEqual([]);
    cluster.time.pass(100);
    expect(valuesAt(cluster, leader)).toEqual(['value']);
  });
});

describe('group commit', () => {
  test('writes what gathers while a write is in flight as one', () => {
    const cluster = new ReplicaCluster({ nodes: 1, disk: { latencyMsMin: 5, latencyMsMax: 5 } });
    const leader = cluster.elect();
    const group = leader.group();
    const before = group.counters.persists;
    const pending = [cluster.append(leader, textBatch('first'))];
    cluster.time.pass(1);
    for (let i = 0; i < 50; i++) {
      pending.push(cluster.append(leader, textBatch(`${i}`)));
      cluster.time.pass(0.05);
    }
    for (const each of pending) cluster.finish(each);
    expect(group.counters.persists - before).toBe(2);
    expect(valuesAt(cluster, leader)).toHaveLength(51);
  });

  test('sends the entries of one turn to a follower as one frame', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.time.pass(100);
    const frames: number[] = [];
    cluster.network.filter = (from, _to, frame) => {
      if (from === leader.id && frame.length > 2000) frames.push(frame.length);
      return true;
    };
    const pending = Array.from({ length: 20 }, (_, i) => cluster.append(leader, textBatch(`${i}`.padEnd(100, '.'))));
    for (const each of pending) cluster.finish(each);
    expect(frames).toHaveLength(2);
  });
});

describe('when the leader goes', () => {
  test('what was acknowledged is there after its power failure and its return', () => {
    const cluster = new ReplicaCluster();
    const written: string[] = [];
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 5; i++) {
        const value = `${round}-${i}`;
        cluster.write(value);
        written.push(value);
      }
      const leader = cluster.elect();
      leader.crash();
      cluster.elect();
      leader.start();
    }
    cluster.converge();
    for (const machine of cluster.machines) expect(valuesAt(cluster, machine)).toEqual(written);
  });

  test('all of it is there after a power failure of all', () => {
    const cluster = new ReplicaCluster();
    const written = Array.from({ length: 10 }, (_, i) => `${i}`);
    for (const value of written) cluster.write(value);
    for (const machine of cluster.machines) machine.crash();
    for (const machine of cluster.machines) machine.start();
    cluster.write('after');
    cluster.converge();
    for (const machine of cluster.machines) expect(valuesAt(cluster, machine)).toEqual([...written, 'after']);
  });

  test('an append that the next leader has is answered as committed by the old one', () => {
    const cluster = new ReplicaCluster();
    const old = cluster.elect();
    const [survivor, other] = cluster.others(old);
    // The entry reaches the others, their answers do not come back.
    cluster.network.block(survivor.id, old.id);
    cluster.network.block(other.id, old.id);
    const pending = cluster.append(old, textBatch('survives'));
    cluster.time.until(() => survivor.group().isEstablishedLeader || other.group().isEstablishedLeader);
    expect(pending.isDone).toBe(false);
    cluster.network.heal();
    expect(cluster.finish(pending).firstOffset).toBe(2);
    cluster.converge();
    expect(valuesAt(cluster, old)).toEqual(['survives']);
  });

  test('an append that was replaced is answered as rejected, its place is cut, and it never shows', () => {
    const cluster = new ReplicaCluster();
    const old = cluster.elect();
    cluster.cutOff(old);
    const lost = cluster.append(old, textBatch('lost'));
    const lostToo = cluster.append(old, textBatch('lost, too'));
    const next = cluster.elect(1, old);
    cluster.finish(cluster.append(next, textBatch('kept')));
    cluster.network.heal();
    cluster.time.until(() => lost.isDone && lostToo.isDone);
    expect(lost.error?.code).toBe('leadership-lost');
    expect(lost.error?.outcome).toBe('rejected');
    cluster.converge();
    expect(old.group().counters.truncations).toBe(1);
    for (const machine of cluster.machines) expect(valuesAt(cluster, machine)).toEqual(['kept']);
  });

  test('an append whose fate the old leader does not learn in time is unknown', () => {
    const cluster = new ReplicaCluster();
    const old = cluster.elect();
    cluster.cutOff(old);
    const pending = cluster.append(old, textBatch('?'));
    cluster.time.until(() => pending.isDone);
    expect(pending.error?.code).toBe('leadership-lost');
    expect(pending.error?.outcome).toBe('unknown');
  });

  test('appends under way end as unknown when the node is closed', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const pending = cluster.append(leader, textBatch('?'));
    const barrier = cluster.barrier(leader);
    const closed = new Pending<null>();
    leader.replica!.close(() => closed.settle(null));
    expect(pending.error?.code).toBe('shutting-down');
    expect(pending.error?.outcome).toBe('unknown');
    expect(barrier.error?.code).toBe('shutting-down');
    cluster.time.until(() => closed.isDone);
  });

  test('its followers do not wait for the timeout when they hear that the connection ended', () => {
    const cluster = new ReplicaCluster({ electionTimeoutMs: 1000 });
    const leader = cluster.elect();
    cluster.time.pass(1000);
    const since = cluster.time.monotonicMs();
    leader.crash();
    // What it sent last arrives before the connection ends.
    cluster.time.pass(1);
    for (const other of cluster.others(leader)) other.replica!.peerLost(leader.id);
    cluster.elect(1);
    expect(cluster.time.monotonicMs() - since).toBeLessThan(1000);
  });
});

describe('the disk', () => {
  test('nearly full: appends are refused, reads, barriers and votes go on', () => {
    const cluster = new ReplicaCluster({ log: { reserveBytes: 1024 * 1024 } });
    cluster.write('before');
    for (const machine of cluster.machines) machine.disk.faults.capacityBytes = machine.disk.usedBytes + 900 * 1024;
    cluster.time.pass(2000);
    const leader = cluster.elect();
    const refused = cluster.append(leader, textBatch('no'));
    expect(refused.error?.code).toBe('storage-full');
    expect(refused.error?.outcome).toBe('rejected');
    leader.crash();
    const next = cluster.elect(1, leader);
    expect(cluster.append(next, textBatch('no')).error?.code).toBe('storage-full');
    cluster.finish(cluster.barrier(next));
    expect(valuesAt(cluster, next)).toEqual(['before']);
  });

  test('failing: the node says so once and answers nobody with success', () => {
    const cluster = new ReplicaCluster();
    cluster.write('before');
    const leader = cluster.elect();
    leader.disk.failNextWrite('EIO');
    cluster.network.isolate(leader.id, cluster.ids);
    const pending = cluster.append(leader, textBatch('?'), { acks: 'leader' });
    cluster.time.until(() => pending.isDone);
    expect(pending.error?.outcome).toBe('unknown');
    expect(leader.fatal).toHaveLength(1);
    cluster.network.heal();
    cluster.elect(1, leader);
    leader.start();
    cluster.write('after');
    cluster.converge();
    expect(valuesAt(cluster, leader).filter((value) => value !== '?')).toEqual(['before', 'after']);
  });
});

describe('reading', () => {
  test('begins with the batch that contains the offset and keeps to the limit, but gives at least one batch', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const records = ['a', 'b', 'c'].map((value) => ({ value: Buffer.from(value) }));
    cluster.finish(cluster.append(leader, recordsBatch(records)));
    cluster.write('d');
    const pending = new Pending<{ batches: Buffer; nextOffset: number }>();
    const request = { from: batchFirstOffset(batchesOf(cluster.readAll(leader))[1]), maxBytes: 1 };
    leader.group().read({ ...request, from: (request.from + 1) as typeof request.from }, pending.settle);
    const { batches, nextOffset } = cluster.finish(pending);
    expect(batchesOf(batches)).toHaveLength(1);
    expect(nextOffset).toBe(request.from + 3);
  });

  test('is served from memory at the end of the log and from disk before it, with the same bytes', () => {
    const cluster = new ReplicaCluster({ limits: { recentBytesMax: 1000 } });
    for (let i = 0; i < 50; i++) cluster.write(`${i}`);
    const roomy = new ReplicaCluster({});
    for (let i = 0; i < 50; i++) roomy.write(`${i}`);
    expect(valuesAt(cluster, cluster.elect())).toEqual(valuesAt(roomy, roomy.elect()));
  });

  test('listeners hear of the readable offset, not more than once a turn, until they stop listening', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const heard: number[] = [];
    const stop = leader.group().onCommit((offset) => heard.push(offset));
    const pending = Array.from({ length: 10 }, (_, i) => cluster.append(leader, textBatch(`${i}`)));
    for (const each of pending) cluster.finish(each);
    cluster.time.pass(100);
    expect(heard).toEqual([11]);
    stop();
    cluster.write('unheard');
    expect(heard).toEqual([11]);
  });

  test('finds the offset of a time', () => {
    const cluster = new ReplicaCluster();
    const first = cluster.write('first');
    cluster.time.pass(5000);
    const second = cluster.write('second');
    const leader = cluster.elect();
    const offsetAt = (time: typeof first.logTime): number => {
      const pending = new Pending<number>();
      leader.group().offsetAtTime(time, pending.settle);
      return cluster.finish(pending);
    };
    expect(offsetAt(first.logTime)).toBe(first.firstOffset);
    expect(offsetAt((first.logTime + 1) as typeof first.logTime)).toBe(second.firstOffset);
    expect(offsetAt((second.logTime + 1) as typeof first.logTime)).toBe(second.firstOffset + 1);
  });
});

describe('log time', () => {
  test('never goes back when the clock does', () => {
    const cluster = new ReplicaCluster();
    const first = cluster.write('first');
    cluster.elect().wallOffsetMs = -3_600_000;
    const second = cluster.write('second');
    expect(second.logTime).toBeGreaterThanOrEqual(first.logTime);
  });

  test('of a new leader begins a second after the last in its log, whatever its clock says', () => {
    const cluster = new ReplicaCluster();
    const old = cluster.elect();
    old.wallOffsetMs = 3_600_000;
    const last = cluster.write('from the future');
    cluster.converge();
    old.crash();
    const next = cluster.elect(1, old);
    const batches = batchesOf(cluster.readAll(next));
    const noop = batches[batches.length - 1];
    expect(batchControlKind(noop)).toBe(ControlKind.Noop);
    expect(batchLogTime(noop)).toBe(last.logTime + 1000);
    expect(cluster.write('after').logTime).toBeGreaterThanOrEqual(last.logTime + 1000);
  });

  test('keeps rising over restarts of everybody', () => {
    const cluster = new ReplicaCluster();
    const times: number[] = [];
    for (let i = 0; i < 3; i++) {
      times.push(cluster.write(`${i}`).logTime);
      for (const machine of cluster.machines) {
        machine.crash();
        machine.wallOffsetMs -= 60_000;
      }
      for (const machine of cluster.machines) machine.start();
    }
    expect(times[1]).toBeGreaterThanOrEqual(times[0] + 1000);
    expect(times[2]).toBeGreaterThanOrEqual(times[1] + 1000);
  });
});

describe('leadership and members', () => {
  test('leadership is handed over on request', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const [heir] = cluster.others(leader);
    const pending = new Pending<null>();
    leader.group().transferLeadership(heir.id, (error) => pending.settle(error));
    cluster.time.until(() => pending.isDone);
    expect(pending.error).toBeNull();
    expect(cluster.elect()).toBe(heir);
    expect(
      codeOf(() =>
        leader.group().transferLeadership(leader.id, (error) => {
          throw error;
        }),
      ),
    ).toBe('not-leader');
  });

  test('a transfer to a node that is down fails in time and the leader goes on', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    const [heir] = cluster.others(leader);
    heir.crash();
    const pending = new Pending<null>();
    leader.group().transferLeadership(heir.id, (error) => pending.settle(error));
    cluster.time.until(() => pending.isDone);
    expect(pending.error?.code).toBe('timeout');
    cluster.time.pass(2000);
    cluster.write('goes on');
  });

  test('a voter is removed, and the configuration outlives a restart of all', () => {
    const cluster = new ReplicaCluster({ nodes: 4 });
    const leader = cluster.elect();
    const gone = cluster.others(leader)[0];
    const voters = cluster.ids.filter((id) => id !== gone.id);
    const pending = new Pending<null>();
    leader.group().proposeConfiguration({ voters, learners: [] }, (error) => pending.settle(error));
    cluster.time.until(() => pending.isDone);
    expect(pending.error).toBeNull();
    gone.crash();
    for (const machine of cluster.up) machine.crash();
    for (const machine of cluster.machines) if (machine !== gone) machine.start();
    cluster.write('after');
    expect(cluster.elect().group().configuration.voters).toEqual(voters);
    expect(cluster.elect().group().configuration.outgoing).toEqual([]);
  });

  test('a change of members at a follower, or while another is under way, is refused', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.time.pass(500);
    const ask = (machine: typeof leader, voters: number[]): Pending<null> => {
      const pending = new Pending<null>();
      const target = { voters: voters.map(asNodeId), learners: [] };
      machine.group().proposeConfiguration(target, (error) => pending.settle(error));
      return pending;
    };
    expect(ask(cluster.others(leader)[0], [1, 2]).error?.code).toBe('not-leader');
    expect(ask(leader, []).error?.code).toBe('bad-request');
    ask(
      leader,
      cluster.ids.filter((id) => id !== cluster.others(leader)[0].id),
    );
    expect(ask(leader, [1, 2, 3]).error?.code).toBe('membership-change-pending');
  });

  test('the voters a group began with are part of its data, whatever the option says later', () => {
    const cluster = new ReplicaCluster();
    cluster.write('one');
    const machine = cluster.machines[0];
    machine.crash();
    machine.start();
    const { directory, group } = { directory: 'data/group-000001', group: machine.group().id };
    const closed = new Pending<null>();
    machine.replica!.closeGroup(group, () => closed.settle(null));
    cluster.time.until(() => closed.isDone);
    const again = machine.replica!.openGroup({ group, directory, bootstrapVoters: [asNodeId(1)] });
    expect(again?.configuration.voters).toEqual([1, 2, 3]);
  });
});
