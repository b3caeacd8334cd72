import { asOffset, assert, type Offset } from '#kernel';
import type { Entry } from '#raft';

/** Places freed at the front before they are shifted out. */
const COMPACT_AT = 1024;
const NO_BYTES = Buffer.alloc(0);

/**
 * The newest entries of a log, in memory: all that is not yet committed and durable, and before it as much as fits. Readers at the end of
 * the log are served from here without touching the disk.
 */
export class RecentEntries {
  private entries: Entry[] = [];
  private head = 0;
  private bytes = 0;

  get byteLength(): number {
    return this.bytes;
  }

  get isEmpty(): boolean {
    return this.head === this.entries.length;
  }

  get last(): Entry | null {
    return this.isEmpty ? null : this.entries[this.entries.length - 1];
  }

  append(entry: Entry): void {
    assert(this.isEmpty || entry.firstOffset === this.last!.lastOffset + 1, 'recent entries are consecutive');
    this.entries.push(entry);
    this.bytes += entry.bytes.length;
  }

  truncateAfter(offset: Offset): void {
    while (!this.isEmpty && this.last!.firstOffset > offset) this.bytes -= this.entries.pop()!.bytes.length;
  }

  clear(): void {
    this.entries = [];
    this.head = 0;
    this.bytes = 0;
  }

  /** Lets go of the oldest beyond `bytesMax`, but of none that ends above `settled`. */
  release(settled: Offset, bytesMax: number): void {
    const { entries } = this;
    while (this.bytes > bytesMax && this.head < entries.length && entries[this.head].lastOffset <= settled) {
      this.bytes -= entries[this.head].bytes.length;
      entries[this.head] = RELEASED;
      this.head++;
    }
    if (this.head >= COMPACT_AT && this.head * 2 >= entries.length) {
      entries.splice(0, this.head);
      this.head = 0;
    }
  }

  /** Index of the entry that contains `offset`; −1 if there is none. */
  private indexOf(offset: Offset): number {
    const { entries } = this;
    if (this.isEmpty || offset < entries[this.head].firstOffset || offset > this.last!.lastOffset) return -1;
    let low = this.head;
    let high = entries.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (entries[middle].lastOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The entry that contains `offset`. */
  at(offset: Offset): Entry | null {
    const index = this.indexOf(offset);
    return index < 0 ? null : this.entries[index];
  }

  /**
   * Whole batches from the one that contains `from`, up to `to`, at most `bytesMax` bytes but at least one batch; null when `from` is not here.
   * One batch is handed out as it is, several are joined.
   */
  read(from: Offset, to: Offset, bytesMax: number): Buffer | null {
    const first = this.indexOf(from);
    if (first < 0) return null;
    const { entries } = this;
    let end = first;
    let length = 0;
    while (end < entries.length && entries[end].lastOffset <= to) {
      const next = length + entries[end].bytes.length;
      if (next > bytesMax && end > first) break;
      length = next;
      end++;
    }
    if (end === first) return NO_BYTES;
    if (end === first + 1) return asBuffer(entries[first].bytes);
    const joined = Buffer.allocUnsafe(length);
    let at = 0;
    for (let i = first; i < end; i++) {
      joined.set(entries[i].bytes, at);
      at += entries[i].bytes.length;
    }
    return joined;
  }
}

/** Takes the place of an entry let go, so that its bytes can be collected at once. */
const RELEASED = { firstOffset: asOffset(0), lastOffset: asOffset(0), bytes: NO_BYTES } as unknown as Entry;

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
