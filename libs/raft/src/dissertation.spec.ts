import { describe, expect, test } from '@jest/globals';
import { asNodeId, asOffset, asTerm } from '#kernel';
import { PROMOTION_LAG_MAX } from './membership.js';
import { READ_ROUNDS_MAX, READS_WAITING_MAX } from './read-index.js';
import { RaftCluster, textBytes, type ClusterNode } from './testing/index.js';
import type { Configuration, Message, ReadResult, SnapshotInfo } from './types.js';

/** "Consensus: Bridging Theory and Practice" (Ongaro 2014): PreVote, leader stickiness, transfer, reads, membership, snapshots. */

const ids = (...numbers: number[]): Configuration['voters'] => numbers.map(asNodeId);

const isType =
  (...types: Message['type'][]) =>
  (message: Message): boolean =>
    types.includes(message.type);

const readsOf = (cluster: RaftCluster, id: number): ReadResult[] =>
  cluster.readies.flatMap((item) => (item.id === id ? item.ready.reads : []));

const voteRequest = (
  from: number,
  to: number,
  term: number,
  more: { preVote?: boolean; transfer?: boolean } = {},
): Message => ({
  type: 'vote-request',
  from: asNodeId(from),
  to: asNodeId(to),
  term: asTerm(term),
  preVote: more.preVote ?? false,
  transfer: more.transfer ?? false,
  lastOffset: asOffset(1000),
  lastTerm: asTerm(term - 1),
});

const receive = (node: ClusterNode, message: Message): void => node.step({ type: 'message', message });

describe('PreVote (section 9.6)', () => {
  test('"a candidate only increments its term if it first learns from a majority … that they would be willing to grant": cut off, its term stays', () => {
    const cluster = new RaftCluster();
    cluster.elect(1);
    cluster.isolate(3);
    cluster.node(3).tick(200);
    expect([cluster.node(3).core.role, cluster.node(3).core.term]).toEqual(['pre-candidate', 1]);
    cluster.heal();
    cluster.tickAll(3);
    expect([cluster.leaders, cluster.node(1).core.term]).toEqual([[1], 1]);
    expect(cluster.node(3).core.leader).toBe(1);
  });

  test('"… the candidate\'s log is sufficiently up-to-date": it is not asked for a term otherwise', () => {
    const cluster = new RaftCluster();
    cluster.give(1, { terms: [1, 1] });
    cluster.give(2, { terms: [1, 1] });
    cluster.give(3, { terms: [1] });
    cluster.node(3).step({ type: 'campaign' });
    cluster.settle();
    expect([cluster.node(3).core.role, cluster.node(3).core.term]).toEqual(['follower', 1]);
  });

  test('"… the voters have not received heartbeats from a valid leader for at least a baseline election timeout"', () => {
    const cluster = new RaftCluster();
    cluster.elect(1);
    cluster.node(3).step({ type: 'campaign' });
    cluster.settle();
    expect([cluster.leaders, cluster.node(1).core.term]).toEqual([[1], 1]);
  });

  test('a pre-vote changes neither term nor vote of who grants it, and may be granted to several', () => {
    const cluster = new RaftCluster({ isChecked: false });
    const node = cluster.node(2);
    receive(node, voteRequest(1, 2, 1, { preVote: true }));
    receive(node, voteRequest(3, 2, 1, { preVote: true }));
    expect(cluster.mail).toMatchObject([
      { type: 'vote-response', to: 1, granted: true, term: 1, preVote: true },
      { type: 'vote-response', to: 3, granted: true, term: 1, preVote: true },
    ]);
    expect([node.core.term, node.core.status().vote, node.pending.length]).toEqual([0, 0, 0]);
  });

  test('a pre-candidate that votes for another waits for that one', () => {
    const cluster = new RaftCluster({ isChecked: false });
    const node = cluster.node(2);
    node.step({ type: 'campaign' });
    expect(node.core.role).toBe('pre-candidate');
    receive(node, { ...voteRequest(1, 2, 1), term: asTerm(0) });
    expect([node.core.role, node.core.status().vote]).toEqual(['follower', 1]);
  });

  test('a pre-candidate that is behind in terms learns of it from the refusal', () => {
    const cluster = new RaftCluster();
    cluster.give(2, { terms: [], term: 7 });
    cluster.give(3, { terms: [], term: 7 });
    cluster.node(1).step({ type: 'campaign' });
    cluster.settle();
    expect(cluster.node(1).core.term).toBe(7);
    expect(cluster.elect(1).core.term).toBe(8);
  });
});

describe('stickiness and CheckQuorum (sections 4.2.3 and 6.2)', () => {
  test('"if a server receives a RequestVote request within the minimum election timeout of hearing from a current leader, it does not update its term or grant its vote"', () => {
    const cluster = new RaftCluster();
    cluster.elect(1);
    receive(cluster.node(2), voteRequest(3, 2, 9));
    receive(cluster.node(1), voteRequest(3, 1, 9));
    expect([cluster.node(1).core.term, cluster.node(2).core.term]).toEqual([1, 1]);
    expect(cluster.mail).toEqual([]);
    cluster.node(2).tick(9);
    receive(cluster.node(2), voteRequest(3, 2, 9));
    expect(cluster.node(2).core.term).toBe(1);
    cluster.node(2).tick();
    receive(cluster.node(2), voteRequest(3, 2, 9));
    expect(cluster.node(2).core.term).toBe(9);
  });

  test('"a leader … steps down if an election timeout elapses without a successful round of heartbeats to a majority"', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    cluster.isolate(1);
    leader.tick(9);
    expect(leader.core.role).toBe('leader');
    leader.tick();
    expect([leader.core.role, leader.core.leader, leader.core.term]).toEqual(['follower', 0, 1]);
  });

  test('it stays as long as it hears from a majority', () => {
    const cluster = new RaftCluster({ voters: [1, 2, 3, 4, 5] });
    cluster.elect(1);
    cluster.isolate(4, 5);
    cluster.tickAll(50);
    expect(cluster.leaders).toEqual([1]);
  });

  test('a node stuck in a later term than everybody frees itself by its answer to the leader', () => {
    const cluster = new RaftCluster();
    cluster.elect(1);
    cluster.give(3, { terms: [], term: 5 });
    cluster.tickAll(60);
    expect(cluster.leaders.length).toBe(1);
    expect(new Set([...cluster.nodes.values()].map((node) => node.core.term)).size).toBe(1);
    expect(cluster.node(3).core.commit).toBe(cluster.node(1).core.commit);
  });

  test('a follower that loses the connection to its leader campaigns within a few ticks, and a mistake does no harm', () => {
    const cluster = new RaftCluster();
    cluster.elect(1);
    cluster.node(2).step({ type: 'peer-lost', peer: asNodeId(3) });
    expect(cluster.node(2).core.leader).toBe(1);
    cluster.node(2).step({ type: 'peer-lost', peer: asNodeId(1) });
    expect(cluster.node(2).core.leader).toBe(0);
    cluster.node(2).tick(4);
    expect(cluster.node(2).core.role).toBe('pre-candidate');
    cluster.settle();
    expect([cluster.leaders, cluster.node(1).core.term]).toEqual([[1], 1]);
  });

  test('when all lose the leader, one of them follows it within a few ticks', () => {
    const cluster = new RaftCluster();
    cluster.elect(1).crash();
    for (const id of [2, 3]) cluster.node(id).step({ type: 'peer-lost', peer: asNodeId(1) });
    cluster.tickAll(5);
    expect(cluster.leaders.length).toBe(1);
  });
});

describe('leadership transfer (section 3.10)', () => {
  test('"1. The prior leader stops accepting new client requests." "2. … fully updates the target server\'s log." "3. … sends a TimeoutNow request"', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    cluster.isHeld = (id) => id === 2;
    leader.propose('a', 'b');
    leader.step({ type: 'transfer-leadership', to: asNodeId(2) });
    expect(leader.propose('c')).toEqual([{ ok: false, reason: 'transferring', leader: 1 }]);
    expect(cluster.mail.some(isType('timeout-now'))).toBe(false);
    cluster.isHeld = () => false;
    cluster.settle();
    expect([cluster.leaders, cluster.node(2).core.term]).toEqual([[2], 2]);
    expect(leader.core.leader).toBe(2);
  });

  test('TimeoutNow goes out at once when the target has everything, and its vote requests are not held up by loyalty', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.step({ type: 'transfer-leadership', to: asNodeId(3) });
    expect(cluster.mail.map((message) => [message.type, message.to])).toEqual([['timeout-now', 3]]);
    cluster.settle();
    expect(cluster.leaders).toEqual([3]);
  });

  test('"if leadership transfer does not complete after about an election timeout, the prior leader … resumes"', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    cluster.isolate(3);
    leader.step({ type: 'transfer-leadership', to: asNodeId(3) });
    cluster.tickAll(9);
    expect(leader.core.status().transferTo).toBe(3);
    cluster.tickAll(1);
    expect(leader.core.status().transferTo).toBe(0);
    expect(leader.propose('a')[0].ok).toBe(true);
  });

  test('a lost TimeoutNow is sent again', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.step({ type: 'transfer-leadership', to: asNodeId(3) });
    cluster.dropWhere(isType('timeout-now'));
    cluster.tickAll(2);
    expect(cluster.leaders).toEqual([3]);
  });

  test('a joint configuration is not left while the target catches up, but afterwards', () => {
    const cluster = new RaftCluster({ others: [4] });
    const leader = cluster.elect(1);
    leader.change({ voters: ids(1, 2, 4), learners: [] });
    cluster.isHeld = (id) => id === 2 || id === 4;
    cluster.settle();
    leader.step({ type: 'transfer-leadership', to: asNodeId(2) });
    cluster.isLost = isType('timeout-now');
    cluster.isHeld = () => false;
    cluster.settle();
    expect([leader.core.commit, leader.core.lastOffset]).toEqual([2, 2]);
    cluster.tickAll(10);
    expect(leader.core.status().configuration).toEqual({ voters: ids(1, 2, 4), outgoing: [], learners: [] });
  });

  test('a learner, a stranger and the leader itself are no targets; naming the leader takes a transfer back', () => {
    const cluster = new RaftCluster({ learners: [4] });
    const leader = cluster.elect(1);
    for (const to of [4, 9, 1]) {
      leader.step({ type: 'transfer-leadership', to: asNodeId(to) });
      expect(leader.core.status().transferTo).toBe(0);
    }
    cluster.isolate(3);
    leader.step({ type: 'transfer-leadership', to: asNodeId(3) });
    leader.step({ type: 'transfer-leadership', to: asNodeId(1) });
    expect(leader.propose('a')[0].ok).toBe(true);
  });
});

describe('ReadIndex (section 6.4)', () => {
  test('"1. If the leader has not yet marked an entry from its current term committed, it waits until it has done so"', () => {
    const cluster = new RaftCluster();
    for (const id of [1, 2, 3]) cluster.give(id, { terms: [1, 1] });
    cluster.isLost = isType('append-request');
    const leader = cluster.elect(1);
    leader.read(7);
    cluster.tickAll(3);
    expect(readsOf(cluster, 1)).toEqual([]);
    cluster.heal();
    cluster.tickAll(2);
    expect(readsOf(cluster, 1)).toEqual([{ id: 7, offset: 3 }]);
  });

  test('"2. The leader saves its current commit index" "3. … issues a new round of heartbeats and waits for their acknowledgments from a majority"', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.propose('a');
    cluster.settle();
    leader.read(1);
    expect(cluster.mail.map((message) => message.type)).toEqual(['heartbeat', 'heartbeat']);
    expect(readsOf(cluster, 1)).toEqual([]);
    cluster.deliverWhere((message) => message.to === 2);
    cluster.deliverWhere((message) => message.from === 2);
    expect(readsOf(cluster, 1)).toEqual([{ id: 1, offset: 2 }]);
  });

  test('a round that began before the request does not count for it', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.tick();
    const early = cluster.mail.splice(0);
    expect(early.every(isType('heartbeat'))).toBe(true);
    leader.read(1);
    cluster.dropWhere(isType('heartbeat'));
    for (const message of early) cluster.deliver(message);
    cluster.deliverWhere(isType('heartbeat-response'));
    expect(readsOf(cluster, 1)).toEqual([]);
    // The next regular round serves it.
    leader.tick();
    cluster.settle();
    expect(readsOf(cluster, 1)).toEqual([{ id: 1, offset: 1 }]);
  });

  test('all reads of a turn share one round', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.beginTurn();
    for (let id = 1; id <= 100; id++) leader.core.requestRead(id);
    leader.endTurn();
    expect(cluster.mail.length).toBe(2);
    cluster.settle();
    expect(readsOf(cluster, 1).map(({ id }) => id)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  });

  test('rounds under way are limited; later reads wait and share the next', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    for (let id = 1; id <= READ_ROUNDS_MAX + 50; id++) leader.read(id);
    expect(cluster.mail.length).toBe(2 * READ_ROUNDS_MAX);
    expect(leader.core.hasReady()).toBe(false);
    cluster.settle();
    expect(readsOf(cluster, 1).length).toBe(READ_ROUNDS_MAX + 50);
  });

  test('reads without a round are limited; beyond it the answer is to ask again', () => {
    const cluster = new RaftCluster();
    cluster.isLost = isType('append-request');
    const leader = cluster.elect(1);
    for (let id = 1; id <= READS_WAITING_MAX + 1; id++) leader.core.requestRead(id);
    leader.drain();
    expect(readsOf(cluster, 1)).toEqual([{ id: READS_WAITING_MAX + 1, offset: null }]);
  });

  test('a leader that was replaced without knowing it confirms no read, and says so when it steps down', () => {
    const cluster = new RaftCluster();
    const old = cluster.elect(1);
    cluster.isolate(1);
    for (const id of [2, 3]) cluster.node(id).step({ type: 'peer-lost', peer: asNodeId(1) });
    cluster.elect(2).propose('new');
    cluster.settle();
    old.read(1);
    old.tick(9);
    expect(readsOf(cluster, 1)).toEqual([]);
    old.tick();
    expect(readsOf(cluster, 1)).toEqual([{ id: 1, offset: null }]);
    expect(old.read(2)).toBe(false);
  });

  test('a single voter answers at once, and needs no heartbeat for it', () => {
    const cluster = new RaftCluster({ voters: [1], learners: [2] });
    const leader = cluster.elect(1);
    leader.read(5);
    expect(readsOf(cluster, 1)).toEqual([{ id: 5, offset: 1 }]);
  });

  test('during a joint configuration both majorities must answer', () => {
    const cluster = new RaftCluster({ voters: [1], others: [2, 3] });
    const leader = cluster.elect(1);
    cluster.isolate(2, 3);
    leader.change({ voters: ids(1, 2, 3), learners: [] });
    leader.read(1);
    cluster.settle();
    expect(readsOf(cluster, 1)).toEqual([]);
    cluster.heal();
    cluster.tickAll(2);
    expect(readsOf(cluster, 1)).toMatchObject([{ id: 1 }]);
  });
});

describe('membership (chapter 4)', () => {
  const membersOf = (node: ClusterNode): number[][] => {
    const { voters, outgoing, learners } = node.core.status().configuration;
    return [[...voters], [...outgoing], [...learners]];
  };

  test('"the new configuration is in force as soon as it is in the log", first joint, then alone, by itself', () => {
    const cluster = new RaftCluster({ others: [4] });
    const leader = cluster.elect(1);
    expect(leader.change({ voters: ids(1, 2, 4), learners: ids(3) })).toEqual({ ok: true, offset: 2 });
    expect(membersOf(leader)).toEqual([[1, 2, 4], [1, 2, 3], [3]]);
    cluster.settle();
    for (const id of [1, 2, 3, 4]) expect(membersOf(cluster.node(id))).toEqual([[1, 2, 4], [], [3]]);
    expect(cluster.node(4).core.commit).toBe(3);
  });

  test('"agreement requires separate majorities from both the old and new configurations"', () => {
    for (const missing of [
      [2, 3],
      [4, 5],
    ]) {
      const cluster = new RaftCluster({ others: [4, 5] });
      const leader = cluster.elect(1);
      cluster.isolate(...missing);
      leader.change({ voters: ids(1, 4, 5), learners: [] });
      cluster.tickAll(3);
      expect(leader.core.commit).toBe(1);
      cluster.heal();
      cluster.tickAll(3);
      expect(membersOf(leader)).toEqual([[1, 4, 5], [], []]);
    }
  });

  test('a change of learners alone takes one entry', () => {
    const cluster = new RaftCluster({ others: [4] });
    const leader = cluster.elect(1);
    leader.change({ voters: ids(1, 2, 3), learners: ids(4) });
    expect(membersOf(leader)).toEqual([[1, 2, 3], [], [4]]);
    cluster.settle();
    expect([leader.core.lastOffset, cluster.node(4).core.commit]).toEqual([2, 2]);
  });

  test('one change at a time', () => {
    const cluster = new RaftCluster({ others: [4] });
    const leader = cluster.elect(1);
    cluster.isolate(1);
    leader.change({ voters: ids(1, 2, 3), learners: ids(4) });
    expect(leader.change({ voters: ids(1, 2), learners: [] })).toMatchObject({ ok: false, reason: 'pending' });
  });

  test('"… the leader must have committed an entry from its current term" before the first', () => {
    const cluster = new RaftCluster();
    cluster.isLost = isType('append-request');
    const leader = cluster.elect(1);
    expect(leader.change({ voters: ids(1, 2), learners: [] })).toMatchObject({
      ok: false,
      reason: 'no-commit-in-term',
    });
  });

  test('what makes no sense is invalid, what is so already is done, and a follower refers to the leader', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    expect(leader.change({ voters: [], learners: [] })).toMatchObject({ reason: 'invalid' });
    expect(leader.change({ voters: ids(1, 1), learners: [] })).toMatchObject({ reason: 'invalid' });
    expect(leader.change({ voters: ids(3, 2, 1), learners: [] })).toEqual({ ok: true, offset: 0 });
    expect(cluster.node(2).change({ voters: ids(1), learners: [] })).toEqual({
      ok: false,
      reason: 'not-leader',
      leader: 1,
    });
  });

  test('learners get the log and do not count', () => {
    const cluster = new RaftCluster({ voters: [1, 2, 3], learners: [4, 5] });
    const leader = cluster.elect(1);
    cluster.isolate(2, 3);
    leader.propose('a');
    cluster.settle();
    expect(cluster.node(4).core.lastOffset).toBe(2);
    expect(leader.core.commit).toBe(1);
    cluster.node(4).tick(100);
    expect(cluster.node(4).core.role).toBe('follower');
  });

  test('a learner votes when it is asked: who asks may know of a promotion that it does not', () => {
    const cluster = new RaftCluster({ voters: [1, 2, 3], learners: [4], isChecked: false });
    receive(cluster.node(4), voteRequest(1, 4, 3));
    cluster.node(4).persistAll();
    expect(cluster.mail).toMatchObject([{ type: 'vote-response', granted: true }]);
  });

  test('a learner that is far behind, or not heard of, is not promoted', () => {
    const cluster = new RaftCluster({ voters: [1], learners: [2] });
    const leader = cluster.elect(1);
    const target = { voters: ids(1, 2), learners: [] };
    cluster.isolate(2);
    leader.core.propose(PROMOTION_LAG_MAX + 1, textBytes('many'));
    leader.drain();
    cluster.settle();
    expect(leader.change(target)).toMatchObject({ ok: false, reason: 'lagging' });
    cluster.heal();
    cluster.tickAll(3);
    cluster.isolate(2);
    cluster.tickAll(10);
    expect(leader.change(target)).toMatchObject({ ok: false, reason: 'lagging' });
    cluster.heal();
    cluster.tickAll(2);
    expect(leader.change(target).ok).toBe(true);
  });

  test('a stranger becomes a voter directly only while the log is short', () => {
    const cluster = new RaftCluster({ voters: [1], others: [2] });
    const leader = cluster.elect(1);
    leader.core.propose(PROMOTION_LAG_MAX, textBytes('many'));
    leader.drain();
    cluster.settle();
    expect(leader.change({ voters: ids(1, 2), learners: [] })).toMatchObject({ ok: false, reason: 'lagging' });
  });

  test('"a leader that is removed … steps down once Cnew is committed", not counting itself meanwhile', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.change({ voters: ids(2, 3), learners: [] });
    cluster.isHeld = (id) => id === 3;
    cluster.settle();
    expect(leader.core.role).toBe('leader');
    cluster.isHeld = () => false;
    cluster.settle();
    expect(leader.core.role).toBe('follower');
    // The followers know that the change is committed, and one of them takes over without a timeout.
    expect(cluster.leaders.length).toBe(1);
    expect(cluster.leaders[0]).not.toBe(1);
    leader.tick(100);
    expect(leader.core.role).toBe('follower');
  });

  test('"a server that is not part of its own latest configuration should still start new elections, as it might still be needed until the Cnew entry is committed"', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.propose('a');
    cluster.settle();
    // Node 3 gets neither the end of the joint configuration nor what comes after it; the others do.
    leader.change({ voters: ids(3), learners: ids(1, 2) });
    cluster.isLost = (message) =>
      message.type === 'append-request' && message.to === 3 && message.entries.some((e) => e.firstOffset > 3);
    cluster.settle();
    expect(membersOf(cluster.node(2))).toEqual([[3], [], [1, 2]]);
    leader.crash();
    cluster.heal();
    cluster.node(2).step({ type: 'peer-lost', peer: asNodeId(1) });
    cluster.tickAll(60);
    expect(cluster.leaders).toEqual([3]);
    expect(membersOf(cluster.node(3))).toEqual([[3], [], [1, 2]]);
  });

  test('a new leader that finds a joint configuration in its log leaves it', () => {
    const cluster = new RaftCluster({ others: [4] });
    const leader = cluster.elect(1);
    cluster.isLost = (message) => message.type === 'append-response';
    leader.change({ voters: ids(1, 2, 4), learners: [] });
    cluster.settle();
    leader.crash();
    cluster.heal();
    for (const id of [2, 3, 4]) cluster.node(id).step({ type: 'peer-lost', peer: asNodeId(1) });
    const next = cluster.elect(2);
    expect(membersOf(next)).toEqual([[1, 2, 4], [], []]);
  });

  test('a configuration that is cut from the log gives way to the one before it, also after a restart', () => {
    const cluster = new RaftCluster({ others: [4] });
    const old = cluster.elect(1);
    cluster.isolate(1);
    old.change({ voters: ids(1, 4), learners: [] });
    old.persistAll();
    expect(membersOf(old)[0]).toEqual([1, 4]);
    old.crash();
    old.restart();
    expect(membersOf(old)[0]).toEqual([1, 4]);
    for (const id of [2, 3]) cluster.node(id).step({ type: 'peer-lost', peer: asNodeId(1) });
    cluster.elect(2);
    cluster.heal();
    cluster.tickAll(3);
    expect(membersOf(old)).toEqual([[1, 2, 3], [], []]);
  });

  test('a removed server does not disturb the others ("disruptive servers", section 4.2.3)', () => {
    const cluster = new RaftCluster({ voters: [1, 2, 3, 4] });
    const leader = cluster.elect(1);
    cluster.isolate(4);
    leader.change({ voters: ids(1, 2, 3), learners: [] });
    cluster.settle();
    cluster.heal();
    cluster.tickAll(100);
    expect([cluster.leaders, leader.core.term]).toEqual([[1], 1]);
  });
});

describe('snapshots (chapter 5)', () => {
  /** A cluster of three whose leader has trimmed its log, while node 3 saw nothing of it. */
  const withTrimmedLog = (): { cluster: RaftCluster; leader: ClusterNode } => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    cluster.isolate(3);
    leader.propose('a', 'b', 'c');
    cluster.settle();
    leader.trim(asOffset(3));
    return { cluster, leader };
  };

  const snapshotAt = (offset: number, term: number): SnapshotInfo => ({
    offset: asOffset(offset),
    term: asTerm(term),
    configuration: { voters: ids(1, 2, 3), outgoing: [], learners: [] },
    state: textBytes('state'),
  });

  const sendSnapshot = (node: ClusterNode, snapshot: SnapshotInfo, term: number): void =>
    receive(node, { type: 'snapshot-request', from: asNodeId(1), to: node.id, term: asTerm(term), snapshot });

  test('"the leader must … send snapshots to followers that lag behind", then goes on with the log', () => {
    const { cluster, leader } = withTrimmedLog();
    cluster.heal();
    cluster.tickAll(2);
    const node = cluster.node(3);
    expect(node.core.commit).toBe(4);
    expect([node.disk.baseOffset, node.texts]).toEqual([3, ['c']]);
    expect(leader.core.status().peers.find((peer) => peer.id === 3)).toMatchObject({ state: 'replicate', match: 4 });
  });

  test('one snapshot is asked for, however long it takes', () => {
    const { cluster, leader } = withTrimmedLog();
    cluster.heal();
    leader.step({ type: 'peer-lost', peer: asNodeId(3) });
    leader.tick(1);
    for (let i = 0; i < 30; i++) {
      leader.tick();
      for (const node of cluster.nodes.values()) node.persistAll();
      cluster.deliverWhere(() => true);
    }
    leader.step({ type: 'peer-lost', peer: asNodeId(3) });
    leader.tick(2);
    cluster.deliverWhere(() => true);
    cluster.deliverWhere(() => true);
    expect(cluster.snapshotsWanted.length).toBe(1);
    cluster.tickAll(3);
    expect(cluster.node(3).core.commit).toBe(4);
  });

  test('a lost snapshot is sent again after an election timeout', () => {
    const { cluster } = withTrimmedLog();
    cluster.isLost = isType('snapshot-request');
    cluster.tickAll(5);
    cluster.heal();
    cluster.tickAll(15);
    expect(cluster.node(3).core.commit).toBe(4);
  });

  test('a snapshot that is trimmed over while it is made is made again', () => {
    const { cluster, leader } = withTrimmedLog();
    cluster.heal();
    leader.step({ type: 'peer-lost', peer: asNodeId(3) });
    const stale = snapshotAt(2, 1);
    expect(cluster.snapshotsWanted.splice(0).map(({ peer }) => peer)).toEqual([3]);
    leader.step({ type: 'snapshot-ready', peer: asNodeId(3), snapshot: stale });
    expect(cluster.mail.some(isType('snapshot-request'))).toBe(false);
    expect(cluster.snapshotsWanted.map(({ peer }) => peer)).toEqual([3]);
    cluster.settle();
    expect(cluster.node(3).core.commit).toBe(4);
  });

  test('"if the follower … discards its entire log" when the snapshot holds what is not in it', () => {
    const cluster = new RaftCluster({ isChecked: false });
    cluster.give(3, { terms: [1, 1, 2, 2, 2], commit: 1 });
    const node = cluster.node(3);
    sendSnapshot(node, snapshotAt(4, 3), 3);
    node.persistAll();
    expect([node.core.commit, node.core.lastOffset, node.disk.entries]).toEqual([4, 4, []]);
    expect(cluster.mail).toMatchObject([{ type: 'snapshot-response', offset: 4 }]);
  });

  test('"if … the snapshot describes a prefix of its log …, entries following the snapshot are still valid and must be retained"', () => {
    const cluster = new RaftCluster({ isChecked: false });
    cluster.give(3, { terms: [1, 1, 2, 2, 2], commit: 1 });
    const node = cluster.node(3);
    sendSnapshot(node, snapshotAt(3, 2), 3);
    expect(node.pending[0].unit).toMatchObject({ keepSuffix: true, truncateAfter: null });
    node.persistAll();
    expect([node.core.commit, node.core.lastOffset, node.texts]).toEqual([3, 5, ['2.4', '2.5']]);
    node.crash();
    node.restart();
    expect([node.core.commit, node.core.lastOffset]).toEqual([3, 5]);
  });

  test('with a cut under way the own prefix serves, and nothing is replaced', () => {
    const cluster = new RaftCluster({ isChecked: false });
    cluster.give(3, { terms: [1, 1, 2, 2, 2], commit: 1 });
    const node = cluster.node(3);
    node.beginTurn();
    receive(node, {
      type: 'append-request',
      from: asNodeId(1),
      to: asNodeId(3),
      term: asTerm(3),
      prevOffset: asOffset(2),
      prevTerm: asTerm(1),
      entries: [
        { firstOffset: asOffset(3), lastOffset: asOffset(4), term: asTerm(3), kind: 'data', bytes: textBytes('x y') },
        { firstOffset: asOffset(5), lastOffset: asOffset(5), term: asTerm(3), kind: 'data', bytes: textBytes('z') },
      ],
      commit: asOffset(1),
    });
    sendSnapshot(node, snapshotAt(4, 3), 3);
    node.endTurn();
    expect(node.pending[0].unit).toMatchObject({ snapshot: null, truncateAfter: 2 });
    node.persistAll();
    expect([node.core.commit, node.core.lastOffset, node.texts]).toEqual([4, 5, ['1.1', '1.2', 'x y', 'z']]);
    expect(cluster.mail.filter(isType('snapshot-response'))).toMatchObject([{ offset: 4 }]);
  });

  test('a stale snapshot is refused with what is there already', () => {
    const cluster = new RaftCluster({ isChecked: false });
    cluster.give(3, { terms: [1, 1, 2], commit: 3 });
    const node = cluster.node(3);
    sendSnapshot(node, snapshotAt(2, 1), 3);
    expect(node.pending.every(({ unit }) => unit.snapshot === null)).toBe(true);
    node.persistAll();
    expect(node.texts.length).toBe(3);
    expect(cluster.mail.filter(isType('snapshot-response'))).toMatchObject([{ offset: 3 }]);
  });

  test('the configuration of a snapshot is in force, unless a later one is in the suffix', () => {
    const cluster = new RaftCluster({ voters: [1, 2], others: [3], isChecked: false });
    const node = cluster.node(3);
    const configuration = { voters: ids(1, 3), outgoing: [], learners: [] };
    sendSnapshot(node, { ...snapshotAt(9, 2), configuration }, 3);
    expect(node.core.status().configuration.voters).toEqual([1, 3]);
    expect(cluster.readies.at(-1)?.ready.configuration?.voters).toEqual([1, 3]);
    node.persistAll();
    const later = { voters: ids(1, 2, 3), outgoing: [], learners: [] };
    receive(node, {
      type: 'append-request',
      from: asNodeId(1),
      to: asNodeId(3),
      term: asTerm(3),
      prevOffset: asOffset(9),
      prevTerm: asTerm(2),
      entries: [
        {
          firstOffset: asOffset(10),
          lastOffset: asOffset(10),
          term: asTerm(3),
          kind: 'noop',
          bytes: textBytes('noop'),
        },
        {
          firstOffset: asOffset(11),
          lastOffset: asOffset(11),
          term: asTerm(3),
          kind: 'configuration',
          bytes: textBytes('later'),
          configuration: later,
        },
      ],
      commit: asOffset(9),
    });
    sendSnapshot(node, { ...snapshotAt(10, 3), configuration }, 3);
    expect([node.core.commit, node.core.lastOffset]).toEqual([10, 11]);
    expect(node.core.status().configuration).toEqual(later);
  });

  test('two snapshots in a row', () => {
    const { cluster, leader } = withTrimmedLog();
    cluster.heal();
    cluster.tickAll(2);
    cluster.isolate(3);
    leader.propose('d', 'e');
    cluster.settle();
    leader.trim(asOffset(5));
    cluster.heal();
    cluster.tickAll(2);
    expect([cluster.node(3).disk.baseOffset, cluster.node(3).core.commit]).toEqual([5, 6]);
  });
});

describe('entries no longer in memory', () => {
  test('are read from storage, one read at a time for a peer, and sent on', () => {
    const cluster = new RaftCluster({ core: { cacheBytesMax: 10, messageBytesMax: 30 } });
    const leader = cluster.elect(1);
    cluster.isolate(3);
    for (let i = 0; i < 20; i++) leader.propose(`entry number ${i}`);
    cluster.settle();
    cluster.heal();
    leader.step({ type: 'peer-lost', peer: asNodeId(3) });
    expect(cluster.logReads.map(({ read }) => [read.peer, read.from, read.bytesMax])).toEqual([[3, 2, 30]]);
    leader.propose('one more');
    leader.tick();
    expect(cluster.logReads.length).toBe(1);
    cluster.tickAll(2);
    expect(cluster.node(3).core.commit).toBe(leader.core.lastOffset);
  });

  test('an answer that came too late for the log is not sent', () => {
    const cluster = new RaftCluster({ core: { cacheBytesMax: 0 } });
    const leader = cluster.elect(1);
    cluster.isolate(3);
    leader.propose('a');
    cluster.settle();
    cluster.heal();
    leader.step({ type: 'peer-lost', peer: asNodeId(3) });
    const [{ read }] = cluster.logReads.splice(0);
    const forged = leader.disk.read(read.from, 1000).map((entry) => ({ ...entry, term: asTerm(0) }));
    cluster.mail.length = 0;
    leader.step({ type: 'log-read', peer: read.peer, from: read.from, entries: forged });
    expect(cluster.mail).toEqual([]);
    // It asks again instead.
    expect(cluster.logReads.length).toBe(1);
  });

  test('an empty answer is not asked for again at once', () => {
    const cluster = new RaftCluster({ core: { cacheBytesMax: 0 } });
    const leader = cluster.elect(1);
    cluster.isolate(3);
    leader.propose('a');
    cluster.settle();
    cluster.heal();
    leader.step({ type: 'peer-lost', peer: asNodeId(3) });
    const [{ read }] = cluster.logReads.splice(0);
    leader.step({ type: 'log-read', peer: read.peer, from: read.from, entries: [] });
    expect(cluster.logReads).toEqual([]);
    cluster.tickAll(2);
    expect(cluster.node(3).core.commit).toBe(2);
  });
});

describe('limits', () => {
  test('uncommitted bytes are limited, yet an idle log takes a batch of any size', () => {
    const cluster = new RaftCluster({ core: { uncommittedBytesMax: 100 } });
    const leader = cluster.elect(1);
    cluster.isolate(1);
    expect(leader.core.propose(1, new Uint8Array(500)).ok).toBe(true);
    expect(leader.core.propose(1, new Uint8Array(1))).toEqual({ ok: false, reason: 'overloaded', leader: 1 });
    leader.drain();
    cluster.heal();
    cluster.tickAll(2);
    expect(leader.propose('a')[0].ok).toBe(true);
  });

  test('a leader whose own disk hangs is overloaded too, although others commit', () => {
    const cluster = new RaftCluster({ core: { uncommittedBytesMax: 100 } });
    const leader = cluster.elect(1);
    leader.core.propose(1, new Uint8Array(90));
    leader.drain();
    for (const id of [2, 3]) {
      cluster.deliverWhere((message) => message.to === id);
      cluster.node(id).persistAll();
    }
    cluster.deliverWhere((message) => message.to === 1);
    expect(leader.core.commit).toBe(2);
    expect(leader.propose('0123456789 0')[0]).toMatchObject({ ok: false, reason: 'overloaded' });
  });

  test('bytes in flight to one follower are limited', () => {
    const cluster = new RaftCluster({ core: { inflightBytesMax: 100, messageBytesMax: 40 } });
    const leader = cluster.elect(1);
    cluster.isHeld = (id) => id === 3;
    for (let i = 0; i < 50; i++) leader.propose('0123456789 0123456');
    cluster.settle();
    const peer = leader.core.status().peers.find(({ id }) => id === 3);
    expect(peer?.inflightBytes).toBeLessThanOrEqual(140);
    expect(leader.core.commit).toBe(101);
    cluster.isHeld = () => false;
    cluster.settle();
    expect(cluster.node(3).core.commit).toBe(101);
  });

  test('an append carries as many entries as its limit allows', () => {
    const cluster = new RaftCluster({ core: { messageBytesMax: 100 } });
    const leader = cluster.elect(1);
    leader.propose(...Array.from({ length: 25 }, () => '0123456789'));
    const sizes = cluster.mail
      .filter((message) => message.type === 'append-request' && message.to === 2)
      .map((message) => (message.type === 'append-request' ? message.entries.length : 0));
    expect(sizes).toEqual([10, 10, 5]);
  });

  test('a term is 32 bits: messages beyond are dropped', () => {
    const cluster = new RaftCluster({ isChecked: false });
    receive(cluster.node(1), voteRequest(2, 1, 2 ** 32));
    expect(cluster.node(1).core.term).toBe(0);
  });
});

describe('commit offsets', () => {
  test('followers hear of a commit at once, by one small append, and do not answer it', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.propose('a');
    leader.persistAll();
    cluster.deliverWhere((message) => message.to === 2);
    cluster.node(2).persistAll();
    cluster.mail.splice(0, cluster.mail.length, ...cluster.mail.filter((message) => message.from === 2));
    cluster.deliverWhere((message) => message.to === 1);
    expect(cluster.mail).toMatchObject([
      { type: 'append-request', to: 2, entries: [], commit: 2 },
      { type: 'append-request', to: 3, entries: [], commit: 2 },
    ]);
    cluster.deliverWhere((message) => message.to === 2);
    expect(cluster.node(2).core.commit).toBe(2);
    expect(cluster.mail.filter((message) => message.from === 2)).toEqual([]);
  });

  test('a commit offset that was lost comes with the next heartbeat', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    cluster.isLost = (message) => message.type === 'append-request' && message.entries.length === 0;
    leader.propose('a');
    cluster.settle();
    expect([leader.core.commit, cluster.node(3).core.commit]).toEqual([2, 1]);
    cluster.tickAll();
    expect(cluster.node(3).core.commit).toBe(2);
  });

  test('with more to send the commit offset goes along', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    leader.propose('a');
    leader.persistAll();
    for (const id of [2, 3]) {
      cluster.deliverWhere((message) => message.to === id);
      cluster.node(id).persistAll();
    }
    leader.beginTurn();
    cluster.deliverWhere((message) => message.to === 1);
    leader.core.propose(1, textBytes('b'));
    leader.endTurn();
    const appends = cluster.mail.filter(isType('append-request'));
    expect(appends).toMatchObject([
      { to: 2, commit: 2, entries: [{ firstOffset: 3 }] },
      { to: 3, commit: 2, entries: [{ firstOffset: 3 }] },
    ]);
  });

  test('lost appends are noticed at the next heartbeats and sent again', () => {
    const cluster = new RaftCluster();
    const leader = cluster.elect(1);
    cluster.isLost = isType('append-request');
    leader.propose('a');
    cluster.settle();
    cluster.heal();
    cluster.tickAll(3);
    expect(cluster.node(3).core.commit).toBe(2);
  });

  test('what is acknowledged and then cut in the same turn is not acknowledged', () => {
    const cluster = new RaftCluster({ isChecked: false });
    const node = cluster.node(2);
    const append = (from: number, term: number, count: number): Message => ({
      type: 'append-request',
      from: asNodeId(from),
      to: asNodeId(2),
      term: asTerm(term),
      prevOffset: asOffset(0),
      prevTerm: asTerm(0),
      entries: Array.from({ length: count }, (_, i) => ({
        firstOffset: asOffset(i + 1),
        lastOffset: asOffset(i + 1),
        term: asTerm(term),
        kind: 'data' as const,
        bytes: textBytes(`${term}`),
      })),
      commit: asOffset(0),
    });
    node.beginTurn();
    receive(node, append(1, 1, 3));
    receive(node, append(3, 2, 1));
    node.endTurn();
    node.persistAll();
    expect(cluster.mail).toMatchObject([{ type: 'append-response', to: 3, success: true, offset: 1 }]);
  });
});
