import { asOffset, type Offset } from './brand.js';
import { TidelineError } from './errors.js';

/**
 * Little-endian reader and writer over one buffer. Numbers of 64 bits are read as two 32-bit halves
 * (no BigInt on the hot path) and must be at most 2^53 − 1.
 */
const TWO_32 = 0x1_0000_0000;

export const readU64 = (buffer: Uint8Array, at: number): number => {
  const low = (buffer[at] | (buffer[at + 1] << 8) | (buffer[at + 2] << 16) | (buffer[at + 3] << 24)) >>> 0;
  const high = (buffer[at + 4] | (buffer[at + 5] << 8) | (buffer[at + 6] << 16) | (buffer[at + 7] << 24)) >>> 0;
  return high * TWO_32 + low;
};

export const writeU64 = (buffer: Uint8Array, at: number, value: number): void => {
  writeU32(buffer, at, value >>> 0);
  writeU32(buffer, at + 4, Math.floor(value / TWO_32));
};

export const readU32 = (buffer: Uint8Array, at: number): number =>
  (buffer[at] | (buffer[at + 1] << 8) | (buffer[at + 2] << 16) | (buffer[at + 3] << 24)) >>> 0;

export const writeU32 = (buffer: Uint8Array, at: number, value: number): void => {
  buffer[at] = value;
  buffer[at + 1] = value >>> 8;
  buffer[at + 2] = value >>> 16;
  buffer[at + 3] = value >>> 24;
};

/** Up to here `copyWords` beats the runtime's own copy. */
export const WORD_COPY_BYTES_MAX = 512;

/**
 * Copies up to WORD_COPY_BYTES_MAX bytes, four at a time, which needs no alignment, and nothing is made for it, while the runtime makes an
 * object for every copy of part of a buffer. Returns where it ended.
 */
export const copyWords = (to: DataView, at: number, from: DataView, start: number, end: number): number => {
  let source = start;
  let target = at;
  for (const last = end - 8; source <= last; source += 8, target += 8) {
    to.setInt32(target, from.getInt32(source, true), true);
    to.setInt32(target + 4, from.getInt32(source + 4, true), true);
  }
  if (source <= end - 4) {
    to.setInt32(target, from.getInt32(source, true), true);
    source += 4;
    target += 4;
  }
  for (; source < end; source++, target++) to.setUint8(target, from.getUint8(source));
  return target;
};

/** Of all bytes of the buffer. */
export const wordsOf = ({ buffer, byteOffset, byteLength }: Uint8Array): DataView =>
  new DataView(buffer, byteOffset, byteLength);

const malformed = (what: string): never => {
  throw new TidelineError('malformed-frame', what);
};

/** Bounded reader: reading past the end throws `malformed-frame`; it never allocates from a length it read without checking it. */
export class ByteReader {
  readonly buffer: Buffer;
  position: number;
  readonly end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.byteLength) {
    this.buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.position = start;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  private take(length: number): number {
    const at = this.position;
    if (length > this.end - at) malformed(`needs ${length} bytes, ${this.end - at} left`);
    this.position = at + length;
    return at;
  }

  u8(): number {
    return this.buffer[this.take(1)];
  }

  u16(): number {
    const at = this.take(2);
    return this.buffer[at] | (this.buffer[at + 1] << 8);
  }

  u32(): number {
    return readU32(this.buffer, this.take(4));
  }

  /** A 64-bit unsigned number; more than 2^53 − 1 is malformed. */
  u64(): number {
    const value = readU64(this.buffer, this.take(8));
    if (!Number.isSafeInteger(value)) malformed('64-bit number out of range');
    return value;
  }

  offset(): Offset {
    return asOffset(this.u64());
  }

  /** LEB128, at most 53 bits. */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) malformed('varint out of range');
        return value;
      }
      scale *= 128;
    }
    return malformed('varint too long');
  }

  bool(): boolean {
    return this.u8() !== 0;
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    const at = this.take(length);
    return this.buffer.subarray(at, at + length);
  }

  /** varint length, then that many bytes; a view, not a copy. */
  lengthPrefixed(): Buffer {
    return this.bytes(this.varint());
  }

  /** varint length, then UTF-8. */
  string(): string {
    const length = this.varint();
    const at = this.take(length);
    return this.buffer.toString('utf8', at, at + length);
  }

  rest(): Buffer {
    return this.bytes(this.end - this.position);
  }
}

/** Growing writer. `finish()` hands out the bytes written so far as a view, good until something else is written in their place (`position` set back). */
export class ByteWriter {
  buffer: Buffer;
  position = 0;
  /** Of the buffer's bytes; null until they are copied by words. */
  private words: DataView | null = null;

  constructor(capacity = 256) {
    this.buffer = Buffer.allocUnsafe(capacity);
  }

  ensure(more: number): void {
    const needed = this.position + more;
    if (needed <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(grown, 0, 0, this.position);
    this.buffer = grown;
    this.words = null;
  }

  u8(value: number): this {
    this.ensure(1);
    this.buffer[this.position++] = value;
    return this;
  }

  u16(value: number): this {
    this.ensure(2);
    this.buffer[this.position++] = value;
    this.buffer[this.position++] = value >>> 8;
    return this;
  }

  u32(value: number): this {
    this.ensure(4);
    writeU32(this.buffer, this.position, value);
    this.position += 4;
    return this;
  }

  u64(value: number): this {
    this.ensure(8);
    writeU64(this.buffer, this.position, value);
    this.position += 8;
    return this;
  }

  varint(value: number): this {
    this.ensure(8);
    this.position = writeVarint(this.buffer, this.position, value);
    return this;
  }

  bool(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  bytes(value: Uint8Array): this {
    this.ensure(value.length);
    this.buffer.set(value, this.position);
    this.position += value.length;
    return this;
  }

  lengthPrefixed(value: Uint8Array): this {
    return this.varint(value.length).bytes(value);
  }

  /** Part of a buffer as `lengthPrefixed` writes a whole one. `words`: a view of the same buffer; null: there is none. */
  lengthPrefixedPart(bytes: Buffer, words: DataView | null, start: number, end: number): this {
    const length = end - start;
    this.varint(length).ensure(length);
    if (words !== null && length <= WORD_COPY_BYTES_MAX) {
      this.words ??= wordsOf(this.buffer);
      copyWords(this.words, this.position, words, start, end);
    } else bytes.copy(this.buffer, this.position, start, end);
    this.position += length;
    return this;
  }

  string(value: string): this {
    const length = Buffer.byteLength(value);
    this.varint(length);
    this.ensure(length);
    this.buffer.write(value, this.position, length, 'utf8');
    this.position += length;
    return this;
  }

  finish(): Buffer {
    return this.buffer.subarray(0, this.position);
  }
}

/** LEB128, at most 53 bits; there must be room for it. Returns where it ends. */
export const writeVarint = (buffer: Uint8Array, at: number, value: number): number => {
  let end = at;
  let rest = value;
  while (rest > 0x7f) {
    buffer[end++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  buffer[end++] = rest;
  return end;
};

/** Bytes a varint of this value takes, 1 … 8. */
export const varintSize = (value: number): number => {
  let size = 1;
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 128)) size++;
  return size;
};
