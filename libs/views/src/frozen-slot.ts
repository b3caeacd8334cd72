import type { Slot } from './slot.js';
import { ENTRY_ALIGNMENT, StoredEntry } from './stored-entry.js';

/** A chunk of a slot as it was at one moment. What it held then does not change as long as a snapshot is being written. */
export interface CapturedChunk {
  /** Of the region it is in. */
  readonly bytes: Buffer;
  /** Where entries were in it. */
  readonly start: number;
  readonly end: number;
  /** Where living entries began; null: there were no others. */
  readonly living: EntryStarts | null;
}

/** A bit for each place of a chunk where an entry may begin. */
export class EntryStarts {
  private readonly bits: Uint32Array;

  constructor(places: number) {
    this.bits = new Uint32Array((places + 31) >>> 5);
  }

  add(place: number): void {
    this.bits[place >>> 5] |= 1 << (place & 31);
  }

  has(place: number): boolean {
    return (this.bits[place >>> 5] & (1 << (place & 31))) !== 0;
  }
}

/** Neighbouring entries of one chunk. Reused like a cursor. */
export class EntryRun {
  /** Of the region they are in. */
  bytes: Buffer = NO_BYTES;
  start = 0;
  end = 0;

  get length(): number {
    return this.end - this.start;
  }
}

const NO_BYTES = Buffer.alloc(0);

/**
 * A slot as it was when it was frozen: its living entries, in the order in which they lie in memory, so that they are copied by the chunk where none
 * is dead, and memory is read from front to back.
 */
export class FrozenSlot {
  readonly number: number;
  readonly count: number;
  /** Of its entries. */
  readonly liveBytes: number;
  readonly digestA: number;
  readonly digestB: number;
  readonly removedA: number;
  readonly removedB: number;
  private readonly entry = new StoredEntry();
  private captured: readonly CapturedChunk[] | null = null;
  /** Where the run after the last one is looked for: in this chunk, this far from its start. */
  private chunk = 0;
  private passed = 0;
  private released = false;

  constructor(private readonly slot: Slot) {
    this.number = slot.number;
    this.count = slot.count;
    this.liveBytes = slot.liveBytes;
    this.digestA = slot.digestA;
    this.digestB = slot.digestB;
    this.removedA = slot.removedA;
    this.removedB = slot.removedB;
  }

  take(captured: readonly CapturedChunk[]): void {
    this.captured = captured;
  }

  /** The run after the last one; false at the end. It has at most the bytes of a chunk. */
  next(run: EntryRun): boolean {
    if (this.captured === null) this.slot.captureAll();
    const chunks = this.captured!;
    for (; this.chunk < chunks.length; this.chunk++, this.passed = 0) {
      const chunk = chunks[this.chunk];
      const from = chunk.start + this.passed;
      const start = chunk.living === null ? from : this.pass(chunk, from, chunk.living, false);
      if (start === chunk.end) continue;
      const end = chunk.living === null ? chunk.end : this.pass(chunk, start, chunk.living, true);
      this.passed = end - chunk.start;
      run.bytes = chunk.bytes;
      run.start = start;
      run.end = end;
      return true;
    }
    return false;
  }

  /** Where the first entry begins, from `from` on, that is not `alive`, or is. */
  private pass({ bytes, start, end }: CapturedChunk, from: number, living: EntryStarts, alive: boolean): number {
    let at = from;
    while (at < end && living.has((at - start) / ENTRY_ALIGNMENT) === alive) at = this.entry.read(bytes, at).end;
    return at;
  }

  /** Nobody reads it any more. */
  release(): void {
    if (this.released) return;
    this.released = true;
    this.slot.forget(this);
    this.captured = [];
  }
}
