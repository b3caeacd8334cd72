import { asOffset, readU32, type NodeId, type Offset, type Term } from '#kernel';
import { batchFirstOffset, batchLastOffset, batchTerm } from '#wire';

/** One batch of a log as the checkers see it. `chain` covers it and all before it: equal chains, equal logs. */
export interface ShadowEntry {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly term: Term;
  readonly chain: number;
  /** The stamped batch; null when only its header was seen (recovery). */
  readonly bytes: Uint8Array | null;
}

const HEADER_CRC_AT = 8;
const PAYLOAD_CRC_AT = 12;

/** 52 bits: two batches that differ make two chains that do, for all that a test will ever see. */
export const chainOf = (before: number, header: Uint8Array): number => {
  const high = Math.imul((before / 0x1_0000_0000) ^ readU32(header, HEADER_CRC_AT), 0x9e3779b1) & 0xfffff;
  const low = Math.imul(before ^ readU32(header, PAYLOAD_CRC_AT), 0x85ebca6b) ^ readU32(header, HEADER_CRC_AT);
  return high * 0x1_0000_0000 + (low >>> 0);
};

/** What one node has been asked to write of one group's log, and how much of it was reported durable. Kept outside of the node. */
export class ShadowLog {
  baseOffset: Offset = asOffset(0);
  baseChain = 0;
  entries: ShadowEntry[] = [];
  /** Last offset reported durable. */
  durable: Offset = asOffset(0);
  term = 0;
  vote = 0;
  /** Highest offset acknowledged to a leader and not cut off since, with its chain. */
  acked: Offset = asOffset(0);
  /** What the node was seen to be after its last event: commit offset, term, and the last term it led in. */
  highestCommit = 0;
  seenTerm = 0;
  ledTerm = 0;

  constructor(readonly node: NodeId) {}

  get lastOffset(): Offset {
    return this.entries.length > 0 ? this.entries[this.entries.length - 1].lastOffset : this.baseOffset;
  }

  get lastChain(): number {
    return this.entries.length > 0 ? this.entries[this.entries.length - 1].chain : this.baseChain;
  }

  append(batch: Uint8Array, keepBytes: boolean): ShadowEntry {
    const entry: ShadowEntry = {
      firstOffset: batchFirstOffset(batch),
      lastOffset: batchLastOffset(batch),
      term: batchTerm(batch),
      chain: chainOf(this.lastChain, batch),
      bytes: keepBytes ? batch : null,
    };
    this.entries.push(entry);
    return entry;
  }

  /** Index of the entry that contains the offset or is the first after it. */
  indexOf(offset: number): number {
    const { entries } = this;
    let low = 0;
    let high = entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (entries[middle].lastOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  entryAt(offset: number): ShadowEntry | null {
    const entry = this.entries[this.indexOf(offset)];
    return entry !== undefined && entry.firstOffset <= offset ? entry : null;
  }

  /** Of the log up to a batch end; null when it is not known here (trimmed, beyond the end, within a batch). */
  chainAt(offset: number): number | null {
    if (offset === this.baseOffset) return this.baseChain;
    const entry = this.entryAt(offset);
    return entry !== null && entry.lastOffset === offset ? entry.chain : null;
  }

  truncateAfter(offset: Offset): void {
    while (this.entries.length > 0 && this.entries[this.entries.length - 1].lastOffset > offset) this.entries.pop();
    if (this.durable > offset) this.durable = offset;
    if (this.acked > offset) this.acked = offset;
  }

  /** The log up to `offset` is represented by a snapshot. */
  rebase(offset: Offset, chain: number, keepSuffix: boolean): void {
    if (keepSuffix && offset <= this.lastOffset) this.entries.splice(0, this.indexOf(offset + 1));
    else this.entries = [];
    this.baseOffset = offset;
    this.baseChain = chain;
  }
}
