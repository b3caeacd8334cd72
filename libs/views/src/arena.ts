import { SLOTS, assert, wordsOf } from '#kernel';

/**
 * The memory that a view keeps its entries and their indexes in: a few large regions outside the V8 heap, which are cut into chunks, taken back and
 * cut again. Whoever looks for an entry goes by the objects of its region, of which there are so few that they stay in the processor's cache; and a
 * view that changes at an even size asks for no memory, which V8 would answer with a collection of its whole heap now and then.
 */
const REGION_BYTES_MIN = 4 * 1024;
const REGION_BYTES_MAX = 4 * 1024 * 1024;
/** A chunk larger than this gets a region of its own. */
const SHARED_CHUNK_BYTES_MAX = REGION_BYTES_MAX / 2;
/** Chunks begin at multiples of this in their region: at most what the processor loads at once. */
const CHUNK_ALIGNMENT = 64;
/** Up to here, and up to this share of what chunks take, nothing is moved to give memory back. */
const IDLE_BYTES_ALLOWED = 2 * REGION_BYTES_MAX;
const IDLE_SHARE_ALLOWED = 1 / 4;

const NO_BYTES = Buffer.alloc(0);
const NO_WORDS = wordsOf(NO_BYTES);
const NO_NUMBERS = new Uint32Array(0);

/** A part of a region. */
export class ArenaChunk {
  /** Bytes that entries are in, from the start on. */
  used = 0;
  /** Of these, bytes of entries that are in the index no more. */
  dead = 0;

  constructor(
    /** Number of the region in its arena. */
    public region: number,
    /** Of the whole region, three times. */
    readonly bytes: Buffer,
    readonly words: DataView,
    readonly numbers: Uint32Array,
    /** Where the chunk begins in it; a multiple of CHUNK_ALIGNMENT. */
    readonly start: number,
    readonly length: number,
  ) {}
}

/** In the place of a chunk that was let go of. */
export const NO_CHUNK = new ArenaChunk(0, NO_BYTES, NO_WORDS, NO_NUMBERS, 0, 0);

/** A part of a region that is no chunk's. */
interface Gap {
  start: number;
  end: number;
}

/** A region as it is cut up; its bytes are the arena's. */
class Region {
  /** By where they begin; two never touch. */
  readonly gaps: Gap[];
  /** Of the largest gap. */
  largest: number;
  /** Of its chunks. */
  cutBytes = 0;
  /** Was never written to from here on, and so takes no memory there. */
  top = 0;

  constructor(
    readonly length: number,
    /** It is one chunk, and goes with it. */
    readonly isOwn: boolean,
  ) {
    this.gaps = [{ start: 0, end: length }];
    this.largest = length;
  }

  get isEmpty(): boolean {
    return this.cutBytes === 0;
  }

  /** Where a chunk of this length begins now: in the first gap that has room for it. */
  cut(length: number): number {
    const at = this.gaps.findIndex(({ start, end }) => end - start >= length);
    const gap = this.gaps[at];
    const { start } = gap;
    gap.start += length;
    if (gap.start === gap.end) this.gaps.splice(at, 1);
    this.top = Math.max(this.top, start + length);
    this.cutBytes += length;
    this.measure();
    return start;
  }

  /** What was cut is a gap again, one with those it touches. */
  join(start: number, end: number): void {
    const { gaps } = this;
    this.cutBytes -= end - start;
    assert(this.cutBytes >= 0, 'a chunk is freed twice');
    let at = 0;
    while (at < gaps.length && gaps[at].start < start) at++;
    const before = gaps[at - 1];
    const after = gaps[at];
    const touchesBefore = before !== undefined && before.end === start;
    const touchesAfter = after !== undefined && after.start === end;
    if (touchesBefore) {
      before.end = touchesAfter ? after.end : end;
      if (touchesAfter) gaps.splice(at, 1);
    } else if (touchesAfter) after.start = start;
    else gaps.splice(at, 0, { start, end });
    this.measure();
  }

  private measure(): void {
    this.largest = this.gaps.reduce((largest, { start, end }) => Math.max(largest, end - start), 0);
  }
}

/** Of a view. */
export class Arena {
  /** By the number of the region: all of its bytes, three times. */
  readonly bytes: Buffer[] = [];
  readonly words: DataView[] = [];
  private readonly numbers: Uint32Array[] = [];
  /**
   * Where the chunks of all slots are: of chunk c of slot s, at 2 · (c · SLOTS + s), the number of its region, and after that where it begins
   * there.
   */
  places = NO_NUMBERS;
  private readonly regions: (Region | null)[] = [];
  private readonly freeNumbers: number[] = [];
  /** Of all regions. */
  private regionBytes = 0;
  /** Of all regions, up to where they were ever written to. */
  private touchedBytes = 0;
  /** Of all chunks. */
  private chunkBytes = 0;
  private emptyRegions = 0;
  /** Since the arena was made. */
  private freedBytes = 0;
  /** As many have to have been freed before it is tried again to empty a region. */
  private sparseAfter = 0;
  /** Number of the region that is being emptied, into which nothing is put; −1: none is. */
  private emptying = -1;

  /** What no chunk takes of the memory that was ever written to. */
  get idleBytes(): number {
    return this.touchedBytes - this.chunkBytes;
  }

  /** At least as long. What it holds is not defined. */
  allocate(length: number): ArenaChunk {
    const bytes = aligned(length);
    if (bytes > SHARED_CHUNK_BYTES_MAX) return this.allocateOwn(length);
    const number = this.regions.findIndex(
      (region, n) => region !== null && region.largest >= bytes && n !== this.emptying,
    );
    return this.cut(number < 0 ? this.addRegion(this.nextRegionBytes(bytes), false) : number, bytes);
  }

  /** Just as long, in a region of its own: nothing else is ever written to its bytes. */
  allocateOwn(length: number): ArenaChunk {
    return this.cut(this.addRegion(length, true), length);
  }

  /** As `allocate`, in what other regions have left that hold something already; null: nothing is large enough. */
  allocateElsewhere(length: number, besides: number): ArenaChunk | null {
    const bytes = aligned(length);
    const number = this.regions.findIndex(
      (region, other) => other !== besides && region !== null && region.largest >= bytes && !region.isEmpty,
    );
    return number < 0 ? null : this.cut(number, bytes);
  }

  /** Its bytes may be anything from now on, but for those of a region of its own. */
  free({ region: number, start, length }: ArenaChunk): void {
    const region = this.regions[number];
    assert(region !== null && region !== undefined, 'a chunk of no region is freed');
    this.chunkBytes -= length;
    this.freedBytes += length;
    region.join(start, start + length);
    if (!region.isEmpty) return;
    if (number === this.emptying) this.emptying = -1;
    // One is kept, so that a view that grows and shrinks by a chunk does not ask for a region every time.
    if (region.isOwn || this.emptyRegions > 0) this.dropRegion(number);
    else this.emptyRegions++;
  }

  /** From now on chunk `number` of the slot is this one. */
  place(slot: number, number: number, { region, start }: ArenaChunk): void {
    const at = 2 * (number * SLOTS + slot);
    if (at >= this.places.length) {
      const grown = new Uint32Array(Math.max(2 * this.places.length, 2 * SLOTS * (number + 1)));
      grown.set(this.places);
      this.places = grown;
    }
    this.places[at] = region;
    this.places[at + 1] = start;
  }

  /** Takes over all regions of another arena that anything is in; it is empty then. The number of a region is this much more than it was. */
  absorb(other: Arena): number {
    const base = this.regions.length;
    for (const [number, region] of other.regions.entries()) if (region?.isEmpty) other.dropRegion(number);
    for (const [number, region] of other.regions.entries()) {
      this.setRegion(base + number, region, other.bytes[number], other.words[number], other.numbers[number]);
      if (region === null) this.freeNumbers.push(base + number);
    }
    this.regionBytes += other.regionBytes;
    this.touchedBytes += other.touchedBytes;
    this.chunkBytes += other.chunkBytes;
    for (const list of [other.regions, other.bytes, other.words, other.numbers, other.freeNumbers]) list.length = 0;
    other.regionBytes = other.touchedBytes = other.chunkBytes = other.emptyRegions = 0;
    other.emptying = -1;
    return base;
  }

  /**
   * Where much is idle, has the shared region emptied that the least is in, part by part. `move`: moves some of the chunks that are in it to others and
   * returns how many bytes; 0 or less: it cannot. Returns the bytes moved; 0: nothing is worth it, or is to be had.
   */
  compact(move: (region: number) => number): number {
    if (this.emptying < 0) {
      if (this.freedBytes < this.sparseAfter) return 0;
      const { idleBytes } = this;
      if (idleBytes < IDLE_BYTES_ALLOWED || idleBytes < this.chunkBytes * IDLE_SHARE_ALLOWED) return 0;
      this.emptying = this.sparsest();
    }
    const moved = this.emptying < 0 ? 0 : move(this.emptying);
    if (moved > 0) return moved;
    // Chunks may be in it that nobody can move, since they are only waiting to be freed.
    this.emptying = -1;
    this.sparseAfter = this.freedBytes + REGION_BYTES_MAX;
    return 0;
  }

  private sparsest(): number {
    let sparsest = -1;
    let least = Infinity;
    for (const [number, region] of this.regions.entries()) {
      if (region === null || region.isOwn || region.isEmpty || region.cutBytes >= least) continue;
      sparsest = number;
      least = region.cutBytes;
    }
    return sparsest;
  }

  private cut(number: number, bytes: number): ArenaChunk {
    const region = this.regions[number]!;
    if (region.isEmpty && !region.isOwn) this.emptyRegions--;
    const { top } = region;
    const start = region.cut(bytes);
    this.touchedBytes += region.top - top;
    this.chunkBytes += bytes;
    return new ArenaChunk(number, this.bytes[number], this.words[number], this.numbers[number], start, bytes);
  }

  /** Twice what there is, so that a small view takes little and a large one few regions. */
  private nextRegionBytes(least: number): number {
    let bytes = REGION_BYTES_MIN;
    while (bytes < REGION_BYTES_MAX && (bytes < least || bytes < this.regionBytes)) bytes *= 2;
    return bytes;
  }

  private addRegion(length: number, isOwn: boolean): number {
    const number = this.freeNumbers.pop() ?? this.regions.length;
    const bytes = Buffer.allocUnsafeSlow(length);
    const numbers = new Uint32Array(bytes.buffer, bytes.byteOffset, length >>> 2);
    this.setRegion(number, new Region(length, isOwn), bytes, wordsOf(bytes), numbers);
    this.regionBytes += length;
    if (!isOwn) this.emptyRegions++;
    return number;
  }

  /** Whoever still holds its bytes keeps them. */
  private dropRegion(number: number): void {
    const { length, top } = this.regions[number]!;
    this.regionBytes -= length;
    this.touchedBytes -= top;
    this.setRegion(number, null, NO_BYTES, NO_WORDS, NO_NUMBERS);
    this.freeNumbers.push(number);
  }

  private setRegion(number: number, region: Region | null, bytes: Buffer, words: DataView, numbers: Uint32Array): void {
    this.regions[number] = region;
    this.bytes[number] = bytes;
    this.words[number] = words;
    this.numbers[number] = numbers;
  }
}

const aligned = (bytes: number): number => Math.ceil(bytes / CHUNK_ALIGNMENT) * CHUNK_ALIGNMENT;
