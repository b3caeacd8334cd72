import { crc32 } from 'node:zlib';
import {
  BATCH_BYTES_MAX,
  ByteReader,
  ByteWriter,
  TidelineError,
  asLogTime,
  asOffset,
  hashKey,
  isTidelineError,
  readU32,
  slotOf,
  writeU32,
  type LogTime,
  type Offset,
} from '#kernel';
import type { KeptResult } from './result-ring.js';
import type { FrozenSlot } from './slot.js';
import { StoredEntry, copyBytes } from './stored-entry.js';
import { ViewState } from './view-state.js';

/**
 * Snapshot of one partition of a map view, version 1. Little endian. A row of sections, nothing between or after them:
 *
 *     section  = u32 length of the body · u8 kind · body · u32 CRC-32 of kind and body
 *
 *     1 head     u32 magic "TLVS" · u8 version (1) · u64 offset · u64 logTime · u64 malformedCount
 *                varint count × string content type · varint count × string data type      (tables that stored entries refer to)
 *     2 results  u64 evictedThrough
 *                varint count × (u64 firstOffset · u64 lastOffset · bool ok · string code, message, value · u64 entryOffset)
 *     3 slot     u8 slot · varint entries · u32 × 2 digest · u32 × 2 removed digest (see Slot)
 *     4 entries  stored entries of the last slot (stored-entry.ts), as many as fit a block
 *     5 end      varint slots · varint entries
 *
 * Order: head, results (one or more), then for each slot that has ever been used, rising, its slot section and its entries; end.
 * A block of entries is laid out like an arena chunk and becomes one when it is loaded: only the index is built.
 */
const MAGIC = 0x53564c54;
const VERSION = 1;
const Section = { Head: 1, Results: 2, Slot: 3, Entries: 4, End: 5 } as const;

/** Size of a block of entries, and of the buffers a writer yields, unless one entry is larger. */
export const SNAPSHOT_BLOCK_BYTES = 128 * 1024;
const SECTION_HEAD_BYTES = 5;
const CRC_BYTES = 4;
/** An entry is no larger than the batch it came in; the rest is for names and headers. */
const SECTION_BYTES_MAX = 2 * BATCH_BYTES_MAX;
/** Of a stored result without its texts, about. */
const RESULT_BYTES = 48;
/** Room is made at once for this many entries of a slot at most. */
const RESERVED_ENTRIES_MAX = 2 ** 20;

/** What a view gives away to be written while it goes on. */
export interface FrozenView {
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly malformedCount: number;
  readonly contentTypes: readonly string[];
  readonly dataTypes: readonly string[];
  readonly evictedThrough: Offset;
  readonly results: readonly KeptResult[];
  readonly slots: readonly FrozenSlot[];
}

/** Iterates over the bytes of a snapshot in buffers of about SNAPSHOT_BLOCK_BYTES; making one takes a bounded time. Iterate once. */
export class SnapshotWriter implements Iterable<Buffer> {
  private readonly entry = new StoredEntry();

  constructor(private readonly view: FrozenView) {}

  /** The view's position when it was frozen. */
  get offset(): Offset {
    return this.view.offset;
  }

  get logTime(): LogTime {
    return this.view.logTime;
  }

  get entries(): number {
    return this.view.slots.reduce((sum, slot) => sum + slot.count, 0);
  }

  /** Lets go of the frozen state when it is not iterated to the end. */
  release(): void {
    for (const slot of this.view.slots) slot.release();
  }

  *[Symbol.iterator](): Generator<Buffer, void, undefined> {
    const { view } = this;
    try {
      let out = newBlock();
      writeSection(out, Section.Head, (writer) => {
        writer.u32(MAGIC).u8(VERSION).u64(view.offset).u64(view.logTime).u64(view.malformedCount);
        for (const names of [view.contentTypes, view.dataTypes]) {
          writer.varint(names.length);
          for (const name of names) writer.string(name);
        }
      });
      let at = 0;
      do {
        const end = endOfSection(view.results, at);
        writeSection(out, Section.Results, (writer) =>
          writeResults(writer, view.evictedThrough, view.results.slice(at, end)),
        );
        at = end;
        if (out.position >= SNAPSHOT_BLOCK_BYTES) {
          yield out.finish();
          out = newBlock();
        }
      } while (at < view.results.length);
      for (const slot of view.slots) {
        writeSection(out, Section.Slot, (writer) => {
          writer.u8(slot.number).varint(slot.count);
          writer.u32(slot.digestA).u32(slot.digestB).u32(slot.removedA).u32(slot.removedB);
        });
        if (slot.next(this.entry)) {
          do {
            if (out.position + SECTION_HEAD_BYTES + this.entry.end - this.entry.start > SNAPSHOT_BLOCK_BYTES) {
              yield out.finish();
              out = newBlock();
            }
          } while (this.writeEntries(slot, out));
        }
        slot.release();
      }
      writeSection(out, Section.End, (writer) => writer.varint(view.slots.length).varint(this.entries));
      yield out.finish();
    } finally {
      this.release();
    }
  }

  /** A section with the entry at hand and as many more as fit. False: there are no more in the slot. */
  private writeEntries(slot: FrozenSlot, out: ByteWriter): boolean {
    const { entry } = this;
    let more = true;
    writeSection(out, Section.Entries, (writer) => {
      do {
        const { chunk, start, end } = entry;
        writer.ensure(end - start);
        copyBytes(writer.buffer, writer.position, chunk, start, end);
        writer.position += end - start;
        more = slot.next(entry);
      } while (more && writer.position + entry.end - entry.start <= SNAPSHOT_BLOCK_BYTES);
    });
    return more;
  }
}

/** With room for the checksum of a section that fills it. */
const newBlock = (): ByteWriter => new ByteWriter(SNAPSHOT_BLOCK_BYTES + 64);

const writeSection = (out: ByteWriter, kind: number, body: (writer: ByteWriter) => void): void => {
  const start = out.position;
  out.u32(0).u8(kind);
  body(out);
  writeU32(out.buffer, start, out.position - start - SECTION_HEAD_BYTES);
  out.u32(crc32(out.buffer.subarray(start + 4, out.position)));
};

/** As many results as make up about a block, but at least one. */
const endOfSection = (results: readonly KeptResult[], start: number): number => {
  let at = start;
  for (let bytes = 0; at < results.length && bytes < SNAPSHOT_BLOCK_BYTES; at++) {
    const { message, value } = results[at].result;
    bytes += RESULT_BYTES + message.length + value.length;
  }
  return at;
};

const writeResults = (writer: ByteWriter, evictedThrough: Offset, results: readonly KeptResult[]): void => {
  writer.u64(evictedThrough).varint(results.length);
  for (const { firstOffset, lastOffset, result } of results) {
    writer.u64(firstOffset).u64(lastOffset).bool(result.ok);
    writer.string(result.code).string(result.message).string(result.value).u64(result.entryOffset);
  }
};

const damaged = (what: string): never => {
  throw new TidelineError('storage-damaged', `the snapshot is damaged: ${what}`);
};

/** Builds a view's state from the bytes of a snapshot, given in pieces of any size. Checks everything: checksums, digests, counts. */
export class SnapshotReader {
  private readonly state: ViewState;
  private readonly head = Buffer.alloc(SECTION_HEAD_BYTES);
  private readonly crc = Buffer.alloc(CRC_BYTES);
  private body: Buffer | null = null;
  /** Bytes of the section at hand that have come. */
  private got = 0;
  private lastKind = 0;
  private entries = 0;
  private slots = 0;
  /** The slot section whose entries are being read. */
  private slot = -1;
  private slotEntries = 0;
  private readonly digest = { a: 0, b: 0, removedA: 0, removedB: 0 };
  private failure: unknown = undefined;

  constructor(resultsMax?: number) {
    this.state = new ViewState(resultsMax);
  }

  /** @throws TidelineError `storage-damaged` | `unsupported-version`, and again on every later call */
  push(piece: Uint8Array): void {
    if (this.failure !== undefined) throw this.failure;
    try {
      for (let at = 0; at < piece.length;) at = this.take(piece, at);
    } catch (error) {
      this.failure = isTidelineError(error, 'malformed-frame')
        ? new TidelineError('storage-damaged', `the snapshot is damaged: ${error.message}`, { cause: error })
        : error;
      throw this.failure;
    }
  }

  /** The state, when all pieces were given. @throws TidelineError `storage-damaged` | `unsupported-version` */
  finish(): ViewState {
    if (this.failure !== undefined) throw this.failure;
    if (this.lastKind !== Section.End || this.got !== 0) damaged('it ends too early');
    return this.state;
  }

  private take(piece: Uint8Array, start: number): number {
    if (this.got < SECTION_HEAD_BYTES) {
      const end = this.copy(piece, start, this.head, 0);
      if (this.got < SECTION_HEAD_BYTES) return end;
      if (this.lastKind === Section.End) damaged('something follows its end');
      const length = readU32(this.head, 0);
      if (length > SECTION_BYTES_MAX) damaged(`a section of ${length} bytes`);
      this.body = Buffer.allocUnsafeSlow(length);
      return end;
    }
    const body = this.body!;
    const bodyEnd = SECTION_HEAD_BYTES + body.length;
    if (this.got < bodyEnd) return this.copy(piece, start, body, SECTION_HEAD_BYTES);
    const end = this.copy(piece, start, this.crc, bodyEnd);
    if (this.got === bodyEnd + CRC_BYTES) {
      if (crc32(body, crc32(this.head.subarray(4))) !== readU32(this.crc, 0)) damaged('a checksum does not match');
      this.body = null;
      this.got = 0;
      this.section(this.head[4], body);
    }
    return end;
  }

  /** Fills `to`, which starts at `base` of the section, with what it still lacks. Returns where the piece goes on. */
  private copy(piece: Uint8Array, start: number, to: Buffer, base: number): number {
    const have = this.got - base;
    const end = Math.min(piece.length, start + to.length - have);
    to.set(piece.subarray(start, end), have);
    this.got += end - start;
    return end;
  }

  private section(kind: number, body: Buffer): void {
    const reader = new ByteReader(body);
    if ((kind === Section.Head) !== (this.lastKind === 0)) damaged('its head is not where it should be');
    this.lastKind = kind;
    if (kind === Section.Entries) {
      if (this.slot < 0) damaged('entries without a slot');
      this.readEntries(body);
      return;
    }
    if (kind === Section.Head) this.readHead(reader);
    else if (kind === Section.Results) this.readResults(reader);
    else if (kind === Section.Slot) this.readSlot(reader);
    else if (kind === Section.End) this.readEnd(reader);
    else damaged(`a section of kind ${kind}`);
    if (reader.remaining > 0) damaged('a section is too long');
  }

  private readHead(reader: ByteReader): void {
    const { state } = this;
    if (reader.u32() !== MAGIC) damaged('it is not a snapshot of a view');
    const version = reader.u8();
    if (version !== VERSION) throw new TidelineError('unsupported-version', `view snapshot version ${version}`);
    state.offset = reader.offset();
    state.logTime = asLogTime(reader.u64());
    state.malformedCount = reader.u64();
    for (const table of [state.contentTypes, state.dataTypes]) {
      for (let left = reader.varint(); left > 0; left--) table.load(reader.string());
    }
  }

  private readResults(reader: ByteReader): void {
    const { results } = this.state;
    results.evictedThrough = asOffset(Math.max(results.evictedThrough, reader.offset()));
    for (let left = reader.varint(); left > 0; left--) {
      const firstOffset = reader.offset();
      const lastOffset = reader.offset();
      const ok = reader.bool();
      const code = reader.string();
      const message = reader.string();
      const value = reader.string();
      results.add(firstOffset, lastOffset, { ok, code, message, value, entryOffset: reader.offset() });
    }
  }

  private readSlot(reader: ByteReader): void {
    this.endSlot();
    const number = reader.u8();
    if (number <= this.slot) damaged('slots out of order');
    this.slot = number;
    this.slotEntries = reader.varint();
    this.digest.a = reader.u32();
    this.digest.b = reader.u32();
    this.digest.removedA = reader.u32();
    this.digest.removedB = reader.u32();
    this.slots++;
    this.state.slot(number).reserve(Math.min(this.slotEntries, RESERVED_ENTRIES_MAX));
  }

  private readEntries(body: Buffer): void {
    const { state } = this;
    const { entry } = state;
    const slot = state.slot(this.slot);
    const chunk = slot.adopt(body);
    let at = 0;
    while (at < body.length) {
      if (!entry.readChecked(body, at, body.length)) damaged('an entry does not parse');
      if (entry.contentType >= state.contentTypes.names.length || entry.dataType >= state.dataTypes.names.length) {
        damaged('an entry has an unknown type');
      }
      const hash = hashKey(body, entry.keyStart, entry.keyEnd);
      if (slotOf(hash) !== this.slot) damaged('an entry is in the wrong slot');
      at = entry.end;
      if (!slot.adoptEntry(chunk, hash)) damaged('a key comes twice');
    }
  }

  private endSlot(): void {
    if (this.slot < 0) return;
    const slot = this.state.slot(this.slot);
    if (slot.count !== this.slotEntries) damaged(`${slot.count} entries in a slot of ${this.slotEntries}`);
    if (!slot.closeAdoption(this.digest)) damaged(`the digest of slot ${this.slot} does not match`);
    this.entries += slot.count;
  }

  private readEnd(reader: ByteReader): void {
    this.endSlot();
    if (reader.varint() !== this.slots || reader.varint() !== this.entries) damaged('slots or entries are missing');
  }
}
