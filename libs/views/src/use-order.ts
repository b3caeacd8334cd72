import { assert } from '#kernel';

/**
 * Entries in the order in which they were last used (written or touched), for eviction. An entry is named by the offset of that use, which
 * is its own, and by its key's hash. Offsets only ever come at the end, so the whole is a row of sorted segments:
 *
 *     segment   offsets, ascending, −offset for one that is out · hashes of the same places · 12 bytes a place
 *
 * Taking one out is two binary searches and a minus sign. A segment of more holes than items is packed, and joined with a neighbour when
 * both fit in one; so nothing costs more than two segments at a time, and a place is about half used at worst.
 */
const SEGMENT_ITEMS = 4096;
/** Fewer holes than this are not worth packing. */
const HOLES_MIN = 32;

class Segment {
  readonly offsets = new Float64Array(SEGMENT_ITEMS);
  readonly hashes = new Uint32Array(SEGMENT_ITEMS);
  /** Places in use, holes included. */
  count = 0;
  items = 0;
  /** Places before this one are holes. */
  head = 0;

  pack(): void {
    const { offsets, hashes } = this;
    let to = 0;
    for (let at = this.head; at < this.count; at++) {
      if (offsets[at] < 0) continue;
      offsets[to] = offsets[at];
      hashes[to++] = hashes[at];
    }
    this.count = to;
    this.head = 0;
  }
}

export class UseOrder {
  private readonly segments: Segment[] = [];
  /** Largest offset so far. */
  private last = 0;

  get bytes(): number {
    return this.segments.length * SEGMENT_ITEMS * 12;
  }

  /** Offsets rise from call to call. */
  add(offset: number, hash: number): void {
    assert(offset > this.last, 'a use comes after all others');
    this.last = offset;
    let segment = this.segments.at(-1);
    if (!segment || segment.count === SEGMENT_ITEMS) this.segments.push((segment = new Segment()));
    segment.offsets[segment.count] = offset;
    segment.hashes[segment.count++] = hash;
    segment.items++;
  }

  /** The offset is in the order. */
  remove(offset: number): void {
    const number = this.segmentOf(offset);
    const segment = this.segments[number];
    const { offsets } = segment;
    let low = segment.head;
    let high = segment.count - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (Math.abs(offsets[middle]) < offset) low = middle + 1;
      else high = middle;
    }
    assert(offsets[low] === offset, 'an entry is not in the order of use');
    offsets[low] = -offset;
    segment.items--;
    while (segment.head < segment.count && offsets[segment.head] < 0) segment.head++;
    if (segment.items === 0) {
      // The last one is about to be filled again.
      if (number === this.segments.length - 1) segment.count = segment.head = 0;
      else this.segments.splice(number, 1);
    } else if (segment.count - segment.head - segment.items > Math.max(segment.items, HOLES_MIN)) {
      segment.pack();
      if (!this.join(number - 1)) this.join(number);
    }
  }

  /** Offset of the one not used for longest, and in `firstHash` its hash; 0 when there is none. */
  first(): number {
    const segment = this.segments[0];
    if (!segment || segment.items === 0) return 0;
    this.firstHash = segment.hashes[segment.head];
    return segment.offsets[segment.head];
  }

  /** Found by `first`. */
  firstHash = 0;

  /** The last segment that begins at or before the offset. */
  private segmentOf(offset: number): number {
    const { segments } = this;
    let low = 0;
    let high = segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const { offsets, head } = segments[middle];
      if (Math.abs(offsets[head]) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The segment and the one after it, if they fit in one. */
  private join(number: number): boolean {
    const left = this.segments[number];
    const right = this.segments[number + 1];
    if (!left || !right || left.items + right.items > SEGMENT_ITEMS) return false;
    left.pack();
    right.pack();
    left.offsets.set(right.offsets.subarray(0, right.count), left.count);
    left.hashes.set(right.hashes.subarray(0, right.count), left.count);
    left.count += right.count;
    left.items += right.items;
    this.segments.splice(number + 1, 1);
    return true;
  }
}
