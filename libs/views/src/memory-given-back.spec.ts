import { describe, expect, test } from '@jest/globals';
import { crc32 } from 'node:zlib';
import { SeededRng, hashKey, randomBelow, randomChance, slotOf } from '#kernel';
import type { Arena } from './arena.js';
import { MapView } from './map-view.js';
import { restoreMapView } from './map-view-restorer.js';
import { BatchSource, keysOfSlot, snapshotOf } from './testing/index.js';

const MIB = 1024 * 1024;
const ENTRIES = 6000;
const TTL_MS = 60_000;
/** In every so manieth slot entries stay. */
const STAYS_EVERY = 16;
/** What may be kept though it is idle, with the region that is being filled. */
const KEPT_BYTES = 13 * MIB;
const SLOTS = Array.from({ length: 256 }, (_, slot) => slot);
const everything = { prefix: Buffer.alloc(0), after: null, limit: 1e6, bytesMax: Infinity, values: true };

const stays = (key: Buffer): boolean => slotOf(hashKey(key)) % STAYS_EVERY === 0;
const keys = Array.from({ length: ENTRIES }, (_, n) => Buffer.from(`key-${n}`));
const staying = keys.filter(stays).length;

/** Of all regions, whatever is in them. */
const regionBytes = (view: MapView): number =>
  [view['state'].arena, view['state'].indexes]
    .flatMap(({ bytes }) => bytes)
    .reduce((sum, { length }) => sum + length, 0);
const contents = (view: MapView): unknown => [
  view.digest,
  view
    .scan({ ...everything, time: view.logTime })
    .entries.map(({ key, value, offset }) => `${key.toString()} ${offset} ${value.length} ${crc32(value)}`)
    .join(),
];
const reclaimAll = (view: MapView): void => {
  while (view.reclaim(64 * 1024) > 0);
};
const expireAll = (view: MapView): void => {
  while (view.expire({ until: view.logTime, max: 10_000 }) > 0);
};
/** Writes to what the arena would give to the next, up to so many bytes. */
const scribble = (arena: Arena, bytes: number): void => {
  const chunks = Array.from({ length: bytes / 4096 }, () => arena.allocate(4096));
  for (const { bytes: region, start, length } of chunks) region.fill(0xff, start, start + length);
  for (const chunk of chunks) arena.free(chunk);
};
/** What a snapshot that is being written still has to say. */
const restOf = (blocks: Iterator<Buffer>): Buffer => {
  const rest: Buffer[] = [];
  for (let next = blocks.next(); next.done !== true; next = blocks.next()) rest.push(Buffer.from(next.value));
  return Buffer.concat(rest);
};

/** Views that are all given the same. */
const feeding = (...views: MapView[]): { fill(of: readonly Buffer[], valueBytes: number): void; lapse(): void } => {
  const source = new BatchSource();
  const apply = (batch: Buffer): void => views.forEach((view) => view.applyBatches(batch));
  return {
    /** Those that do not stay get a time to live. */
    fill(of, valueBytes) {
      for (let first = 0; first < of.length; first += 100) {
        const part = of.slice(first, first + 100);
        const value = Buffer.alloc(valueBytes, first / 100);
        apply(source.records(part.map((key) => ({ key, value, ttlMs: stays(key) ? undefined : TTL_MS }))));
      }
    },
    lapse() {
      source.logTime += 2 * TTL_MS;
      apply(source.beacon());
    },
  };
};

describe('memory of entries that are gone', () => {
  test('is given back, though what stays lies all over it, and that can be written to as before', () => {
    const view = new MapView();
    const untouched = new MapView();
    const feed = feeding(view, untouched);
    feed.fill(keys, 7000);
    expect(regionBytes(view)).toBeGreaterThan(40 * MIB);
    feed.lapse();
    expireAll(view);
    reclaimAll(view);
    expect(view.entries).toBe(staying);
    expect(regionBytes(view)).toBeLessThan(KEPT_BYTES);
    expect(view.bytes).toBeLessThan(KEPT_BYTES);
    feed.fill(keys, 900);
    expect(contents(view)).toEqual(contents(untouched));
    for (const slot of [0, 16, 17]) expect(view.addsUp(slot)).toBe(true);
  });

  test('is given back a little at a time, whatever comes between', () => {
    const STEP_BYTES = 5000;
    const ENTRY_BYTES_MAX = 700;
    for (const seed of [1, 2, 3]) {
      const rng = new SeededRng(seed);
      const source = new BatchSource();
      const view = new MapView();
      const untouched = new MapView();
      const ofOneSlot = keysOfSlot(7, 1500);
      const write = (key: Buffer): void => {
        const bytes = randomBelow(rng, ENTRY_BYTES_MAX - 100);
        const value = randomChance(rng, 0.3) ? null : Buffer.alloc(bytes, bytes);
        const batch = source.records([{ key, value }]);
        for (const each of [view, untouched]) each.applyBatches(batch);
      };
      for (const key of ofOneSlot) write(key);
      const slot = view['state'].slots[7]!;
      let frozen: Iterator<Buffer> | null = null;
      let steps = 0;
      for (let round = 0; round < 400; round++) {
        // Much at a time, so that whole chunks die while the living are moved out of them.
        const first = randomBelow(rng, ofOneSlot.length);
        for (const key of ofOneSlot.slice(first, first + randomBelow(rng, 60))) write(key);
        const looked = view.reclaim(STEP_BYTES);
        expect(looked).toBeLessThan(STEP_BYTES + ENTRY_BYTES_MAX);
        if (slot['leaving'] > 0) steps++;
        if (frozen === null && randomChance(rng, 0.05)) frozen = view.freeze()[Symbol.iterator]();
        else if (frozen !== null && randomChance(rng, 0.1)) {
          restOf(frozen);
          frozen = null;
        }
      }
      if (frozen !== null) restOf(frozen);
      expect(steps).toBeGreaterThan(100);
      reclaimAll(view);
      expect(slot.deadBytes * 3).toBeLessThan(slot.liveBytes);
      expect(slot.liveBytes + slot.deadBytes).toBe(slot['chunks'].reduce((sum, { used }) => sum + used, 0));
      expect(slot.deadBytes).toBe(slot['chunks'].reduce((sum, { dead }) => sum + dead, 0));
      expect(contents(view)).toEqual(contents(untouched));
      expect(view.addsUp(7)).toBe(true);
    }
  });

  test('is given back where all of the chunk that is being filled is dead', () => {
    const source = new BatchSource();
    const view = new MapView();
    const [first, second] = keysOfSlot(3, 2);
    view.applyBatches(source.records([first, second].map((key) => ({ key, value: Buffer.alloc(100) }))));
    const slot = view['state'].slots[3]!;
    view.applyBatches(source.records([first, second].map((key) => ({ key, value: null }))));
    expect(slot.deadBytes).toBeGreaterThan(200);
    expect(view.reclaim(1000)).toBeGreaterThan(0);
    expect([slot.deadBytes, slot.chunkBytes]).toEqual([0, 0]);
    expect(view.reclaim(1000)).toBe(0);
  });

  test('is used again: a view that is filled again takes no more than it took', () => {
    const view = new MapView();
    const feed = feeding(view);
    feed.fill(keys, 7000);
    const full = regionBytes(view);
    for (let round = 0; round < 3; round++) {
      feed.lapse();
      expireAll(view);
      reclaimAll(view);
      feed.fill(keys, 7000);
      expect(view.entries).toBe(ENTRIES);
      expect(regionBytes(view)).toBeLessThan(full + KEPT_BYTES);
    }
  });

  test('is not touched while a snapshot is written, which is what it was to be, and is given back then', () => {
    const view = new MapView();
    const feed = feeding(view);
    feed.fill(keys, 7000);
    feed.lapse();
    // Idle, and not given back yet.
    expireAll(view);
    const before = regionBytes(view);
    const whole = snapshotOf(view);
    const blocks = view.freeze()[Symbol.iterator]();
    const first = Buffer.from(blocks.next().value as Buffer);
    feed.fill(keys.filter(stays), 6999);
    reclaimAll(view);
    scribble(view['state'].arena, before);
    // Not written yet.
    const slot = view['state'].slots[15 * STAYS_EVERY]!;
    const regions = slot['chunks'].filter(({ length }) => length > 0).map(({ region }) => region);
    expect(regions.map((region) => slot.leaveRegion(region, Infinity))).toContain(-1);
    const written = Buffer.concat([first, restOf(blocks)]);
    expect(contents(restoreMapView([written]))).toEqual(contents(restoreMapView([whole])));
    expect(regionBytes(view)).toBeGreaterThan(KEPT_BYTES);
    feed.lapse();
    expireAll(view);
    reclaimAll(view);
    expect(regionBytes(view)).toBeLessThan(KEPT_BYTES);
  });

  test('of slots that are stopped is given back when the snapshot that has them is written, and others are taken over', () => {
    const view = new MapView();
    const feed = feeding(view);
    feed.fill(keys, 7000);
    // There are dead entries everywhere.
    const overwritten = keys.filter((_, n) => n % 10 === 0);
    feed.fill(overwritten, 50);
    const whole = snapshotOf(view);
    const blocks = view.freeze()[Symbol.iterator]();
    const first = Buffer.from(blocks.next().value as Buffer);
    view.stopSlots(SLOTS);
    expect(view.entries).toBe(0);
    // What their indexes took is used again.
    scribble(view['state'].indexes, MIB);
    const written = Buffer.concat([first, restOf(blocks)]);
    expect(contents(restoreMapView([written]))).toEqual(contents(restoreMapView([whole])));
    expect(regionBytes(view)).toBeLessThan(2 * KEPT_BYTES);

    view.adoptSlots(restoreMapView([whole]), SLOTS);
    const other = restoreMapView([whole]);
    expect(contents(view)).toEqual(contents(other));
    for (const each of [view, other]) each.adoptSlots(restoreMapView([whole]), [3]);
    expect(contents(view)).toEqual(contents(other));
  });

  test('taken over with slots is used and given back as if it had always been the view’s', () => {
    const untouched = new MapView();
    const view = new MapView();
    const feed = feeding(untouched, view);
    feed.fill(keys.slice(0, 3000), 5000);
    view.adoptSlots(restoreMapView([snapshotOf(untouched)]), SLOTS);
    // Indexes grow, and what they were in goes.
    feed.fill(keys, 4000);
    feed.lapse();
    for (const each of [untouched, view]) expireAll(each);
    expect(contents(view)).toEqual(contents(untouched));
    reclaimAll(view);
    expect(regionBytes(view)).toBeLessThan(KEPT_BYTES);
    for (const arena of [view['state'].arena, view['state'].indexes]) expect(arena.idleBytes).toBeGreaterThanOrEqual(0);
    expect(contents(view)).toEqual(contents(untouched));
  });

  test('of a large entry that was given away is not used again, before a snapshot or after', () => {
    const source = new BatchSource();
    const first = new MapView();
    const ofOneSlot = keysOfSlot(5, 60);
    // Large and small in turn, so that a section of the snapshot has both.
    const sizes = [40_000, 10, 300, 90_000, 33_000, 2000];
    first.applyBatches(
      source.records(ofOneSlot.map((key, n) => ({ key, value: Buffer.alloc(sizes[n % sizes.length], n) }))),
    );
    const restored = restoreMapView([snapshotOf(first)]);
    expect(contents(restored)).toEqual(contents(first));
    const next = source.records(ofOneSlot.map((key) => ({ key, value: null })));
    for (const view of [first, restored]) {
      const [slot] = view['state'].slots.filter((one) => one !== null);
      // Nothing else is in its chunks.
      expect(slot.deadBytes).toBe(0);
      expect(slot['chunks'].reduce((sum, { used }) => sum + used, 0)).toBe(slot.liveBytes);
      const given = ofOneSlot.map((key) => view.get(key, view.logTime)!.value);
      view.applyBatches(next);
      reclaimAll(view);
      scribble(view['state'].arena, 8 * MIB);
      for (const [n, value] of given.entries()) {
        expect(value.equals(Buffer.alloc(sizes[n % sizes.length], n))).toBe(true);
      }
    }
  });

  test('an index moves to another region too', () => {
    const view = new MapView();
    const untouched = new MapView();
    const feed = feeding(view, untouched);
    feed.fill(keys, 10);
    const { slots, indexes } = view['state'];
    const { region } = slots[5]!['indexChunk'];
    // Room in another one.
    const held = Array.from({ length: 8 }, () => indexes.allocate(1.5 * MIB));
    for (const chunk of held.slice(0, -1)) indexes.free(chunk);
    for (const slot of slots) expect(slot?.leaveIndexRegion(region) ?? 0).toBeGreaterThanOrEqual(0);
    expect(indexes.bytes[region]).toHaveLength(0);
    expect(contents(view)).toEqual(contents(untouched));
    // It grows where it is now.
    feed.fill(
      Array.from({ length: 3 * ENTRIES }, (_, n) => Buffer.from(`new-${n}`)),
      20,
    );
    expect(contents(view)).toEqual(contents(untouched));
  });
});
