import { SLOTS, asLogTime, asOffset, type LogTime, type Offset } from '#kernel';
import { Arena } from './arena.js';
import { EarliestSlots } from './earliest-slots.js';
import { EntryCopies } from './entry-copies.js';
import { NameTable } from './name-table.js';
import { RESULTS_MAX, ResultRing } from './result-ring.js';
import { SHARED_ENTRY_BYTES_MAX, Slot, type SlotContext } from './slot.js';
import { StoredEntry } from './stored-entry.js';
import type { Entry } from './view-query.js';

const NO_BYTES = Buffer.alloc(0);

export interface ViewStateOptions {
  /** Results of commands that are kept; older ones are `result-evicted`. */
  readonly resultsMax?: number;
  /** Entries go when they were neither written nor touched for so long; null: they stay. */
  readonly maxIdleMs?: number | null;
}

/** All there is to know about one partition of a map view: what a snapshot holds. */
export class ViewState implements SlotContext {
  offset: Offset = asOffset(0);
  logTime: LogTime = asLogTime(0);
  malformedCount = 0;
  /** Not in snapshots. */
  defectCount = 0;
  readonly contentTypes = new NameTable();
  readonly dataTypes = new NameTable();
  readonly results: ResultRing;
  readonly slots: (Slot | null)[] = Array.from({ length: SLOTS }, () => null);
  readonly arena = new Arena();
  readonly indexes = new Arena();
  readonly earliestExpiries = new EarliestSlots();
  /** Scratch: the entry a slot was last asked for. */
  readonly entry: StoredEntry;
  private readonly copies = new EntryCopies();

  constructor({ resultsMax = RESULTS_MAX, maxIdleMs }: ViewStateOptions = {}) {
    this.entry = new StoredEntry(maxIdleMs ?? Infinity);
    this.results = new ResultRing(resultsMax);
  }

  slot(number: number): Slot {
    return (this.slots[number] ??= this.newSlot(number));
  }

  /** Empty, and not among `slots` yet. */
  newSlot(number: number): Slot {
    return new Slot(number, this);
  }

  dropSlot(number: number): void {
    this.slots[number]?.dispose();
    this.slots[number] = null;
  }

  /**
   * Takes over these slots of another state, and with them its memory: the others it had are gone. The numbers of names become this state's. A slot that
   * is not there is none here either.
   */
  adoptSlots(from: ViewState, numbers: Iterable<number>): void {
    const contentTypes = this.contentTypes.numbersOf(from.contentTypes);
    const dataTypes = this.dataTypes.numbersOf(from.dataTypes);
    const adopted: Slot[] = [];
    for (const number of numbers) {
      this.dropSlot(number);
      const slot = from.slots[number];
      from.slots[number] = null;
      if (slot) adopted.push(slot);
    }
    for (const number of from.slots.keys()) from.dropSlot(number);
    const bases = { entries: this.arena.absorb(from.arena), indexes: this.indexes.absorb(from.indexes) };
    for (const slot of adopted) {
      slot.moveTo(this, bases);
      if (contentTypes !== null || dataTypes !== null) slot.renumberTypes(contentTypes, dataTypes);
      this.slots[slot.number] = slot;
    }
  }

  /** Kept for entries and indexes to come. */
  get idleBytes(): number {
    return this.arena.idleBytes + this.indexes.idleBytes;
  }

  /**
   * Gives memory back where much is idle: moves chunks out of the region that has the least, about so many bytes of them at most. Returns how many; 0:
   * nothing is worth it, or snapshots are in the way.
   */
  compact(bytesMax: number): number {
    const moved = this.arena.compact((region) =>
      this.moveSome(bytesMax, (slot, bytes) => slot.leaveRegion(region, bytes)),
    );
    if (moved > 0) return moved;
    return this.indexes.compact((region) => this.moveSome(bytesMax, (slot) => slot.leaveIndexRegion(region)));
  }

  private moveSome(bytesMax: number, move: (slot: Slot, bytesMax: number) => number): number {
    let bytes = 0;
    for (const slot of this.slots) {
      if (bytes >= bytesMax) break;
      const moved = slot === null ? 0 : move(slot, bytesMax - bytes);
      if (moved < 0) return -1;
      bytes += moved;
    }
    return bytes;
  }

  /**
   * What is in the scratch, as an object to keep. Its buffers never change; nobody may write to them. `key`: the entry's, to be taken
   * instead of a copy.
   */
  entryOf(stored: StoredEntry, withValue = true, key: Buffer | null = null): Entry {
    const { chunk, words, keyStart, keyEnd, valueStart, valueEnd } = stored;
    // The bytes of an entry of this size are in a region of their own.
    if (stored.end - stored.start > SHARED_ENTRY_BYTES_MAX) return this.viewOf(stored, withValue);
    return this.describe(
      stored,
      key ?? this.copies.take(chunk, words, keyStart, keyEnd),
      withValue ? this.copies.take(chunk, words, valueStart, valueEnd) : NO_BYTES,
    );
  }

  /** The same, good until the view is next changed. */
  viewOf(stored: StoredEntry, withValue = true): Entry {
    return this.describe(stored, stored.key, withValue ? stored.value : NO_BYTES);
  }

  contentTypeOf({ contentType, chunk, typeStart, typeEnd }: StoredEntry): string | null {
    if (contentType >= 0) return this.contentTypes.names[contentType];
    return typeStart >= 0 ? chunk.toString('utf8', typeStart, typeEnd) : null;
  }

  private describe(stored: StoredEntry, key: Buffer, value: Buffer): Entry {
    const { expiresAt } = stored;
    return {
      key,
      value,
      contentType: this.contentTypeOf(stored),
      offset: asOffset(stored.offset),
      logTime: asLogTime(stored.logTime),
      expiresAt: expiresAt === Infinity ? null : asLogTime(expiresAt),
    };
  }
}
