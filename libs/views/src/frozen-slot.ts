import type { Slot } from './slot.js';
import { ENTRY_ALIGNMENT, StoredEntry } from './stored-entry.js';

/** The chunks of a slot as they were at one moment. What they held then does not change as long as a snapshot is being written. */
export interface CapturedChunks {
  readonly chunks: readonly Buffer[];
  /** Of each chunk, the bytes that entries were in. */
  readonly used: readonly number[];
  /** Where living entries began, by chunk; null: there were no others. */
  readonly living: readonly (EntryStarts | null)[];
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
  chunk: Buffer = NO_CHUNK;
  start = 0;
  end = 0;

  get bytes(): number {
    return this.end - this.start;
  }
}

const NO_CHUNK = Buffer.alloc(0);
const NOTHING: CapturedChunks = { chunks: [], used: [], living: [] };

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
  private captured: CapturedChunks | null = null;
  /** Where the run after the last one is looked for. */
  private chunk = 0;
  private at = 0;
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

  take(captured: CapturedChunks): void {
    this.captured = captured;
  }

  /** The run after the last one; false at the end. It has at most the bytes of a chunk. */
  next(run: EntryRun): boolean {
    if (this.captured === null) this.slot.captureAll();
    const { chunks, used, living } = this.captured!;
    for (; this.chunk < chunks.length; this.chunk++, this.at = 0) {
      const chunk = chunks[this.chunk];
      const end = used[this.chunk];
      const starts = living[this.chunk];
      const start = starts === null ? this.at : this.pass(chunk, this.at, end, starts, false);
      if (start === end) continue;
      this.at = starts === null ? end : this.pass(chunk, start, end, starts, true);
      run.chunk = chunk;
      run.start = start;
      run.end = this.at;
      return true;
    }
    return false;
  }

  /** Where the first entry begins, from `start` on, that is not `alive`, or is. */
  private pass(chunk: Buffer, start: number, end: number, starts: EntryStarts, alive: boolean): number {
    let at = start;
    while (at < end && starts.has(at / ENTRY_ALIGNMENT) === alive) at = this.entry.read(chunk, at).end;
    return at;
  }

  /** Nobody reads it any more. */
  release(): void {
    if (this.released) return;
    this.released = true;
    this.slot.forget(this);
    this.captured = NOTHING;
  }
}
