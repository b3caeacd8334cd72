import { asOffset, type GroupId, type NodeId, type Offset } from '#kernel';
import type { Group } from '#replica';
import type { PersistRequest } from '#storage';
import type { PeerMessage } from '../../libs/replica/src/testing/index.js';
import { ShadowLog, type ShadowEntry } from './shadow-log.js';

/** What is known from outside of one group: what each node wrote, who led, and the one committed log. */
export class GroupRecord {
  readonly shadows = new Map<NodeId, ShadowLog>();
  /** What was on disks that were lost. */
  readonly lost = new Map<NodeId, ShadowLog>();
  /** Who was first seen to lead in a term. */
  readonly leaders = new Map<number, NodeId>();
  /** The committed log from its beginning; bytes are always there. */
  readonly committed: ShadowEntry[] = [];
  /** Every batch that anybody wrote, by the chain that ends with it. */
  readonly bytesByChain = new Map<number, Uint8Array>();
  private readonly offsets: number[] = [];
  private readonly committedIn: number[] = [];

  constructor(readonly id: GroupId) {}

  shadow(node: NodeId): ShadowLog {
    let shadow = this.shadows.get(node);
    if (shadow === undefined) this.shadows.set(node, (shadow = new ShadowLog(node)));
    return shadow;
  }

  /** The node's disk is another from now on. */
  loseDisk(node: NodeId): void {
    this.lost.set(node, this.shadow(node));
    this.shadows.delete(node);
  }

  get commitMax(): Offset {
    return this.committed.length > 0 ? this.committed[this.committed.length - 1].lastOffset : asOffset(0);
  }

  /** `term`: of the leader that committed it. */
  commit(entry: ShadowEntry, term: number): void {
    this.committed.push(entry);
    this.committedIn.push(term);
    this.offsets.push(entry.lastOffset);
  }

  /** End of what had been committed in terms before this one: a leader may learn late that it was elected. */
  committedBefore(term: number): Offset {
    let end = this.committed.length;
    while (end > 0 && this.committedIn[end - 1] >= term) end--;
    return end > 0 ? this.committed[end - 1].lastOffset : asOffset(0);
  }

  /** Index of the committed entry that contains the offset. */
  indexOf(offset: number): number {
    const { offsets } = this;
    let low = 0;
    let high = offsets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (offsets[middle] < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Chain of the committed log up to a batch end; null when that is not committed, or within a batch. */
  committedChainAt(offset: number): number | null {
    if (offset === 0) return 0;
    const entry = this.committed[this.indexOf(offset)];
    return entry !== undefined && entry.lastOffset === offset ? entry.chain : null;
  }
}

/** A running node's part in a group. */
export interface Replica {
  readonly node: NodeId;
  readonly group: Group;
  readonly record: GroupRecord;
  readonly shadow: ShadowLog;
}

/** Who writes, before it is known whether it takes part already. */
export interface Writer {
  readonly record: GroupRecord;
  readonly shadow: ShadowLog;
  /** null while the log is being opened or repaired. */
  readonly group: Group | null;
}

/** Looks at what happens, and throws a Violation when it may not. Every method is called as soon as the thing has happened. */
export interface Checker {
  /** A frame's message leaves its sender. */
  sent?(record: GroupRecord, message: PeerMessage): void;
  /** Before the shadow follows. */
  persistBegins?(writer: Writer, request: PersistRequest): void;
  /** A node writes an entry; the shadow has it. */
  appended?(record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void;
  /** A node that opens its log finds an entry in it. */
  reread?(record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void;
  /** A node has opened its log again; `before` is what it had written. */
  recovered?(record: GroupRecord, before: ShadowLog, now: ShadowLog): void;
  /** After an event of the node. */
  touched?(replica: Replica): void;
  /** The node is in another term than after its last event. */
  termMoved?(replica: Replica, from: number): void;
  /** The node leads in a term, for the first time in this life. */
  elected?(replica: Replica): void;
  /** The node's commit offset is another than after its last event. */
  commitMoved?(replica: Replica, from: number): void;
  /** The first to say that so much is committed; `log`: of a node that has it, as a quorum has. */
  committing?(replica: Replica, log: ShadowLog | null): void;
  /** One more entry of the one committed log. */
  committed?(record: GroupRecord, entry: ShadowEntry): void;
}

type Hook = Exclude<keyof Checker, never>;
type Having<K extends Hook> = Checker & { readonly [P in K]-?: NonNullable<Checker[P]> };

const having = <K extends Hook>(checkers: readonly Checker[], hook: K): readonly Having<K>[] =>
  checkers.filter((checker): checker is Having<K> => checker[hook] !== undefined);

/**
 * Looks at every replica after every event, notices what changed, keeps the one committed log of each group, and tells the checkers. What many of
 * them need to know is found out here, once.
 */
export class Observer {
  private readonly on: { readonly [K in Hook]: readonly Having<K>[] };

  constructor(checkers: readonly Checker[]) {
    const of = <K extends Hook>(hook: K): readonly Having<K>[] => having(checkers, hook);
    this.on = {
      sent: of('sent'),
      persistBegins: of('persistBegins'),
      appended: of('appended'),
      reread: of('reread'),
      recovered: of('recovered'),
      touched: of('touched'),
      termMoved: of('termMoved'),
      elected: of('elected'),
      commitMoved: of('commitMoved'),
      committing: of('committing'),
      committed: of('committed'),
    };
  }

  sent(record: GroupRecord, message: PeerMessage): void {
    for (const checker of this.on.sent) checker.sent(record, message);
  }

  persistBegins(writer: Writer, request: PersistRequest): void {
    for (const checker of this.on.persistBegins) checker.persistBegins(writer, request);
  }

  appended(record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void {
    for (const checker of this.on.appended) checker.appended(record, shadow, entry);
  }

  reread(record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void {
    for (const checker of this.on.reread) checker.reread(record, shadow, entry);
  }

  recovered(record: GroupRecord, before: ShadowLog, now: ShadowLog): void {
    for (const checker of this.on.recovered) checker.recovered(record, before, now);
  }

  touched(replica: Replica): void {
    const { group, shadow, record } = replica;
    const { on } = this;
    const { term } = group;
    if (term !== shadow.seenTerm) {
      for (const checker of on.termMoved) checker.termMoved(replica, shadow.seenTerm);
      shadow.seenTerm = term;
    }
    if (shadow.ledTerm !== term && group.isLeader) {
      shadow.ledTerm = term;
      for (const checker of on.elected) checker.elected(replica);
      if (!record.leaders.has(term)) record.leaders.set(term, replica.node);
    }
    if (group.commitOffset !== shadow.highestCommit) this.commitMoved(replica);
    for (const checker of on.touched) checker.touched(replica);
  }

  private commitMoved(replica: Replica): void {
    const { group, record, shadow } = replica;
    const from = shadow.highestCommit;
    shadow.highestCommit = group.commitOffset;
    if (group.commitOffset > record.commitMax) this.extend(replica);
    for (const checker of this.on.commitMoved) checker.commitMoved(replica, from);
  }

  /** The committed log grows by what this node says is committed, as a quorum has it. */
  private extend(replica: Replica): void {
    const { group, record } = replica;
    const commit = group.commitOffset;
    const log = heldByQuorum(replica);
    for (const checker of this.on.committing) checker.committing(replica, log);
    if (log === null) return;
    for (let i = log.indexOf(record.commitMax + 1); i < log.entries.length; i++) {
      const entry = log.entries[i];
      if (entry.lastOffset > commit) break;
      const committed = { ...entry, bytes: entry.bytes ?? record.bytesByChain.get(entry.chain)! };
      record.commit(committed, group.term);
      for (const checker of this.on.committed) checker.committed(record, committed);
    }
  }
}

const isMajority = (voters: readonly NodeId[], holds: (id: NodeId) => boolean): boolean => {
  let count = 0;
  for (const id of voters) if (holds(id)) count++;
  return count * 2 > voters.length;
};

/**
 * A log that is durable up to the node's commit offset on a quorum of the configuration in force, on both quorums of a joint one. A disk that was lost
 * counts with what it had: it was acknowledged, and a majority of the disks that are left meets the rest of that quorum.
 */
const heldByQuorum = ({ group, record }: Replica): ShadowLog | null => {
  const commit = group.commitOffset;
  const { voters, outgoing } = group.configuration;
  for (const candidate of record.shadows.values()) {
    const chain = candidate.chainAt(commit);
    if (chain === null) continue;
    const has = (shadow: ShadowLog | undefined): boolean =>
      shadow !== undefined && shadow.durable >= commit && shadow.chainAt(commit) === chain;
    const holds = (id: NodeId): boolean => has(record.shadows.get(id)) || has(record.lost.get(id));
    if (isMajority(voters, holds) && (outgoing.length === 0 || isMajority(outgoing, holds))) return candidate;
  }
  return null;
};
