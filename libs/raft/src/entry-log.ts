import { NO_TERM, asOffset, assert, type Offset, type Term } from '#kernel';
import type { Entry, LogSummary } from './types.js';

/**
 * What the core knows of the log: where it begins and ends, which term each offset has, and the newest entries themselves.
 *
 *      base            cachedFrom        settled              last
 *       │ terms known        │ entries in memory │ may not be let go │
 *     ──┴────────────────────┴───────────────────┴──────────────────┘
 *
 * Settled = committed and durable here. Settled entries stay in memory up to a number of bytes, for followers that are a little behind;
 * older ones are read back from storage. An entry is never split: every position that is sent from is the start of an entry.
 */

/** Entries that the core makes are encoded by the driver later; this is what they count for in limits. */
const OWN_ENTRY_BYTES = 128;
/** Evicted places at the front of the arrays before they are shifted out. */
const COMPACT_AT = 4096;

export const NO_ENTRIES: readonly Entry[] = Object.freeze([]);

export class EntryLog {
  baseOffset: Offset;
  baseTerm: Term;
  lastOffset: Offset;
  lastTerm: Term;

  /** Starts of the terms after base, ascending in both. */
  private readonly terms: Term[] = [];
  private readonly starts: Offset[] = [];

  /** Entries in memory: entries[head …]; totals[i] = bytes of all entries ever cached, up to and including entries[i]. */
  private readonly entries: Entry[] = [];
  private readonly totals: number[] = [];
  private head = 0;
  /** First entry that is not settled. */
  private settled = 0;
  /** totals before entries[head], and before entries[settled]. */
  private headTotal = 0;
  private settledTotal = 0;
  private total = 0;

  /** The last slice handed out: peers in step and the log writer share one array. */
  private shared: readonly Entry[] = NO_ENTRIES;
  /** Bytes of the last slice. */
  sliceBytes = 0;

  constructor(summary: LogSummary) {
    this.baseOffset = summary.baseOffset;
    this.baseTerm = summary.baseTerm;
    this.lastOffset = summary.lastOffset;
    this.lastTerm = summary.baseTerm;
    for (const start of summary.termStarts) {
      assert(start.term > this.lastTerm || this.starts.length === 0, 'terms rise along the log');
      assert(
        start.firstOffset > this.baseOffset && start.firstOffset <= this.lastOffset,
        'a term starts within the log',
      );
      this.terms.push(start.term);
      this.starts.push(start.firstOffset);
      this.lastTerm = start.term;
    }
    assert(this.lastOffset >= this.baseOffset, 'the log does not end before its base');
  }

  /** First offset whose entry is in memory; lastOffset + 1 when none is. */
  get cachedFrom(): Offset {
    return this.head < this.entries.length ? this.entries[this.head].firstOffset : asOffset(this.lastOffset + 1);
  }

  /** Bytes of entries in memory that are not yet both committed and durable. */
  get unsettledBytes(): number {
    return this.total - this.settledTotal;
  }

  /** Bytes of entries in memory. */
  get cachedBytes(): number {
    return this.total - this.headTotal;
  }

  /** Index of the last term start at or below offset, −1 if it lies at or below the first. */
  private runOf(offset: Offset): number {
    const { starts } = this;
    let low = 0;
    let high = starts.length;
    // Nearly always the last run.
    if (high > 0 && starts[high - 1] <= offset) return high - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= offset) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** base ≤ offset ≤ last. */
  termAt(offset: Offset): Term {
    assert(offset >= this.baseOffset && offset <= this.lastOffset, 'the term of an offset within the log is asked');
    const run = this.runOf(offset);
    return run < 0 ? this.baseTerm : this.terms[run];
  }

  matches(offset: Offset, term: Term): boolean {
    return offset >= this.baseOffset && offset <= this.lastOffset && this.termAt(offset) === term;
  }

  /** First offset of the term that `offset` has, as far as the log goes back. */
  termStartOf(offset: Offset): Offset {
    const run = this.runOf(offset);
    return run < 0 ? this.baseOffset : this.starts[run];
  }

  /** Largest offset ≤ upTo whose term is ≤ term; one below base if that is not known to the log. */
  lastWithTermAtMost(term: Term, upTo: Offset): Offset {
    if (upTo < this.baseOffset) return upTo;
    let run = this.runOf(upTo);
    let end = upTo;
    while (run >= 0 && this.terms[run] > term) {
      end = asOffset(this.starts[run] - 1);
      run--;
    }
    return run < 0 && this.baseTerm > term ? asOffset(this.baseOffset - 1) : end;
  }

  append(entry: Entry): void {
    assert(
      entry.firstOffset === this.lastOffset + 1 && entry.lastOffset >= entry.firstOffset,
      'entries are consecutive',
    );
    assert(entry.term >= this.lastTerm, 'terms rise along the log');
    if (entry.term > this.lastTerm || this.starts.length === 0) {
      this.terms.push(entry.term);
      this.starts.push(entry.firstOffset);
      this.lastTerm = entry.term;
    }
    this.total += entry.bytes.length === 0 ? OWN_ENTRY_BYTES : entry.bytes.length;
    this.entries.push(entry);
    this.totals.push(this.total);
    this.lastOffset = entry.lastOffset;
  }

  /** `offset` ends an entry, and is at or above everything settled. */
  truncateAfter(offset: Offset): void {
    assert(offset >= this.baseOffset, 'the log is not cut below its base');
    while (this.entries.length > this.head && this.entries[this.entries.length - 1].firstOffset > offset) {
      this.entries.pop();
      this.totals.pop();
    }
    assert(this.settled <= this.entries.length, 'settled entries are not cut');
    this.total = this.entries.length > this.head ? this.totals[this.totals.length - 1] : this.headTotal;
    assert(
      this.entries.length === this.head || this.entries[this.entries.length - 1].lastOffset === offset,
      'the log is cut between entries',
    );
    while (this.starts.length > 0 && this.starts[this.starts.length - 1] > offset) {
      this.starts.pop();
      this.terms.pop();
    }
    this.lastOffset = offset;
    this.lastTerm = this.terms.length > 0 ? this.terms[this.terms.length - 1] : this.baseTerm;
    this.shared = NO_ENTRIES;
  }

  /** Everything up to `offset` left the log; it ends an entry. */
  trimTo(offset: Offset, term: Term): void {
    assert(offset <= this.lastOffset, 'the log is not trimmed beyond its end');
    assert(this.termAt(offset) === term, 'the base has the term the log knows');
    const next = asOffset(offset + 1);
    let run = this.runOf(offset);
    if (run >= 0) {
      // The term of the base goes on behind it, unless its last entry is the base or the next term starts right there.
      if (offset < this.lastOffset && this.starts[run + 1] !== next) {
        this.starts[run] = next;
        run--;
      }
      this.starts.splice(0, run + 1);
      this.terms.splice(0, run + 1);
    } else if (offset < this.lastOffset && this.starts[0] !== next) {
      // Entries of the base's own term whose start was never listed.
      this.starts.unshift(next);
      this.terms.unshift(term);
    }
    this.baseOffset = offset;
    this.baseTerm = term;
    while (this.head < this.entries.length && this.entries[this.head].lastOffset <= offset) this.evictOne();
  }

  /** A snapshot replaced the whole log. */
  reset(offset: Offset, term: Term): void {
    this.terms.length = 0;
    this.starts.length = 0;
    this.entries.length = 0;
    this.totals.length = 0;
    this.head = 0;
    this.settled = 0;
    this.headTotal = this.total;
    this.settledTotal = this.total;
    this.baseOffset = offset;
    this.baseTerm = term;
    this.lastOffset = offset;
    this.lastTerm = term;
    this.shared = NO_ENTRIES;
  }

  /** Everything up to `offset` is committed and durable; lets go of the oldest beyond `bytesMax` bytes of such entries. */
  settle(offset: Offset, bytesMax: number): void {
    const { entries, totals } = this;
    while (this.settled < entries.length && entries[this.settled].lastOffset <= offset) {
      this.settledTotal = totals[this.settled];
      this.settled++;
    }
    while (this.settledTotal - this.headTotal > bytesMax) this.evictOne();
  }

  private evictOne(): void {
    this.headTotal = this.totals[this.head];
    // Makes the entry collectable at once; the place itself is shifted out later, with many others.
    this.entries[this.head] = EVICTED;
    this.head++;
    if (this.settled < this.head) {
      this.settled = this.head;
      this.settledTotal = this.headTotal;
    }
    if (this.head >= COMPACT_AT && this.head * 2 >= this.entries.length) {
      this.entries.splice(0, this.head);
      this.totals.splice(0, this.head);
      this.settled -= this.head;
      this.head = 0;
    }
    this.shared = NO_ENTRIES;
  }

  /** Index of the cached entry that contains `offset`. */
  private indexOf(offset: Offset): number {
    let low = this.head;
    let high = this.entries.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.entries[middle].firstOffset <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * Entries from the one that contains `from` on, at most `bytesMax` bytes but at least one. cachedFrom ≤ from ≤ last.
   * The result is shared: nobody changes it.
   */
  slice(from: Offset, bytesMax: number): readonly Entry[] {
    assert(from >= this.cachedFrom && from <= this.lastOffset, 'the entries asked for are in memory');
    const begin = this.indexOf(from);
    const before = begin === this.head ? this.headTotal : this.totals[begin - 1];
    let end = this.entries.length;
    if (this.total - before > bytesMax) {
      end = begin + 1;
      while (this.totals[end] - before <= bytesMax) end++;
    }
    this.sliceBytes = this.totals[end - 1] - before;
    const { shared } = this;
    if (
      shared.length !== end - begin ||
      shared[0] !== this.entries[begin] ||
      shared[shared.length - 1] !== this.entries[end - 1]
    ) {
      this.shared = this.entries.slice(begin, end);
    }
    return this.shared;
  }
}

const EVICTED: Entry = Object.freeze({
  firstOffset: asOffset(0),
  lastOffset: asOffset(0),
  term: NO_TERM,
  kind: 'noop',
  bytes: new Uint8Array(0),
});
