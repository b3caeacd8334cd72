import { asLogTime, assert, hashKey, slotOf, type LogTime } from '#kernel';
import { ArchiveQueue, copyOfEntry, sizeOfEntry, type LeavingEntry } from './archive-queue.js';
import type { Slot } from './slot.js';
import type { Entry } from './view-query.js';
import type { ViewState } from './view-state.js';

export interface DueRequest {
  readonly until: LogTime;
  /** Entries, and about the bytes they take (or one entry). */
  readonly max: number;
  readonly bytesMax: number;
}

/**
 * Entries that leave a view since they have expired or had to make room. Without an archive an expired entry is just removed. With one, all
 * go through it first: those in the index stay there, invisible, and those that were overwritten, deleted or evicted wait in a queue.
 */
export class Departures {
  private readonly queue: ArchiveQueue | null;
  /** By `take`, and neither removed nor put back. */
  private taken = 0;

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

  /** Removes up to `max` entries that are due, earliest first. Nothing beyond the view's own log time is due. Returns how many went. */
  expire(request: { readonly until: LogTime; readonly max: number }): number {
    assert(this.queue === null, 'an entry would go before its archive has it');
    const until = Math.min(request.until, this.state.logTime);
    let removed = 0;
    while (removed < request.max) {
      const slot = this.nextDueSlot(until);
      if (slot === null) break;
      const bucket = nextDue(slot, until);
      if (bucket < 0) continue;
      this.remove(slot, bucket);
      removed++;
    }
    return removed;
  }

  /**
   * Expired and evicted entries that the archive is to have: first those that are out of the index since, then those in the index, earliest first; of one
   * key in the order in which they were written. They stay, invisible, until `removeExpired` is called with them. Copies; at most `max`, and
   * about `bytesMax` or one.
   */
  due(request: DueRequest): LeavingEntry[] {
    const due = this.popDue(request);
    this.pushDue(due);
    return due;
  }

  /**
   * Like `due`, but what it gives it does not give again until `putBack` is called with it (or, of what is out of the index, nothing at all until
   * `removeExpired` is), so that several batches may be on their way to the archive: no two of them have entries of one key.
   */
  take(request: DueRequest): LeavingEntry[] {
    assert(this.queue !== null, 'a view without an archive');
    if (this.taken > 0 && this.queue.length > 0) return [];
    const due = this.popDue(request);
    this.taken += due.length;
    return due;
  }

  /** The archive has none of these, which `take` gave: they are due again. */
  putBack(entries: readonly LeavingEntry[]): void {
    this.taken -= entries.length;
    this.pushDue(entries);
  }

  private pushDue(entries: readonly LeavingEntry[]): void {
    for (const { key, offset } of entries) {
      const hash = hashKey(key);
      const slot = this.state.slot(slotOf(hash));
      const bucket = slot.find(hash, key, 0, key.length);
      if (bucket < 0) continue;
      const stored = slot.load(bucket);
      if (stored.offset === offset) slot.expiries.push(stored.expiresAt, hash);
    }
  }

  private popDue(request: DueRequest): LeavingEntry[] {
    assert(this.queue !== null, 'a view without an archive');
    const { queue } = this;
    const until = Math.min(request.until, this.state.logTime);
    const due: LeavingEntry[] = [];
    let bytes = 0;
    const add = (entry: LeavingEntry): void => {
      due.push(entry);
      bytes += sizeOfEntry(entry);
    };
    const full = (): boolean => due.length >= request.max || (due.length > 0 && bytes >= request.bytesMax);
    for (let place = 0; place < queue.length && !full(); place++) add(queue.at(place));
    const offsets = new Set<number>();
    while (!full()) {
      const slot = this.nextDueSlot(until);
      if (slot === null) break;
      const bucket = nextDue(slot, until, offsets);
      if (bucket < 0) continue;
      const stored = slot.load(bucket);
      add(copyOfEntry(this.state.viewOf(stored)));
      offsets.add(stored.offset);
    }
    return due;
  }

  /** The archive has these, which `due` or `take` gave. Returns how many entries left memory. */
  removeExpired(archived: readonly Entry[]): number {
    assert(this.queue !== null, 'a view without an archive');
    this.taken = Math.max(0, this.taken - archived.length);
    const { queue } = this;
    let removed = 0;
    for (const entry of archived) {
      if (queue.length > 0 && queue.at(0) === entry) {
        queue.shift();
        removed++;
        continue;
      }
      const { key } = entry;
      const hash = hashKey(key);
      const slot = this.state.slot(slotOf(hash));
      const bucket = slot.find(hash, key, 0, key.length);
      // Overwritten or deleted meanwhile: then it waits in the queue, and is archived a second time, which changes nothing.
      if (bucket < 0 || slot.load(bucket).offset !== entry.offset) continue;
      this.remove(slot, bucket);
      removed++;
    }
    return removed;
  }

  /** The slot in which the next entry may be due; null: none is. */
  nextDueSlot(until: number): Slot | null {
    const { slots, earliestExpiries } = this.state;
    return earliestExpiries.earliest > until ? null : slots[earliestExpiries.first];
  }
}

/** Takes items off the slot's heap that are due, up to and with the first that is true. Bucket of its entry; −1: none was. */
export const nextDue = (slot: Slot, until: number, besides?: ReadonlySet<number>): number => {
  const { expiries } = slot;
  while (expiries.earliest <= until) {
    const bucket = slot.findExpired(expiries.earliestHash, expiries.earliest, besides);
    expiries.pop();
    if (bucket >= 0) return bucket;
  }
  return -1;
};
