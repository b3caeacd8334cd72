import {
  SLOTS,
  TidelineError,
  asLogTime,
  asOffset,
  assert,
  hashKey,
  slotOf,
  wordsOf,
  type ByteWriter,
  type LogTime,
  type Offset,
} from '#kernel';
import {
  BATCH_HEADER_BYTES,
  RecordCursor,
  batchFirstOffset,
  batchLastOffset,
  batchLength,
  batchLogTime,
  decodeOp,
  writeFoundPart,
  writeNotAnswered,
  writeNothingFound,
  type Op,
} from '#wire';
import type { LeavingEntry } from './archive-queue.js';
import { ChangeListeners, type ViewChangeListener } from './change-listeners.js';
import { effectOf, entriesOf, recordOfCommand, type CommandEntries, type PutEffect } from './command-effect.js';
import { CommandTable, unknownCommand, type CommandRecord, type DataType } from './data-type.js';
import { Departures, type DueRequest } from './departures.js';
import { DigestMarks, digestOfAll, type SlotDigests } from './digest-marks.js';
import type { LeavingBatch } from './leaving-batch.js';
import { KeysAhead } from './keys-ahead.js';
import { startsWith } from './key-prefix.js';
import { LookAhead } from './look-ahead.js';
import { OrderedKeys } from './ordered-keys.js';
import { SnapshotWriter } from './snapshot-writer.js';
import { SizeLimit } from './size-limit.js';
import type { Slot } from './slot.js';
import { EntryDraft, EntryFlag, type StoredEntry } from './stored-entry.js';
import type { ApplyResult, Entry, ScanPage } from './view-query.js';
import { ViewState, type ViewStateOptions } from './view-state.js';

/** All but `dataTypes` and `onDefect` are a matter of the state: the same on every host and from start to start. */
export interface MapViewOptions extends ViewStateOptions {
  readonly dataTypes?: readonly DataType[];
  /** A data type threw: the command has the result `internal` and no effect, here as on every host. For reporting; must not throw. */
  readonly onDefect?: (error: unknown, command: { readonly name: string; readonly offset: Offset }) => void;
  /** Expired and evicted entries leave by `take` and `removeExpired`, and none is lost that was overwritten after it had expired. */
  readonly archive?: boolean;
  /** Time to live of what is written without one; null: none. */
  readonly defaultTtlMs?: number | null;
  /** Live entries above which the least recently used are evicted; null: no limit. */
  readonly maxEntries?: number | null;
  /** The same of `countedBytes`, together. */
  readonly maxBytes?: number | null;
  /** Records of other slots have no effect and leave no result: for a view that is only made to build these anew. */
  readonly slots?: ReadonlySet<number>;
}

export interface ScanRequest {
  readonly prefix: Uint8Array;
  /** Exclusive lower bound; null: from the start of the prefix. */
  readonly after: Uint8Array | null;
  /** Entries, at least 1. */
  readonly limit: number;
  /** Keys and values of a page together; a page has at least one entry if there is one. */
  readonly bytesMax: number;
  /** False: values are left empty. */
  readonly values: boolean;
  /** Entries that have expired by then are left out. */
  readonly time: LogTime;
}

/** Looked for dead bytes after this many bytes of batches. */
const RECLAIM_INTERVAL_BYTES = 64 * 1024;
/** Of a chunk that is looked through, a quarter at least is dead. */
const RECLAIM_LOOKED_PER_WRITTEN = 4;
/** Dead bytes a view may have whatever its size, before it reclaims by itself. */
const DEAD_BYTES_ALLOWED = 1024 * 1024;
/** Keys that a scan puts in order at a time. */
const SCAN_MERGE_KEYS = 4096;
/** Keys copied for scans that a view may hold beyond three times its entries. */
const ORDERED_KEYS_ALLOWED = 65_536;
const NO_HASHES = new Uint32Array(0);
const CONTENT_TYPE = Buffer.from('content-type');
/** What is not to be applied, by slot. */
const Skip = { No: 0, NotOfThisView: 1, Stopped: 2 } as const;

/**
 * One partition of a map view: a pure function of the batches it was given. It does no I/O and knows no clock; what it cannot do becomes
 * a result. Equal at equal offsets on every host, whenever each of them removes expired entries or reclaims bytes.
 */
export class MapView {
  private readonly state: ViewState;
  private readonly commands: CommandTable;
  private readonly onDefect: MapViewOptions['onDefect'];
  private readonly cursor = new RecordCursor();
  private readonly ahead = new LookAhead();
  private readonly keysAhead = new KeysAhead();
  private readonly draft = new EntryDraft();
  /** Of the batches being applied. */
  private batchWords: DataView | null = null;
  private readonly changes = new ChangeListeners();
  private readonly departures: Departures;
  /** Null until somebody scans. */
  private order: OrderedKeys | null = null;
  /** Slots whose keys are in `order`, pending or sorted, but for those `ungathered`. */
  private orderSlots = 0;
  /** Hashes of the last of these slots, as it was: what comes to it later is pending, like what comes to any. */
  private ungathered: Uint32Array = NO_HASHES;
  private bytesSinceReclaim = 0;
  private reclaimSlot = 0;
  /** Skip by slot; null: nothing is skipped. */
  private skips: Uint8Array | null = null;
  /** Digests at offsets that are the same on all hosts; none while a slot is stopped. */
  readonly marks = new DigestMarks();
  /** −1: none. */
  private readonly defaultTtlMs: number;
  /** Null: the view may hold anything. */
  private limit: SizeLimit | null = null;
  private readonly limits: { readonly entries: number; readonly bytes: number } | null;
  /** Entries that had to make room, since the process started. */
  evictedCount = 0;

  /** Empty, or what a MapViewRestorer has read. */
  constructor(options: MapViewOptions = {}, state: ViewState = new ViewState(options)) {
    this.state = state;
    this.departures = new Departures(state, options.archive === true, (slot, bucket) => this.removeDue(slot, bucket));
    this.commands = new CommandTable(options.dataTypes ?? []);
    this.onDefect = options.onDefect;
    for (const type of options.dataTypes ?? []) this.state.dataTypes.numberOf(type.name);
    if (options.slots) {
      this.skips = new Uint8Array(SLOTS).fill(Skip.NotOfThisView);
      for (const slot of options.slots) this.skips[slot] = Skip.No;
    }
    this.defaultTtlMs = options.defaultTtlMs ?? -1;
    const { maxEntries = null, maxBytes = null } = options;
    this.limits =
      maxEntries === null && maxBytes === null
        ? null
        : { entries: maxEntries ?? Infinity, bytes: maxBytes ?? Infinity };
    this.measure();
  }

  /** Applied up to here. */
  get offset(): Offset {
    return this.state.offset;
  }

  get logTime(): LogTime {
    return this.state.logTime;
  }

  /** In memory; expired ones that were not removed yet are among them. */
  get entries(): number {
    let sum = 0;
    for (const slot of this.state.slots) if (slot) sum += slot.count;
    return sum;
  }

  /** Memory taken by entries, dead ones included, and their indexes, and what is kept for more of them. */
  get bytes(): number {
    let sum = 0;
    for (const slot of this.state.slots) if (slot) sum += slot.bytes;
    sum += this.state.idleBytes;
    return sum + (this.order?.bytes ?? 0) + (this.limit?.order.bytes ?? 0) + this.archiveQueueBytes;
  }

  /** Expired entries leave by `take` and `removeExpired`. */
  get archives(): boolean {
    return this.departures.archives;
  }

  /** Taken by entries that still have to be archived but are out of the index. Whoever feeds the view bounds it. */
  get archiveQueueBytes(): number {
    return this.departures.queueBytes;
  }

  /** Records and ops that did not parse, and so had no effect. */
  get malformedCount(): number {
    return this.state.malformedCount;
  }

  /** Commands whose data type threw, since the process started. */
  get defectCount(): number {
    return this.state.defectCount;
  }

  /** 16 hex digits; equal at equal offsets on all hosts. Covers what was put and not overwritten or deleted while alive (see Slot). */
  get digest(): string {
    return digestOfAll(this.slotDigests());
  }

  slotDigests(): SlotDigests {
    const digests = new Uint32Array(2 * SLOTS);
    for (const slot of this.state.slots) {
      if (!slot) continue;
      digests[2 * slot.number] = slot.digestA;
      digests[2 * slot.number + 1] = slot.digestB;
    }
    return digests;
  }

  /* ---- applying ---- */

  /**
   * A run of whole batches as a log accepted them. Batches at or below `offset` are skipped, so a run may be given twice.
   * Only a listener's own exception comes out, after everything was applied.
   */
  applyBatches(batches: Uint8Array): void {
    const bytes = Buffer.isBuffer(batches)
      ? batches
      : Buffer.from(batches.buffer, batches.byteOffset, batches.byteLength);
    const { state } = this;
    this.batchWords = wordsOf(bytes);
    for (let at = 0; at < bytes.length;) {
      const length = at + BATCH_HEADER_BYTES <= bytes.length ? batchLength(bytes, at) : 0;
      assert(length >= BATCH_HEADER_BYTES && at + length <= bytes.length, 'a run of batches ends within a batch');
      const lastOffset = batchLastOffset(bytes, at);
      if (lastOffset > state.offset) {
        const before = state.offset;
        this.applyBatch(bytes, at, lastOffset);
        state.offset = lastOffset;
        if (DigestMarks.due(before, lastOffset) && this.skips === null) {
          this.marks.add(before, { offset: lastOffset, digests: this.slotDigests() });
        }
        this.bytesSinceReclaim += length;
      }
      at += length;
    }
    this.afterApplying();
  }

  /**
   * A batch that a projection made of a record, stamped as the record's is. Its place is not looked at: one record may change several entries,
   * all at its offset.
   */
  applyDerived(batch: Buffer): void {
    assert(this.limits === null, 'entries that a projection made have no order of use');
    this.batchWords = wordsOf(batch);
    this.applyBatch(batch, 0, batchLastOffset(batch));
    this.bytesSinceReclaim += batch.length;
    this.afterApplying();
  }

  /** All up to here is applied, whether it changed anything or not. `before`: where the batch began that ends here; null: it does not. */
  advance({ offset, logTime }: { readonly offset: Offset; readonly logTime: LogTime }, before: Offset | null): void {
    const { state } = this;
    if (offset > state.offset) state.offset = offset;
    if (logTime > state.logTime) state.logTime = logTime;
    if (before !== null && DigestMarks.due(before, offset) && this.skips === null) {
      this.marks.add(before, { offset, digests: this.slotDigests() });
    }
  }

  private afterApplying(): void {
    if (this.bytesSinceReclaim >= RECLAIM_INTERVAL_BYTES) this.reclaimOwnGarbage();
    this.changes.throwFirstError();
  }

  private applyBatch(bytes: Buffer, at: number, lastOffset: Offset): void {
    const { state, cursor } = this;
    const logTime = Math.max(batchLogTime(bytes, at), state.logTime);
    state.logTime = asLogTime(logTime);
    this.draft.logTime = logTime;
    let applied = 0;
    try {
      cursor.reset(bytes, at);
      this.ahead.reset(bytes, at + BATCH_HEADER_BYTES, at + batchLength(bytes, at));
      for (; cursor.next(); applied++) this.applyRecord(cursor, logTime);
    } catch (error) {
      if (!(error instanceof TidelineError)) throw error;
      // What follows a record that does not parse cannot be read: the rest of the batch has no effect, on any host.
      state.malformedCount++;
      const firstOffset = asOffset(batchFirstOffset(bytes, at) + applied);
      if (firstOffset <= lastOffset)
        state.results.add(firstOffset, lastOffset, refused('malformed-batch', error.message));
    }
  }

  private applyRecord(cursor: RecordCursor, logTime: number): void {
    const { keyStart, keyEnd } = cursor;
    if (cursor.opStart >= 0) {
      this.applyOp(cursor, logTime);
      return;
    }
    if (keyStart < 0) return; // an event, not a change of the map
    const { bytes } = cursor;
    const hash = this.ahead.hashOf(cursor, this.state.slots);
    if (this.skips !== null && this.skips[slotOf(hash)] !== Skip.No) return;
    const slot = this.state.slot(slotOf(hash));
    const bucket = slot.find(hash, bytes, keyStart, keyEnd);
    if (cursor.valueStart < 0) {
      if (bucket >= 0) this.removeEntry(slot, bucket, cursor.offset);
      return;
    }
    const { draft } = this;
    draft.valueBytes = bytes;
    draft.valueStart = cursor.valueStart;
    draft.valueEnd = cursor.valueEnd;
    const ttlMs = cursor.ttlMs < 0 ? this.defaultTtlMs : cursor.ttlMs;
    draft.expiresAt = ttlMs < 0 ? -1 : logTime + ttlMs;
    draft.dataType = -1;
    draft.computed = false;
    draft.ofArena = false;
    this.putEntry(slot, bucket, hash, cursor);
  }

  private applyOp(cursor: RecordCursor, logTime: number): void {
    const { state } = this;
    const { offset } = cursor;
    if (cursor.keyStart < 0) {
      state.results.add(offset, offset, refused('bad-request', 'a command needs a key'));
      return;
    }
    let op: Op;
    try {
      op = decodeOp(cursor.op!);
    } catch (error) {
      if (!(error instanceof TidelineError)) throw error;
      state.malformedCount++;
      state.results.add(offset, offset, refused('bad-request', error.message));
      return;
    }
    const found = this.commands.find(op.name);
    if (!found) {
      state.results.add(offset, offset, refused('unknown-command', unknownCommand(op.name)));
      return;
    }
    const hash = this.ahead.hashOf(cursor, this.state.slots);
    const skip = this.skips === null ? Skip.No : this.skips[slotOf(hash)];
    if (skip !== Skip.No) {
      // The result comes with the slot.
      if (skip === Skip.Stopped) state.results.add(offset, offset, NOT_KNOWN);
      return;
    }
    const { type } = found;
    const entries = entriesOf(type);
    const record = recordOfCommand(cursor, logTime, entries);
    const slot = state.slot(slotOf(hash));
    const bucket = slot.find(hash, cursor.bytes, cursor.keyStart, cursor.keyEnd);
    const stored = bucket < 0 ? null : slot.load(bucket);
    const live = stored !== null && stored.expiresAt > logTime ? stored : null;
    const liveOffset = asOffset(live === null ? 0 : live.offset);
    const dataType = entries === 'own' ? state.dataTypes.numberOf(type.name) : -1;
    const contentType = live !== null && entries === 'plain' ? live.contentType : -1;
    const isLive = live !== null;

    const effect = effectOf(found, op, record, { live, dataType, names: state.dataTypes.names }, (error) => {
      state.defectCount++;
      this.onDefect?.(error, { name: op.name, offset });
    });
    if (effect.effect === 'refuse') {
      state.results.add(offset, offset, refused(effect.code, effect.message, liveOffset));
      return;
    }
    let entryOffset = liveOffset;
    if (effect.effect === 'put') {
      this.draftEffect(effect, record, isLive, dataType, entries);
      this.putEntry(slot, bucket, hash, cursor, this.contentTypeOf(type, contentType));
      entryOffset = offset;
    } else if (effect.effect === 'renew') {
      this.renewEntry(slot, bucket, hash, offset, effect.expiresAt);
    } else if (effect.effect === 'delete') {
      if (bucket >= 0) this.removeEntry(slot, bucket, offset);
      entryOffset = asOffset(0);
    }
    state.results.add(offset, offset, { ok: true, code: '', message: '', value: effect.result ?? '', entryOffset });
  }

  /** Value, expiry and data type of the draft, by what a command made. `isLive`: there was a live entry before. */
  private draftEffect(
    effect: PutEffect,
    record: CommandRecord,
    isLive: boolean,
    dataType: number,
    entries: CommandEntries,
  ): void {
    const { draft } = this;
    const expiresAt = effect.expiresAt === undefined ? record.expiresAt : effect.expiresAt;
    // An entry that has lost its expiry keeps it lost, until it is written as a whole.
    const byDefault = this.defaultTtlMs >= 0 && (effect.expiresAt === undefined || !isLive);
    draft.valueBytes = effect.value;
    draft.valueStart = 0;
    draft.valueEnd = effect.value.length;
    draft.expiresAt = expiresAt ?? (byDefault ? draft.logTime + this.defaultTtlMs : -1);
    draft.dataType = effect.dataType === undefined ? dataType : this.state.dataTypes.numberOf(effect.dataType);
    draft.computed = effect.value !== record.value;
    draft.ofArena = draft.computed && entries === 'any';
  }

  /** The type's own, or what the entry had. */
  private contentTypeOf(type: DataType, before: number): number {
    if (!type.contentType) return before;
    const name = Buffer.from(type.contentType);
    return this.state.contentTypes.intern(name, 0, name.length);
  }

  /** Value, expiry and data type of the draft are set. */
  private putEntry(slot: Slot, bucket: number, hash: number, cursor: RecordCursor, contentType = -1): void {
    const { draft } = this;
    draft.hash = hash;
    draft.bytes = cursor.bytes;
    draft.words = this.batchWords;
    draft.keyStart = cursor.keyStart;
    draft.keyEnd = cursor.keyEnd;
    draft.offset = cursor.offset;
    draft.touchedAt = -1;
    draft.contentType = contentType;
    draft.typeStart = draft.typeEnd = -1;
    if (cursor.headerCount > 0) this.readContentType(cursor);
    if (bucket >= 0 && (this.archives || this.changes.any)) this.leaveExpired(slot, bucket);
    if (this.limit !== null && bucket >= 0) this.limit.leave(slot.load(bucket));
    const now = slot.put(bucket, draft);
    if (bucket < 0 && this.order) this.keepOrdered(cursor);
    this.entered(slot, now, hash);
    if (this.limit !== null && this.limit.exceeded) this.makeRoom(this.limit);
  }

  /** Tells those who are to know of the entry that was stored in the bucket. */
  private entered(slot: Slot, bucket: number, hash: number): void {
    if (this.limit === null && !this.changes.any) return;
    const stored = slot.load(bucket);
    this.limit?.enter(hash, stored);
    if (this.changes.any) this.changes.put(this.state.entryOf(stored));
  }

  /** Of a live entry: it stays as it is, but was used now. `expiresAt` undefined: it keeps its own TTL. */
  private renewEntry(
    slot: Slot,
    bucket: number,
    hash: number,
    touchedAt: Offset,
    expiresAt: LogTime | null | undefined,
  ): void {
    const { draft } = this;
    const old = slot.load(bucket);
    draft.hash = hash;
    draft.bytes = draft.valueBytes = old.chunk;
    draft.words = old.words;
    draft.ofArena = true;
    draft.keyStart = old.keyStart;
    draft.keyEnd = old.keyEnd;
    draft.valueStart = old.valueStart;
    draft.valueEnd = old.valueEnd;
    draft.offset = old.offset;
    draft.touchedAt = touchedAt;
    draft.expiresAt = expiresAt === undefined ? (old.ttlEnd === Infinity ? -1 : old.ttlEnd) : (expiresAt ?? -1);
    draft.contentType = old.contentType;
    draft.typeStart = old.typeStart;
    draft.typeEnd = old.typeEnd;
    draft.dataType = old.dataType;
    draft.computed = (old.flags & EntryFlag.Computed) !== 0;
    this.limit?.leave(old);
    this.entered(slot, slot.put(bucket, draft), hash);
  }

  /**
   * What has expired leaves first, since it does not count; then the live entries not used for longest. Which live ones go depends on the log
   * alone: with expired ones in the index, more is removed than was needed to see that nothing has to be evicted, and never less.
   */
  private makeRoom(limit: SizeLimit): void {
    const { logTime } = this.draft;
    while (limit.exceeded) {
      if (this.departures.makeRoom(asLogTime(logTime))) continue;
      const usedAt = limit.order.first();
      const hash = limit.order.firstHash;
      const slot = this.state.slot(slotOf(hash));
      const bucket = slot.findUsedAt(hash, usedAt);
      assert(bucket >= 0, 'an entry is in the order of use and nowhere else');
      this.evict(slot, bucket);
    }
  }

  private evict(slot: Slot, bucket: number): void {
    const old = slot.load(bucket);
    this.order?.remove(old.chunk, old.keyStart, old.keyEnd);
    if (this.archives) this.departures.push(this.state.viewOf(old), asLogTime(this.draft.logTime));
    this.limit!.leave(old);
    if (this.changes.any) this.changes.expired(old.key, asOffset(old.offset), true);
    slot.remove(bucket, true);
    this.evictedCount++;
  }

  /** Counts what is in the index, and puts it in the order of use. */
  private measure(): void {
    if (this.limits === null) return;
    this.limit = new SizeLimit(this.limits.entries, this.limits.bytes);
    this.limit.fill((visit) => {
      for (const slot of this.state.slots) slot?.forEach(visit);
    });
  }

  /** Of an entry about to be overwritten: one that has expired goes the way of those that did. */
  private leaveExpired(slot: Slot, bucket: number): void {
    const old = slot.load(bucket);
    if (old.expiresAt > this.draft.logTime) return;
    if (this.archives) this.departures.push(this.state.viewOf(old));
    if (this.changes.any) this.changes.expired(old.key, asOffset(old.offset));
  }

  private keepOrdered(cursor: RecordCursor): void {
    const { order } = this;
    order!.add(cursor.bytes, cursor.keyStart, cursor.keyEnd);
    // Nobody scans, or keys come and go: what was copied has outgrown what is there.
    if ((order!.added & 0xfff) === 0 && order!.added > 3 * this.entries + ORDERED_KEYS_ALLOWED) this.order = null;
  }

  private removeEntry(slot: Slot, bucket: number, offset: Offset): void {
    const old = slot.load(bucket);
    const alive = old.expiresAt > this.draft.logTime;
    this.order?.remove(old.chunk, old.keyStart, old.keyEnd);
    if (!alive && this.archives) this.departures.push(this.state.viewOf(old));
    this.limit?.leave(old);
    if (this.changes.any) {
      if (alive) this.changes.deleted(old.key, offset);
      else this.changes.expired(old.key, asOffset(old.offset));
    }
    slot.remove(bucket, alive);
  }

  /** Of the record's headers, the first called content-type; without making the list of them. */
  private readContentType(cursor: RecordCursor): void {
    const { bytes } = cursor;
    const { draft } = this;
    let at = cursor.headersStart;
    let length = 0;
    const readLength = (): void => {
      let scale = 1;
      length = 0;
      for (;;) {
        const byte = bytes[at++];
        length += (byte & 0x7f) * scale;
        if (byte < 0x80) return;
        scale *= 128;
      }
    };
    for (let i = 0; i < cursor.headerCount; i++) {
      readLength();
      let named = length === CONTENT_TYPE.length;
      for (let j = 0; named && j < length; j++) named = bytes[at + j] === CONTENT_TYPE[j];
      at += length;
      readLength();
      if (named) {
        draft.contentType = this.state.contentTypes.intern(bytes, at, at + length);
        if (draft.contentType < 0) {
          draft.typeStart = at;
          draft.typeEnd = at + length;
        }
        return;
      }
      at += length;
    }
  }

  /* ---- reading ---- */

  /**
   * The entry that is live at `time`, where it lies in memory: nothing is made or copied, and so it is good only until the view is next asked or
   * changed. `get` is for whoever keeps it.
   *
   * @throws TidelineError `not-ready` for a slot that is stopped
   */
  read(key: Uint8Array, time: LogTime): StoredEntry | null {
    const hash = hashKey(key);
    this.mustServe(slotOf(hash));
    const slot = this.state.slots[slotOf(hash)];
    const stored = slot ? slot.lookUp(hash, key) : null;
    return stored !== null && stored.expiresAt > time ? stored : null;
  }

  /** The same as an object. Its buffers never change, nobody may write to them, and the key is the one asked for if that is a buffer. */
  get(key: Uint8Array, time: LogTime): Entry | null {
    const stored = this.read(key, time);
    return stored === null ? null : this.state.entryOf(stored, true, Buffer.isBuffer(key) ? key : null);
  }

  /** As `Departures.leaving`. @throws TidelineError `not-ready` */
  leaving(key: Uint8Array, time: LogTime): LeavingEntry | null {
    this.mustServe(slotOf(hashKey(key)));
    return this.departures.leaving(key, time);
  }

  /**
   * What is live at `time` under each of the keys, in their order, as the answer to whoever asks for them together (`found` in #wire): fetched
   * together, and nothing made for each. To be asked for alone is what the slot's rebuild keeps from being read, and what comes after
   * `bytesMax` bytes.
   */
  writeFound(keys: readonly Uint8Array[], time: LogTime, bytesMax: number, writer: ByteWriter): void {
    const { state, keysAhead } = this;
    const end = writer.position + bytesMax;
    for (let first = 0; first < keys.length;) {
      const count = keysAhead.look(keys, first, state.slots);
      for (let i = 0; i < count; i++) {
        const hash = keysAhead.hashes[i];
        if (writer.position >= end || !this.serves(slotOf(hash))) {
          writeNotAnswered(writer);
          continue;
        }
        const slot = state.slots[slotOf(hash)];
        const stored = slot === null ? null : slot.loadKey(keysAhead.locations[i], hash, keys[first + i]);
        if (stored === null || stored.expiresAt <= time) writeNothingFound(writer);
        else writeFoundPart(writer, stored, state.contentTypeOf(stored));
      }
      first += count;
    }
  }

  private serves(slot: number): boolean {
    return this.skips === null || this.skips[slot] !== Skip.Stopped;
  }

  /** @throws TidelineError `not-ready` for a slot that is stopped */
  private mustServe(slot: number): void {
    if (this.serves(slot)) return;
    throw new TidelineError('not-ready', `slot ${slot} of the view is being rebuilt on this host`, {
      details: { slot },
    });
  }

  /**
   * Entries live at `time`, ascending by key bytes. The first scan puts all keys in order; see `prepareScan`. After that a page costs
   * its entries and a search.
   */
  scan(request: ScanRequest): ScanPage {
    const { state } = this;
    const { prefix, after, limit, bytesMax, values, time } = request;
    for (const slot of this.stoppedSlots) this.mustServe(slot);
    while (!this.prepareScan(SCAN_MERGE_KEYS));
    const entries: Entry[] = [];
    let bytes = 0;
    let more = false;
    const start = Buffer.from(after !== null && Buffer.compare(after, prefix) >= 0 ? after : prefix);
    this.order!.walk(start, after !== null && start.equals(after), (key) => {
      if (!startsWith(key, prefix)) return false;
      const hash = hashKey(key);
      const slot = state.slot(slotOf(hash));
      const stored = slot.lookUp(hash, key);
      assert(stored !== null, 'a key is in order that is not in the view');
      if (stored.expiresAt <= time) return true;
      const size = key.length + (values ? stored.valueEnd - stored.valueStart : 0);
      if (entries.length > 0 && (entries.length >= limit || bytes + size > bytesMax)) {
        more = true;
        return false;
      }
      bytes += size;
      entries.push(state.entryOf(stored, values));
      return true;
    });
    return { entries, more };
  }

  /**
   * Does part of what the next scan needs done: about `keysMax` keys gathered, or put in order. True when nothing is left. A host calls it in slices
   * before a scan, so that the first scan of a large view does not hold up everything else.
   */
  prepareScan(keysMax: number): boolean {
    const { state } = this;
    if (!this.order) {
      this.order = new OrderedKeys();
      this.orderSlots = 0;
      this.ungathered = NO_HASHES;
    }
    const { order } = this;
    if (order.pendingKeys > 0) {
      order.merge(keysMax, (key) => {
        const hash = hashKey(key);
        return state.slot(slotOf(hash)).find(hash, key, 0, key.length) >= 0;
      });
    } else this.gatherKeys(order, keysMax);
    return order.pendingKeys === 0 && this.ungathered.length === 0 && this.orderSlots === state.slots.length;
  }

  private gatherKeys(order: OrderedKeys, keysMax: number): void {
    const { slots } = this.state;
    while (this.ungathered.length === 0 && this.orderSlots < slots.length) {
      this.ungathered = slots[this.orderSlots++]?.hashes() ?? NO_HASHES;
    }
    const hashes = this.ungathered.subarray(0, keysMax);
    this.ungathered = this.ungathered.subarray(hashes.length);
    for (const hash of hashes) {
      slots[slotOf(hash)]!.forEachOf(hash, ({ chunk, keyStart, keyEnd }) => order.add(chunk, keyStart, keyEnd));
    }
  }

  /**
   * Results of the records at these offsets, in order; a record without an op gives ok with its own offset.
   * @throws TidelineError `result-evicted` | `offset-out-of-range` when they are not all applied
   */
  results(range: { readonly firstOffset: Offset; readonly lastOffset: Offset }): readonly ApplyResult[] {
    const { firstOffset, lastOffset } = range;
    if (lastOffset > this.offset) {
      throw new TidelineError('offset-out-of-range', `offset ${lastOffset} is not applied yet`, { outcome: 'unknown' });
    }
    const results = this.state.results.range(firstOffset, lastOffset);
    if (results.includes(NOT_KNOWN)) {
      throw new TidelineError('not-ready', 'the slot of a command is being rebuilt on this host', {
        outcome: 'unknown',
      });
    }
    return results;
  }

  /* ---- expiry ---- */

  nextExpiry(): LogTime | null {
    return this.departures.nextExpiry();
  }

  /** As `Departures.earliestToArchive`. */
  earliestToArchive(): LogTime | null {
    return this.departures.earliestToArchive();
  }

  /** As `Departures.expire`. */
  expire(request: { readonly until: LogTime; readonly max: number }): number {
    return this.departures.expire(request);
  }

  /** As `Departures.take`. */
  take(request: DueRequest): LeavingBatch {
    return this.departures.take(request);
  }

  /** As `Departures.putBack`. */
  putBack(batch: LeavingBatch): void {
    this.departures.putBack(batch);
  }

  /** As `Departures.removeExpired`. */
  removeExpired(batch: LeavingBatch, max?: number): number {
    return this.departures.removeExpired(batch, max);
  }

  private removeDue(slot: Slot, bucket: number): void {
    const due = slot.load(bucket);
    this.order?.remove(due.chunk, due.keyStart, due.keyEnd);
    this.limit?.leave(due);
    if (this.changes.any) this.changes.expired(due.key, asOffset(due.offset));
    slot.remove(bucket, false);
  }

  /* ---- changes ---- */

  /** Calls back within `applyBatches` and `expire`, for keys with this prefix. Returns how to stop. A listener that throws is dropped. */
  onChange(listener: ViewChangeListener, prefix?: Uint8Array): () => void {
    return this.changes.add(listener, prefix);
  }

  /* ---- slots that are not to be trusted ---- */

  /** Rising. Reads of them are `not-ready`; scans too, since they are about all slots. */
  get stoppedSlots(): readonly number[] {
    const { skips } = this;
    return skips === null ? [] : Array.from(skips.keys()).filter((slot) => skips[slot] === Skip.Stopped);
  }

  /** Whether what is in memory of the slot adds up to its digest. Looks at every entry: for one slot now and then. */
  addsUp(slot: number): boolean {
    return this.state.slots[slot]?.addsUp() ?? true;
  }

  /** Lets go of what is in these slots and serves them no more, until `adoptSlots`. Listeners miss what changes meanwhile. */
  stopSlots(numbers: Iterable<number>): void {
    const { state } = this;
    // What makes room in one slot is written to others: none of them can be right, or be built anew, alone.
    for (const number of this.limits === null ? numbers : Array(SLOTS).keys()) {
      this.skips ??= new Uint8Array(SLOTS);
      this.skips[number] = Skip.Stopped;
      state.dropSlot(number);
    }
    this.order = null;
    this.measure();
    this.marks.clear();
  }

  /**
   * Takes over slots that another view of the same log has built up to the same offset, with the results of their commands and all of its memory: it is
   * of no use then. They are served from now on. Nobody who listens is told what changed.
   */
  adoptSlots(other: MapView, numbers: Iterable<number>): void {
    const { state } = this;
    assert(other.offset === this.offset && other !== this, 'slots of another offset');
    const adopted = [...numbers];
    state.adoptSlots(other.state, adopted);
    if (this.skips !== null) for (const number of adopted) this.skips[number] = Skip.No;
    if (this.skips?.every((skip) => skip === Skip.No)) this.skips = null;
    state.results.replace(NOT_KNOWN, other.state.results);
    this.departures.adopt(other.departures);
    this.order = null;
    this.measure();
    this.marks.clear();
  }

  /* ---- snapshots ---- */

  /** The view as it is now, to be written while it goes on: slots are copied one by one, when they change or are written. */
  freeze(): SnapshotWriter {
    const { state } = this;
    assert(this.skips === null, 'a view that lacks slots is no snapshot');
    return new SnapshotWriter({
      offset: state.offset,
      logTime: state.logTime,
      malformedCount: state.malformedCount,
      contentTypes: [...state.contentTypes.names],
      dataTypes: [...state.dataTypes.names],
      evictedThrough: state.results.evictedThrough,
      results: state.results.list(),
      slots: state.slots.filter((slot) => slot !== null).map((slot) => slot.freeze()),
    });
  }

  /* ---- memory ---- */

  /**
   * Moves living bytes out of chunks that are partly dead, or, where nothing is to be had so, out of a region of the arena, to give memory back: looks
   * through about so many bytes. Returns how many; 0: nothing is worth it.
   */
  reclaim(bytesMax: number): number {
    const { slots } = this.state;
    let looked = 0;
    for (let idle = 0; idle < slots.length && looked < bytesMax;) {
      const bytes = slots[this.reclaimSlot]?.reclaim(bytesMax - looked) ?? 0;
      looked += bytes;
      if (bytes > 0) continue;
      this.reclaimSlot = (this.reclaimSlot + 1) % slots.length;
      idle++;
    }
    return looked > 0 ? looked : this.state.compact(bytesMax);
  }

  /** A view that is only ever written to keeps its garbage in bounds by itself: as much is reclaimed as was written, at least. */
  private reclaimOwnGarbage(): void {
    const budget = this.bytesSinceReclaim * RECLAIM_LOOKED_PER_WRITTEN;
    this.bytesSinceReclaim = 0;
    let dead = 0;
    let live = 0;
    for (const slot of this.state.slots) {
      if (!slot) continue;
      dead += slot.deadBytes;
      live += slot.liveBytes;
    }
    if (dead > live / 2 + DEAD_BYTES_ALLOWED) this.reclaim(budget);
  }
}

/** In the place of the result of a command whose slot is stopped. */
const NOT_KNOWN: ApplyResult = { ok: false, code: 'not-ready', message: '', value: '', entryOffset: asOffset(0) };

const refused = (code: string, message: string, entryOffset: Offset = asOffset(0)): ApplyResult => ({
  ok: false,
  code,
  message,
  value: '',
  entryOffset,
});
