import { describe, expect, test } from '@jest/globals';
import { asNodeId } from '#kernel';
import { RaftCluster } from './testing/index.js';

const quiet = (): RaftCluster => {
  const cluster = new RaftCluster({ core: { announcesOnOrder: true } });
  cluster.elect(1);
  cluster.settle();
  // One that was still being probed when the noop was committed.
  cluster.node(1).step({ type: 'announce-commit' });
  cluster.settle();
  return cluster;
};

describe('a leader that announces commits on order', () => {
  test('has told everybody of the noop of its term', () => {
    const cluster = quiet();
    expect(cluster.node(1).core.unannounced).toBe(false);
    expect([1, 2, 3].map((id) => cluster.node(id).core.commit)).toEqual([1, 1, 1]);
  });

  test('commits, and keeps it to itself until it is told to say so', () => {
    const cluster = quiet();
    cluster.node(1).propose('x');
    cluster.settle();
    expect([1, 2, 3].map((id) => cluster.node(id).core.commit)).toEqual([2, 1, 1]);
    expect(cluster.node(1).core.unannounced).toBe(true);
    cluster.node(1).step({ type: 'announce-commit' });
    cluster.settle();
    expect([1, 2, 3].map((id) => cluster.node(id).core.commit)).toEqual([2, 2, 2]);
    expect(cluster.node(1).core.unannounced).toBe(false);
  });

  test('says it with the next entries', () => {
    const cluster = quiet();
    cluster.node(1).propose('x');
    cluster.settle();
    cluster.node(1).propose('y');
    cluster.settle();
    expect([1, 2, 3].map((id) => cluster.node(id).core.commit)).toEqual([3, 2, 2]);
  });

  test('says it with a heartbeat', () => {
    const cluster = quiet();
    cluster.node(1).propose('x');
    cluster.settle();
    cluster.node(1).step({ type: 'tick' });
    cluster.settle();
    expect([1, 2, 3].map((id) => cluster.node(id).core.commit)).toEqual([2, 2, 2]);
  });

  test('ignores the order when there is nothing to say, and on a follower', () => {
    const cluster = quiet();
    for (const id of [1, 2]) {
      cluster.node(id).step({ type: 'announce-commit' });
      expect(cluster.mail).toEqual([]);
    }
    expect(cluster.node(2).core.unannounced).toBe(false);
  });

  test('does not hold back the commit of a membership change', () => {
    const cluster = quiet();
    cluster.node(1).change({ voters: [1, 2].map(asNodeId), learners: [asNodeId(3)] });
    cluster.settle();
    const { lastOffset } = cluster.node(1).core;
    expect([1, 2, 3].map((id) => cluster.node(id).core.commit)).toEqual([lastOffset, lastOffset, lastOffset]);
  });
});
