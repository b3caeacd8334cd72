import { asOffset, type GroupId, type NodeId, type Offset } from '#kernel';
import type { Group } from '#replica';
import type { PersistRequest } from '#storage';
import type { PeerMessage } from '../../libs/replica/src/testing/index.js';
import { ShadowLog, type ShadowEntry } from './shadow-log.js';

/** What is known from outside of one group: what each node wrote, and the one committed log. */
export class GroupRecord {
  readonly shadows = new Map<NodeId, ShadowLog>();
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

/** Looks at what happens, and throws a Violation when it may not. Every method is called as soon as the thing has happened. */
export interface Checker {
  /** A frame's message leaves its sender. */
  sent?(record: GroupRecord, message: PeerMessage): void;
  /** Before the shadow follows. */
  persistBegins?(
    replica: { record: GroupRecord; shadow: ShadowLog; group: Group | null },
    request: PersistRequest,
  ): void;
  /** A node writes an entry; the shadow has it. */
  appended?(record: GroupRecord, shadow: ShadowLog, entry: ShadowEntry): void;
  persistEnded?(record: GroupRecord, shadow: ShadowLog): void;
  /** After an event of the node. */
  touched?(replica: Replica): void;
  /** A node has opened its log again; `before` is what it had written. */
  recovered?(record: GroupRecord, before: ShadowLog, now: ShadowLog): void;
  committed?(record: GroupRecord, entry: ShadowEntry): void;
  /** All is quiet and has converged. */
  end?(): void;
}
