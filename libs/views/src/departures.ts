import { asLogTime, assert, hashKey, slotOf, type LogTime } from '#kernel';
import { ArchiveQueue, copyOfEntry, sizeOfEntry, type LeavingEntry } from './archive-queue.js';
import type { Slot } from './slot.js';
import { LEAVING_BATCH_MAX, LeavingBatch, TakenEntries } from './leaving-batch.js';
import type { Entry } from './view-query.js';
import type { ViewState } from './view-state.js';

export interface DueRequest {
  readonly until: LogTime;
  /** Entries, and about the bytes they take (or one entry). */
  readonly max: number;
  readonly bytesMax: number;
  /** Asked now and then: true, and it ends with what it has. */
  readonly isOverdue?: () => boolean;
}

/** An entry of the index. */
interface Found {
  readonly slot: Slot;
  readonly bucket: number;
  /** Of its key. */
  readonly hash: number;
}

/** Entries taken between looks at the clock. */
const TAKEN_STEP = 50;

/**
 * Entries that leave a view since they have expired or had to make room. Without an archive an expired entry is just removed. With one, all
 * go through it first: those in the index stay there, invisible, and those that were overwritten, deleted or evicted wait in a queue.
 */
export class Departures {
  private readonly queue: ArchiveQueue | null;
  /** By `take`, and neither removed nor put back. */
  private takenCount = 0;
  /** Of these, those that are in the index: their slots know no more that they are due. */
  private readonly taken = new TakenEntries();

  constructor(
    private readonly state: ViewState,
    archives: boolean,
    /** Takes an expired entry out of the index, and tells who wants to know. */
    private readonly remove: (slot: Slot, bucket: number) => void,
  ) {
    this.queue = archives ? new ArchiveQueue() : null;
  }

  get archives(): boolean {
    return this.queue !== null;
  }

  get queueBytes(): number {
    return this.queue?.bytes ?? 0;
  }

  /** An entry that is about to leave the index otherwise than through the archive. `evictedAt`: it was alive until then. */
  push(entry: Entry, evictedAt?: LogTime): void {
    this.queue?.push(entry, evictedAt);
  }

  /** What waits in a view whose slots this one takes over. */
  adopt({ queue }: Departures): void {
    for (let place = 0; queue && place < queue.length; place++) this.queue?.take(queue.at(place));
  }

  /**
   * What was written last under the key of all that is on its way to the archive, where nothing is live at `time`: the entry in the index, if that
   * has expired by then, or else in the queue. Null: nothing is, or the view has no archive. What the archive has of the key is older, unless it is
   * this one.
   */
  leaving(key: Uint8Array, time: LogTime): LeavingEntry | null {
    if (this.queue === null) return null;
    const hash = hashKey(key);
    const slot = this.state.slots[slotOf(hash)];
    const bucket = slot?.find(hash, key, 0, key.length) ?? -1;
    if (bucket >= 0) {
      const stored = slot!.load(bucket);
      if (stored.expiresAt <= time) return { ...this.state.entryOf(stored), evicted: false };
    }
    return this.queue.newest(hash, key);
  }

  /** When the first entry expires, or may do so; null: none will. */
  nextExpiry(): LogTime | null {
    const earliest = this.state.earliestExpiries.earliest;
    return earliest === Infinity ? null : asLogTime(earliest);
  }

  /**
   * Before this log time nothing departed that is still to be given to the archive, nor will any; null: nothing is there that will depart. What `take`
   * gave from the index is not among it.
   */
  earliestToArchive(): LogTime | null {
    const earliest = Math.min(this.state.earliestExpiries.earliest, this.queue?.earliest ?? Infinity);
    return earliest === Infinity ? null : asLogTime(earliest);
  }

  /**
   * Removes entries that are due, earliest first. Nothing beyond the view's own log time is due. Looks at `max` times when something expires, or did
   * before it was overwritten, so that as much may be due yet as `nextExpiry` says. Returns how many went.
   */
  expire(request: { readonly until: LogTime; readonly max: number }): number {
    assert(this.queue === null, 'an entry would go before its archive has it');
    const until = Math.min(request.until, this.state.logTime);
    let removed = 0;
    for (let looked = 0; looked < request.max; looked++) {
      const slot = this.nextDueSlot(until);
      if (slot === null) break;
      const bucket = this.nextDue(slot, until);
      if (bucket < 0) continue;
      this.remove(slot, bucket);
      removed++;
    }
    return removed;
  }

  /**
   * Takes an entry out of the index that has expired, for another to have its place. The archive is to have it all the same, also if it is on its way
   * there. False: none has expired.
   */
  makeRoom(until: LogTime): boolean {
    for (let slot = this.nextDueSlot(until); slot !== null; slot = this.nextDueSlot(until)) {
      const bucket = this.nextDue(slot, until);
      if (bucket < 0) continue;
      this.leave(slot, bucket);
      return true;
    }
    for (let taken = this.taken.pop(); taken !== null; taken = this.taken.pop()) {
      const found = this.find(taken.hash, taken.key, taken.offset);
      if (!found) continue;
      this.leave(found.slot, found.bucket);
      return true;
    }
    return false;
  }

  private leave(slot: Slot, bucket: number): void {
    if (this.queue !== null) this.push(this.state.viewOf(slot.load(bucket)));
    this.remove(slot, bucket);
  }

  /** Where the entry is in the index; null: it is not there any more. */
  private find(hash: number, key: Buffer, offset: number): Found | null {
    const slot = this.state.slots[slotOf(hash)];
    const bucket = slot?.find(hash, key, 0, key.length) ?? -1;
    return bucket < 0 || slot!.load(bucket).offset !== offset ? null : { slot: slot!, bucket, hash };
  }

  /**
   * Expired and evicted entries that the archive is to have: first those that are out of the index since, then those in the index, earliest first; of one
   * key in the order in which they were written. They stay, invisible, until `removeExpired` is called with them. Copies; at most `max`, and
   * about `bytesMax` or one. In the index it looks at `max` times when something expires, or did before it was overwritten: more may be due even if
   * these are none.
   *
   * What it gives it does not give again until `putBack` is called with it (or, of what is out of the index, nothing at all until `removeExpired` is), so
   * that several batches may be on their way to the archive: no two of them have entries of one key.
   */
  take(request: DueRequest): LeavingBatch {
    assert(this.queue !== null, 'a view without an archive');
    const batch = new LeavingBatch();
    if (this.takenCount > 0 && this.queue.length > 0) return batch;
    this.taken.open(batch);
    this.takeInto(batch, this.queue, request);
    this.takenCount += batch.length;
    if (batch.length === 0) this.taken.close(batch);
    return batch;
  }

  private takeInto(batch: LeavingBatch, queue: ArchiveQueue, request: DueRequest): void {
    const { isOverdue } = request;
    const until = Math.min(request.until, this.state.logTime);
    const max = Math.min(request.max, LEAVING_BATCH_MAX);
    let bytes = 0;
    const full = (): boolean => batch.length >= max || (batch.length > 0 && bytes >= request.bytesMax);
    for (let place = 0; place < queue.length && !full(); place++) {
      const entry = queue.at(place);
      batch.add(entry, true);
      bytes += sizeOfEntry(entry);
    }
    for (let looked = 0; looked < max && !full(); looked++) {
      if (looked > 0 && looked % TAKEN_STEP === 0 && isOverdue?.() === true) break;
      const slot = this.nextDueSlot(until);
      if (slot === null) break;
      const bucket = this.nextDue(slot, until);
      if (bucket < 0) continue;
      const entry = copyOfEntry(this.state.viewOf(slot.load(bucket)));
      this.taken.add(hashKey(entry.key), batch, batch.length);
      batch.add(entry, false);
      bytes += sizeOfEntry(entry);
    }
  }

  /** The archive has none of these, or none but the settled ones: they are due again. */
  putBack(batch: LeavingBatch): void {
    while (!batch.isSettled) {
      const found = this.settle(batch);
      if (found) found.slot.expiries.push(found.slot.load(found.bucket).expiresAt, found.hash);
    }
  }

  /** The archive has these. Settles so many of them at most, and returns how many left memory. */
  removeExpired(batch: LeavingBatch, max = Infinity): number {
    assert(this.queue !== null, 'a view without an archive');
    let removed = 0;
    for (let looked = 0; looked < max && !batch.isSettled; looked++) {
      const isQueued = batch.settled < batch.queued;
      const found = this.settle(batch);
      if (isQueued) this.queue.shift();
      else if (found) this.remove(found.slot, found.bucket);
      // Overwritten, deleted, or out of the way of others meanwhile: then it waits in the queue, and is archived a second time, which changes nothing.
      else continue;
      removed++;
    }
    return removed;
  }

  /** The next of the batch is on its way no more. Where it is in the index; null: it is not there any more, or is the first of the queue. */
  private settle(batch: LeavingBatch): Found | null {
    const place = batch.settled++;
    this.takenCount--;
    let found: Found | null = null;
    if (place >= batch.queued) {
      const key = batch.keyAt(place);
      const hash = hashKey(key);
      this.taken.delete(hash, batch, place);
      found = this.find(hash, key, batch.offsetAt(place));
    }
    if (batch.isSettled) this.taken.close(batch);
    return found;
  }

  /** Takes the earliest item off the slot's heap, which is due. Bucket of its entry; −1: it is gone, or has another expiry by now. */
  private nextDue(slot: Slot, until: number): number {
    const { expiries } = slot;
    const { earliest, earliestHash } = expiries;
    assert(earliest <= until, 'the slot was said to have something due');
    expiries.pop();
    return slot.findExpired(earliestHash, earliest, this.taken);
  }

  /** The slot in which the next entry may be due; null: none is. */
  private nextDueSlot(until: number): Slot | null {
    const { slots, earliestExpiries } = this.state;
    return earliestExpiries.earliest > until ? null : slots[earliestExpiries.first];
  }
}
