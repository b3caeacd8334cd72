import { SLOTS, WORD_COPY_BYTES_MAX, assert, copyWords, hashKey } from '#kernel';
import { NO_CHUNK, type Arena, type ArenaChunk } from './arena.js';
import { bucketOfLocation, emptyBucket, fillFrom, vacate } from './bucket-table.js';
import type { EarliestSlots } from './earliest-slots.js';
import { ExpiryHeap } from './expiry-heap.js';
import type { TakenEntries } from './leaving-batch.js';
import { EntryStarts, FrozenSlot, type CapturedChunk } from './frozen-slot.js';
import {
  KEY_LENGTH_AT,
  StoredEntry,
  copyBytes,
  digestLaneB,
  ENTRY_ALIGNMENT,
  type EntryDraft,
} from './stored-entry.js';

/**
 * The entries of one slot: chunks of the view's arena that are only ever appended to, and an open-addressing index over them, which is another.
 *
 *     index     a table of buckets (bucket-table.ts) in a chunk of its own: hash of a key, location
 *     location  chunk number (14 bits, from 1) · start / 4 within the chunk (18 bits)
 *     chunk     stored entries one after the other (stored-entry.ts)
 *
 * An entry that is overwritten by one of the same size gives it its place; otherwise it leaves dead bytes, as a removed one does. A chunk
 * of nothing but dead bytes is dropped at once; `reclaim` moves the living out of a chunk that is partly dead. A snapshot is a list of
 * chunks and, of those that are partly dead, of where the living begin (`freeze`), taken only when the slot is about to change; until it is written
 * nothing is overwritten in place, and no chunk given back. Whoever reads keeps copies (`ViewState.entryOf`), but of an entry larger than
 * SHARED_ENTRY_BYTES_MAX: its bytes never change, since its chunk is a region of its own.
 */
const CHUNK_BYTES_MIN = 512;
/** Of chunks that many entries share. A little less than a block of a snapshot, so that one fits in with what is written around it. */
export const CHUNK_BYTES_MAX = 1020 * 1024;
/** An entry larger than this gets a chunk of its own, and is never overwritten in place. */
export const SHARED_ENTRY_BYTES_MAX = 32 * 1024;
const CHUNKS_MAX = 2 ** 14;
const POSITION_BITS = 18;
const POSITION_MASK = 2 ** POSITION_BITS - 1;
const BUCKETS_MIN = 4;
const BUCKET_BYTES = 8;
/** Entries per bucket, in 32nds, above which the index doubles. */
const LOAD_MAX_32NDS = 26;
/** The index halves when it has this many buckets an entry. */
const SHRINK_BELOW = 8;
/** Largest number of buckets: the hash has 24 bits left beyond the slot's. */
const BUCKETS_MAX = 2 ** 24;

/** What the slots of a view share. */
export interface SlotContext {
  /** Scratch: the entry a slot was last asked for. */
  readonly entry: StoredEntry;
  /** What entries are kept in. */
  readonly arena: Arena;
  /** What indexes are kept in: so few regions that what leads to their pages stays in the processor's cache too. */
  readonly indexes: Arena;
  readonly earliestExpiries: EarliestSlots;
}

export class Slot {
  // What every read and write needs comes first: of three million entries, not even the objects of 256 slots are all in the cache.
  private arena: Arena;
  private entry: StoredEntry;
  /** Of the region that the index is in. */
  private index: Uint32Array;
  /** Where the index begins in it, in numbers. */
  private indexStart = 0;
  private buckets = BUCKETS_MIN;
  private indexChunk = NO_CHUNK;
  private indexes: Arena;
  private readonly chunks: ArenaChunk[] = [NO_CHUNK];
  /** The chunk that is being filled; NO_CHUNK: none yet. */
  private head = NO_CHUNK;
  private headNumber = 0;
  /** Snapshots that have not copied this slot yet; null: none. */
  private uncaptured: FrozenSlot[] | null = null;
  /** Snapshots that are not written to their end: what they hold of the chunks must not change. */
  private frozen = 0;
  /** Number of the chunk that the living are being moved out of; 0: of none. */
  private leaving = 0;
  /** How far that has come in it. */
  private leftTo = 0;
  /** Chunks that are given back when there is no such snapshot. */
  private parked: ArenaChunk[] = [];
  /** Since the heap of expiries was last looked at, it has grown, or there is less that it may be large for. */
  private expiriesChanged = false;
  count = 0;
  /** Bytes of entries in the index. */
  liveBytes = 0;
  /** Bytes of entries that are not any more. */
  deadBytes = 0;
  /** What the chunks take. */
  chunkBytes = 0;
  /** Entries with an expiry. */
  expiring = 0;
  /**
   * Digest: sum over the entries that were put and neither overwritten nor deleted *while alive*. An expired entry stays in the sum for
   * good, so it does not matter when, or whether, a host has removed it.
   */
  digestA = 0;
  digestB = 0;
  /** The part of the digest whose entries are gone from memory: digest = removed + sum over what the index holds. */
  removedA = 0;
  removedB = 0;
  readonly expiries: ExpiryHeap;

  private readonly freeNumbers: number[] = [];

  constructor(
    readonly number: number,
    view: SlotContext,
  ) {
    this.entry = view.entry;
    this.arena = view.arena;
    this.indexes = view.indexes;
    this.expiries = new ExpiryHeap(view.earliestExpiries, number);
    this.index = NO_CHUNK.numbers;
    this.makeIndex(BUCKETS_MIN);
  }

  /** Without what was never written to of the chunk that is being filled. */
  get bytes(): number {
    const { length, used } = this.head;
    return this.chunkBytes - (length - used) + this.indexChunk.length + this.expiries.bytes;
  }

  /** Bucket of the key, −1 if it is not there. Leaves `entry` alone. */
  find(hash: number, bytes: Uint8Array, start: number, end: number): number {
    const { index, indexStart } = this;
    const mask = this.buckets - 1;
    const length = end - start;
    for (let bucket = (hash >>> 8) & mask; ; bucket = (bucket + 1) & mask) {
      const location = index[indexStart + 2 * bucket + 1];
      if (location === 0) return -1;
      if (index[indexStart + 2 * bucket] === hash) {
        const chunk = this.regionOf(location);
        let at = this.positionOf(location);
        at += KEY_LENGTH_AT[chunk[at]];
        let keyLength = chunk[at++];
        if (keyLength > 0x7f) {
          keyLength &= 0x7f;
          for (let shift = 7; ; shift += 7) {
            const byte = chunk[at++];
            keyLength |= (byte & 0x7f) << shift;
            if (byte < 0x80) break;
          }
        }
        if (keyLength === length) {
          let i = 0;
          while (i < length && chunk[at + i] === bytes[start + i]) i++;
          if (i === length) return bucket;
        }
      }
    }
  }

  /** Looks at the bucket where a key of this hash is looked for first, so that it is in the cache when that is done. */
  fetch(hash: number): number {
    return this.index[this.indexStart + 2 * ((hash >>> 8) & (this.buckets - 1)) + 1];
  }

  /** Where the first entry is whose key has this hash, for `regionOf`, `positionOf` and `loadKey`; 0: there is none. Until the next change. */
  locate(hash: number): number {
    const { index, indexStart } = this;
    const mask = this.buckets - 1;
    let bucket = (hash >>> 8) & mask;
    while (index[indexStart + 2 * bucket] !== hash && index[indexStart + 2 * bucket + 1] !== 0)
      bucket = (bucket + 1) & mask;
    return index[indexStart + 2 * bucket + 1];
  }

  /** The region that the entry is in. */
  regionOf(location: number): Buffer {
    return this.arena.bytes[this.arena.places[this.placeOf(location)]];
  }

  /** Where it begins there. */
  positionOf(location: number): number {
    return this.arena.places[this.placeOf(location) + 1] + (location & POSITION_MASK) * ENTRY_ALIGNMENT;
  }

  /** Of the entry's chunk, among the arena's. */
  private placeOf(location: number): number {
    return 2 * ((location >>> POSITION_BITS) * SLOTS + this.number);
  }

  /** Puts the fields of the bucket's entry into the view's scratch. */
  load(bucket: number): StoredEntry {
    return this.loadAt(this.index[this.indexStart + 2 * bucket + 1]);
  }

  /** The same of the key's entry; null: it is not there. */
  lookUp(hash: number, key: Uint8Array): StoredEntry | null {
    return this.loadKey(this.locate(hash), hash, key);
  }

  /** As `lookUp`. `location`: as `locate` gave it for the key's hash. */
  loadKey(location: number, hash: number, key: Uint8Array): StoredEntry | null {
    if (location === 0) return null;
    const entry = this.loadAt(location);
    if (entry.hasKey(key)) return entry;
    const bucket = this.find(hash, key, 0, key.length);
    return bucket < 0 ? null : this.load(bucket);
  }

  private loadAt(location: number): StoredEntry {
    const { bytes, words, places } = this.arena;
    const place = this.placeOf(location);
    const region = places[place];
    const start = places[place + 1] + (location & POSITION_MASK) * ENTRY_ALIGNMENT;
    return this.entry.read(bytes[region], start, words[region]);
  }

  /**
   * Stores the draft under its key. `bucket` as `find` gave it; returns the one where it is now. An old entry that is dead at the draft's log
   * time was expired.
   */
  put(bucket: number, draft: EntryDraft): number {
    if (this.uncaptured !== null) this.captureAll();
    const size = draft.storedBytes;
    let to = bucket;
    let oldExpiry = Infinity;
    let oldLocation = 0;
    let oldSize = 0;
    if (to >= 0) {
      const old = this.load(to);
      this.leave(draft.hash, old, old.expiresAt > draft.logTime);
      oldExpiry = old.expiresAt;
      oldLocation = this.index[this.indexStart + 2 * to + 1];
      oldSize = old.end - old.start;
    } else {
      this.makeRoom();
      to = emptyBucket(this.index, this.indexStart, this.buckets, draft.hash);
      this.count++;
    }
    const inPlace = oldSize === size && this.frozen === 0 && size <= SHARED_ENTRY_BYTES_MAX && !draft.ofArena;
    const location = inPlace ? oldLocation : this.allocate(size);
    const ofHead = !inPlace && size <= SHARED_ENTRY_BYTES_MAX;
    const chunk = ofHead ? this.head : this.chunks[location >>> POSITION_BITS];
    draft.writeTo(chunk, chunk.start + (location & POSITION_MASK) * ENTRY_ALIGNMENT);
    if (!inPlace) {
      this.index[this.indexStart + 2 * to] = draft.hash;
      this.index[this.indexStart + 2 * to + 1] = location;
      this.liveBytes += size;
      // Not before: the draft may have been in the same chunk.
      if (oldSize > 0) this.drop(oldLocation, oldSize);
    }
    this.enter(draft.hash, draft.offset, draft.digestLaneA());
    const expiresAt = this.entry.expiryOf(draft);
    if (expiresAt !== Infinity) {
      this.expiring++;
      // A heap item for the same time already stands.
      if (expiresAt !== oldExpiry) {
        this.expiries.push(expiresAt, draft.hash);
        this.expiriesChanged = true;
      }
    }
    if (this.expiriesChanged) this.tidyExpiries();
    return to;
  }

  /** Takes the entry out. `alive`: it was not expired, so it leaves the digest too. */
  remove(bucket: number, alive: boolean): void {
    if (this.uncaptured !== null) this.captureAll();
    const old = this.load(bucket);
    this.leave(this.index[this.indexStart + 2 * bucket], old, alive);
    this.drop(this.index[this.indexStart + 2 * bucket + 1], old.end - old.start);
    vacate(this.index, this.indexStart, this.buckets, bucket);
    this.count--;
    this.expiriesChanged = true;
    if (this.count === 0) this.expiries.clear();
    if (this.count * SHRINK_BELOW < this.buckets && this.buckets > BUCKETS_MIN) this.resize(this.buckets / 2);
  }

  /** Bucket of an entry with this hash that expires at or before `until`, and is none of these; −1 if there is none. */
  findExpired(hash: number, until: number, besides: TakenEntries): number {
    const { index, indexStart } = this;
    const mask = this.buckets - 1;
    for (let bucket = (hash >>> 8) & mask; index[indexStart + 2 * bucket + 1] !== 0; bucket = (bucket + 1) & mask) {
      if (index[indexStart + 2 * bucket] !== hash) continue;
      const entry = this.load(bucket);
      if (entry.expiresAt <= until && !besides.has(hash, entry)) return bucket;
    }
    return -1;
  }

  /** Bucket of the entry with this hash that was last used at this offset, −1 if there is none. */
  findUsedAt(hash: number, offset: number): number {
    const { index, indexStart } = this;
    const mask = this.buckets - 1;
    for (let bucket = (hash >>> 8) & mask; index[indexStart + 2 * bucket + 1] !== 0; bucket = (bucket + 1) & mask) {
      if (index[indexStart + 2 * bucket] === hash && this.load(bucket).usedAt === offset) return bucket;
    }
    return -1;
  }

  /** In the index's order. The slot must not change meanwhile. */
  forEach(visit: (hash: number, entry: StoredEntry) => void): void {
    const { index, indexStart } = this;
    for (let bucket = 0; bucket < this.buckets; bucket++) {
      if (index[indexStart + 2 * bucket + 1] !== 0) visit(index[indexStart + 2 * bucket], this.load(bucket));
    }
  }

  /** Of the keys it has now, in no order. */
  hashes(): Uint32Array {
    const { index, indexStart } = this;
    const hashes = new Uint32Array(this.count);
    let at = 0;
    for (let bucket = 0; bucket < this.buckets; bucket++) {
      if (index[indexStart + 2 * bucket + 1] !== 0) hashes[at++] = index[indexStart + 2 * bucket];
    }
    return hashes;
  }

  /** Those whose keys have this hash. The slot must not change meanwhile. */
  forEachOf(hash: number, visit: (entry: StoredEntry) => void): void {
    const { index, indexStart } = this;
    const mask = this.buckets - 1;
    for (let bucket = (hash >>> 8) & mask; index[indexStart + 2 * bucket + 1] !== 0; bucket = (bucket + 1) & mask) {
      if (index[indexStart + 2 * bucket] === hash) visit(this.load(bucket));
    }
  }

  /**
   * Goes on moving the living out of the chunk with the most dead bytes, if at least a quarter of it is dead, and gives it back at its end. Returns the
   * bytes looked through, about so many at most; 0: nothing is worth it. Snapshots need not mind: what is moved stays the same.
   */
  reclaim(bytesMax: number): number {
    if (this.deadBytes === 0) return 0;
    if (this.leaving === 0) this.beginToLeave();
    return this.leaving === 0 ? 0 : this.leaveChunk(bytesMax);
  }

  private beginToLeave(): void {
    let victim = 0;
    for (let n = 1; n < this.chunks.length; n++) {
      if (n !== this.headNumber && this.chunks[n].dead > this.chunks[victim].dead) victim = n;
    }
    const { head, headNumber } = this;
    if (victim === 0 || this.chunks[victim].dead * 4 < this.chunks[victim].used) {
      // Of the chunk that is being filled, more.
      if (head === NO_CHUNK || head.dead * 2 < head.used) return;
      victim = headNumber;
      this.closeHead();
    }
    this.leaving = victim;
    this.leftTo = 0;
  }

  private leaveChunk(bytesMax: number): number {
    const { entry, leaving: number } = this;
    const chunk = this.chunks[number];
    const { bytes, words, start, used } = chunk;
    const from = start + this.leftTo;
    const until = Math.min(from + bytesMax, start + used);
    let at = from;
    let moved = 0;
    // When all of it is dead it is not looked at any further.
    for (; at < until && chunk.dead + moved < used; at = entry.end) {
      entry.read(bytes, at, words);
      const location = ((number << POSITION_BITS) | ((at - start) / ENTRY_ALIGNMENT)) >>> 0;
      // The hash is in the index, but to find it there one needs it.
      const hash = hashKey(bytes, entry.keyStart, entry.keyEnd);
      const bucket = bucketOfLocation(this.index, this.indexStart, this.buckets, hash, location);
      if (bucket < 0) continue;
      this.index[this.indexStart + 2 * bucket + 1] = this.copyIn(entry);
      moved += entry.end - entry.start;
    }
    this.leftTo = at - start;
    chunk.dead += moved;
    this.deadBytes += moved;
    if (chunk.dead === used) this.releaseDead(number);
    // Of one that was all dead nothing was looked at; but it is given back.
    return Math.max(at - from, 1);
  }

  /** Copies the entry to where it is not overwritten. Returns where that is. */
  private copyIn({ chunk, words, start, end }: StoredEntry): number {
    const size = end - start;
    const location = this.allocate(size);
    const to = this.chunks[location >>> POSITION_BITS];
    const at = to.start + (location & POSITION_MASK) * ENTRY_ALIGNMENT;
    if (words !== null && size <= WORD_COPY_BYTES_MAX) copyWords(to.words, at, words, start, end);
    else copyBytes(to.bytes, at, chunk, start, end);
    return location;
  }

  /**
   * Moves what it has in the region of the arena to others, about so many bytes at most, and not less than a chunk. Returns how many were moved; 0: it has
   * nothing there; −1: a snapshot still needs it, or nothing has room for it.
   */
  leaveRegion(region: number, bytesMax: number): number {
    const { arena } = this;
    let bytes = 0;
    for (let number = 1; number < this.chunks.length && bytes < bytesMax; number++) {
      const chunk = this.chunks[number];
      if (chunk === NO_CHUNK || chunk.region !== region) continue;
      const isHead = number === this.headNumber;
      const moved = this.frozen > 0 ? null : arena.allocateElsewhere(isHead ? chunk.length : chunk.used, region);
      if (moved === null) return -1;
      moved.used = chunk.used;
      moved.dead = chunk.dead;
      chunk.bytes.copy(moved.bytes, moved.start, chunk.start, chunk.start + chunk.used);
      this.setChunk(number, moved);
      if (isHead) this.head = moved;
      this.chunkBytes += moved.length - chunk.length;
      bytes += chunk.length;
      arena.free(chunk);
    }
    return bytes;
  }

  /** The same of its index. */
  leaveIndexRegion(region: number): number {
    const { indexes, indexChunk: chunk } = this;
    if (chunk.region !== region) return 0;
    const moved = indexes.allocateElsewhere(chunk.length, region);
    if (moved === null) return -1;
    chunk.bytes.copy(moved.bytes, moved.start, chunk.start, chunk.start + chunk.length);
    this.useIndex(moved);
    indexes.free(chunk);
    return chunk.length;
  }

  /** Nothing of it is needed any more, but by snapshots that are not written to their end. */
  dispose(): void {
    if (this.uncaptured !== null) this.captureAll();
    for (const chunk of this.chunks) if (chunk !== NO_CHUNK) this.giveBack(chunk);
    this.indexes.free(this.indexChunk);
    this.expiries.clear();
  }

  /** The slot as it is now, captured when it is about to change or when the snapshot gets there. */
  freeze(): FrozenSlot {
    const frozen = new FrozenSlot(this);
    (this.uncaptured ??= []).push(frozen);
    this.frozen++;
    return frozen;
  }

  /** What every change does first while a snapshot has not captured the slot. */
  captureAll(): void {
    const waiting = this.uncaptured ?? [];
    this.uncaptured = null;
    const captured = this.capture();
    for (const frozen of waiting) frozen.take(captured);
  }

  /** Costs next to nothing where nothing is dead. */
  private capture(): CapturedChunk[] {
    const { index, indexStart } = this;
    const living = this.chunks.map(({ used, dead }) => (dead === 0 ? null : new EntryStarts(used / ENTRY_ALIGNMENT)));
    if (living.some((starts) => starts !== null)) {
      for (let bucket = 0; bucket < this.buckets; bucket++) {
        const location = index[indexStart + 2 * bucket + 1];
        if (location !== 0) living[location >>> POSITION_BITS]?.add(location & POSITION_MASK);
      }
    }
    return this.chunks.map(({ bytes, start, used }, n) => ({ bytes, start, end: start + used, living: living[n] }));
  }

  /** To another view. Its arenas have taken over the regions of this slot's: there they have higher numbers, by as much as `bases` says. */
  moveTo(view: SlotContext, bases: { readonly entries: number; readonly indexes: number }): void {
    assert(this.frozen === 0, 'a slot is moved while a snapshot of it is being written');
    this.entry = view.entry;
    this.arena = view.arena;
    this.indexes = view.indexes;
    this.indexChunk.region += bases.indexes;
    for (const [number, chunk] of this.chunks.entries()) {
      if (chunk === NO_CHUNK) continue;
      chunk.region += bases.entries;
      this.arena.place(this.number, number, chunk);
    }
    this.expiries.moveTo(view.earliestExpiries);
  }

  /** Writes other numbers of names into the entries; null: those stay. Nobody may hold a view of the chunks. */
  renumberTypes(contentTypes: readonly number[] | null, dataTypes: readonly number[] | null): void {
    this.forEach((_hash, entry) => entry.renumberTypes(contentTypes, dataTypes));
  }

  /** Whether the entries in the index, and what is gone, make up the digest. */
  addsUp(): boolean {
    let a = this.removedA;
    let b = this.removedB;
    let count = 0;
    this.forEach((_hash, entry) => {
      const hash = hashKey(entry.chunk, entry.keyStart, entry.keyEnd);
      const lane = entry.digestLaneA(hash);
      a = (a + lane) | 0;
      b = (b + digestLaneB(hash, entry.offset, lane)) | 0;
      count++;
    });
    return count === this.count && a === this.digestA && b === this.digestB;
  }

  /** A chunk of nothing but dead bytes. */
  private releaseDead(number: number): void {
    const chunk = this.chunks[number];
    this.deadBytes -= chunk.dead;
    this.chunkBytes -= chunk.length;
    this.chunks[number] = NO_CHUNK;
    this.freeNumbers.push(number);
    if (number === this.headNumber) this.closeHead();
    if (number === this.leaving) this.leaving = 0;
    this.giveBack(chunk);
  }

  private giveBack(chunk: ArenaChunk): void {
    if (this.frozen > 0) this.parked.push(chunk);
    else this.arena.free(chunk);
  }

  /** Of a snapshot that is over. */
  forget(frozen: FrozenSlot): void {
    this.frozen--;
    const waiting = this.uncaptured?.filter((other) => other !== frozen) ?? [];
    this.uncaptured = waiting.length > 0 ? waiting : null;
    if (this.frozen > 0) return;
    for (const chunk of this.parked) this.arena.free(chunk);
    this.parked = [];
  }

  /* ---- loading a snapshot ---- */

  /** Makes room for this many entries at once, so that loading does not double the index again and again. */
  reserve(entries: number): void {
    let buckets = this.buckets;
    while (entries * 32 > buckets * LOAD_MAX_32NDS) buckets *= 2;
    if (buckets !== this.buckets) this.resize(buckets);
  }

  /**
   * Copies entries that lie one after the other, up to CHUNK_BYTES_MAX, in one go. They are there only once they have been adopted. Returns the location
   * of the first; of another it is so many times ENTRY_ALIGNMENT more as it lies behind it.
   */
  append(entries: Buffer): number {
    if (entries.length > this.head.length - this.head.used) this.addHead(entries.length);
    const { head } = this;
    const start = head.used;
    entries.copy(head.bytes, head.start + start);
    head.used = start + entries.length;
    return ((this.headNumber << POSITION_BITS) | (start / ENTRY_ALIGNMENT)) >>> 0;
  }

  /** The last bytes of what was appended are not to be adopted. */
  takeBack(bytes: number): void {
    this.head.used -= bytes;
  }

  /** The entry that is in the scratch was checked, and appended so that it is at this location. False: its key is there already. */
  adopt(hash: number, location: number): boolean {
    const { entry } = this;
    if (this.find(hash, entry.chunk, entry.keyStart, entry.keyEnd) >= 0) return false;
    this.makeRoom();
    const { index, indexStart } = this;
    const bucket = emptyBucket(index, indexStart, this.buckets, hash);
    index[indexStart + 2 * bucket] = hash;
    index[indexStart + 2 * bucket + 1] = location;
    this.count++;
    this.liveBytes += entry.end - entry.start;
    if (entry.expiresAt !== Infinity) {
      this.expiring++;
      this.expiries.push(entry.expiresAt, hash);
    }
    this.enter(hash, entry.offset, entry.digestLaneA(hash));
    return true;
  }

  /** The same of an entry that was not appended. */
  insert(hash: number): boolean {
    return this.adopt(hash, this.copyIn(this.entry));
  }

  /** All entries are adopted. False: they do not add up to the digest. */
  closeWith(digest: { a: number; b: number; removedA: number; removedB: number }): boolean {
    this.removedA = digest.removedA | 0;
    this.removedB = digest.removedB | 0;
    this.digestA = (this.digestA + digest.removedA) | 0;
    this.digestB = (this.digestB + digest.removedB) | 0;
    return this.digestA === (digest.a | 0) && this.digestB === (digest.b | 0);
  }

  /* ---- within ---- */

  /** The digest has an entry more. */
  private enter(hash: number, offset: number, laneA: number): void {
    this.digestA = (this.digestA + laneA) | 0;
    this.digestB = (this.digestB + digestLaneB(hash, offset, laneA)) | 0;
  }

  private leave(hash: number, entry: StoredEntry, alive: boolean): void {
    const a = entry.digestLaneA(hash);
    const b = digestLaneB(hash, entry.offset, a);
    if (alive) {
      this.digestA = (this.digestA - a) | 0;
      this.digestB = (this.digestB - b) | 0;
    } else {
      this.removedA = (this.removedA + a) | 0;
      this.removedB = (this.removedB + b) | 0;
    }
    if (entry.expiresAt === Infinity) return;
    this.expiring--;
    this.expiriesChanged = true;
  }

  private drop(location: number, size: number): void {
    const number = location >>> POSITION_BITS;
    this.liveBytes -= size;
    this.deadBytes += size;
    const chunk = this.chunks[number];
    chunk.dead += size;
    if (chunk.dead === chunk.used && chunk !== this.head) this.releaseDead(number);
  }

  private allocate(size: number): number {
    if (size > SHARED_ENTRY_BYTES_MAX) {
      const chunk = this.arena.allocateOwn(size);
      chunk.used = size;
      return (this.addChunk(chunk) << POSITION_BITS) >>> 0;
    }
    if (this.head.used + size > this.head.length) this.nextHead(size);
    const { head } = this;
    const start = head.used;
    head.used = start + size;
    return ((this.headNumber << POSITION_BITS) | (start / ENTRY_ALIGNMENT)) >>> 0;
  }

  private nextHead(size: number): void {
    let bytes = CHUNK_BYTES_MIN;
    // Half of what there is, so that few chunks make up a slot. What is not written to yet takes up no memory where it matters, in large ones.
    while (bytes < CHUNK_BYTES_MAX && (bytes * 2 < this.liveBytes || bytes < size)) bytes *= 2;
    this.addHead(Math.min(bytes, CHUNK_BYTES_MAX));
  }

  private addHead(bytes: number): void {
    const { head: full, headNumber: fullNumber } = this;
    this.head = this.arena.allocate(bytes);
    this.headNumber = this.addChunk(this.head);
    if (full !== NO_CHUNK && full.dead === full.used) this.releaseDead(fullNumber);
  }

  private closeHead(): void {
    this.head = NO_CHUNK;
    this.headNumber = 0;
  }

  private addChunk(chunk: ArenaChunk): number {
    const number = this.freeNumbers.pop() ?? this.chunks.length;
    assert(number < CHUNKS_MAX, 'a slot has too many chunks');
    this.setChunk(number, chunk);
    this.chunkBytes += chunk.length;
    return number;
  }

  private setChunk(number: number, chunk: ArenaChunk): void {
    this.chunks[number] = chunk;
    this.arena.place(this.number, number, chunk);
  }

  /** For one entry more. */
  private makeRoom(): void {
    if ((this.count + 1) * 32 > this.buckets * LOAD_MAX_32NDS) this.resize(this.buckets * 2);
  }

  private resize(buckets: number): void {
    const { index: table, indexStart: start, indexChunk, buckets: before } = this;
    this.makeIndex(buckets);
    fillFrom(this.index, this.indexStart, buckets, { table, start, buckets: before });
    this.indexes.free(indexChunk);
  }

  /** An empty one. */
  private makeIndex(buckets: number): void {
    assert(buckets <= BUCKETS_MAX, 'a slot has too many entries');
    this.useIndex(this.indexes.allocate(buckets * BUCKET_BYTES));
    this.index.fill(0, this.indexStart, this.indexStart + 2 * buckets);
    this.buckets = buckets;
  }

  private useIndex(chunk: ArenaChunk): void {
    this.indexChunk = chunk;
    this.index = chunk.numbers;
    this.indexStart = chunk.start / Uint32Array.BYTES_PER_ELEMENT;
  }

  private tidyExpiries(): void {
    this.expiriesChanged = false;
    if (this.expiries.size <= 2 * this.expiring + (this.count >>> 3) + 64) return;
    this.expiries.clear();
    this.forEach((hash, { expiresAt }) => {
      if (expiresAt !== Infinity) this.expiries.push(expiresAt, hash);
    });
  }
}
