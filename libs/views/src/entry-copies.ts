import { WORD_COPY_BYTES_MAX, copyWords } from '#kernel';
import { copyBytes } from './stored-entry.js';

/** Bytes that copies are cut from; one that is kept keeps as many. */
const POOL_BYTES = 32 * 1024;

/** The class that `subarray` makes its buffers of, as ECMAScript has it said by the species. Made directly they take half of the time. */
const BufferPart = (
  Buffer as unknown as {
    readonly [Symbol.species]: new (memory: ArrayBufferLike, at: number, length: number) => Buffer;
  }
)[Symbol.species];

/** Copies of parts of arena chunks, for whoever reads. Small ones share a buffer, which is written once. */
export class EntryCopies {
  private pool: ArrayBufferLike = new ArrayBuffer(0);
  private poolWords = new DataView(this.pool);
  private used = 0;

  take(chunk: Buffer, words: DataView | null, start: number, end: number): Buffer {
    const length = end - start;
    if (words === null || length > WORD_COPY_BYTES_MAX) {
      const copy = Buffer.allocUnsafe(length);
      copyBytes(copy, 0, chunk, start, end);
      return copy;
    }
    if (this.used + length > this.poolWords.byteLength) this.begin();
    const at = this.used;
    this.used = at + length;
    copyWords(this.poolWords, at, words, start, end);
    return new BufferPart(this.pool, at, length);
  }

  private begin(): void {
    // Of its own, from its first byte on, and not set to zeros first.
    const { buffer } = Buffer.allocUnsafeSlow(POOL_BYTES);
    this.pool = buffer;
    this.poolWords = new DataView(buffer);
    this.used = 0;
  }
}
