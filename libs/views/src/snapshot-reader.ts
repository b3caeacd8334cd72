import { crc32 } from 'node:zlib';
import { TidelineError, asLogTime, asOffset, assert, hashKey, slotOf, type ByteReader } from '#kernel';
import type { ExportedEntry } from '#wire';
import { CHUNK_BYTES_MAX, SHARED_ENTRY_BYTES_MAX, type Slot } from './slot.js';
import {
  MAGIC,
  Section,
  SectionReader,
  VERSION,
  asDamage,
  damaged,
  decodeSnapshotFooter,
  readTable,
  readWhole,
  SNAPSHOT_FOOTER_BYTES,
  type SlotPlace,
  type SnapshotTable,
} from './snapshot-v2.js';
import { ENTRY_ALIGNMENT } from './stored-entry.js';
import { ViewState, type ViewStateOptions } from './view-state.js';

/** Room is made at once for this many entries of a slot at most. */
const RESERVED_ENTRIES_MAX = 2 ** 20;

/** In the place of a location. */
const NOT_APPENDED = -1;

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
    // In one go, up to the first entry that has to lie by itself; what comes from there on is put in one by one.
    let appended = body.length <= CHUNK_BYTES_MAX ? slot.append(body) : NOT_APPENDED;
    let at = 0;
    while (at < body.length) {
      if (!entry.readChecked(body, at, body.length)) damaged('an entry does not parse');
      if (entry.contentType >= state.contentTypes.names.length || entry.dataType >= state.dataTypes.names.length) {
        damaged('an entry has an unknown type');
      }
      const hash = hashKey(body, entry.keyStart, entry.keyEnd);
      if (slotOf(hash) !== slot.number) damaged('an entry is in the wrong slot');
      if (appended !== NOT_APPENDED && entry.end - at > SHARED_ENTRY_BYTES_MAX) {
        slot.takeBack(body.length - at);
        appended = NOT_APPENDED;
      }
      const isNew = appended === NOT_APPENDED ? slot.insert(hash) : slot.adopt(hash, appended + at / ENTRY_ALIGNMENT);
      if (!isNew) damaged('a key comes twice');
      at = entry.end;
    }
  }

  /** The slot is part of the state from now on. */
  finish(): Slot {
    const { slot } = this;
    if (slot === null) return damaged('a slot is empty');
    if (slot.count !== this.entries) damaged(`${slot.count} entries in a slot of ${this.entries}`);
    if (!slot.closeWith(this.digest)) damaged(`the digest of slot ${slot.number} does not match`);
    this.state.slots[slot.number] = slot;
    return slot;
  }

  /** It is not to be: nothing of it stays. */
  abandon(): void {
    this.slot?.dispose();
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
      if (this.sections.checksum !== place.crc) damaged(`slot ${place.slot} is not what the table says`);
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
    this.bytes = 0;
  }
}

/** The live entries of a snapshot, slot by slot, for an export. */
export class SnapshotEntries {
  private readonly reader: SlotsReader;
  /** Whose entries were given last: they lie in its memory. */
  private given: number | null = null;

  /** @throws TidelineError `storage-damaged` | `unsupported-version` */
  constructor(preamble: Buffer, table: SnapshotTable) {
    this.reader = new SlotsReader(preamble, table);
  }

  /** `bytes`: all of the slot. In no order, and good until those of another slot are asked for. @throws TidelineError `storage-damaged` */
  entriesOf(place: SlotPlace, bytes: Buffer): ExportedEntry[] {
    const { reader } = this;
    const { state } = reader;
    if (this.given !== null) state.dropSlot(this.given);
    this.given = null;
    reader.begin(place);
    reader.push(bytes);
    reader.end();
    this.given = place.slot;
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
    return entries;
  }
}
