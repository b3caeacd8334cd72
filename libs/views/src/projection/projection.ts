import { TidelineError, asGroupId, asLogTime, asOffset, asTerm, assert, type LogTime, type Offset } from '#kernel';
import {
  BATCH_HEADER_BYTES,
  BatchBuilder,
  RecordCursor,
  batchFirstOffset,
  batchLastOffset,
  batchLength,
  batchLogTime,
  encodeOp,
  stampBatch,
  type RecordInput,
} from '#wire';
import type { LeavingEntry } from '../archive-queue.js';
import type { DataType } from '../data-type.js';
import type { ViewChangeListener } from '../change-listeners.js';
import { MapView, type MapViewOptions, type ScanRequest } from '../map-view.js';
import type { Entry, ScanPage } from '../view-query.js';
import { RESERVED_KEY_PREFIX, isReservedKey, type ProjectionDefinition } from './definition.js';
import {
  PARKED_DIRECTORY_KEY,
  cursorAt,
  decodeDirectory,
  decodeParked,
  encodeDirectory,
  encodeParked,
  parkedKey,
  triedAgain,
  type ParkedEvent,
} from './parked-event.js';
import { REPLAY_TYPE, decodeReplay } from './replay-command.js';
import { StateIndexes } from './state-index.js';
import { eventOf, type ViewEvent } from './view-event.js';

/** Events of one partition that may wait for a replay; one more halts the view. */
export const PARKED_EVENTS_MAX = 1000;
/** And their bytes, error texts included. */
export const PARKED_BYTES_MAX = 16 * 1024 * 1024;
/** Entries read at a time while indexes are built. */
const INDEX_PAGE = 1000;
const INDEX_PAGE_BYTES = 1024 * 1024;

/** Room for a derived batch of one small state. */
const DERIVED_BATCH_BYTES = 512;

const PROJECT = 'project';

/**
 * How a state gets into the map: as a command whose argument it is. So it counts as computed, and a digest covers its bytes: computing them is
 * what could differ from host to host.
 */
const projected: DataType = {
  name: '',
  entries: 'any',
  contentType: 'application/json',
  commands: {
    [PROJECT]: {
      arity: { min: 1, max: 1 },
      validate: () => null,
      apply: (_state, [value]) => ({ effect: 'put', value }),
    },
  },
};

/** What the map of a projection is made with, empty or from a snapshot. */
export const projectionMapOptions = (definition: Pick<ProjectionDefinition, 'archive'>): MapViewOptions => ({
  dataTypes: [projected],
  archive: definition.archive,
  // Nobody asks for them.
  resultsMax: 1,
});

/** Where a view stopped, and why. It stays there until it is started again with other code. */
export interface Halt {
  readonly offset: Offset;
  readonly reason: string;
}

export interface LookupRequest {
  readonly index: string;
  readonly value: string;
  /** Exclusive lower bound of the keys; null for none. */
  readonly after: Buffer | null;
  readonly limit: number;
  readonly bytesMax: number;
  readonly values: boolean;
  readonly time: LogTime;
}

/**
 * One partition of a projection: the states that a user's class makes of the events of a log, kept as JSON entries of a map view, which does
 * the rest – reads, scans, changes, expiry, snapshots, digests. A pure function of the batches it was given, as the map is.
 */
export class Projection {
  halt: Halt | null = null;
  private readonly cursor = new RecordCursor();
  private readonly builder = new BatchBuilder(() => 0, DERIVED_BATCH_BYTES);
  private readonly parkedCursor = new RecordCursor();
  private readonly indexes: StateIndexes;
  /** Rising. */
  private parked: Offset[] = [];
  private parkedBytes = 0;

  /** The map: empty, or from a snapshot; made with `projectionMapOptions`. With indexes call `buildIndexes` when it is not empty. */
  constructor(
    readonly definition: ProjectionDefinition,
    readonly map: MapView,
    private readonly partition: number,
  ) {
    this.indexes = new StateIndexes(definition.indexNames);
    if (definition.indexNames.length > 0) {
      map.onChange((change) => {
        if (change.type !== 'put') this.indexes.remove(change.key);
      });
    }
    const directory = map.get(PARKED_DIRECTORY_KEY, map.logTime);
    if (directory === null) return;
    this.parked = decodeDirectory(directory.value);
    for (const offset of this.parked) this.parkedBytes += this.parkedValue(offset).length;
  }

  /** Makes the indexes of the states there are; a page at each step. The map must not change meanwhile. */
  *buildIndexes(): Generator<void, void, undefined> {
    if (this.definition.indexNames.length === 0 || this.map.entries === 0) return;
    let after: Buffer | null = null;
    for (let more = true; more;) {
      const time = asLogTime(0); // those that have expired too: they leave the indexes when they leave the map
      const page: ScanPage = this.scan({
        prefix: NO_PREFIX,
        after,
        limit: INDEX_PAGE,
        bytesMax: INDEX_PAGE_BYTES,
        values: true,
        time,
      });
      for (const { key, value } of page.entries) {
        try {
          this.indexes.set(key, this.definition.indexedBy(key, JSON.parse(value.toString())));
        } catch {
          // Other code than that which made the state, under the same version: it is found by its key only.
        }
      }
      after = page.entries.at(-1)?.key ?? after;
      ({ more } = page);
      yield;
    }
  }

  get offset(): Offset {
    return this.map.offset;
  }

  get logTime(): LogTime {
    return this.map.logTime;
  }

  /** States in memory. */
  get entries(): number {
    return this.map.entries - this.parked.length - (this.parked.length > 0 ? 1 : 0);
  }

  get parkedCount(): number {
    return this.parked.length;
  }

  /* ---- applying ---- */

  applyBatches(batches: Buffer): void {
    this.applyWithin(batches, () => false);
  }

  /**
   * A run of whole batches, as far as it gets until `overdue` says so, which is asked after each event that was applied. False: not to the end;
   * call again with the same run. What has been applied already is passed over, so a run may be given twice. A halted view takes nothing.
   */
  applyWithin(batches: Buffer, overdue: () => boolean): boolean {
    const { map, cursor } = this;
    // What a method would be given for them is not known.
    assert(map.stoppedSlots.length === 0, 'a projection cannot do without some of its slots');
    for (let at = 0; at < batches.length;) {
      const length = at + BATCH_HEADER_BYTES <= batches.length ? batchLength(batches, at) : 0;
      assert(length >= BATCH_HEADER_BYTES && at + length <= batches.length, 'a run of batches ends within a batch');
      const lastOffset = batchLastOffset(batches, at);
      if (lastOffset > map.offset) {
        if (this.halt) return true;
        const logTime = asLogTime(Math.max(batchLogTime(batches, at), map.logTime));
        let offset = asOffset(batchFirstOffset(batches, at) - 1);
        try {
          cursor.reset(batches, at);
          while (cursor.next()) {
            offset = cursor.offset;
            if (offset <= map.offset || !this.applyRecord(logTime)) continue;
            if (this.halt) {
              map.advance({ offset: asOffset(offset - 1), logTime }, null);
              return true;
            }
            if (offset < lastOffset && overdue()) {
              map.advance({ offset, logTime }, null);
              return false;
            }
          }
        } catch (error) {
          // What follows a record that does not parse cannot be read: the rest of the batch has no effect, on any host.
          if (!(error instanceof TidelineError)) throw error;
        }
        map.advance({ offset: lastOffset, logTime }, asOffset(batchFirstOffset(batches, at) - 1));
        if (at + length < batches.length && overdue()) return false;
      }
      at += length;
    }
    return true;
  }

  /** False: it was not for this view. */
  private applyRecord(logTime: LogTime): boolean {
    const { cursor, definition } = this;
    if (cursor.opStart >= 0) return false;
    const { type = null } = cursor;
    if (type === REPLAY_TYPE) return this.replay(logTime);
    if (!definition.takes(type)) return false;
    const read = eventOf(cursor, { partition: this.partition, logTime });
    const error = 'problem' in read ? read.problem : this.apply(read.event, cursor.offset, logTime);
    if (error !== null) this.setAside(error, logTime);
    return true;
  }

  /** What was wrong; null: nothing. `offset` is that of the record by which it comes to be applied. */
  private apply(event: ViewEvent, offset: Offset, logTime: LogTime): string | null {
    const step = this.definition.step(event, (key) => this.map.read(key, logTime)?.valueText ?? null);
    switch (step.effect) {
      case 'none':
        return null;
      case 'error':
        return step.message;
      case 'delete':
        this.derive({ key: step.key, value: null }, offset, logTime);
        return null;
      case 'put': {
        const { key, value, ttlMs, indexed } = step;
        this.derive({ key, op: encodeOp(PROJECT, [value]), ...(ttlMs !== null && { ttlMs }) }, offset, logTime);
        this.indexes.set(key, indexed);
        return null;
      }
    }
  }

  private derive(record: RecordInput, offset: Offset, logTime: LogTime): void {
    this.builder.add(record);
    const batch = this.builder.finish();
    stampBatch(batch, { firstOffset: offset, term: asTerm(0), logTime, group: asGroupId(0) });
    this.map.applyDerived(batch);
  }

  /* ---- events that could not be applied ---- */

  private setAside(error: string, logTime: LogTime): void {
    const { cursor, definition } = this;
    const { offset } = cursor;
    if (definition.onError === 'halt') {
      this.halt = { offset, reason: error };
      return;
    }
    const value = encodeParked(cursor, { error, attempts: 1, logTime });
    if (this.parked.length >= PARKED_EVENTS_MAX || this.parkedBytes + value.length > PARKED_BYTES_MAX) {
      this.halt = { offset, reason: `${this.parked.length} events are parked already; ${error}` };
      return;
    }
    this.parkedBytes += value.length;
    this.derive({ key: parkedKey(offset), value }, offset, logTime);
    this.keepDirectory([...this.parked, offset], offset, logTime);
  }

  private keepDirectory(offsets: Offset[], offset: Offset, logTime: LogTime): void {
    this.parked = offsets;
    const value = offsets.length === 0 ? null : encodeDirectory(offsets);
    this.derive({ key: PARKED_DIRECTORY_KEY, value }, offset, logTime);
  }

  /** The record at the cursor asks for parked events to be tried again. */
  private replay(logTime: LogTime): boolean {
    const { cursor } = this;
    const read = eventOf(cursor, { partition: this.partition, logTime });
    const command = 'problem' in read ? null : decodeReplay(read.event.value);
    if (command === null || command.view !== this.definition.name) return false;
    const { offset } = cursor;
    const wanted = this.parked.filter((one) => command.offset === null || one === command.offset);
    const done = new Set<Offset>();
    for (const one of wanted) {
      const value = Buffer.from(this.parkedValue(one));
      const event = eventOf(cursorAt(value, this.parkedCursor), { partition: this.partition, logTime });
      const error = 'problem' in event ? event.problem : this.apply(event.event, offset, logTime);
      if (error === null) {
        done.add(one);
        this.parkedBytes -= value.length;
        this.derive({ key: parkedKey(one), value: null }, offset, logTime);
      } else {
        this.derive({ key: parkedKey(one), value: triedAgain(value, error) }, offset, logTime);
      }
    }
    if (done.size > 0) {
      this.keepDirectory(
        this.parked.filter((one) => !done.has(one)),
        offset,
        logTime,
      );
    }
    return wanted.length > 0;
  }

  private parkedValue(offset: Offset): Buffer {
    const entry = this.map.get(parkedKey(offset), this.map.logTime);
    assert(entry !== null, 'a parked event is in the directory and nowhere else');
    return entry.value;
  }

  /** Oldest first; `after`: exclusive lower bound. */
  parkedEvents({ after, limit }: { readonly after: Offset; readonly limit: number }): {
    readonly events: readonly ParkedEvent[];
    readonly more: boolean;
  } {
    const from = this.parked.findIndex((offset) => offset > after);
    if (from < 0) return { events: [], more: false };
    return {
      events: this.parked
        .slice(from, from + limit)
        .map((offset) => decodeParked(this.parkedValue(offset), this.partition)),
      more: from + limit < this.parked.length,
    };
  }

  /* ---- reading ---- */

  get(key: Buffer, time: LogTime): Entry | null {
    return isReservedKey(key) ? null : this.map.get(key, time);
  }

  /** As of a map view. */
  leaving(key: Buffer, time: LogTime): LeavingEntry | null {
    return isReservedKey(key) ? null : this.map.leaving(key, time);
  }

  /** As of a map view. */
  prepareScan(keysMax: number): boolean {
    return this.map.prepareScan(keysMax);
  }

  /** As of a map view. */
  scan(request: ScanRequest): ScanPage {
    const page = this.map.scan(request);
    if (!page.entries.some(({ key }) => isReservedKey(key))) return page;
    // They lie together: what is before them, then what comes after them.
    const before = page.entries.filter(({ key }) => Buffer.compare(key, RESERVED_KEY_PREFIX) < 0);
    if (before.length > 0) return { entries: before, more: true };
    return this.map.scan({ ...request, after: RESERVED_KEYS_END });
  }

  /** @throws TidelineError `bad-request` for an index that was not declared */
  lookup(request: LookupRequest): ScanPage {
    const { index, value, after, limit, bytesMax, values, time } = request;
    if (!this.indexes.has(index)) throw unknownIndex(this.definition.indexNames, index);
    const entries: Entry[] = [];
    let bytes = 0;
    let more = false;
    this.indexes.walk(index, value, after, (key) => {
      const entry = this.map.get(key, time);
      if (entry === null) return true;
      const size = key.length + (values ? entry.value.length : 0);
      if (entries.length > 0 && (entries.length >= limit || bytes + size > bytesMax)) {
        more = true;
        return false;
      }
      bytes += size;
      entries.push(values ? entry : { ...entry, value: NO_VALUE });
      return true;
    });
    return { entries, more };
  }

  onChange(listener: ViewChangeListener, prefix?: Uint8Array): () => void {
    return this.map.onChange((change) => {
      if (!isReservedKey(change.type === 'put' ? change.entry.key : change.key)) listener(change);
    }, prefix);
  }
}

const NO_PREFIX = Buffer.alloc(0);
const NO_VALUE = Buffer.alloc(0);
/** Beyond all keys of the view's own; they are ASCII. */
const RESERVED_KEYS_END = Buffer.concat([RESERVED_KEY_PREFIX, Buffer.from([0xff])]);

export const unknownIndex = (names: readonly string[], index: string): TidelineError => {
  const known = names.length === 0 ? 'the view has none' : `there are ${names.join(', ')}`;
  return new TidelineError('bad-request', `no index ${JSON.stringify(index.slice(0, 64))}; ${known}`, {
    details: { parameter: 'index' },
  });
};
