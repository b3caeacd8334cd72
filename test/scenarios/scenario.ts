import { asNodeId, asOffset, assert, unreachable, type NodeId } from '#kernel';
import type { Configuration, Entry, Message, Ready } from '#raft';
import { RaftCluster, type ClusterNode } from '../../libs/raft/src/testing/index.js';

/**
 * A scenario: what is done to a few Raft cores, and everything they do about it. Text, one file a scenario:
 *
 *     # a comment, kept
 *     > command argument name=value      what is done
 *     1 → 2 append after 3/1: 4/2 data   what came of it, one line for each thing (written by the runner)
 *
 * Positions are offset/term. Commands:
 *
 *     cluster voters=1,2,3 [learners=4] [others=5] [message-bytes=] [inflight-bytes=] [cache-bytes=]
 *     log ID terms=1,1,2 [term=3] [commit=1]       the node starts over with this log
 *     campaign ID · tick ID [TIMES] · persist ID · crash ID · restart ID
 *     propose ID TEXT [| TEXT …]                   batches of one turn; a word is a record
 *     read ID NUMBER · change ID voters=1,2 [learners=3] · transfer ID TARGET
 *     trim ID OFFSET · lost ID PEER                the connection to PEER ended
 *     deliver [FROM>TO] [TYPE]                     what is under way now; ID may be *
 *     drop [FROM>TO] [TYPE]                        the same, lost
 *     duplicate [FROM>TO] [TYPE]                   the same, under way twice
 *     answer                                       the log reads and snapshots that nodes have asked their drivers for
 *     lose [FROM>TO] [TYPE]                        from now on, until `heal`
 *     isolate ID … · heal · hold ID · release      what is held neither writes nor receives in `settle`
 *     settle [quietly] · ticks TIMES               everything there is to do; ticks of all nodes, settled in between
 *     status · logs
 */
export class Scenario {
  private cluster = new RaftCluster();
  private lines: string[] = [];
  private isQuiet = false;
  private readonly losses: ((message: Message) => boolean)[] = [];
  private readonly held = new Set<number>();

  /** Carries out one command line; what came of it. */
  run(line: string): string[] {
    this.lines = [];
    this.isQuiet = false;
    const [command, ...words] = line.trim().split(/\s+/);
    const named = new Map(
      words
        .filter((word) => word.includes('='))
        .map((word): [string, string] => {
          const at = word.indexOf('=');
          return [word.slice(0, at), word.slice(at + 1)];
        }),
    );
    this.carryOut(command, { words: words.filter((word) => !word.includes('=')), named });
    return this.lines;
  }

  private carryOut(command: string, { words, named }: { words: string[]; named: Map<string, string> }): void {
    const { cluster } = this;
    const node = (): ClusterNode => cluster.node(Number(words[0]));
    const list = (name: string): number[] => (named.get(name) ?? '').split(',').filter(Boolean).map(Number);
    const number = (name: string): number | undefined => (named.has(name) ? Number(named.get(name)) : undefined);
    switch (command) {
      case 'cluster':
        return this.start(list, number);
      case 'log':
        this.isQuiet = true;
        return cluster.give(Number(words[0]), { terms: list('terms'), term: number('term'), commit: number('commit') });
      case 'campaign':
        return node().step({ type: 'campaign' });
      case 'tick':
        return node().tick(Number(words[1] ?? 1));
      case 'persist':
        return node().persistNext();
      case 'crash':
        return node().crash();
      case 'restart':
        return node().restart();
      case 'propose':
        return this.propose(node(), words.slice(1).join(' ').split(' | '));
      case 'read':
        if (!node().read(Number(words[1]))) this.say(`${words[0]} does not lead`);
        return;
      case 'change': {
        const target = { voters: list('voters').map(asNodeId), learners: list('learners').map(asNodeId) };
        const result = node().change(target);
        if (!result.ok) this.say(`${words[0]} refuses: ${result.reason}`);
        return;
      }
      case 'transfer':
        return node().step({ type: 'transfer-leadership', to: asNodeId(Number(words[1])) });
      case 'trim':
        return node().trim(asOffset(Number(words[1])));
      case 'lost':
        return node().step({ type: 'peer-lost', peer: asNodeId(Number(words[1])) });
      case 'deliver':
        cluster.deliverWhere(filterOf(words));
        return;
      case 'drop':
        for (const message of cluster.dropWhere(filterOf(words))) this.say(`lost: ${describeMessage(message)}`);
        return;
      case 'duplicate':
        cluster.mail.push(...cluster.mail.filter(filterOf(words)));
        return;
      case 'answer':
        for (const { node: asking, read } of cluster.logReads.splice(0)) asking.answerLogRead(read);
        for (const { node: asking, peer } of cluster.snapshotsWanted.splice(0)) asking.answerSnapshotWanted(peer);
        return;
      case 'lose':
        this.losses.push(filterOf(words));
        return;
      case 'isolate': {
        const apart = new Set(words.map(Number));
        this.losses.push((message) => apart.has(message.from) !== apart.has(message.to));
        return;
      }
      case 'heal':
        this.losses.length = 0;
        return;
      case 'hold':
        this.held.add(Number(words[0]));
        return;
      case 'release':
        this.held.clear();
        return;
      case 'settle':
        this.isQuiet = words[0] === 'quietly';
        return cluster.settle();
      case 'ticks':
        this.isQuiet = true;
        return cluster.tickAll(Number(words[0]));
      case 'status':
        for (const each of cluster.nodes.values()) this.sayStatus(each);
        return;
      case 'logs':
        for (const each of cluster.nodes.values()) {
          const { baseOffset, baseTerm } = each.volatile;
          this.say(`${each.id} base ${baseOffset}/${baseTerm} terms ${each.terms.join(' ') || 'none'}`);
        }
        return;
      default:
        throw new Error(`unknown command: ${command}`);
    }
  }

  private start(list: (name: string) => number[], number: (name: string) => number | undefined): void {
    const core = Object.entries({
      messageBytesMax: number('message-bytes'),
      inflightBytesMax: number('inflight-bytes'),
      cacheBytesMax: number('cache-bytes'),
    }).filter(([, value]) => value !== undefined);
    const tell = (line: string): void => this.say(line);
    const isLost = (message: Message): boolean => this.losses.some((matches) => matches(message));
    this.cluster = new (class extends RaftCluster {
      override send(message: Message): void {
        tell(`${describeMessage(message)}${isLost(message) ? ' (lost)' : ''}`);
        super.send(message);
      }

      override observe(node: ClusterNode, ready: Ready): void {
        for (const line of describeReady(ready)) tell(`${node.id} ${line}`);
        super.observe(node, ready);
      }
    })({ voters: list('voters'), learners: list('learners'), others: list('others'), core: Object.fromEntries(core) });
    this.cluster.isLost = isLost;
    this.cluster.isHeld = (id) => this.held.has(id);
  }

  private propose(node: ClusterNode, texts: string[]): void {
    for (const result of node.propose(...texts)) if (!result.ok) this.say(`${node.id} refuses: ${result.reason}`);
  }

  private say(line: string): void {
    if (!this.isQuiet) this.lines.push(line);
  }

  private sayStatus(node: ClusterNode): void {
    if (!node.isUp) return this.say(`${node.id} down`);
    const { role, term, commit, lastOffset, durableOffset, leader, peers } = node.core.status();
    const following = role === 'leader' || leader === 0 ? '' : ` of ${leader}`;
    this.say(
      `${node.id} ${role}${following}, term ${term}, commit ${commit}, log to ${lastOffset}, on disk to ${durableOffset}`,
    );
    for (const peer of peers) {
      const learner = peer.learner ? ', learner' : '';
      this.say(`    ${peer.id} ${peer.state}, match ${peer.match}, next ${peer.next}${learner}`);
    }
  }
}

/** `FROM>TO` and a message type, both optional. */
const filterOf = (words: string[]): ((message: Message) => boolean) => {
  const route = words.find((word) => word.includes('>'))?.split('>') ?? ['*', '*'];
  const type = words.find((word) => !word.includes('>'));
  assert(type === undefined || TYPES.includes(type), `a message type: ${TYPES.join(', ')}`);
  const fits = (pattern: string, id: NodeId): boolean => pattern === '*' || Number(pattern) === id;
  return (message) =>
    fits(route[0], message.from) && fits(route[1], message.to) && (type === undefined || message.type === type);
};

const TYPES = [
  'vote-request',
  'vote-response',
  'append-request',
  'append-response',
  'heartbeat',
  'heartbeat-response',
  'snapshot-request',
  'snapshot-response',
  'timeout-now',
];

const describeEntry = ({ firstOffset, lastOffset, term, kind }: Entry): string =>
  `${firstOffset === lastOffset ? firstOffset : `${firstOffset}-${lastOffset}`}/${term} ${kind}`;

const describeConfiguration = ({ voters, outgoing, learners }: Configuration): string =>
  [
    `voters ${voters.join()}`,
    ...(outgoing.length > 0 ? [`outgoing ${outgoing.join()}`] : []),
    ...(learners.length > 0 ? [`learners ${learners.join()}`] : []),
  ].join(', ');

const describeReady = (ready: Ready): string[] => {
  const lines: string[] = [];
  const { roleChange, snapshot, hardState, truncateAfter, entries } = ready;
  if (roleChange !== null) {
    const { role, term, leader } = roleChange;
    lines.push(`is ${role}${role === 'follower' && leader !== 0 ? ` of ${leader}` : ''} in term ${term}`);
  }
  if (ready.persist !== null) {
    const parts = [
      ...(snapshot === null
        ? []
        : [`snapshot ${snapshot.offset}/${snapshot.term}${ready.keepSuffix ? ' (keeps what follows)' : ''}`]),
      ...(hardState === null ? [] : [`term ${hardState.term}, vote ${hardState.vote === 0 ? 'none' : hardState.vote}`]),
      ...(truncateAfter === null ? [] : [`cut after ${truncateAfter}`]),
      ...entries.map(describeEntry),
    ];
    lines.push(`writes ${parts.join('; ')}`);
  }
  if (ready.configuration !== null) lines.push(`is in ${describeConfiguration(ready.configuration)}`);
  if (ready.commit !== null) lines.push(`commits ${ready.commit}`);
  for (const { id, offset } of ready.reads) {
    lines.push(offset === null ? `does not answer read ${id}` : `answers read ${id} at ${offset}`);
  }
  for (const { peer, from } of ready.logReads) lines.push(`reads its log from ${from} for ${peer}`);
  for (const peer of ready.snapshotsWanted) lines.push(`wants a snapshot for ${peer}`);
  return lines;
};

const describeMessage = (message: Message): string => `${message.from} → ${message.to} ${describeContent(message)}`;

const describeContent = (message: Message): string => {
  switch (message.type) {
    case 'vote-request': {
      const kind = message.preVote ? 'would you vote' : 'vote';
      const order = message.transfer ? ', as the leader asked' : '';
      return `${kind} in term ${message.term}? my log ends at ${message.lastOffset}/${message.lastTerm}${order}`;
    }
    case 'vote-response':
      return `${message.preVote ? 'I would' : 'I do'}${message.granted ? '' : ' not'}, term ${message.term}`;
    case 'append-request': {
      const entries = message.entries.map(describeEntry).join(', ') || 'nothing';
      return `append after ${message.prevOffset}/${message.prevTerm}: ${entries}; commit ${message.commit}`;
    }
    case 'append-response':
      if (message.success) return `appended to ${message.offset}`;
      return message.offset === 0 && message.hintOffset === 0
        ? `refused, term ${message.term}`
        : `refused: mine has term ${message.hintTerm} at ${message.offset}, since ${message.hintOffset}`;
    case 'heartbeat':
      return `heartbeat ${message.round}; commit ${message.commit}`;
    case 'heartbeat-response':
      return `heartbeat ${message.round} heard`;
    case 'snapshot-request':
      return `snapshot ${message.snapshot.offset}/${message.snapshot.term}`;
    case 'snapshot-response':
      return `has everything to ${message.offset}`;
    case 'timeout-now':
      return 'take over now';
    default:
      return unreachable(message);
  }
};

/** Runs a whole file: its text, with what really came of each command. */
export const play = (text: string): string => {
  const scenario = new Scenario();
  const lines: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('> ')) {
      lines.push(line);
      for (const result of scenario.run(line.slice(2))) lines.push(result);
    } else if (line === '' || line.startsWith('#')) lines.push(line);
  }
  return lines.join('\n');
};
