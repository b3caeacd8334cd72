import type { EarliestSlots } from './earliest-slots.js';

/**
 * When the entries of one slot expire, earliest first: a binary heap in two typed arrays, 12 bytes an item. It holds hashes instead of
 * positions, because positions move when bytes are reclaimed, and it is invalidated lazily: an item whose entry is gone or has
 * another expiry is dropped when it comes to the top, or when the slot rebuilds a heap that has become mostly such items.
 */
export class ExpiryHeap {
  size = 0;
  private times = new Float64Array(0);
  private hashes = new Uint32Array(0);

  constructor(
    /** Told the earliest time of every slot's heap, so that the earliest of all is found without visiting them. */
    private slots: EarliestSlots,
    private readonly slot: number,
  ) {}

  get bytes(): number {
    return this.times.byteLength + this.hashes.byteLength;
  }

  /** Infinity when empty. */
  get earliest(): number {
    return this.size === 0 ? Infinity : this.times[0];
  }

  /** Key hash of the earliest item. */
  get earliestHash(): number {
    return this.hashes[0];
  }

  push(time: number, hash: number): void {
    if (this.size === this.times.length) this.grow();
    const { times, hashes } = this;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (times[parent] <= time) break;
      times[at] = times[parent];
      hashes[at] = hashes[parent];
      at = parent;
    }
    times[at] = time;
    hashes[at] = hash;
    if (at === 0) this.slots.set(this.slot, time);
  }

  /** Drops the earliest item. */
  pop(): void {
    const { times, hashes } = this;
    const size = --this.size;
    const time = times[size];
    const hash = hashes[size];
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= size) break;
      if (child + 1 < size && times[child + 1] < times[child]) child++;
      if (times[child] >= time) break;
      times[at] = times[child];
      hashes[at] = hashes[child];
      at = child;
    }
    times[at] = time;
    hashes[at] = hash;
    this.slots.set(this.slot, this.earliest);
  }

  /** To another view's slots. */
  moveTo(slots: EarliestSlots): void {
    this.slots = slots;
    slots.set(this.slot, this.earliest);
  }

  clear(): void {
    this.size = 0;
    this.slots.set(this.slot, Infinity);
    this.times = new Float64Array(0);
    this.hashes = new Uint32Array(0);
  }

  private grow(): void {
    const capacity = Math.max(8, this.times.length + (this.times.length >>> 1));
    const times = new Float64Array(capacity);
    const hashes = new Uint32Array(capacity);
    times.set(this.times);
    hashes.set(this.hashes);
    this.times = times;
    this.hashes = hashes;
  }
}
