import { batchFirstOffset, batchLastOffset } from '#wire';
import { asOffset, type Offset } from '#kernel';

/**
 * The last batches appended, by reference, so that those who follow the end of the log read no disk. Bounded by bytes; a batch that is not yet
 * durable stays whatever its size, because the disk cannot be asked for it.
 */
export class TailCache {
  private batches: Uint8Array[] = [];
  private firsts: number[] = [];
  /** Index of the oldest batch still held; the arrays are compacted now and then. */
  private head = 0;
  private bytes = 0;

  constructor(private readonly bytesMax: number) {}

  /** Consecutive batches only. */
  add(batch: Uint8Array): void {
    this.batches.push(batch);
    this.firsts.push(batchFirstOffset(batch));
    this.bytes += batch.length;
  }

  /** Lets go of what is over the limit and durable. */
  trim(durable: Offset): void {
    while (this.bytes > this.bytesMax && this.head < this.batches.length) {
      const oldest = this.batches[this.head];
      if (batchLastOffset(oldest) > durable) break;
      this.bytes -= oldest.length;
      this.batches[this.head++] = EMPTY;
    }
    if (this.head > 1024 && this.head * 2 > this.batches.length) {
      this.batches = this.batches.slice(this.head);
      this.firsts = this.firsts.slice(this.head);
      this.head = 0;
    }
  }

  truncateAfter(offset: Offset): void {
    while (this.batches.length > this.head && this.firsts[this.firsts.length - 1] > offset) {
      this.bytes -= this.batches.pop()!.length;
      this.firsts.pop();
    }
  }

  clear(): void {
    this.batches = [];
    this.firsts = [];
    this.head = 0;
    this.bytes = 0;
  }

  /** First offset held; above every offset when there is none. */
  get firstOffset(): Offset {
    return this.head < this.firsts.length ? asOffset(this.firsts[this.head]) : asOffset(Number.MAX_SAFE_INTEGER);
  }

  /** Contract of PartitionLog.read, for a `from` not below firstOffset. One batch is handed out as it is, several are copied together. */
  read(from: Offset, to: Offset, bytesMax: number): Buffer {
    let low = this.head;
    let high = this.firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.firsts[middle] <= from) low = middle + 1;
      else high = middle;
    }
    const start = low - 1;
    let end = start + 1;
    let length = this.batches[start].length;
    while (end < this.batches.length && this.firsts[end] <= to && length + this.batches[end].length <= bytesMax) {
      length += this.batches[end++].length;
    }
    if (end === start + 1) {
      const only = this.batches[start];
      return Buffer.from(only.buffer, only.byteOffset, only.length);
    }
    const out = Buffer.allocUnsafe(length);
    let at = 0;
    for (let i = start; i < end; i++) {
      out.set(this.batches[i], at);
      at += this.batches[i].length;
    }
    return out;
  }
}

const EMPTY = new Uint8Array(0);
