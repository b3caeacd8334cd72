import { TidelineError, asOffset, type Offset } from '#kernel';
import type { ApplyResult } from './view-query.js';

export const RESULTS_MAX = 65_536;
/** UTF-16 units of all results' values together; the last result stays, whatever it has. */
export const RESULTS_LENGTH_MAX = 32 * 1024 * 1024;
const CAPACITY_MIN = 64;

const OK = { ok: true, code: '', message: '', value: '' } as const;

/** In the place of one that was evicted, so that its text goes. */
const EVICTED: KeptResult = {
  firstOffset: asOffset(0),
  lastOffset: asOffset(0),
  result: { ...OK, entryOffset: asOffset(0) },
};

/** A result and the offsets it is about; more than one for the unreadable rest of a batch. */
export interface KeptResult {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly result: ApplyResult;
}

/**
 * The last results of commands, by offset. A record without an op has the result *ok, entryOffset = its own offset*, which needs no
 * storing; so what is not here and not older than the oldest one evicted was such a record.
 */
export class ResultRing {
  /** Results for offsets up to here may have been evicted. */
  evictedThrough: Offset = asOffset(0);
  private ring: KeptResult[] = [];
  private start = 0;
  private size = 0;
  private textLength = 0;

  constructor(private readonly resultsMax: number) {}

  get length(): number {
    return this.size;
  }

  /** Offsets rise from call to call. */
  add(firstOffset: Offset, lastOffset: Offset, result: ApplyResult): void {
    this.textLength += result.value.length;
    while (this.size === this.resultsMax || (this.size > 0 && this.textLength > RESULTS_LENGTH_MAX)) this.evict();
    if (this.size === this.ring.length) this.grow();
    this.ring[(this.start + this.size++) % this.ring.length] = { firstOffset, lastOffset, result };
  }

  private evict(): void {
    const oldest = this.ring[this.start];
    this.evictedThrough = oldest.lastOffset;
    this.textLength -= oldest.result.value.length;
    this.ring[this.start] = EVICTED;
    this.start = (this.start + 1) % this.ring.length;
    this.size--;
  }

  private grow(): void {
    const kept = this.list();
    kept.length = Math.min(this.resultsMax, Math.max(CAPACITY_MIN, kept.length * 2));
    this.ring = kept;
    this.start = 0;
  }

  /** Oldest first. */
  list(): KeptResult[] {
    return [
      ...this.ring.slice(this.start, this.start + this.size),
      ...this.ring.slice(0, Math.max(0, this.start + this.size - this.ring.length)),
    ];
  }

  /** @throws TidelineError `result-evicted` */
  range(firstOffset: Offset, lastOffset: Offset): ApplyResult[] {
    if (firstOffset <= this.evictedThrough) {
      throw new TidelineError('result-evicted', `results are kept from offset ${this.evictedThrough + 1} on`, {
        details: { firstOffset, evictedThrough: this.evictedThrough },
      });
    }
    const results: ApplyResult[] = [];
    let at = this.firstEndingAt(firstOffset);
    for (let offset = firstOffset; offset <= lastOffset; offset = asOffset(offset + 1)) {
      while (at < this.size && this.at(at).lastOffset < offset) at++;
      const kept = at < this.size ? this.at(at) : undefined;
      results.push(kept && kept.firstOffset <= offset ? kept.result : { ...OK, entryOffset: offset });
    }
    return results;
  }

  /** Puts another ring's results in the places of this one. Where that has none, or no longer, the result is the plain one or evicted. */
  replace(placeholder: ApplyResult, other: ResultRing): void {
    for (let position = 0; position < this.size; position++) {
      const place = (this.start + position) % this.ring.length;
      const { firstOffset, lastOffset, result } = this.ring[place];
      if (result !== placeholder) continue;
      const at = other.firstEndingAt(firstOffset);
      const found = at < other.size ? other.at(at) : undefined;
      if (found?.firstOffset === firstOffset) {
        this.ring[place] = found;
        this.textLength += found.result.value.length;
      } else if (firstOffset <= other.evictedThrough) {
        this.evictedThrough = asOffset(Math.max(this.evictedThrough, lastOffset));
      }
    }
  }

  private at(position: number): KeptResult {
    return this.ring[(this.start + position) % this.ring.length];
  }

  /** Position of the first result whose last offset is not below `offset`. */
  private firstEndingAt(offset: Offset): number {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at(middle).lastOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
