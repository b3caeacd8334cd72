import { crc32 } from 'node:zlib';
import {
  BATCH_BYTES_MAX,
  ByteReader,
  ByteWriter,
  SLOTS,
  TidelineError,
  isTidelineError,
  readU32,
  readU64,
  writeU32,
} from '#kernel';
import { crc32Combine } from './crc32-combine.js';

/**
 * Snapshot of one partition of a map view, version 2. Little endian. A row of sections, nothing between them, and a footer:
 *
 *     file     = preamble · slot* · table · footer
 *     preamble = head section · results section, one or more
 *     slot     = slot section · entries section*                  for each slot that has ever been used, rising
 *     section  = u32 length of the body · u8 kind · body · u32 CRC-32 of kind and body
 *
 *     1 head     u32 magic "TLVS" · u8 version (2) · u64 offset · u64 logTime · u64 malformedCount
 *                varint count × string content type · varint count × string data type      (tables that stored entries refer to)
 *     2 results  u64 evictedThrough
 *                varint count × (u64 firstOffset · u64 lastOffset · bool ok · string code, message, value · u64 entryOffset)
 *     3 slot     u8 slot · varint entries · u32 × 2 digest · u32 × 2 removed digest (see Slot)
 *     4 entries  stored entries of the last slot (stored-entry.ts), as many as make up an arena chunk, or one
 *     6 table    u64 bytes of the preamble · u32 CRC-32 of them
 *                varint count × (u8 slot · u64 position · u64 bytes · u32 CRC-32 of them · varint entries · u32 × 2 digest)
 *     footer     u64 position of the table section · u32 its bytes · u32 CRC-32 of these twelve bytes · u32 magic "TLVE"
 *
 * With preamble and table any slots can be read, verified and fetched alone, in any order (SlotsReader); from front to back it is read
 * without seeking (SnapshotReader). A section of entries is laid out like an arena chunk and becomes one: only the index is built.
 */
export const MAGIC = 0x53564c54;
const MAGIC_END = 0x45564c54;
export const VERSION = 2;
export const Section = { Head: 1, Results: 2, Slot: 3, Entries: 4, Table: 6 } as const;

export const SNAPSHOT_FOOTER_BYTES = 20;
/** Of a slot in the table. */
const SLOT_PLACE_BYTES_MIN = 30;

/** Where one slot lies in a snapshot, and what it holds. */
export interface SlotPlace {
  readonly slot: number;
  readonly position: number;
  readonly bytes: number;
  readonly crc: number;
  readonly entries: number;
  readonly digestA: number;
  readonly digestB: number;
}

export interface SnapshotTable {
  readonly preambleBytes: number;
  readonly preambleCrc: number;
  /** Rising. */
  readonly slots: readonly SlotPlace[];
}

export const SECTION_HEAD_BYTES = 5;
export const CRC_BYTES = 4;
/** An entry is no larger than the batch it came in; the rest is for names and headers. */
const SECTION_BYTES_MAX = 2 * BATCH_BYTES_MAX;

/** A section is begun, and its body follows. Returns where, for `endSection`. */
export const beginSection = (out: ByteWriter, kind: number): number => {
  const start = out.position;
  out.u32(0).u8(kind);
  return start;
};

/** Returns the checksum that ends it, of its kind and body. */
export const endSection = (out: ByteWriter, start: number): number => {
  writeU32(out.buffer, start, out.position - start - SECTION_HEAD_BYTES);
  const crc = crc32(out.buffer.subarray(start + 4, out.position));
  out.u32(crc);
  return crc;
};

const writeTable = (out: ByteWriter, { preambleBytes, preambleCrc, slots }: SnapshotTable): void => {
  const start = beginSection(out, Section.Table);
  out.u64(preambleBytes).u32(preambleCrc).varint(slots.length);
  for (const { slot, position, bytes, crc, entries, digestA, digestB } of slots) {
    out.u8(slot).u64(position).u64(bytes).u32(crc).varint(entries).u32(digestA).u32(digestB);
  }
  endSection(out, start);
};

export const readTable = (reader: ByteReader): SnapshotTable => {
  const preambleBytes = reader.u64();
  const preambleCrc = reader.u32();
  const count = reader.varint();
  if (count > SLOTS || count * SLOT_PLACE_BYTES_MIN > reader.remaining) damaged('its table does not fit');
  const slots: SlotPlace[] = [];
  let position = preambleBytes;
  for (let last = -1; slots.length < count;) {
    const place = {
      slot: reader.u8(),
      position: reader.u64(),
      bytes: reader.u64(),
      crc: reader.u32(),
      entries: reader.varint(),
      digestA: reader.u32(),
      digestB: reader.u32(),
    };
    if (place.slot <= last || place.position !== position) damaged('its table is out of order');
    last = place.slot;
    position += place.bytes;
    slots.push(place);
  }
  return { preambleBytes, preambleCrc, slots };
};

/** Table and footer, after `position` bytes. */
export const writeEnd = (out: ByteWriter, position: number, table: SnapshotTable): void => {
  const start = out.position;
  writeTable(out, table);
  const bytes = out.position - start;
  const footer = out.position;
  out.u64(position).u32(bytes);
  out.u32(crc32(out.buffer.subarray(footer, out.position))).u32(MAGIC_END);
};

/** Where the table section is, from the last SNAPSHOT_FOOTER_BYTES of a snapshot. @throws TidelineError `storage-damaged` */
export const decodeSnapshotFooter = (footer: Buffer, fileBytes: number): { position: number; bytes: number } => {
  if (footer.length !== SNAPSHOT_FOOTER_BYTES || readU32(footer, 16) !== MAGIC_END) damaged('it has no end');
  if (crc32(footer.subarray(0, 12)) !== readU32(footer, 12)) damaged('a checksum does not match at its end');
  const position = readU64(footer, 0);
  const bytes = readU32(footer, 8);
  if (position + bytes + SNAPSHOT_FOOTER_BYTES !== fileBytes) damaged('its end is not where it says');
  return { position, bytes };
};

/** The table section. @throws TidelineError `storage-damaged` */
export const decodeSnapshotTable = (section: Buffer): SnapshotTable =>
  asDamage(() => {
    const sections = new SectionReader();
    let table: SnapshotTable | null = null;
    sections.push(section, (kind, body) => {
      if (kind !== Section.Table || table !== null) damaged('its table is not where it should be');
      table = readWhole(body, readTable);
    });
    if (table === null || !sections.atBoundary) damaged('its table is cut off');
    return table!;
  });

/** As `decodeSnapshotTable` reads it; for a catalog. */
export const encodeSnapshotTable = (table: SnapshotTable): Buffer => {
  const out = new ByteWriter(16 * 1024);
  writeTable(out, table);
  return out.finish();
};

export const damaged = (what: string): never => {
  throw new TidelineError('storage-damaged', `the snapshot is damaged: ${what}`);
};

/** Runs it; bytes that do not parse are damage. */
export const asDamage = <T>(read: () => T): T => {
  try {
    return read();
  } catch (error) {
    if (!isTidelineError(error, 'malformed-frame')) throw error;
    throw new TidelineError('storage-damaged', `the snapshot is damaged: ${error.message}`, { cause: error });
  }
};

export const readWhole = <T>(body: Buffer, read: (reader: ByteReader) => T): T => {
  const reader = new ByteReader(body);
  const value = read(reader);
  if (reader.remaining > 0) damaged('a section is too long');
  return value;
};

/**
 * Checksum of bytes and the section after them, from theirs; the body is not gone through again. `ends`: its first four bytes and its last four.
 */
export const addSection = (
  before: number,
  section: { readonly crc: number; readonly bodyBytes: number; readonly ends: readonly [Buffer, Buffer] },
): number => {
  const { crc, bodyBytes, ends } = section;
  return crc32(ends[1], crc32Combine(crc32(ends[0], before), crc, bodyBytes + 1));
};

const NO_BYTES = Buffer.alloc(0);

/** Cuts bytes that come in pieces of any size into sections, and checks their checksums. A body is good until the next piece is pushed or the next section visited. */
export class SectionReader {
  private readonly head = Buffer.alloc(SECTION_HEAD_BYTES);
  private readonly crc = Buffer.alloc(CRC_BYTES);
  private body: Buffer | null = null;
  /** Bodies are made in it one after the other. */
  private memory = NO_BYTES;
  /** Bytes of the section at hand that have come. */
  private got = 0;
  /** Of all sections so far. */
  checksum = 0;

  get atBoundary(): boolean {
    return this.got === 0;
  }

  /** Bytes of the piece that were taken: all, unless `visit` says false, after which nothing more is. */
  push(piece: Uint8Array, visit: (kind: number, body: Buffer) => boolean | void): number {
    let at = 0;
    while (at < piece.length) {
      if (this.got < SECTION_HEAD_BYTES) {
        at = this.copy(piece, at, this.head, 0);
        if (this.got < SECTION_HEAD_BYTES) continue;
        const length = readU32(this.head, 0);
        if (length > SECTION_BYTES_MAX) damaged(`a section of ${length} bytes`);
        if (length > this.memory.length) this.memory = Buffer.allocUnsafeSlow(length);
        this.body = this.memory.subarray(0, length);
        continue;
      }
      const body = this.body!;
      const bodyEnd = SECTION_HEAD_BYTES + body.length;
      if (this.got < bodyEnd) {
        at = this.copy(piece, at, body, SECTION_HEAD_BYTES);
        continue;
      }
      at = this.copy(piece, at, this.crc, bodyEnd);
      if (this.got < bodyEnd + CRC_BYTES) continue;
      const crc = crc32(body, crc32(this.head.subarray(4)));
      if (crc !== readU32(this.crc, 0)) damaged('a checksum does not match');
      const ends = [this.head.subarray(0, 4), this.crc] as const;
      this.checksum = addSection(this.checksum, { crc, bodyBytes: body.length, ends });
      this.body = null;
      this.got = 0;
      if (visit(this.head[4], body) === false) break;
    }
    return at;
  }

  /** Fills `to`, which starts at `base` of the section, with what it still lacks. Returns where the piece goes on. */
  private copy(piece: Uint8Array, start: number, to: Buffer, base: number): number {
    const have = this.got - base;
    const end = Math.min(piece.length, start + to.length - have);
    to.set(piece.subarray(start, end), have);
    this.got += end - start;
    return end;
  }
}
