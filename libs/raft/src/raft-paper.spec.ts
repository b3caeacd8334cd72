import { describe, expect, test } from '@jest/globals';
import { asNodeId, asOffset, asTerm } from '#kernel';
import { RaftCluster, textBytes, type ClusterNode } from './testing/index.js';
import type { AppendRequest, AppendResponse, Entry, Message, VoteResponse } from './types.js';

/** One test a clause of figure 2 of "In Search of an Understandable Consensus Algorithm" (Ongaro, Ousterhout 2014), then its other figures. */

const ofType =
  <T extends Message['type']>(type: T) =>
  (message: Message): message is Extract<Message, { type: T }> =>
    message.type === type;

const entry = (offset: number, term: number, text = `${term}.${offset}`): Entry => ({
  firstOffset: asOffset(offset),
  lastOffset: asOffset(offset),
  term: asTerm(term),
  kind: 'data',
  bytes: textBytes(text),
});

/** An append from node 1 to node 2. */
const appendTo2 = (
  term: number,
  prev: [offset: number, term: number],
  entries: Entry[],
  commit = 0,
): AppendRequest => ({
  type: 'append-request',
  from: asNodeId(1),
  to: asNodeId(2),
  term: asTerm(term),
  prevOffset: asOffset(prev[0]),
  prevTerm: asTerm(prev[1]),
  entries,
  commit: asOffset(commit),
});

/** Node 2 alone: what it is sent comes from the test, what it sends is looked at. */
const follower = (terms: number[], more: { term?: number; commit?: number } = {}) => {
  const cluster = new RaftCluster({ isChecked: false });
  cluster.give(2, { terms, ...more });
  const node = cluster.node(2);
  const receive = (message: Message): void => node.step({ type: 'message', message });
  /** What it answers at once, and what waits for its disk. */
  const answer = <T extends Message['type']>(message: Message, type: T): Extract<Message, { type: T }>[] => {
    receive(message);
    const answers = cluster.mail.splice(0);
    for (const { messages } of node.pending) answers.push(...messages);
    return answers.filter(ofType(type));
  };
  return { cluster, node, receive, answer };
};

const ask = (from: number, to: number, term: number, last: [offset: number, term: number]): Message => ({
  type: 'vote-request',
  from: asNodeId(from),
  to: asNodeId(to),
  term: asTerm(term),
  preVote: false,
  transfer: false,
  lastOffset: asOffset(last[0]),
  lastTerm: asTerm(last[1]),
});

const granted = (responses: VoteResponse[]): boolean[] => responses.map((response) => response.granted);
const outcome = (responses: AppendResponse[]): [boolean, number][] =>
  responses.map((response) => [response.success, response.offset]);

const elected = (cluster: RaftCluster, id = 1): ClusterNode => cluster.elect(id);

describe('figure 2, state', () => {
  test('"currentTerm, votedFor, log[] … updated on stable storage before responding to RPCs"', () => {
    const { cluster, node, receive } = follower([1]);
    receive(ask(1, 2, 5, [1, 1]));
    expect(cluster.mail).toEqual([]);
    node.persistNext();
    expect(node.disk.hardState).toEqual({ term: 5, vote: 1 });
    expect(granted(cluster.mail.filter(ofType('vote-response')))).toEqual([true]);
  });

  test('"nextIndex[] … initialized to leader last log index + 1", "matchIndex[] … initialized to 0"', () => {
    const cluster = new RaftCluster();
    for (const id of [1, 2, 3]) cluster.give(id, { terms: [1, 1, 2] });
    const leader = cluster.node(1);
    leader.step({ type: 'campaign' });
    while (leader.core.role !== 'leader') {
      cluster.deliverWhere(() => true);
      for (const node of cluster.nodes.values()) node.persistAll();
    }
    for (const peer of leader.core.status().peers) expect([peer.match, peer.next]).toEqual([0, 4]);
  });

  test('"commitIndex … initialized to 0, increases monotonically": it starts from what is known to be committed', () => {
    const cluster = new RaftCluster();
    cluster.give(1, { terms: [1, 1, 1], commit: 2 });
    expect(cluster.node(1).core.commit).toBe(2);
    const { node, receive } = follower([1, 1, 1], { commit: 2 });
    receive(appendTo2(1, [3, 1], [], 1));
    expect(node.core.commit).toBe(2);
  });
});

describe('figure 2, AppendEntries RPC', () => {
  test('"1. Reply false if term < currentTerm", with the current term, "for leader to update itself"', () => {
    const { answer } = follower([1, 1], { term: 3 });
    const [response] = answer(appendTo2(2, [2, 1], []), 'append-response');
    expect(response).toMatchObject({ success: false, term: 3 });
  });

  test('"2. Reply false if log doesn\'t contain an entry at prevLogIndex whose term matches prevLogTerm": too short', () => {
    const { answer, node } = follower([1, 1]);
    expect(outcome(answer(appendTo2(2, [5, 1], [entry(6, 2)]), 'append-response'))).toEqual([[false, 2]]);
    expect(node.terms).toEqual([1, 1]);
  });

  test('"2. Reply false …": another term there', () => {
    const { answer, node } = follower([1, 2, 2]);
    const [response] = answer(appendTo2(3, [3, 1], [entry(4, 3)]), 'append-response');
    expect(response).toMatchObject({ success: false, offset: 3, hintTerm: 2, hintOffset: 2 });
    expect(node.terms).toEqual([1, 2, 2]);
  });

  test('"3. If an existing entry conflicts with a new one …, delete the existing entry and all that follow it"', () => {
    const { answer, node } = follower([1, 2, 2, 2]);
    expect(outcome(answer(appendTo2(3, [2, 2], [entry(3, 3)]), 'append-response'))).toEqual([[true, 3]]);
    expect(node.terms).toEqual([1, 2, 3]);
    expect(node.pending[0].unit.truncateAfter).toBe(2);
  });

  test('"3. …": entries that do not conflict stay, also those beyond the message', () => {
    const { answer, node } = follower([1, 2, 2, 2]);
    expect(outcome(answer(appendTo2(2, [1, 1], [entry(2, 2)]), 'append-response'))).toEqual([[true, 2]]);
    expect(node.terms).toEqual([1, 2, 2, 2]);
    expect(node.pending).toEqual([]);
  });

  test('"4. Append any new entries not already in the log"', () => {
    const { answer, node } = follower([1, 1]);
    const append = appendTo2(2, [1, 1], [entry(2, 1), entry(3, 2), entry(4, 2)]);
    expect(outcome(answer(append, 'append-response'))).toEqual([[true, 4]]);
    expect(node.terms).toEqual([1, 1, 2, 2]);
    expect(node.pending[0].unit.entries.map((e) => e.firstOffset)).toEqual([3, 4]);
    expect(outcome(answer(append, 'append-response')).at(-1)).toEqual([true, 4]);
    expect(node.terms).toEqual([1, 1, 2, 2]);
  });

  test('"5. If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)"', () => {
    const { receive, node } = follower([1, 1, 1, 1]);
    // Offsets 3 and 4 are not known to be the leader's.
    receive(appendTo2(2, [2, 1], [], 4));
    expect(node.core.commit).toBe(2);
    receive(appendTo2(2, [2, 1], [entry(3, 1)], 4));
    expect(node.core.commit).toBe(3);
  });

  test('an acknowledgement leaves only when what it covers is durable', () => {
    const cluster = new RaftCluster();
    elected(cluster).propose('a');
    cluster.deliverWhere((message) => message.to === 2);
    expect(cluster.mail.filter((message) => message.from === 2)).toEqual([]);
    cluster.node(2).persistNext();
    expect(cluster.mail.filter((message) => message.from === 2)).toMatchObject([
      { type: 'append-response', success: true, offset: 2 },
    ]);
  });

  test('appends received in one turn are answered once, with the last', () => {
    const { node, cluster } = follower([]);
    node.beginTurn();
    node.step({ type: 'message', message: appendTo2(1, [0, 0], [entry(1, 1)]) });
    node.step({ type: 'message', message: appendTo2(1, [1, 1], [entry(2, 1)]) });
    node.endTurn();
    node.persistAll();
    expect(cluster.mail).toMatchObject([{ type: 'append-response', offset: 2 }]);
  });

  test('malformed appends change nothing', () => {
    const { receive, node, cluster } = follower([1]);
    receive(appendTo2(2, [1, 1], [entry(3, 2)]));
    receive(appendTo2(2, [1, 1], [entry(2, 9)]));
    receive(appendTo2(2, [1, 1], [entry(2, 2), entry(3, 1)]));
    receive(appendTo2(2, [1, 1], [{ ...entry(2, 2), kind: 'configuration' }]));
    expect(node.terms).toEqual([1]);
    expect(cluster.mail).toEqual([]);
  });
});

describe('figure 2, RequestVote RPC', () => {
  test('"1. Reply false if term < currentTerm"', () => {
    const { answer } = follower([1], { term: 4 });
    expect(answer(ask(1, 2, 3, [9, 3]), 'vote-response')).toMatchObject([{ granted: false, term: 4 }]);
  });

  test('"2. If votedFor is null or candidateId …, grant vote": one vote a term, the same again if asked again', () => {
    const { answer } = follower([1]);
    expect(granted(answer(ask(1, 2, 2, [1, 1]), 'vote-response'))).toEqual([true]);
    expect(granted(answer(ask(3, 2, 2, [1, 1]), 'vote-response')).at(-1)).toBe(false);
    expect(granted(answer(ask(1, 2, 2, [1, 1]), 'vote-response')).at(-1)).toBe(true);
  });

  test('the vote is remembered over a restart', () => {
    const { cluster, node, receive } = follower([1]);
    receive(ask(1, 2, 2, [1, 1]));
    node.persistAll();
    node.crash();
    node.restart();
    cluster.mail.length = 0;
    receive(ask(3, 2, 2, [1, 1]));
    node.persistAll();
    expect(granted(cluster.mail.filter(ofType('vote-response')))).toEqual([false]);
  });

  test.each<[string, [number, number], boolean]>([
    ['an older last term', [9, 1], false],
    ['the same last term and a shorter log', [2, 2], false],
    ['the same last term and an equal log', [3, 2], true],
    ['the same last term and a longer log', [4, 2], true],
    ['a later last term and a shorter log', [1, 3], true],
  ])('"… and candidate\'s log is at least as up-to-date as receiver\'s log": %s', (_, last, expected) => {
    const { answer } = follower([1, 2, 2]);
    expect(granted(answer(ask(1, 2, 7, last), 'vote-response'))).toEqual([expected]);
  });
});

describe('figure 2, rules for servers', () => {
  test('all: "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower"', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    const stale: AppendResponse = {
      type: 'append-response',
      from: asNodeId(2),
      to: asNodeId(1),
      term: asTerm(9),
      success: false,
      offset: asOffset(0),
      hintTerm: asTerm(0),
      hintOffset: asOffset(0),
    };
    leader.step({ type: 'message', message: stale });
    expect([leader.core.role, leader.core.term, leader.core.leader]).toEqual(['follower', 9, 0]);
    leader.persistAll();
    expect(leader.disk.hardState).toEqual({ term: 9, vote: 0 });
  });

  test('followers: "If election timeout elapses without receiving AppendEntries …: convert to candidate"', () => {
    const cluster = new RaftCluster();
    const node = cluster.node(2);
    node.tick(9);
    expect(node.core.role).toBe('follower');
    node.tick(10);
    expect(node.core.role).toBe('pre-candidate');
  });

  test('followers: a heartbeat starts the timeout anew', () => {
    const cluster = new RaftCluster();
    elected(cluster);
    cluster.tickAll(100);
    expect(cluster.leaders).toEqual([1]);
    expect(cluster.node(1).core.term).toBe(1);
  });

  test('"election timeouts are chosen randomly from a fixed interval": [electionTicks, 2 × electionTicks)', () => {
    const timeouts = new Set<number>();
    for (let seed = 1; seed <= 300; seed++) {
      const node = new RaftCluster({ seed }).node(2);
      let ticks = 0;
      while (node.core.role === 'follower') {
        node.tick();
        ticks++;
      }
      timeouts.add(ticks);
    }
    expect([Math.min(...timeouts), Math.max(...timeouts), timeouts.size]).toEqual([10, 19, 10]);
  });

  test('candidates: "Increment currentTerm, vote for self, reset election timer, send RequestVote RPCs to all other servers"', () => {
    const cluster = new RaftCluster();
    const node = cluster.node(1);
    node.step({ type: 'campaign' });
    cluster.deliverWhere(() => true);
    cluster.deliverWhere(() => true);
    expect([node.core.role, node.core.term, node.core.status().vote]).toEqual(['candidate', 1, 1]);
    // The requests wait until term and vote are durable.
    expect(cluster.mail.filter(ofType('vote-request')).filter((message) => !message.preVote)).toEqual([]);
    node.persistNext();
    const requests = cluster.mail.filter(ofType('vote-request'));
    expect(requests.filter((message) => !message.preVote).map((message) => message.to)).toEqual([2, 3]);
  });

  test('candidates: "If votes received from majority of servers: become leader"', () => {
    const cluster = new RaftCluster({ voters: [1, 2, 3, 4, 5] });
    cluster.isLost = (message) => message.to === 4 || message.to === 5;
    expect(elected(cluster).core.term).toBe(1);
    const small = new RaftCluster({ voters: [1, 2, 3, 4, 5] });
    small.isLost = (message) => message.to > 2;
    small.node(1).step({ type: 'campaign' });
    small.settle();
    expect(small.leaders).toEqual([]);
  });

  test('candidates: "If AppendEntries RPC received from new leader: convert to follower"', () => {
    const cluster = new RaftCluster();
    cluster.isHeld = (id) => id === 3;
    cluster.node(3).step({ type: 'campaign' });
    cluster.deliverWhere((message) => message.type !== 'vote-response');
    cluster.deliverWhere(() => true);
    cluster.deliverWhere(() => true);
    expect(cluster.node(3).core.role).toBe('candidate');
    // Its requests are never sent: node 1 wins the same term.
    cluster.dropWhere(() => true);
    cluster.elect(1);
    cluster.isHeld = () => false;
    cluster.settle();
    cluster.tickAll();
    expect([cluster.node(3).core.role, cluster.node(3).core.leader]).toEqual(['follower', 1]);
  });

  test('candidates: "If election timeout elapses: start new election"', () => {
    const cluster = new RaftCluster();
    cluster.isLost = () => true;
    const node = cluster.node(1);
    node.tick(20);
    cluster.readies.length = 0;
    node.tick(20);
    const asked = cluster.readies.flatMap(({ ready }) => ready.messages).filter(ofType('vote-request'));
    expect(asked.length).toBeGreaterThanOrEqual(2);
  });

  test('leaders: "Upon election: send initial empty AppendEntries RPCs": they carry the noop of the term', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    expect(leader.texts).toEqual(['noop of 1 in 1']);
    for (const id of [2, 3]) expect(cluster.node(id).texts).toEqual(['noop of 1 in 1']);
    expect(leader.core.commit).toBe(1);
  });

  test('leaders: "… repeat during idle periods to prevent election timeouts", and send nothing else then', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    cluster.tickAll(2);
    leader.tick(3);
    expect(cluster.mail.map((message) => message.type)).toEqual(Array.from({ length: 6 }, () => 'heartbeat'));
  });

  test('leaders: "If command received from client: append entry to local log, respond after entry applied": in parallel with its own write', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    const [result] = leader.propose('x');
    expect(result).toEqual({ ok: true, firstOffset: 2, term: 1 });
    expect(leader.pending.length).toBe(1);
    expect(cluster.mail.map((message) => [message.type, message.to])).toEqual([
      ['append-request', 2],
      ['append-request', 3],
    ]);
    // Both followers make a majority, whatever the leader's own disk does.
    cluster.isHeld = (id) => id === 1;
    cluster.settle();
    cluster.isHeld = () => false;
    cluster.deliverWhere((message) => message.to === 1);
    expect([leader.core.commit, leader.core.status().durableOffset]).toEqual([2, 1]);
  });

  test('leaders: the own log counts only once it is durable', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    cluster.isLost = (message) => message.to === 3;
    leader.propose('x');
    cluster.isHeld = (id) => id === 1;
    cluster.settle();
    cluster.isHeld = () => false;
    cluster.deliverWhere((message) => message.to === 1);
    expect(leader.core.commit).toBe(1);
    leader.persistNext();
    expect(leader.core.commit).toBe(2);
  });

  test('leaders: "If last log index ≥ nextIndex for a follower: send AppendEntries RPC with log entries starting at nextIndex"', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    leader.propose('a', 'b b', 'c');
    const sent = cluster.mail.filter(ofType('append-request'));
    expect(sent.map(({ to, prevOffset, entries }) => [to, prevOffset, entries.map((e) => e.lastOffset)])).toEqual([
      [2, 1, [2, 4, 5]],
      [3, 1, [2, 4, 5]],
    ]);
    // Optimistic: the next ones follow without waiting for the answer.
    leader.propose('d');
    expect(
      cluster.mail
        .filter(ofType('append-request'))
        .slice(2)
        .map(({ prevOffset }) => prevOffset),
    ).toEqual([5, 5]);
  });

  test('leaders: "If successful: update nextIndex and matchIndex for follower"', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    leader.propose('a');
    cluster.settle();
    for (const peer of leader.core.status().peers) {
      expect(peer).toMatchObject({ state: 'replicate', match: 2, next: 3, inflightBytes: 0 });
    }
  });

  test('leaders: "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry": a term at a time', () => {
    const cluster = new RaftCluster();
    cluster.give(1, { terms: [1, 1, 1, 4, 4, 5, 5, 6, 6] });
    cluster.give(2, { terms: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3] });
    cluster.give(3, { terms: [1, 1, 1, 4, 4, 5, 5, 6, 6] });
    cluster.readies.length = 0;
    elected(cluster);
    const probes = cluster.readies.flatMap(({ id, ready }) => (id === 1 ? ready.messages : []));
    const to2 = probes.filter(ofType('append-request')).filter((message) => message.to === 2);
    // 9 (term 6) meets 3 since 7; all of this log above 3 is of later terms than 3, and 4 … 9 cannot be there.
    expect(to2.map(({ prevOffset }) => prevOffset).slice(0, 2)).toEqual([9, 3]);
    expect(cluster.node(2).terms).toEqual(cluster.node(1).terms);
  });

  test('leaders: "If AppendEntries fails …": a log that is merely short is met at its end, and what is committed is never doubted', () => {
    const cluster = new RaftCluster();
    for (const id of [1, 2]) cluster.give(id, { terms: [1, 1, 2, 2, 2, 2, 3] });
    cluster.give(3, { terms: [1, 1, 2, 2], term: 3 });
    cluster.readies.length = 0;
    elected(cluster);
    const probes = cluster.readies.flatMap(({ id, ready }) => (id === 1 ? ready.messages : []));
    const to3 = probes.filter(ofType('append-request')).filter((message) => message.to === 3);
    expect(to3.map(({ prevOffset }) => prevOffset).slice(0, 2)).toEqual([7, 4]);

    const { answer } = follower([1, 2, 2, 2], { commit: 3 });
    const [response] = answer(appendTo2(3, [4, 3], [entry(5, 3)]), 'append-response');
    expect(response).toMatchObject({ success: false, offset: 4, hintTerm: 2, hintOffset: 4 });
  });

  test('leaders: "If there exists an N such that N > commitIndex, a majority of matchIndex[i] ≥ N, and log[N].term == currentTerm: set commitIndex = N"', () => {
    const cluster = new RaftCluster();
    for (const id of [1, 2, 3]) cluster.give(id, { terms: [1, 1, 2], term: 2 });
    cluster.isLost = (message) =>
      message.type === 'append-request' && message.entries.some((e) => e.term === 3 && e.kind === 'noop');
    const leader = elected(cluster);
    cluster.tickAll(3);
    // Everything of terms 1 and 2 is everywhere, and yet not known to be committed.
    expect(leader.core.commit).toBe(0);
    cluster.heal();
    cluster.tickAll(2);
    expect(leader.core.commit).toBe(4);
  });
});

describe('section 5.4', () => {
  /** Steps (c) and (d) of figure 8. */
  const playFigure8 = (countsOldTerms: boolean): RaftCluster => {
    const core = { messageBytesMax: 1, mutants: { countsOldTerms } };
    const cluster = new RaftCluster({ voters: [1, 2, 3, 4, 5], core });
    // (c): S1 and S2 have an entry of term 2, S5 one of term 3; S1 leads in term 4 and brings its entry to S3.
    for (const id of [1, 2]) cluster.give(id, { terms: [1, 2], term: 3 });
    for (const id of [3, 4]) cluster.give(id, { terms: [1], term: 3 });
    cluster.give(5, { terms: [1, 3], term: 3 });
    // S3 hears of the noop once, and refuses it since it lacks the entry before. S2 has the entry, and does not get the noop.
    let refusals = 0;
    cluster.isLost = (message) => {
      if (message.to > 3) return message.type === 'append-request';
      if (message.from === 5) return true;
      return isNoop(message) && (message.to !== 3 || refusals++ > 0);
    };
    const s1 = elected(cluster);
    expect(s1.core.term).toBe(4);
    cluster.tickAll(3);
    expect(cluster.node(3).terms).toEqual([1, 2]);
    // S2 has had it all along; now S1 knows.
    s1.step({ type: 'message', message: has(2, 4, 2) });
    expect(s1.core.commit >= 2).toBe(countsOldTerms);
    // (d): S1 fails, S5 is elected by S3 and S4 and overwrites the entry with its own.
    s1.crash();
    cluster.heal();
    for (const id of [2, 3, 4]) cluster.node(id).step({ type: 'peer-lost', peer: asNodeId(1) });
    // The first attempt tells S5 that term 4 is taken.
    cluster.node(5).step({ type: 'campaign' });
    cluster.settle();
    const s5 = elected(cluster, 5);
    cluster.tickAll(2);
    expect(cluster.node(3).terms).toEqual(s5.terms);
    expect(s5.terms.slice(0, 2)).toEqual([1, 3]);
    return cluster;
  };

  test('figure 8: an entry of an old term on a majority may still be overwritten, so it is not committed', () => {
    expect(playFigure8(false).invariants.commitMax).toBe(3);
  });

  test('figure 8: counting replicas of old terms, which only a mutant does, is noticed', () => {
    expect(() => playFigure8(true)).toThrow(
      /nothing committed is cut|committed logs agree|everything committed before/,
    );
  });

  test('figure 8 (e): once an entry of its own term is on a majority, the older one is committed with it', () => {
    const cluster = new RaftCluster({ voters: [1, 2, 3, 4, 5] });
    for (const id of [1, 2]) cluster.give(id, { terms: [1, 2], term: 3 });
    for (const id of [3, 4]) cluster.give(id, { terms: [1], term: 3 });
    cluster.give(5, { terms: [1, 3], term: 3 });
    cluster.isLost = (message) => message.from === 5 || message.to === 5;
    const s1 = elected(cluster);
    expect(s1.core.commit).toBe(3);
    s1.crash();
    cluster.heal();
    cluster.node(5).step({ type: 'campaign' });
    cluster.settle();
    expect(cluster.node(5).core.role).not.toBe('leader');
  });

  test('"a leader never overwrites or deletes entries in its log"', () => {
    const cluster = new RaftCluster();
    const leader = elected(cluster);
    leader.propose('a');
    const before = leader.texts;
    leader.step({
      type: 'message',
      message: { ...appendTo2(0, [0, 0], [entry(1, 0)]), from: asNodeId(2), to: asNodeId(1) },
    });
    expect(leader.texts).toEqual(before);
    const impostor = { ...appendTo2(1, [0, 0], [entry(1, 1)]), from: asNodeId(2), to: asNodeId(1) };
    expect(() => leader.step({ type: 'message', message: impostor })).toThrow(/one leader in a term/);
  });
});

/** Node `from` acknowledges to node 1. */
const has = (from: number, term: number, offset: number): AppendResponse => ({
  type: 'append-response',
  from: asNodeId(from),
  to: asNodeId(1),
  term: asTerm(term),
  success: true,
  offset: asOffset(offset),
  hintTerm: asTerm(term),
  hintOffset: asOffset(0),
});

const isNoop = (message: Message): boolean =>
  message.type === 'append-request' && message.entries.some((e) => e.kind === 'noop');

describe('figure 7', () => {
  // The leader of term 8, and what the followers may have.
  const LEADER = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
  test.each<[string, number[]]>([
    ['a', [1, 1, 1, 4, 4, 5, 5, 6, 6]],
    ['b', [1, 1, 1, 4]],
    ['c', [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]],
    ['d', [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]],
    ['e', [1, 1, 1, 4, 4, 4, 4]],
    ['f', [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]],
  ])('follower (%s) ends with the log of the leader', (_, terms) => {
    const cluster = new RaftCluster();
    cluster.give(1, { terms: LEADER, term: 7 });
    cluster.give(2, { terms: LEADER, term: 7 });
    cluster.give(3, { terms, term: 7 });
    elected(cluster);
    expect(cluster.node(1).core.term).toBe(8);
    expect(cluster.node(3).terms).toEqual([...LEADER, 8]);
    expect(cluster.node(3).core.commit).toBe(11);
  });
});
