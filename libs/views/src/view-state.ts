import { SLOTS, asLogTime, asOffset, type LogTime, type Offset } from '#kernel';
import { NameTable } from './name-table.js';
import { RESULTS_MAX, ResultRing } from './result-ring.js';
import { Slot } from './slot.js';
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
export class ViewState {
  offset: Offset = asOffset(0);
  logTime: LogTime = asLogTime(0);
  malformedCount = 0;
  /** Not in snapshots. */
  defectCount = 0;
  readonly contentTypes = new NameTable();
  readonly dataTypes = new NameTable();
  readonly results: ResultRing;
  readonly slots: (Slot | null)[] = Array.from({ length: SLOTS }, () => null);
  /** When the first entry of each slot expires; Infinity: never. */
  readonly earliestExpiries = new Float64Array(SLOTS).fill(Infinity);
  /** Scratch: the entry a slot was last asked for. */
  readonly entry: StoredEntry;

  constructor({ resultsMax = RESULTS_MAX, maxIdleMs }: ViewStateOptions = {}) {
    this.entry = new StoredEntry(maxIdleMs ?? Infinity);
    this.results = new ResultRing(resultsMax);
  }

  slot(number: number): Slot {
    return (this.slots[number] ??= this.newSlot(number));
  }

  /** Empty, and not among `slots` yet. */
  newSlot(number: number): Slot {
    return new Slot(number, this.entry, this.earliestExpiries);
  }

  dropSlot(number: number): void {
    this.slots[number] = null;
    this.earliestExpiries[number] = Infinity;
  }

  /** Takes over a slot that `from` no longer has. The numbers of names become this state's. */
  adoptSlot(slot: Slot, from: ViewState): void {
    const contentTypes = this.contentTypes.numbersOf(from.contentTypes);
    const dataTypes = this.dataTypes.numbersOf(from.dataTypes);
    slot.moveTo(this.entry, this.earliestExpiries);
    if (contentTypes !== null || dataTypes !== null) slot.renumberTypes(contentTypes, dataTypes);
    this.slots[slot.number] = slot;
  }

  /** What is in the scratch, as an object. Its buffers are views of bytes that never change; nobody may write to them. */
  entryOf(stored: StoredEntry, withValue = true): Entry {
    const { contentType, typeStart, expiresAt } = stored;
    return {
      key: stored.key,
      value: withValue ? stored.value : NO_BYTES,
      contentType:
        contentType >= 0
          ? this.contentTypes.names[contentType]
          : typeStart >= 0
            ? stored.chunk.toString('utf8', typeStart, stored.typeEnd)
            : null,
      offset: asOffset(stored.offset),
      logTime: asLogTime(stored.logTime),
      expiresAt: expiresAt === Infinity ? null : asLogTime(expiresAt),
    };
  }
}
