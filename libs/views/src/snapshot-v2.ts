import { crc32 } from 'node:zlib';
import {
  BATCH_BYTES_MAX,
  ByteReader,
  ByteWriter,
  SLOTS,
  TidelineError,
  asLogTime,
  asOffset,
  assert,
  hashKey,
  isTidelineError,
  readU32,
  readU64,
  slotOf,
  writeU32,
  type LogTime,
  type Offset,
} from '#kernel';
import type { ExportedEntry } from '#wire';
import type { KeptResult } from './result-ring.js';
import type { FrozenSlot, Slot } from './slot.js';
import { StoredEntry, copyBytes } from './stored-entry.js';
import { ViewState, type ViewStateOptions } from './view-state.js';

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
 *     4 entries  stored entries of the last slot (stored-entry.ts), as many as fit a block
 *     6 table    u64 bytes of the preamble · u32 CRC-32 of them
 *                varint count × (u8 slot · u64 position · u64 bytes · u32 CRC-32 of them · varint entries · u32 × 2 digest)
 *     footer     u64 position of the table section · u32 its bytes · u32 CRC-32 of these twelve bytes · u32 magic "TLVE"
 *
 * With preamble and table any slots can be read, verified and fetched alone, in any order (SlotsReader); from front to back it is read
 * without seeking (SnapshotReader). A block of entries is laid out like an arena chunk and becomes one: only the index is built.
 */
const MAGIC = 0x53564c54;
const MAGIC_END = 0x45564c54;
const VERSION = 2;
const Section = { Head: 1, Results: 2, Slot: 3, Entries: 4, Table: 6 } as const;

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
  private written: SnapshotTable | null = null;

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

  /** When everything was iterated over. */
  get table(): SnapshotTable {
    assert(this.written !== null, 'a snapshot is not written to its end');
    return this.written;
  }

  /** Lets go of the frozen state when it is not iterated to the end. */
  release(): void {
    for (const slot of this.view.slots) slot.release();
  }

  *[Symbol.iterator](): Generator<Buffer, void, undefined> {
    const { view } = this;
    /** Before the block at hand. */
    let yielded = 0;
    let out = newBlock();
    /** Of the preamble or slot at hand: where it began, the CRC of its bytes in earlier blocks, where it goes on in this one. */
    let begin = 0;
    let crc = 0;
    let from = 0;
    const nextBlock = (): Buffer => {
      const block = out.finish();
      crc = crc32(block.subarray(from), crc);
      yielded += block.length;
      out = newBlock();
      from = 0;
      return block;
    };
    const end = (): { position: number; bytes: number; crc: number } => {
      const position = yielded + out.position;
      const range = {
        position: begin,
        bytes: position - begin,
        crc: crc32(out.buffer.subarray(from, out.position), crc),
      };
      begin = position;
      crc = 0;
      from = out.position;
      return range;
    };
    const places: SlotPlace[] = [];
    try {
      writeSection(out, Section.Head, (writer) => {
        writer.u32(MAGIC).u8(VERSION).u64(view.offset).u64(view.logTime).u64(view.malformedCount);
        for (const names of [view.contentTypes, view.dataTypes]) {
          writer.varint(names.length);
          for (const name of names) writer.string(name);
        }
      });
      let at = 0;
      do {
        const until = endOfSection(view.results, at);
        writeSection(out, Section.Results, (writer) =>
          writeResults(writer, view.evictedThrough, view.results.slice(at, until)),
        );
        at = until;
        if (out.position >= SNAPSHOT_BLOCK_BYTES) yield nextBlock();
      } while (at < view.results.length);
      const preamble = end();
      for (const slot of view.slots) {
        writeSection(out, Section.Slot, (writer) => {
          writer.u8(slot.number).varint(slot.count);
          writer.u32(slot.digestA).u32(slot.digestB).u32(slot.removedA).u32(slot.removedB);
        });
        if (slot.next(this.entry)) {
          do {
            if (out.position + SECTION_HEAD_BYTES + this.entry.end - this.entry.start > SNAPSHOT_BLOCK_BYTES) {
              yield nextBlock();
            }
          } while (this.writeEntries(slot, out));
        }
        slot.release();
        const digest = { digestA: slot.digestA >>> 0, digestB: slot.digestB >>> 0 };
        places.push({ slot: slot.number, ...end(), entries: slot.count, ...digest });
      }
      this.written = { preambleBytes: preamble.bytes, preambleCrc: preamble.crc, slots: places };
      const tablePosition = yielded + out.position;
      writeSection(out, Section.Table, (writer) => writeTable(writer, this.written!));
      writeFooter(out, tablePosition, yielded + out.position - tablePosition);
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

const writeTable = (writer: ByteWriter, { preambleBytes, preambleCrc, slots }: SnapshotTable): void => {
  writer.u64(preambleBytes).u32(preambleCrc).varint(slots.length);
  for (const { slot, position, bytes, crc, entries, digestA, digestB } of slots) {
    writer.u8(slot).u64(position).u64(bytes).u32(crc).varint(entries).u32(digestA).u32(digestB);
  }
};

const readTable = (reader: ByteReader): SnapshotTable => {
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

const writeFooter = (out: ByteWriter, position: number, bytes: number): void => {
  const start = out.position;
  out.u64(position).u32(bytes);
  out.u32(crc32(out.buffer.subarray(start, out.position))).u32(MAGIC_END);
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
  writeSection(out, Section.Table, (writer) => writeTable(writer, table));
  return out.finish();
};

const damaged = (what: string): never => {
  throw new TidelineError('storage-damaged', `the snapshot is damaged: ${what}`);
};

/** Runs it; bytes that do not parse are damage. */
const asDamage = <T>(read: () => T): T => {
  try {
    return read();
  } catch (error) {
    if (!isTidelineError(error, 'malformed-frame')) throw error;
    throw new TidelineError('storage-damaged', `the snapshot is damaged: ${error.message}`, { cause: error });
  }
};

const readWhole = <T>(body: Buffer, read: (reader: ByteReader) => T): T => {
  const reader = new ByteReader(body);
  const value = read(reader);
  if (reader.remaining > 0) damaged('a section is too long');
  return value;
};

/** Cuts bytes that come in pieces of any size into sections, and checks their checksums. */
class SectionReader {
  private readonly head = Buffer.alloc(SECTION_HEAD_BYTES);
  private readonly crc = Buffer.alloc(CRC_BYTES);
  private body: Buffer | null = null;
  /** Bytes of the section at hand that have come. */
  private got = 0;

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
        this.body = Buffer.allocUnsafeSlow(length);
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
      if (crc32(body, crc32(this.head.subarray(4))) !== readU32(this.crc, 0)) damaged('a checksum does not match');
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

/** Reads head and results into an empty state. */
class PreambleReader {
  private lastKind = 0;

  constructor(private readonly state: ViewState) {}

  get complete(): boolean {
    return this.lastKind === Section.Results;
  }

  section(kind: number, body: Buffer): void {
    if ((kind === Section.Head) !== (this.lastKind === 0)) damaged('its head is not where it should be');
    if (kind === Section.Head) readWhole(body, (reader) => this.readHead(reader));
    else if (kind === Section.Results) readWhole(body, (reader) => this.readResults(reader));
    else damaged(`a section of kind ${kind}`);
    this.lastKind = kind;
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
}

/** Builds one slot. It is part of the state only when it is whole and adds up to its digest. */
class SlotReader {
  private slot: Slot | null = null;
  private entries = 0;
  private readonly digest = { a: 0, b: 0, removedA: 0, removedB: 0 };

  constructor(private readonly state: ViewState) {}

  section(kind: number, body: Buffer): void {
    if (kind === Section.Slot && this.slot === null) readWhole(body, (reader) => this.readSlot(reader));
    else if (kind === Section.Entries && this.slot !== null) this.readEntries(body, this.slot);
    else damaged(`a section of kind ${kind}`);
  }

  private readSlot(reader: ByteReader): void {
    const number = reader.u8();
    this.entries = reader.varint();
    this.digest.a = reader.u32();
    this.digest.b = reader.u32();
    this.digest.removedA = reader.u32();
    this.digest.removedB = reader.u32();
    if (this.state.slots[number] !== null) damaged('slots out of order');
    this.slot = this.state.newSlot(number);
    this.slot.reserve(Math.min(this.entries, RESERVED_ENTRIES_MAX));
  }

  private readEntries(body: Buffer, slot: Slot): void {
    const { state } = this;
    const { entry } = state;
    const chunk = slot.adopt(body);
    let at = 0;
    while (at < body.length) {
      if (!entry.readChecked(body, at, body.length)) damaged('an entry does not parse');
      if (entry.contentType >= state.contentTypes.names.length || entry.dataType >= state.dataTypes.names.length) {
        damaged('an entry has an unknown type');
      }
      const hash = hashKey(body, entry.keyStart, entry.keyEnd);
      if (slotOf(hash) !== slot.number) damaged('an entry is in the wrong slot');
      at = entry.end;
      if (!slot.adoptEntry(chunk, hash)) damaged('a key comes twice');
    }
  }

  /** The slot is part of the state from now on. */
  finish(): Slot {
    const { slot } = this;
    if (slot === null) return damaged('a slot is empty');
    if (slot.count !== this.entries) damaged(`${slot.count} entries in a slot of ${this.entries}`);
    if (!slot.closeAdoption(this.digest)) damaged(`the digest of slot ${slot.number} does not match`);
    this.state.slots[slot.number] = slot;
    return slot;
  }

  /** It is not to be: nothing of it stays. */
  abandon(): void {
    if (this.slot !== null) this.state.earliestExpiries.set(this.slot.number, Infinity);
  }
}

/** Builds a view's state from the bytes of a snapshot, given in pieces of any size. Checks everything: checksums, digests, counts. */
export class SnapshotReader {
  private readonly state: ViewState;
  private readonly sections = new SectionReader();
  private readonly preamble: PreambleReader;
  private slot: SlotReader | null = null;
  private readonly read: { slot: number; entries: number; digestA: number; digestB: number }[] = [];
  private table: SnapshotTable | null = null;
  private readonly footer: Buffer[] = [];
  private bytes = 0;
  private failure: unknown = undefined;

  constructor(options?: ViewStateOptions) {
    this.state = new ViewState(options);
    this.preamble = new PreambleReader(this.state);
  }

  /** @throws TidelineError `storage-damaged` | `unsupported-version`, and again on every later call */
  push(piece: Uint8Array): void {
    if (this.failure !== undefined) throw this.failure;
    try {
      asDamage(() => this.take(piece));
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }

  private take(piece: Uint8Array): void {
    const end = this.table === null ? this.sections.push(piece, this.section) : 0;
    this.bytes += piece.length;
    if (this.table === null || end === piece.length) return;
    this.footer.push(Buffer.from(piece.subarray(end)));
    if (this.footer.reduce((sum, part) => sum + part.length, 0) > SNAPSHOT_FOOTER_BYTES)
      damaged('something follows its end');
  }

  private readonly section = (kind: number, body: Buffer): boolean => {
    if (kind === Section.Slot || kind === Section.Table) {
      if (!this.preamble.complete) damaged('its head is not where it should be');
      this.endSlot();
    }
    if (kind === Section.Table) {
      this.table = readWhole(body, readTable);
      return false;
    }
    if (kind === Section.Slot) this.slot = new SlotReader(this.state);
    if (this.slot !== null) this.slot.section(kind, body);
    else this.preamble.section(kind, body);
    return true;
  };

  private endSlot(): void {
    if (this.slot === null) return;
    const { number, count, digestA, digestB } = this.slot.finish();
    this.read.push({ slot: number, entries: count, digestA: digestA >>> 0, digestB: digestB >>> 0 });
    this.slot = null;
  }

  /** The state, when all pieces were given. @throws TidelineError `storage-damaged` | `unsupported-version` */
  finish(): ViewState {
    if (this.failure !== undefined) throw this.failure;
    if (this.table === null) return damaged('it ends too early');
    decodeSnapshotFooter(Buffer.concat(this.footer), this.bytes);
    const told = this.table.slots.map(({ slot, entries, digestA, digestB }) => ({ slot, entries, digestA, digestB }));
    if (JSON.stringify(told) !== JSON.stringify(this.read)) damaged('slots or entries are missing');
    return this.state;
  }
}

/**
 * Builds a view's state from chosen slots of a snapshot. A slot that is damaged, or that does not come, leaves nothing behind and is no
 * matter to the others.
 */
export class SlotsReader {
  readonly state: ViewState;
  private place: SlotPlace | null = null;
  private sections = new SectionReader();
  private slot: SlotReader;
  private bytes = 0;
  private crc = 0;

  /** @throws TidelineError `storage-damaged` | `unsupported-version` */
  constructor(
    preamble: Buffer,
    private readonly table: SnapshotTable,
    options?: ViewStateOptions,
  ) {
    const state = new ViewState(options);
    this.state = state;
    this.slot = new SlotReader(state);
    if (preamble.length !== table.preambleBytes || crc32(preamble) !== table.preambleCrc) {
      damaged('its head is not what the table says');
    }
    asDamage(() => {
      const sections = new SectionReader();
      const reader = new PreambleReader(state);
      sections.push(preamble, (kind, body) => reader.section(kind, body));
      if (!reader.complete || !sections.atBoundary) damaged('its head is cut off');
    });
  }

  /** The next pieces are of this slot. One that was begun and not ended is dropped. */
  begin(place: SlotPlace): void {
    assert(this.table.slots.includes(place), 'a slot of another snapshot');
    this.abandon();
    this.place = place;
  }

  /** @throws TidelineError `storage-damaged`: the slot is lost */
  push(piece: Uint8Array): void {
    assert(this.place !== null, 'a piece of no slot');
    try {
      this.bytes += piece.length;
      this.crc = crc32(piece, this.crc);
      asDamage(() => this.sections.push(piece, (kind, body) => this.slot.section(kind, body)));
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** All pieces of the slot were given. @throws TidelineError `storage-damaged`: the slot is lost */
  end(): void {
    const { place } = this;
    assert(place !== null, 'the end of no slot');
    try {
      if (this.bytes !== place.bytes || !this.sections.atBoundary) damaged(`slot ${place.slot} is cut off`);
      if (this.crc !== place.crc) damaged(`slot ${place.slot} is not what the table says`);
      const { number } = this.slot.finish();
      assert(number === place.slot, 'a checksum that is right for the wrong slot');
    } catch (error) {
      this.abandon();
      throw error;
    }
    this.reset();
  }

  /** Nothing of the slot at hand stays. */
  abandon(): void {
    if (this.place === null) return;
    this.slot.abandon();
    this.reset();
  }

  private reset(): void {
    this.place = null;
    this.sections = new SectionReader();
    this.slot = new SlotReader(this.state);
    this.bytes = this.crc = 0;
  }
}

/** The live entries of a snapshot, slot by slot, for an export. */
export class SnapshotEntries {
  private readonly reader: SlotsReader;

  /** @throws TidelineError `storage-damaged` | `unsupported-version` */
  constructor(preamble: Buffer, table: SnapshotTable) {
    this.reader = new SlotsReader(preamble, table);
  }

  /** All bytes of the slot; in no order. @throws TidelineError `storage-damaged` */
  entriesOf(place: SlotPlace, bytes: Buffer): ExportedEntry[] {
    const { reader } = this;
    const { state } = reader;
    reader.begin(place);
    reader.push(bytes);
    reader.end();
    const entries: ExportedEntry[] = [];
    state.slots[place.slot]!.forEach((_hash, stored) => {
      if (stored.expiresAt <= state.logTime) return;
      const { key, value, contentType } = state.viewOf(stored);
      entries.push({
        key,
        value,
        contentType,
        expiresAt: stored.ttlEnd === Infinity ? null : asLogTime(stored.ttlEnd),
        dataType: stored.dataType < 0 ? null : state.dataTypes.names[stored.dataType],
      });
    });
    state.dropSlot(place.slot);
    return entries;
  }
}
