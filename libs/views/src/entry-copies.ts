import { WORD_COPY_BYTES_MAX, copyWords, wordsOf } from '#kernel';
import { copyBytes } from './stored-entry.js';

/** Bytes that copies are cut from; one that is kept keeps as many. */
const POOL_BYTES = 32 * 1024;

/** Copies of parts of arena chunks, for whoever reads. Small ones share a buffer, which is written once. */
export class EntryCopies {
  private pool = Buffer.alloc(0);
  private poolWords = wordsOf(this.pool);
  private used = 0;

  take(chunk: Buffer, words: DataView | null, start: number, end: number): Buffer {
    const length = end - start;
    if (words === null || length > WORD_COPY_BYTES_MAX) {
      const copy = Buffer.allocUnsafe(length);
      copyBytes(copy, 0, chunk, start, end);
      return copy;
    }
    if (this.used + length > this.pool.length) {
      this.pool = Buffer.allocUnsafeSlow(POOL_BYTES);
      this.poolWords = wordsOf(this.pool);
      this.used = 0;
    }
    const at = this.used;
    this.used = at + length;
    copyWords(this.poolWords, at, words, start, end);
    return this.pool.subarray(at, at + length);
  }
}
