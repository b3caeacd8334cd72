import { wordsOf } from '#kernel';

/**
 * A piece of the memory that a slot keeps its entries in. What is to be known of one is in one object: of three million entries there are thousands, and
 * each object more that leads to an entry is one more that is not in the processor's cache.
 */
export class ArenaChunk {
  /** Of the same bytes. */
  readonly words: DataView;
  /** Bytes that entries are in, from the start on. */
  used = 0;
  /** Of these, bytes of entries that are in the index no more. */
  dead = 0;

  constructor(readonly bytes: Buffer) {
    this.words = wordsOf(bytes);
  }

  get length(): number {
    return this.bytes.length;
  }
}

/** In the place of a chunk that was let go of. */
export const NO_CHUNK = new ArenaChunk(Buffer.alloc(0));
