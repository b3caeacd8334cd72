import type { TailChunk } from '#command-log';
import type { Offset } from '#kernel';
import { batchFirstOffset, batchLastOffset, forEachBatch } from '#wire';
import type { GroupRecord } from '../observer.js';
import { chainOf } from '../shadow-log.js';
import { must } from '../violation.js';

/** 23: a tail loses, repeats and skips no record and keeps their order; resuming is exact. One per reader. */
export class ExactTailChecker {
  batches = 0;
  /** Of what has been read. */
  offset = 0;
  private chain = 0;

  constructor(
    readonly record: GroupRecord,
    readonly name: string,
  ) {}

  /** Where to go on. */
  get next(): Offset {
    return (this.offset + 1) as Offset;
  }

  /** Begins behind what has been trimmed. */
  skipTo(offset: number): void {
    const chain = this.record.committedChainAt(offset);
    must(chain !== null, 23, `${this.name} is sent to ${offset}, which is not a committed batch's end`);
    this.offset = offset;
    this.chain = chain;
  }

  chunk(chunk: TailChunk): void {
    const { record, name } = this;
    forEachBatch(chunk.batches, (at) => {
      const first = batchFirstOffset(chunk.batches, at);
      must(first === this.offset + 1, 23, () => `${name} gets offset ${first} after ${this.offset}`);
      this.offset = batchLastOffset(chunk.batches, at);
      this.chain = chainOf(this.chain, chunk.batches.subarray(at));
      this.batches++;
    });
    must(
      this.offset > record.commitMax || this.chain === record.committedChainAt(this.offset),
      23,
      () => `${name} sees another log up to ${this.offset}`,
    );
    must(chunk.nextOffset === this.offset + 1, 23, () => `${name} is told to go on at ${chunk.nextOffset}`);
  }
}
