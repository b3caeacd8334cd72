import { describe, expect, test } from '@jest/globals';
import { ANNOUNCE_AFTER_MS } from './replica-node.js';
import { ReplicaCluster, textBatch, type ClusterMachine } from './testing/replica-cluster.js';

/** A cluster with an idle log whose next heartbeat is far off. */
const idleCluster = (): { cluster: ReplicaCluster; leader: ClusterMachine; followers: ClusterMachine[] } => {
  const cluster = new ReplicaCluster({ heartbeatMs: 500, electionTimeoutMs: 5000 });
  const leader = cluster.elect();
  cluster.write('before');
  cluster.converge();
  const round = leader.group().status().peers.length;
  expect(round).toBe(2);
  // Just after a heartbeat, the next one disturbs nothing for a while.
  const { framesPosted } = cluster.network;
  cluster.time.until(() => cluster.network.framesPosted > framesPosted);
  cluster.time.pass(20);
  return { cluster, leader, followers: cluster.others(leader) };
};

const behind = (followers: readonly ClusterMachine[], leader: ClusterMachine): number =>
  followers.filter((follower) => follower.group().readableOffset < leader.group().readableOffset).length;

describe('followers hear of a commit', () => {
  test('with the next entries, without a message of its own', () => {
    const { cluster, leader, followers } = idleCluster();
    cluster.finish(cluster.append(leader, textBatch('one')));
    expect(behind(followers, leader)).toBe(2);
    const posted = cluster.network.framesPosted;
    const second = cluster.append(leader, textBatch('two'));
    cluster.time.until(() => behind(followers, leader) === 0);
    // One frame to each with the entries, and no more than their answers besides.
    expect(cluster.network.framesPosted - posted).toBeLessThanOrEqual(4);
    cluster.finish(second);
  });

  test('soon, when no entries follow', () => {
    const { cluster, leader, followers } = idleCluster();
    cluster.finish(cluster.append(leader, textBatch('one')));
    expect(behind(followers, leader)).toBe(2);
    cluster.time.pass(ANNOUNCE_AFTER_MS + 2);
    expect(behind(followers, leader)).toBe(0);
  });

  test('at once, when somebody on another node waits for the record', () => {
    const { cluster, leader, followers } = idleCluster();
    const posted = cluster.network.framesPosted;
    cluster.finish(cluster.append(leader, textBatch('one'), { awaitedElsewhere: true }));
    // Entries to both, an answer or two, and the word to both, which left in the turn of the commit.
    expect(cluster.network.framesPosted - posted).toBeGreaterThanOrEqual(5);
    cluster.time.until(() => behind(followers, leader) === 0);
  });

  test('with the question of a barrier, for what they have', () => {
    const { cluster, leader, followers } = idleCluster();
    cluster.finish(cluster.append(leader, textBatch('one')));
    // Both followers are known to have it when their answers have come.
    const last = leader.group().commitOffset;
    cluster.time.until(() =>
      leader
        .group()
        .status()
        .peers.every((peer) => peer.match >= last),
    );
    cluster.finish(cluster.barrier(leader));
    expect(behind(followers, leader)).toBeLessThan(2);
  });

  test('in all groups of a node, whatever their number, with one timer', () => {
    const groups = Array.from({ length: 20 }, (_, i) => i + 1);
    const cluster = new ReplicaCluster({ groups });
    for (const group of groups) cluster.write(`in ${group}`, { group });
    cluster.time.pass(ANNOUNCE_AFTER_MS + 2);
    for (const group of groups) {
      const leader = cluster.leader(group)!;
      for (const machine of cluster.machines) {
        expect(machine.group(group).readableOffset).toBe(leader.group(group).readableOffset);
      }
    }
  });
});
