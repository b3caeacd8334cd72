import { describe, expect, test } from '@jest/globals';
import { asNodeId } from '#kernel';
import { CLOCK_DRIFT_MAX } from './read-lease.js';
import { Chaos, RaftCluster, type ClusterNode, type ClusterOptions } from './testing/index.js';
import type { Message, ReadResult } from './types.js';

/** "Consensus: Bridging Theory and Practice" (Ongaro 2014), section 6.4.1: "Using clocks to reduce messaging for read-only queries". */

const PROMISE_MS = 1000;
const LEASE_MS = PROMISE_MS * (1 - CLOCK_DRIFT_MAX);

const isType =
  (...types: readonly Message['type'][]) =>
  (message: Message): boolean =>
    types.includes(message.type);

/** Nodes that have been up for longer than they are silent after a start, the first of them elected. */
const leased = (options: ClusterOptions = {}): { cluster: RaftCluster; leader: ClusterNode } => {
  const cluster = new RaftCluster({ ...options, core: { leaseMs: PROMISE_MS, ...options.core } });
  cluster.nowMs = PROMISE_MS;
  const leader = cluster.elect(1);
  return { cluster, leader };
};

/** A round of heartbeats, sent now and answered now. */
const renew = (cluster: RaftCluster, leader: ClusterNode): void => {
  leader.tick();
  cluster.settle();
};

const answersOf = (cluster: RaftCluster, id: number): ReadResult[] =>
  cluster.readies.flatMap((item) => (item.id === id ? item.ready.reads : []));

/** Whether a read asked now is answered without a message. */
let lastRead = 0;
const readsAtOnce = (cluster: RaftCluster, leader: ClusterNode): boolean => {
  const id = ++lastRead;
  leader.read(id);
  const answered = answersOf(cluster, leader.id).some((read) => read.id === id && read.offset !== null);
  expect(cluster.dropWhere(isType('heartbeat')).length > 0).toBe(!answered);
  return answered;
};

describe('a lease (section 6.4.1)', () => {
  test('"Once the leader\'s heartbeats were acknowledged by a majority …, it would extend its lease to start + election timeout / clock drift bound"', () => {
    const { cluster, leader } = leased();
    expect(readsAtOnce(cluster, leader)).toBe(false);
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(true);
    cluster.nowMs += LEASE_MS - 1;
    expect(readsAtOnce(cluster, leader)).toBe(true);
    cluster.nowMs += 1;
    expect(readsAtOnce(cluster, leader)).toBe(false);
  });

  test('starts at the sending of the round that was answered, not at its answer', () => {
    const { cluster, leader } = leased();
    leader.tick();
    cluster.nowMs += 600;
    cluster.settle();
    cluster.nowMs += LEASE_MS - 601;
    expect(readsAtOnce(cluster, leader)).toBe(true);
    cluster.nowMs += 1;
    expect(readsAtOnce(cluster, leader)).toBe(false);
  });

  test('needs the promises of a majority', () => {
    const { cluster, leader } = leased({ voters: [1, 2, 3, 4, 5] });
    cluster.isolate(3, 4, 5);
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(false);
    cluster.isolate(4, 5);
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(true);
  });

  test('answers with what is committed at the time of the read', () => {
    const { cluster, leader } = leased();
    renew(cluster, leader);
    leader.propose('a');
    cluster.settle();
    leader.read(++lastRead);
    expect(answersOf(cluster, 1)).toEqual([{ id: lastRead, offset: leader.core.commit }]);
  });

  test('is none before an entry of the term is committed', () => {
    const cluster = new RaftCluster({ core: { leaseMs: PROMISE_MS } });
    cluster.nowMs = PROMISE_MS;
    cluster.isLost = isType('append-request');
    const leader = cluster.elect(1);
    renew(cluster, leader);
    leader.read(++lastRead);
    expect(answersOf(cluster, 1)).toEqual([]);
  });

  test('is lent by nobody who does not know of promises', () => {
    const { cluster, leader } = leased();
    leader.tick();
    cluster.deliverWhere(isType('heartbeat'));
    for (const message of cluster.dropWhere(isType('heartbeat-response'))) {
      expect(message).toMatchObject({ promiseMs: PROMISE_MS });
      cluster.deliver({ ...message, promiseMs: undefined } as Message);
    }
    expect(readsAtOnce(cluster, leader)).toBe(false);
  });

  test('needs both majorities while the configuration is joint', () => {
    const { cluster, leader } = leased({ voters: [1, 2, 3], others: [4, 5] });
    leader.change({ voters: [1, 2, 3].map(asNodeId), learners: [4, 5].map(asNodeId) });
    cluster.settle();
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(true);
    cluster.nowMs += PROMISE_MS;
    cluster.isolate(4, 5);
    leader.change({ voters: [1, 4, 5].map(asNodeId), learners: [] });
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(false);
    cluster.heal();
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(true);
  });

  test('is expired by a transfer of leadership: there is none any more once another was told to take over', () => {
    const { cluster, leader } = leased();
    renew(cluster, leader);
    cluster.isLost = isType('timeout-now');
    leader.step({ type: 'transfer-leadership', to: asNodeId(2) });
    expect(readsAtOnce(cluster, leader)).toBe(false);
    // Also when nothing comes of it: the order may still be on its way.
    for (let i = 0; i < 15; i++) renew(cluster, leader);
    expect(leader.core.status().transferTo).toBe(0);
    expect(readsAtOnce(cluster, leader)).toBe(false);
  });

  test('ends with the office, and a later one begins without', () => {
    const { cluster, leader } = leased();
    renew(cluster, leader);
    leader.step({ type: 'transfer-leadership', to: asNodeId(2) });
    cluster.settle();
    cluster.node(2).step({ type: 'transfer-leadership', to: asNodeId(1) });
    cluster.settle();
    expect(leader.core.role).toBe('leader');
    expect(readsAtOnce(cluster, leader)).toBe(false);
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(true);
  });

  test('is no concern of those who did not ask for it', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    renew(cluster, leader);
    expect(readsAtOnce(cluster, leader)).toBe(false);
  });
});

describe('a promise', () => {
  /** Node 2 has promised to node 1, which is then cut off; node 3 knows of nothing. */
  const cutOff = (): { cluster: RaftCluster; second: ClusterNode; third: ClusterNode } => {
    const { cluster, leader } = leased();
    renew(cluster, leader);
    cluster.isolate(1);
    return { cluster, second: cluster.node(2), third: cluster.node(3) };
  };

  const wins = (cluster: RaftCluster, node: ClusterNode): boolean => {
    node.step({ type: 'campaign' });
    cluster.settle();
    return node.core.role === 'leader';
  };

  test('keeps a follower from campaigning for as long, whatever it is told', () => {
    const { cluster, second, third } = cutOff();
    for (const node of [second, third]) node.step({ type: 'peer-lost', peer: asNodeId(1) });
    cluster.nowMs += PROMISE_MS - 1;
    second.tick(30);
    expect(wins(cluster, second)).toBe(false);
    expect(second.core.role).toBe('follower');
    cluster.nowMs += 1;
    expect(wins(cluster, second)).toBe(true);
  });

  test('keeps a follower that lost the connection to its leader from voting for another', () => {
    const { cluster, second, third } = cutOff();
    // The third node was started anew some time ago and has promised nothing since.
    cluster.nowMs += PROMISE_MS - 1;
    second.step({
      type: 'message',
      message: {
        type: 'heartbeat',
        from: asNodeId(1),
        to: asNodeId(2),
        term: second.core.term,
        commit: second.core.commit,
        round: 99,
      },
    });
    cluster.nowMs += 1;
    second.step({ type: 'peer-lost', peer: asNodeId(1) });
    third.step({ type: 'peer-lost', peer: asNodeId(1) });
    expect(wins(cluster, third)).toBe(false);
    cluster.nowMs += PROMISE_MS;
    third.tick(30);
    cluster.settle();
    expect(cluster.leaders).toContain(3);
  });

  test('holds in a later term that the follower has heard of otherwise', () => {
    const { cluster, second } = cutOff();
    const { term, lastOffset } = second.core;
    const later = { from: asNodeId(3), to: asNodeId(2), term: (term + 1) as typeof term };
    second.step({ type: 'message', message: { ...later, type: 'vote-response', preVote: false, granted: false } });
    expect(second.core.term).toBe(later.term);
    cluster.mail.length = 0;
    const request = {
      ...later,
      type: 'vote-request',
      preVote: false,
      transfer: false,
      lastOffset,
      lastTerm: later.term,
    } as const;
    second.step({ type: 'message', message: request });
    second.persistAll();
    expect(cluster.mail).toEqual([]);
    second.step({ type: 'message', message: { ...request, transfer: true } });
    second.persistAll();
    expect(cluster.mail).toMatchObject([{ type: 'vote-response', granted: true }]);
  });

  test('is given to everybody by a node that starts, since it does not know what it had promised', () => {
    const { cluster, second, third } = cutOff();
    cluster.nowMs += PROMISE_MS - 1;
    second.crash();
    second.restart();
    cluster.nowMs += 1;
    expect(wins(cluster, third)).toBe(false);
    cluster.nowMs += PROMISE_MS - 1;
    third.tick(30);
    cluster.settle();
    expect(cluster.leaders).toContain(3);
  });

  test('is not needed of a node that has always been alone', () => {
    const cluster = new RaftCluster({ voters: [1], core: { leaseMs: PROMISE_MS } });
    expect(cluster.elect(1).core.role).toBe('leader');
  });
});

describe('reads by lease, whatever goes wrong', () => {
  /** Leaders are cut off and deposed, and asked: what a lease must survive. */
  const rates = {
    read: 0.5,
    depose: 0.01,
    transfer: 0.02,
    heal: 0.01,
    peerLost: 0.03,
    crash: 0.001,
    loss: 0,
    delayMax: 4,
    pause: 0.002,
    late: 0.02,
  };
  const SEEDS = 20;
  const STEPS = 1500;

  /** Seeds out of `count` in which a read misses what was committed before it. */
  const staleReads = (count: number, leases: ConstructorParameters<typeof Chaos>[1]): number => {
    let stale = 0;
    for (let seed = 1; seed <= count; seed++) {
      try {
        new Chaos(seed, leases).run(STEPS);
      } catch (error) {
        expect(String(error)).toContain('16: a read sees all that was committed');
        stale++;
      }
    }
    return stale;
  };

  test('see all that was committed before them, as long as clocks keep within the bound', () => {
    expect(staleReads(SEEDS, { rates })).toBe(0);
  });

  test('do not, and it shows, when followers do not keep their promises', () => {
    expect(staleReads(SEEDS, { rates, mutants: { breaksPromises: true } })).toBeGreaterThan(0);
  });

  test('do not, and it shows, when clocks drift beyond the bound', () => {
    expect(staleReads(40, { rates: { ...rates, depose: 0.02, read: 0.9 }, drift: 0.7 })).toBeGreaterThan(0);
  });

  test('do not, and it shows, when a leader that handed over goes on reading by its lease', () => {
    expect(
      staleReads(40, { rates: { ...rates, transfer: 0.1, read: 0.9 }, mutants: { leaseOutlivesTransfer: true } }),
    ).toBeGreaterThan(0);
  });
});
