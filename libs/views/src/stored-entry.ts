import { WORD_COPY_BYTES_MAX, copyWords, hashKey, readU64 } from '#kernel';
import type { ArenaChunk } from './arena.js';

/**
 * An entry as it lies in an arena chunk and in a snapshot. Little endian, starts at a multiple of 4.
 *
 *     u8      flags          1 expires · 2 content type by number · 4 content type in place · 8 data type · 16 computed · 32 touched
 *     u64     offset
 *     u64     log time
 *     u64     expires at, by its own TTL          if 1
 *     u64     offset of the last touch            if 32
 *     u16     number of the content type          if 2
 *     u16     number of the data type             if 8
 *     varint  key length     then the key
 *     varint  value length   then the value
 *     varint  length, content type (UTF-8)        if 4
 *     0–3     bytes of padding
 *
 * Key length to value lie here as they do in most records, so they are copied in one go.
 *
 * The log time is that of the last write or touch. Numbers of content and data types refer to the view's name table (name-table.ts). *Computed* marks a value that a command made
 * rather than copied from its record.
 */
export const EntryFlag = {
  Expires: 1,
  ContentTypeNumber: 2,
  ContentTypeInline: 4,
  DataType: 8,
  Computed: 16,
  Touched: 32,
} as const;
const FLAGS_KNOWN = 63;

/** Bytes before the key length, by flags. */
export const KEY_LENGTH_AT = Uint8Array.from(
  { length: FLAGS_KNOWN + 1 },
  (_, flags) =>
    17 +
    (flags & EntryFlag.Expires ? 8 : 0) +
    (flags & EntryFlag.Touched ? 8 : 0) +
    (flags & EntryFlag.ContentTypeNumber ? 2 : 0) +
    (flags & EntryFlag.DataType ? 2 : 0),
);

export const ENTRY_ALIGNMENT = 4;
/** flags, key length, offset, log time, value length; padded. */
export const STORED_ENTRY_BYTES_MIN = 20;

/** What is to be stored. One per view, reused: nothing is made per record. */
export class EntryDraft {
  hash = 0;
  /** Holds the key and an inline content type. */
  bytes: Buffer = EMPTY;
  /** The same bytes; null: there is no view of them, and they are copied otherwise. */
  words: DataView | null = null;
  keyStart = 0;
  keyEnd = 0;
  valueBytes: Buffer = EMPTY;
  valueStart = 0;
  valueEnd = 0;
  offset = 0;
  logTime = 0;
  /** Of the last touch; −1: not touched since it was written. */
  touchedAt = -1;
  /** By its own TTL; −1: never. */
  expiresAt = -1;
  /** −1: none, or in place. */
  contentType = -1;
  /** −1: none, or by number. */
  typeStart = -1;
  typeEnd = -1;
  /** −1: plain value. */
  dataType = -1;
  computed = false;
  /** Key or value lie in an arena chunk, perhaps in that of the entry this one takes the place of. */
  ofArena = false;

  /** As `StoredEntry.digestLaneA` says it of what is stored. */
  digestLaneA(): number {
    const { hash, offset, touchedAt, expiresAt, valueStart, valueEnd } = this;
    return digestLaneA(
      hash,
      offset,
      touchedAt < 0 ? offset : touchedAt,
      expiresAt < 0 ? Infinity : expiresAt,
      valueEnd - valueStart,
      this.computed ? hashKey(this.valueBytes, valueStart, valueEnd) : COPIED,
    );
  }

  get storedBytes(): number {
    const keyLength = this.keyEnd - this.keyStart;
    const valueLength = this.valueEnd - this.valueStart;
    let size = 17 + lengthSize(keyLength) + keyLength + lengthSize(valueLength) + valueLength;
    if (this.expiresAt >= 0) size += 8;
    if (this.touchedAt >= 0) size += 8;
    if (this.contentType >= 0) size += 2;
    if (this.typeStart >= 0) size += lengthSize(this.typeEnd - this.typeStart) + this.typeEnd - this.typeStart;
    if (this.dataType >= 0) size += 2;
    return (size + 3) & ~3;
  }

  /** Writes `storedBytes` bytes. Where it can do without `chunk.bytes`, it does: one object less to be fetched from memory. */
  writeTo(chunk: ArenaChunk, start: number): void {
    const { words } = chunk;
    words.setUint8(
      start,
      (this.expiresAt >= 0 ? EntryFlag.Expires : 0) |
        (this.contentType >= 0 ? EntryFlag.ContentTypeNumber : 0) |
        (this.typeStart >= 0 ? EntryFlag.ContentTypeInline : 0) |
        (this.dataType >= 0 ? EntryFlag.DataType : 0) |
        (this.computed ? EntryFlag.Computed : 0) |
        (this.touchedAt >= 0 ? EntryFlag.Touched : 0),
    );
    let at = writeNumber(words, start + 1, this.offset);
    at = writeNumber(words, at, this.logTime);
    if (this.expiresAt >= 0) at = writeNumber(words, at, this.expiresAt);
    if (this.touchedAt >= 0) at = writeNumber(words, at, this.touchedAt);
    if (this.contentType >= 0) at = writeShort(words, at, this.contentType);
    if (this.dataType >= 0) at = writeShort(words, at, this.dataType);
    at = writeLength(words, at, this.keyEnd - this.keyStart);
    const valueLength = this.valueEnd - this.valueStart;
    // With anything else in between, or a length that takes more bytes than it needs, they are further apart.
    if (this.valueBytes === this.bytes && this.valueStart - this.keyEnd === lengthSize(valueLength)) {
      if (this.words !== null && this.valueEnd - this.keyStart <= WORD_COPY_BYTES_MAX) {
        at = copyWords(words, at, this.words, this.keyStart, this.valueEnd);
      } else at = copyBytes(chunk.bytes, at, this.bytes, this.keyStart, this.valueEnd);
    } else {
      at = copyBytes(chunk.bytes, at, this.bytes, this.keyStart, this.keyEnd);
      at = writeLength(words, at, valueLength);
      at = copyBytes(chunk.bytes, at, this.valueBytes, this.valueStart, this.valueEnd);
    }
    if (this.typeStart >= 0) {
      at = writeLength(words, at, this.typeEnd - this.typeStart);
      at = copyBytes(chunk.bytes, at, this.bytes, this.typeStart, this.typeEnd);
    }
    while ((at & 3) !== 0) words.setUint8(at++, 0);
  }
}

/** Where the fields of a stored entry are. Reused like a cursor: what it says is good until it is next moved, or what holds the entry changes. */
export class StoredEntry {
  chunk: Buffer = EMPTY;
  /** Of the same bytes; null: there is no such view. */
  words: DataView | null = null;
  start = 0;
  /** Padding included. */
  end = 0;
  flags = 0;
  keyStart = 0;
  keyEnd = 0;
  offset = 0;
  logTime = 0;
  /** Offset of the last write or touch: no other entry of the view has the same. */
  usedAt = 0;
  /** By its own TTL; Infinity: it has none. */
  ttlEnd = Infinity;
  /** When it is gone, by its TTL or unused for too long; Infinity: never. */
  expiresAt = Infinity;
  contentType = -1;
  typeStart = -1;
  typeEnd = -1;
  dataType = -1;
  valueStart = 0;
  valueEnd = 0;

  /** `idleMs`: entries go when they were not used for so long. */
  constructor(private readonly idleMs = Infinity) {}

  /** The entry at `start`, which this process wrote or has checked. */
  read(chunk: Buffer, start: number, words: DataView | null = null): this {
    this.chunk = chunk;
    this.words = words;
    this.start = start;
    const flags = chunk[start];
    this.flags = flags;
    if (words === null) {
      this.offset = readU64(chunk, start + 1);
      this.logTime = readU64(chunk, start + 9);
    } else {
      this.offset = readNumber(words, start + 1);
      this.logTime = readNumber(words, start + 9);
    }
    this.usedAt = this.offset;
    this.ttlEnd = Infinity;
    this.contentType = this.typeStart = this.typeEnd = this.dataType = -1;
    let at = start + KEY_LENGTH_AT[flags];
    if (flags !== 0) {
      const expires = flags & EntryFlag.Expires ? 8 : 0;
      if (expires) this.ttlEnd = readU64(chunk, start + 17);
      if (flags & EntryFlag.Touched) this.usedAt = readU64(chunk, start + 17 + expires);
      if (flags & EntryFlag.DataType) this.dataType = chunk[at - 2] | (chunk[at - 1] << 8);
      if (flags & EntryFlag.ContentTypeNumber) {
        const number = start + 17 + expires + (flags & EntryFlag.Touched ? 8 : 0);
        this.contentType = chunk[number] | (chunk[number + 1] << 8);
      }
    }
    this.expiresAt = this.idleMs === Infinity ? this.ttlEnd : Math.min(this.ttlEnd, this.logTime + this.idleMs);
    const keyLength = this.readLength(at);
    this.keyStart = this.position;
    this.keyEnd = this.position + keyLength;
    const valueLength = this.readLength(this.keyEnd);
    this.valueStart = this.position;
    at = this.position + valueLength;
    this.valueEnd = at;
    if (flags & EntryFlag.ContentTypeInline) {
      const length = this.readLength(at);
      this.typeStart = this.position;
      at = this.position + length;
      this.typeEnd = at;
    }
    this.end = (at + 3) & ~3;
    return this;
  }

  /** As `read`, for bytes from outside that end at `end`; false when no entry fits there. */
  readChecked(chunk: Buffer, start: number, end: number): boolean {
    // Reads beyond a buffer give undefined, and so zeros; lengths are checked before they are used, at the latest by `end`.
    if (end - start < STORED_ENTRY_BYTES_MIN || (chunk[start] & ~FLAGS_KNOWN) !== 0) return false;
    this.read(chunk, start);
    return (
      this.end <= end &&
      this.keyEnd <= end &&
      this.valueStart <= end &&
      Number.isSafeInteger(this.offset) &&
      Number.isSafeInteger(this.logTime) &&
      Number.isSafeInteger(this.usedAt) &&
      (this.ttlEnd === Infinity || Number.isSafeInteger(this.ttlEnd))
    );
  }

  /** Writes other numbers of names in their places; null: those stay. */
  renumberTypes(contentTypes: readonly number[] | null, dataTypes: readonly number[] | null): void {
    const { chunk, flags } = this;
    let at = this.start + 17 + (flags & EntryFlag.Expires ? 8 : 0) + (flags & EntryFlag.Touched ? 8 : 0);
    for (const [number, numbers] of [
      [this.contentType, contentTypes],
      [this.dataType, dataTypes],
    ] as const) {
      if (number < 0) continue;
      if (numbers !== null) {
        chunk[at] = numbers[number];
        chunk[at + 1] = numbers[number] >>> 8;
      }
      at += 2;
    }
  }

  /** `hash`: of its key. */
  digestLaneA(hash: number): number {
    const { offset, usedAt, ttlEnd, valueStart, valueEnd } = this;
    const valueHash = this.flags & EntryFlag.Computed ? hashKey(this.chunk, valueStart, valueEnd) : COPIED;
    return digestLaneA(hash, offset, usedAt, ttlEnd, valueEnd - valueStart, valueHash);
  }

  /** When what is stored of this draft will be gone; Infinity: never. */
  expiryOf({ expiresAt, logTime }: EntryDraft): number {
    const ttlEnd = expiresAt < 0 ? Infinity : expiresAt;
    return this.idleMs === Infinity ? ttlEnd : Math.min(ttlEnd, logTime + this.idleMs);
  }

  hasKey(key: Uint8Array): boolean {
    const { chunk, words, keyStart } = this;
    const { length } = key;
    if (this.keyEnd - keyStart !== length) return false;
    let i = 0;
    if (words !== null) {
      for (; i < length - 3; i += 4) {
        const word = key[i] | (key[i + 1] << 8) | (key[i + 2] << 16) | (key[i + 3] << 24);
        if (words.getInt32(keyStart + i, true) !== word) return false;
      }
    }
    for (; i < length; i++) if (chunk[keyStart + i] !== key[i]) return false;
    return true;
  }

  /** The value as text. */
  get valueText(): string {
    return this.chunk.toString('utf8', this.valueStart, this.valueEnd);
  }

  get key(): Buffer {
    return this.chunk.subarray(this.keyStart, this.keyEnd);
  }

  get value(): Buffer {
    return this.chunk.subarray(this.valueStart, this.valueEnd);
  }

  private position = 0;

  private readLength(start: number): number {
    const { chunk } = this;
    const byte = chunk[start];
    if (byte < 0x80) {
      this.position = start + 1;
      return byte;
    }
    let at = start + 1;
    let value = byte & 0x7f;
    for (let shift = 7; shift < 28; shift += 7) {
      const next = chunk[at++];
      value |= (next & 0x7f) << shift;
      if (next < 0x80) break;
    }
    this.position = at;
    return value;
  }
}

const EMPTY = Buffer.alloc(0);
/** Up to here a loop beats the call into the runtime. */
const LOOP_COPY_BYTES_MAX = 32;

const lengthSize = (length: number): number => (length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x200000 ? 3 : 4);

const writeLength = (chunk: DataView, start: number, length: number): number => {
  let at = start;
  let rest = length;
  while (rest > 0x7f) {
    chunk.setUint8(at++, (rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  chunk.setUint8(at++, rest);
  return at;
};

const writeShort = (chunk: DataView, at: number, value: number): number => {
  chunk.setUint16(at, value, true);
  return at + 2;
};

const writeNumber = (chunk: DataView, at: number, value: number): number => {
  chunk.setInt32(at, value, true);
  chunk.setInt32(at + 4, value / 0x1_0000_0000, true);
  return at + 8;
};

/** As `readU64`, with a fourth of the looks. */
const readNumber = (chunk: DataView, at: number): number =>
  chunk.getUint32(at + 4, true) * 0x1_0000_0000 + chunk.getUint32(at, true);

export const copyBytes = (to: Buffer, at: number, from: Buffer, start: number, end: number): number => {
  const length = end - start;
  if (length > LOOP_COPY_BYTES_MAX) from.copy(to, at, start, end);
  else for (let i = 0; i < length; i++) to[at + i] = from[start + i];
  return at + length;
};

/** In the place of the hash of a value that was copied. */
const COPIED = -1;

/**
 * What an entry adds to its slot's digest, in two lanes of 32 bits. An entry copied from the log is named by its key and offset: the
 * log is checksummed and the same everywhere. A computed value is hashed too, since computing it is what could differ.
 */
const digestLaneA = (
  hash: number,
  offset: number,
  usedAt: number,
  ttlEnd: number,
  valueLength: number,
  valueHash: number,
): number => {
  let h = Math.imul(hash ^ Math.imul(offset | 0, 0x9e3779b1), 0x85ebca6b);
  h ^= Math.imul((offset / 0x1_0000_0000) | 0, 0x27d4eb2f) ^ Math.imul(valueLength, 0xc2b2ae35);
  if (ttlEnd !== Infinity) h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) ^ (ttlEnd | 0) ^ (ttlEnd / 0x1_0000_0000);
  if (usedAt !== offset) h = Math.imul(h ^ (h >>> 14), 0x9e3779b1) ^ (usedAt | 0) ^ (usedAt / 0x1_0000_0000);
  if (valueHash !== COPIED) h = Math.imul(h ^ (h >>> 13), 0x297a2d39) ^ valueHash;
  return finish(h);
};

export const digestLaneB = (hash: number, offset: number, laneA: number): number =>
  finish(Math.imul(hash, 0x165667b1) + Math.imul(offset | 0, 0x7feb352d) + Math.imul(laneA, 0x846ca68b));

const finish = (value: number): number => {
  let h = value ^ (value >>> 16);
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  return h ^ (h >>> 16);
};
