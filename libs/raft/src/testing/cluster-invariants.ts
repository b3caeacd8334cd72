import { NO_OFFSET, asOffset, assert, type NodeId, type Offset, type Term } from '#kernel';
import type { Configuration, Entry, Message, Ready } from '../types.js';
import type { ClusterNode } from './cluster-node.js';

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a === b || (a.length === b.length && a.every((byte, i) => byte === b[i]));

const sameEntry = (a: Entry, b: Entry): boolean =>
  a === b ||
  (a.firstOffset === b.firstOffset &&
    a.lastOffset === b.lastOffset &&
    a.term === b.term &&
    a.kind === b.kind &&
    sameBytes(a.bytes, b.bytes));

const isMajority = (voters: readonly NodeId[], holds: (id: NodeId) => boolean): boolean =>
  voters.filter(holds).length * 2 > voters.length;

const isQuorum = ({ voters, outgoing }: Configuration, holds: (id: NodeId) => boolean): boolean =>
  isMajority(voters, holds) && (outgoing.length === 0 || isMajority(outgoing, holds));

/**
 * What must hold in a cluster at all times (the numbers are those of the list of invariants in the documentation), checked from outside: from
 * messages, readies and disks, not from what a core says of itself. Throws AssertionFailure.
 */
export class ClusterInvariants {
  private readonly nodes: ReadonlyMap<NodeId, ClusterNode>;
  private readonly leaderOf = new Map<Term, NodeId>();
  /** votes.get(term).get(voter) = candidate. */
  private readonly votes = new Map<Term, Map<NodeId, NodeId>>();
  /** The one committed log, entry by entry. */
  readonly committed: Entry[] = [];
  private readonly committedAt = new Map<Offset, Entry>();
  /** Term of the leader that committed each of them. */
  private readonly committedIn: Term[] = [];
  private readonly commitOf = new Map<NodeId, Offset>();
  /** Reads under way: what was committed when they were asked for. */
  private readonly reads = new Map<number, Offset>();
  readsAnswered = 0;

  constructor(nodes: ReadonlyMap<NodeId, ClusterNode>) {
    this.nodes = nodes;
  }

  get commitMax(): Offset {
    return this.committed.length > 0 ? this.committed[this.committed.length - 1].lastOffset : NO_OFFSET;
  }

  sent(message: Message): void {
    const sender = this.nodes.get(message.from);
    assert(sender !== undefined, 'a message has a sender');
    const { disk } = sender;
    if (message.type === 'vote-response' && message.granted && !message.preVote) {
      this.countVote(message.term, message.from, message.to);
      const { term, vote } = disk.hardState;
      assert(
        term > message.term || (term === message.term && vote === message.to),
        '8: a vote is durable when it leaves',
      );
    }
    if (message.type === 'vote-request' && !message.preVote) {
      this.countVote(message.term, message.from, message.from);
      assert(disk.hardState.term >= message.term, '8: a candidate wrote down its term before it asked');
    }
    if (
      message.type === 'append-request' ||
      message.type === 'heartbeat' ||
      message.type === 'snapshot-request' ||
      message.type === 'timeout-now'
    ) {
      assert(disk.hardState.term >= message.term, '7: a leader wrote down its term before it led');
    }
    if (message.type === 'append-response' && message.success) {
      assert(disk.lastOffset >= message.offset, '9: an acknowledgement is covered by the disk');
      assert(this.leaderOf.get(message.term) === message.to, 'entries are acknowledged to the leader of the term');
      const leader = this.nodes.get(message.to);
      if (leader?.isUp === true && leader.core.role === 'leader' && leader.core.term === message.term) {
        const [ours, theirs] = [disk, leader.volatile].map((image) => image.termAt(message.offset));
        const known = ours !== undefined && theirs !== undefined;
        assert(!known || ours === theirs, "9: what is acknowledged is the leader's log");
      }
    }
  }

  private countVote(term: Term, voter: NodeId, candidate: NodeId): void {
    let ofTerm = this.votes.get(term);
    if (ofTerm === undefined) this.votes.set(term, (ofTerm = new Map()));
    const before = ofTerm.get(voter);
    assert(before === undefined || before === candidate, '8: one vote in a term');
    ofTerm.set(voter, candidate);
  }

  readRequested(id: number): void {
    this.reads.set(id, this.commitMax);
  }

  readRefused(id: number): void {
    this.reads.delete(id);
  }

  /** Reads whose node went down are never answered. */
  forgetReads(): void {
    this.reads.clear();
  }

  get readsOpen(): number {
    return this.reads.size;
  }

  /** Before the ready is carried out. */
  observe(node: ClusterNode, ready: Ready): void {
    const { role, term } = node.core;
    if (role === 'leader' || ready.roleChange?.role === 'leader') this.observeLeader(node, term);
    if (ready.truncateAfter !== null) {
      assert(ready.truncateAfter >= node.volatile.commit, '11: nothing committed is cut');
      assert(role !== 'leader', 'a leader never overwrites its log');
    }
    if (ready.snapshot !== null) assert(role !== 'leader', '12: a leader never installs a snapshot');
    for (const { id, offset } of ready.reads) {
      const floor = this.reads.get(id);
      if (floor === undefined) continue;
      this.reads.delete(id);
      if (offset === null) continue;
      this.readsAnswered++;
      assert(offset >= floor, '16: a read sees all that was committed before it was asked for');
    }
    if (ready.commit !== null) this.observeCommit(node, ready);
  }

  private observeLeader(node: ClusterNode, term: Term): void {
    const known = this.leaderOf.get(term);
    if (known !== undefined) {
      assert(known === node.id, '1: one leader in a term');
      return;
    }
    this.leaderOf.set(term, node.id);
    // The ready that tells of it has not been carried out: the log is what it was at the election.
    for (let i = 0; i < this.committed.length; i++) {
      const entry = this.committed[i];
      // The leader of an earlier term may come to know of its election late.
      if (this.committedIn[i] >= term || entry.lastOffset <= node.volatile.baseOffset) continue;
      const own = node.volatile.entryAt(entry.firstOffset);
      assert(own !== undefined && sameEntry(own, entry), '6: a leader has everything committed before');
    }
  }

  private observeCommit(node: ClusterNode, ready: Ready): void {
    const commit = ready.commit ?? NO_OFFSET;
    assert(commit >= (this.commitOf.get(node.id) ?? 0) || !node.isUp, '7: the commit offset does not go back');
    let seen = node.volatile;
    if (ready.persist !== null) {
      seen = node.volatile.copy();
      seen.write(ready);
    }
    assert(commit <= seen.lastOffset, 'what is committed is in the log');
    assert(
      commit === seen.baseOffset || seen.entryAt(commit)?.lastOffset === commit,
      'an entry is committed as a whole',
    );
    for (let i = seen.indexOf(this.commitOf.get(node.id) ?? NO_OFFSET); i < seen.entries.length; i++) {
      const entry = seen.entries[i];
      if (entry.lastOffset > commit) break;
      const agreed = this.committedAt.get(entry.firstOffset);
      if (agreed !== undefined) assert(sameEntry(agreed, entry), '4: committed logs agree');
      else {
        assert(entry.firstOffset === this.commitMax + 1, '4: entries are committed in order');
        this.assertDurable(seen.configurationAt(seen.lastOffset).configuration, entry);
        this.committed.push(entry);
        this.committedIn.push(node.core.term);
        this.committedAt.set(entry.firstOffset, entry);
      }
    }
    assert(commit <= this.commitMax, 'a snapshot holds committed entries only');
    this.commitOf.set(node.id, commit);
  }

  private assertDurable(configuration: Configuration, entry: Entry): void {
    const holds = (id: NodeId): boolean => {
      const disk = this.nodes.get(id)?.disk;
      if (disk === undefined) return false;
      if (disk.baseOffset >= entry.lastOffset) return true;
      const own = disk.entryAt(entry.firstOffset);
      return own !== undefined && sameEntry(own, entry);
    };
    assert(isQuorum(configuration, holds), '5: what is committed is on the disks of a quorum');
  }

  /** A restart may forget how far the commit offset was, never what was committed. */
  restarted(node: ClusterNode): void {
    this.commitOf.delete(node.id);
    this.checkLogs();
  }

  /** 3: same offset and term, same log up to there. */
  checkLogs(): void {
    const nodes = [...this.nodes.values()];
    for (let i = 0; i < nodes.length; i++) {
      for (let j = i + 1; j < nodes.length; j++) this.checkPair(nodes[i], nodes[j]);
    }
  }

  private checkPair(a: ClusterNode, b: ClusterNode): void {
    let offset = Math.min(a.volatile.lastOffset, b.volatile.lastOffset);
    // What both have committed was compared when they did.
    const common = Math.min(a.volatile.commit, b.volatile.commit);
    const base = Math.max(a.volatile.baseOffset, b.volatile.baseOffset, common);
    while (offset > base && a.volatile.termAt(asOffset(offset)) !== b.volatile.termAt(asOffset(offset))) offset--;
    for (; offset > base; offset--) {
      const left = a.volatile.entryAt(asOffset(offset));
      const right = b.volatile.entryAt(asOffset(offset));
      assert(
        left !== undefined && right !== undefined && sameEntry(left, right),
        '3: logs that meet are the same before',
      );
      offset = left.firstOffset;
    }
  }

  /** 1: what was committed is still on some disk, or in a snapshot there. */
  checkCommittedSurvives(): void {
    for (const entry of this.committed) {
      const isKept = [...this.nodes.values()].some(({ disk }) => {
        if (disk.baseOffset >= entry.lastOffset) return true;
        const own = disk.entryAt(entry.firstOffset);
        return own !== undefined && sameEntry(own, entry);
      });
      assert(isKept, '1: committed entries are kept');
    }
  }
}
