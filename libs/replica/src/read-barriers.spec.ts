import { describe, expect, test } from '@jest/globals';
import { ControlKind, batchControlKind, batchIsControl, batchLogTime } from '#wire';
import { batchesOf } from './testing/log-contents.js';
import { ReplicaCluster, textBatch } from './testing/replica-cluster.js';

describe('a barrier', () => {
  test('covers what was acknowledged before it, with a time that is not before it', () => {
    const cluster = new ReplicaCluster();
    const written = cluster.write('value');
    const point = cluster.finish(cluster.barrier(cluster.elect()));
    expect(point.offset).toBeGreaterThanOrEqual(written.lastOffset);
    expect(point.time).toBeGreaterThanOrEqual(written.logTime);
    expect(point.node).toBe(cluster.elect().id);
  });

  test('asked of a follower is refused with the leader named', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.time.pass(500);
    const { error } = cluster.barrier(cluster.others(leader)[0]);
    expect(error?.code).toBe('not-leader');
    expect(error?.details).toEqual({ leader: leader.id });
  });

  test('is never answered by an old leader that is cut off, even after the others have gone on', () => {
    const cluster = new ReplicaCluster();
    const old = cluster.elect();
    cluster.write('before');
    cluster.cutOff(old);
    const pending = cluster.barrier(old);
    const next = cluster.elect(1, old);
    cluster.finish(cluster.append(next, textBatch('after')));
    cluster.time.until(() => pending.isDone);
    expect(pending.error?.code).toBe('not-leader');
    expect(pending.error?.outcome).toBe('rejected');
    expect(cluster.barrier(old).error?.code).toBe('not-leader');
  });

  test('that came after a round began is not answered by that round', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.write('value');
    cluster.network.delayMsMin = cluster.network.delayMsMax = 10;
    const first = cluster.barrier(leader);
    cluster.time.pass(9);
    const second = cluster.barrier(leader);
    cluster.finish(first);
    expect(second.isDone).toBe(false);
    cluster.time.pass(5);
    expect(second.isDone).toBe(false);
    cluster.finish(second);
  });

  test('shares its read request with all others of its turn', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.write('value');
    const rounds = leader.group().counters.readRounds;
    const all = Array.from({ length: 100 }, () => cluster.barrier(leader));
    for (const each of all) cluster.finish(each);
    expect(leader.group().counters.readRounds - rounds).toBe(1);
    expect(new Set(all.map((each) => each.value!.time)).size).toBe(1);
  });

  test('of a log that has been idle commits a beacon first, and one does for a second', () => {
    const cluster = new ReplicaCluster();
    const leader = cluster.elect();
    cluster.write('value');
    cluster.time.pass(10_000);
    const wall = cluster.time.wallMs();
    const point = cluster.finish(cluster.barrier(leader));
    expect(point.time).toBeGreaterThanOrEqual(wall);
    const batches = batchesOf(cluster.readAll(leader));
    const beacon = batches[batches.length - 1];
    expect(batchIsControl(beacon) && batchControlKind(beacon) === ControlKind.Beacon).toBe(true);
    expect(batchLogTime(beacon)).toBe(point.time);
    expect(point.offset).toBe(leader.group().commitOffset);
    cluster.time.pass(500);
    cluster.finish(cluster.barrier(leader));
    expect(leader.group().counters.beacons).toBe(1);
    cluster.time.pass(600);
    cluster.finish(cluster.barrier(leader));
    expect(leader.group().counters.beacons).toBe(2);
  });

  test('has a time that no batch beyond its offset is stamped below', () => {
    const cluster = new ReplicaCluster();
    const points: { offset: number; time: number }[] = [];
    for (let round = 0; round < 30; round++) {
      const leader = cluster.elect();
      // A clock that jumps about, forwards and back.
      leader.wallOffsetMs += ((round * 7919) % 4001) - 2000;
      const pending = [
        cluster.barrier(leader),
        cluster.append(leader, textBatch('x')),
        cluster.barrier(leader),
        cluster.append(leader, textBatch('y')),
      ];
      cluster.time.until(() => pending.every((each) => each.isDone));
      for (const { value } of pending) if (value !== null && 'time' in value) points.push(value);
      if (round % 7 === 6) {
        leader.crash();
        cluster.elect();
        leader.start();
      }
    }
    cluster.converge();
    expect(points.length).toBeGreaterThan(40);
    const batches = batchesOf(cluster.readAll(cluster.elect()));
    let last = 0;
    let offset = 1;
    for (const batch of batches) {
      const time = batchLogTime(batch);
      expect(time).toBeGreaterThanOrEqual(last);
      for (const point of points) if (offset > point.offset) expect(time).toBeGreaterThanOrEqual(point.time);
      last = time;
      offset++;
    }
    for (let i = 1; i < points.length; i++) expect(points[i].time).toBeGreaterThanOrEqual(points[i - 1].time);
  });

  test('is at most a second ahead of the last committed log time', () => {
    const cluster = new ReplicaCluster();
    for (let round = 0; round < 20; round++) {
      cluster.write(`${round}`);
      cluster.time.pass(round * 137);
      const leader = cluster.elect();
      const point = cluster.finish(cluster.barrier(leader));
      const batches = batchesOf(cluster.readAll(leader));
      expect(point.time).toBeLessThanOrEqual(batchLogTime(batches[batches.length - 1]) + 1000);
    }
  });

  test('beyond the limit of waiting callers is refused as overloaded', () => {
    const cluster = new ReplicaCluster({ limits: { pendingBarriersMax: 2 } });
    const leader = cluster.elect();
    const all = [1, 2, 3].map(() => cluster.barrier(leader));
    expect(all[2].error?.code).toBe('overloaded');
    cluster.finish(all[0]);
    cluster.finish(all[1]);
  });

  test('answered without asking anybody, which only a mutant does, is seen to be wrong', () => {
    const cluster = new ReplicaCluster({ mutants: { readWithoutRound: true } });
    const old = cluster.elect();
    cluster.write('before');
    cluster.cutOff(old);
    const next = cluster.elect(1, old);
    const after = cluster.finish(cluster.append(next, textBatch('after')));
    old.wallOffsetMs = -60_000;
    const pending = cluster.barrier(old);
    // Either it has stepped down by then, or it answers what is stale.
    if (pending.error === null) cluster.time.pass(1);
    expect(pending.error?.code === 'not-leader' || pending.value!.offset < after.firstOffset).toBe(true);
  });
});

describe('a barrier by lease', () => {
  const leased = (): ReplicaCluster => new ReplicaCluster({ readLease: true });

  /** A leader that has had its rounds of heartbeats answered. */
  const settled = (cluster: ReplicaCluster) => {
    const leader = cluster.elect();
    cluster.write('value');
    cluster.time.pass(500);
    // Nothing that needs an answer of a peer ends within a turn.
    cluster.network.delayMsMin = cluster.network.delayMsMax = 20;
    return leader;
  };

  test('is answered in the turn it is asked in, with what is committed', () => {
    const cluster = leased();
    const leader = settled(cluster);
    const barrier = cluster.barrier(leader);
    cluster.time.pass(1);
    expect(barrier.value?.offset).toBe(leader.group().commitOffset);
  });

  test('is not answered by a leader that is cut off once its time is over, and by none before another leads', () => {
    const cluster = leased();
    const old = settled(cluster);
    cluster.cutOff(old);
    const ask = () => {
      const barrier = cluster.barrier(old);
      cluster.time.pass(1);
      return barrier.isDone && barrier.error === null;
    };
    expect(ask()).toBe(true);
    let answered = 0;
    while (cluster.others(old).every((machine) => !machine.group().isLeader)) {
      if (ask()) answered++;
      cluster.time.pass(10);
    }
    expect(answered).toBeGreaterThan(10);
    expect(ask()).toBe(false);
  });

  test('asks a quorum as ever after leadership was to be handed over', () => {
    const cluster = leased();
    const leader = settled(cluster);
    const [heir] = cluster.others(leader);
    cluster.cutOff(heir);
    leader.group().transferLeadership(heir.id, () => undefined);
    // The order is lost on its way.
    const barrier = cluster.barrier(leader);
    cluster.time.pass(1);
    expect(barrier.isDone).toBe(false);
    cluster.finish(barrier);
  });
});
