import { assert } from '#kernel';
import { copyBytes } from './stored-entry.js';

/**
 * Keys in byte order, for scans. Keys are copied, so that it does not matter where entries move to; overwriting an entry costs nothing here.
 *
 *     reference   where a key lies: chunk number (16 bits) · start / 4 within the chunk (16 bits)
 *     blocks      sorted references, up to BLOCK_KEYS_MAX a block, blocks in order and never empty
 *     firsts      the first reference of each block, side by side: what is looked through for the block of a key
 *     pending     references that came since the last `merge`, in any order, perhaps of keys that are gone or known
 *
 * `add` only appends to pending; `merge` sorts them in, in slices; `remove` takes a key out at once. Bytes of removed keys are not
 * reused: the owner throws the whole away when `added` has outgrown what is there, and builds it anew if it is asked for again.
 */
const CHUNK_BYTES = 256 * 1024;
const CHUNKS_MAX = 2 ** 16;
const BLOCK_KEYS_MAX = 512;
const LENGTH_BYTES = 4;
const PENDING_MIN = 64;
/** Room for so many is kept when none are pending any more: the keys of another slot may come next. */
const PENDING_KEPT = 16_384;
const FIRSTS_MIN = 64;

interface Block {
  readonly references: Uint32Array;
  count: number;
}

export class OrderedKeys {
  /** Keys added since the start. */
  added = 0;
  private readonly chunks: Buffer[] = [];
  private chunkUsed = CHUNK_BYTES;
  private chunkBytes = 0;
  private readonly blocks: Block[] = [];
  private firsts = new Uint32Array(FIRSTS_MIN);
  private pending = new Uint32Array(PENDING_MIN);
  private pendingCount = 0;
  /** Found by `lowerBound`. */
  private blockAt = 0;
  private keyAt = 0;

  get bytes(): number {
    const { chunkBytes, blocks, firsts, pending } = this;
    return chunkBytes + blocks.length * BLOCK_KEYS_MAX * 4 + firsts.byteLength + pending.byteLength;
  }

  get pendingKeys(): number {
    return this.pendingCount;
  }

  add(bytes: Buffer, start: number, end: number): void {
    if (this.pendingCount === this.pending.length) {
      const grown = new Uint32Array(this.pending.length * 2);
      grown.set(this.pending);
      this.pending = grown;
    }
    this.pending[this.pendingCount++] = this.store(bytes, start, end);
    this.added++;
  }

  /** Sorts in up to `max` pending keys of those that `exists` says are still there. */
  merge(max: number, exists: (key: Buffer) => boolean): void {
    const count = Math.min(max, this.pendingCount);
    if (count === 0) return;
    const slice = this.pending.subarray(this.pendingCount - count, this.pendingCount);
    this.pendingCount -= count;
    slice.sort((a, b) => this.compareReferences(a, b));
    for (const reference of slice) if (exists(this.keyOf(reference))) this.insert(reference);
    if (this.pendingCount === 0 && this.pending.length > PENDING_KEPT) this.pending = new Uint32Array(PENDING_MIN);
  }

  remove(bytes: Uint8Array, start: number, end: number): void {
    if (!this.lowerBound(bytes, start, end)) return;
    const block = this.blocks[this.blockAt];
    block.references.copyWithin(this.keyAt, this.keyAt + 1, block.count);
    block.count--;
    if (block.count === 0) this.dropBlock(this.blockAt);
    else if (this.keyAt === 0) this.firsts[this.blockAt] = block.references[0];
  }

  /** Calls `visit` with the keys from `from` (exclusive if told) on until it returns false. Merged keys only. */
  walk(from: Buffer, exclusive: boolean, visit: (key: Buffer) => boolean): void {
    const found = this.lowerBound(from, 0, from.length);
    let at = this.keyAt + (found && exclusive ? 1 : 0);
    for (let blockAt = this.blockAt; blockAt < this.blocks.length; blockAt++) {
      const block = this.blocks[blockAt];
      for (; at < block.count; at++) if (!visit(this.keyOf(block.references[at]))) return;
      at = 0;
    }
  }

  /* ---- within ---- */

  private store(bytes: Buffer, start: number, end: number): number {
    const size = (LENGTH_BYTES + end - start + 3) & ~3;
    if (this.chunkUsed + size > CHUNK_BYTES) {
      assert(this.chunks.length < CHUNKS_MAX, 'too many keys to keep in order');
      const length = Math.max(CHUNK_BYTES, size);
      this.chunks.push(Buffer.allocUnsafeSlow(length));
      this.chunkBytes += length;
      this.chunkUsed = 0;
    }
    const number = this.chunks.length - 1;
    const chunk = this.chunks[number];
    const at = this.chunkUsed;
    chunk.writeUInt32LE(end - start, at);
    copyBytes(chunk, at + LENGTH_BYTES, bytes, start, end);
    this.chunkUsed += size;
    return ((number << 16) | (at / 4)) >>> 0;
  }

  private keyOf(reference: number): Buffer {
    const chunk = this.chunks[reference >>> 16];
    const at = (reference & 0xffff) * 4;
    return chunk.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + chunk.readUInt32LE(at));
  }

  private compareReferences(a: number, b: number): number {
    const chunk = this.chunks[b >>> 16];
    const at = (b & 0xffff) * 4;
    return this.compare(a, chunk, at + LENGTH_BYTES, at + LENGTH_BYTES + chunk.readUInt32LE(at));
  }

  /** Order of the key at the reference and of the bytes. */
  private compare(reference: number, bytes: Uint8Array, start: number, end: number): number {
    const chunk = this.chunks[reference >>> 16];
    const at = (reference & 0xffff) * 4;
    const length = chunk[at] | (chunk[at + 1] << 8) | (chunk[at + 2] << 16) | (chunk[at + 3] << 24);
    const common = Math.min(length, end - start);
    const keyStart = at + LENGTH_BYTES;
    for (let i = 0; i < common; i++) {
      const difference = chunk[keyStart + i] - bytes[start + i];
      if (difference !== 0) return difference;
    }
    return length - (end - start);
  }

  /** Sets blockAt and keyAt to the first key not below the bytes; true when it equals them. */
  private lowerBound(bytes: Uint8Array, start: number, end: number): boolean {
    const { blocks, firsts } = this;
    let low = 0;
    let high = blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compare(firsts[middle], bytes, start, end) <= 0) low = middle + 1;
      else high = middle;
    }
    // The last block that starts at or below the bytes, or the first one.
    this.blockAt = Math.max(0, low - 1);
    this.keyAt = 0;
    if (low === 0) return false;
    const block = blocks[this.blockAt];
    low = 0;
    high = block.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = this.compare(block.references[middle], bytes, start, end);
      if (order === 0) {
        this.keyAt = middle;
        return true;
      }
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    this.keyAt = low;
    return false;
  }

  private insert(reference: number): void {
    const { blocks } = this;
    const chunk = this.chunks[reference >>> 16];
    const at = (reference & 0xffff) * 4;
    const start = at + LENGTH_BYTES;
    if (this.lowerBound(chunk, start, start + chunk.readUInt32LE(at))) return;
    if (blocks.length === 0) this.addBlock(0, { references: new Uint32Array(BLOCK_KEYS_MAX), count: 0 });
    let block = blocks[this.blockAt];
    if (block.count === BLOCK_KEYS_MAX) {
      // A run of rising keys leaves full blocks behind, any other half full ones.
      const last = this.blockAt === blocks.length - 1 && this.keyAt === block.count;
      const kept = last ? BLOCK_KEYS_MAX : BLOCK_KEYS_MAX / 2;
      const right: Block = { references: new Uint32Array(BLOCK_KEYS_MAX), count: BLOCK_KEYS_MAX - kept };
      right.references.set(block.references.subarray(kept));
      block.count = kept;
      this.addBlock(this.blockAt + 1, right);
      if (this.keyAt > kept || last) {
        this.blockAt++;
        this.keyAt -= kept;
        block = right;
      }
    }
    block.references.copyWithin(this.keyAt + 1, this.keyAt, block.count);
    block.references[this.keyAt] = reference;
    block.count++;
    if (this.keyAt === 0) this.firsts[this.blockAt] = reference;
  }

  /** `firsts` has its first key, if it has one by now. */
  private addBlock(at: number, block: Block): void {
    const { blocks } = this;
    const count = blocks.length;
    if (count === this.firsts.length) {
      const grown = new Uint32Array(count * 2);
      grown.set(this.firsts);
      this.firsts = grown;
    }
    blocks.splice(at, 0, block);
    this.firsts.copyWithin(at + 1, at, count);
    this.firsts[at] = block.references[0];
  }

  private dropBlock(at: number): void {
    this.firsts.copyWithin(at, at + 1, this.blocks.length);
    this.blocks.splice(at, 1);
  }
}
