import { SLOTS, type Offset } from '#kernel';

/**
 * Digests of all slots at offsets that are the same on every host, so that hosts can compare them later: after the batch in which
 * the offset passes a multiple of DIGEST_MARK_RECORDS. The newest ones are close together and the older ones further apart, since hosts look at
 * different times and lag by different amounts: of the multiples of DIGEST_MARK_RECORDS · 8^level the last MARKS_OF_LEVEL are kept.
 */
export const DIGEST_MARK_RECORDS = 4096;
const LEVEL_FACTOR = 8;
const LEVELS = 5;
const MARKS_OF_LEVEL = 4;

/** Two lanes a slot: digest of slot n at 2n and 2n + 1. */
export type SlotDigests = Uint32Array;

export interface DigestMark {
  readonly offset: Offset;
  readonly digests: SlotDigests;
}

export class DigestMarks {
  /** Per level, oldest first. A mark of several levels is in each. */
  private levels: DigestMark[][] = [];

  constructor() {
    this.clear();
  }

  /** Whether a batch from after `before` to `offset` calls for a mark. */
  static due(before: Offset, offset: Offset): boolean {
    return Math.floor(offset / DIGEST_MARK_RECORDS) !== Math.floor(before / DIGEST_MARK_RECORDS);
  }

  add(before: Offset, mark: DigestMark): void {
    for (let level = 0, step = DIGEST_MARK_RECORDS; level < LEVELS; level++, step *= LEVEL_FACTOR) {
      if (Math.floor(mark.offset / step) === Math.floor(before / step)) return;
      const marks = this.levels[level];
      marks.push(mark);
      if (marks.length > MARKS_OF_LEVEL) marks.shift();
    }
  }

  /** Oldest first, each once. */
  list(): DigestMark[] {
    return [...new Set(this.levels.flat())].sort((a, b) => a.offset - b.offset);
  }

  at(offset: Offset): DigestMark | null {
    return this.list().find((mark) => mark.offset === offset) ?? null;
  }

  clear(): void {
    this.levels = Array.from({ length: LEVELS }, () => []);
  }
}

/** 16 hex digits for all slots together. */
export const digestOfAll = (digests: SlotDigests): string => {
  let a = 0;
  let b = 0;
  for (let n = 0; n < SLOTS; n++) {
    a = (a + digests[2 * n]) | 0;
    b = (b + digests[2 * n + 1]) | 0;
  }
  return hex32(a) + hex32(b);
};

export const hex32 = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');
