import { describe, expect, test } from '@jest/globals';
import { SLOTS, asLogTime, asOffset, hashKey, slotOf } from '#kernel';
import { encodeConditionalOp, encodeOp, PUT_IF, type RecordInput } from '#wire';
import { DIGEST_MARK_RECORDS } from './digest-marks.js';
import { MapView, type MapViewOptions } from './map-view.js';
import { MapViewSlotsRestorer, restoreMapView } from './map-view-restorer.js';
import { SnapshotEntries } from './snapshot-reader.js';
import {
  SNAPSHOT_FOOTER_BYTES,
  decodeSnapshotFooter,
  decodeSnapshotTable,
  encodeSnapshotTable,
  type SnapshotTable,
} from './snapshot-v2.js';
import { BatchSource, blocksOf, bytesInMemory, keysOfSlot, snapshotOf } from './testing/index.js';
import { BUILT_IN_TYPES } from './types/built-in-types.js';

const TYPES: MapViewOptions = { dataTypes: BUILT_IN_TYPES };
const bytes = (text: string): Buffer => Buffer.from(text);
const slotOfKey = (key: Buffer): number => slotOf(hashKey(key));
const put = (key: string, value: string, more: Partial<RecordInput> = {}): RecordInput => ({
  key: bytes(key),
  value: bytes(value),
  ...more,
});

/** Puts, overwrites, deletes, TTLs, content types and commands over some 300 keys. */
const history = (source: BatchSource, batches: number, seed = 0): Buffer[] =>
  Array.from({ length: batches }, (_, b) => {
    source.logTime += 37;
    const n = b + seed;
    return source.records([
      put(`k${(n * 7) % 300}`, `value ${n}`),
      put(`k${(n * 13) % 300}`, `timed ${n}`, { ttlMs: 500 + (n % 9) * 100 }),
      put(`k${(n * 5) % 300}`, `typed ${n}`, {
        headers: [{ name: 'content-type', value: bytes(`text/kind-${n % 5}`) }],
      }),
      { key: bytes(`c${n % 40}`), op: encodeOp('incr', []) },
      { key: bytes(`k${(n * 3) % 300}`), value: bytes('if'), op: encodeConditionalOp(PUT_IF, { kind: 'absent' }) },
      { key: bytes(`k${(n * 11) % 300}`), value: null },
    ]);
  });

const applied = (batches: readonly Buffer[], options: MapViewOptions = TYPES): MapView => {
  const view = new MapView(options);
  for (const batch of batches) view.applyBatches(batch);
  return view;
};

const tableOf = (file: Buffer): SnapshotTable => {
  const { position, bytes: length } = decodeSnapshotFooter(file.subarray(-SNAPSHOT_FOOTER_BYTES), file.length);
  return decodeSnapshotTable(file.subarray(position, position + length));
};

/** What comes of these slots of the file, and the slots that were refused. */
const restoreSlots = (
  file: Buffer,
  options: MapViewOptions = TYPES,
  table = tableOf(file),
): { view: MapView; refused: number[] } => {
  const restorer = new MapViewSlotsRestorer(file.subarray(0, table.preambleBytes), table, options);
  const refused: number[] = [];
  for (const place of table.slots.toReversed()) {
    if (options.slots && !options.slots.has(place.slot)) continue;
    restorer.begin(place);
    try {
      for (let at = 0; at < place.bytes; at += 100) {
        restorer.push(file.subarray(place.position + at, place.position + Math.min(place.bytes, at + 100)));
      }
      restorer.end(place);
    } catch (error) {
      expect(error).toMatchObject({ code: 'storage-damaged' });
      refused.push(place.slot);
    }
  }
  return { view: restorer.finish(), refused };
};

const everything = { prefix: Buffer.alloc(0), after: null, limit: 1e6, bytesMax: 1e9, values: true };
const contents = (view: MapView): unknown => ({
  digest: view.digest,
  entries: view.scan({ ...everything, time: view.logTime }).entries,
});

describe('a snapshot slot by slot', () => {
  test('all slots in any order are what the whole is', () => {
    const view = applied(history(new BatchSource(), 200));
    const file = snapshotOf(view);
    const { view: restored, refused } = restoreSlots(file);
    expect(refused).toEqual([]);
    expect(restored.stoppedSlots).toEqual([]);
    expect(contents(restored)).toEqual(contents(view));
    expect(contents(restoreMapView([file], TYPES))).toEqual(contents(view));
  });

  test('the table says where each slot is and what it holds, and the writer knows it too', () => {
    const view = applied(history(new BatchSource(), 50));
    const writer = view.freeze();
    const file = Buffer.concat(blocksOf(writer));
    const table = tableOf(file);
    expect(writer.table).toEqual(table);
    expect(decodeSnapshotTable(encodeSnapshotTable(table))).toEqual(table);
    expect(table.slots.reduce((sum, { entries }) => sum + entries, 0)).toBe(view.entries);
    const digests = view.slotDigests();
    for (const { slot, digestA, digestB } of table.slots) {
      expect([digestA, digestB]).toEqual([digests[2 * slot], digests[2 * slot + 1]]);
    }
  });

  test('chosen slots alone are a part of the view', () => {
    const view = applied(history(new BatchSource(), 100));
    const file = snapshotOf(view);
    const slot = slotOfKey(bytes('k14'));
    const { view: part } = restoreSlots(file, { ...TYPES, slots: new Set([slot]) });
    expect(part.get(bytes('k14'), part.logTime)).toEqual(view.get(bytes('k14'), view.logTime));
    expect(part.entries).toBe(tableOf(file).slots.find((place) => place.slot === slot)!.entries);
    expect(part.stoppedSlots).toEqual([]);
  });

  test('one flipped bit costs one slot, told by number; the others are served, that one is not', () => {
    const view = applied(history(new BatchSource(), 60));
    const file = snapshotOf(view);
    const table = tableOf(file);
    const full = table.slots.filter(({ entries }) => entries > 0);
    for (const place of full.slice(0, 40)) {
      const bad = Buffer.from(file);
      const at = place.position + ((place.slot * 31) % place.bytes);
      bad[at] ^= 1 << (at % 8);
      const { view: restored, refused } = restoreSlots(bad, TYPES, table);
      expect(refused).toEqual([place.slot]);
      expect(restored.stoppedSlots).toEqual([place.slot]);
      for (let n = 0; n < 300; n++) {
        const key = bytes(`k${n}`);
        const read = (): unknown => restored.get(key, restored.logTime);
        if (slotOfKey(key) === place.slot) expect(read).toThrow(/being rebuilt/);
        else expect(read()).toEqual(view.get(key, view.logTime));
      }
      expect(() => restored.scan({ ...everything, time: restored.logTime })).toThrow(`slot ${place.slot} `);
    }
  });

  test('a slot that expires nothing any more leaves no expiry behind', () => {
    const source = new BatchSource();
    const view = applied([source.records([put('soon', '1', { ttlMs: 10 })])]);
    const file = snapshotOf(view);
    const table = tableOf(file);
    const bad = Buffer.from(file);
    // The last byte of the slot: everything of it was read when it turns out that a checksum is wrong.
    bad[table.slots[0].position + table.slots[0].bytes - 1] ^= 1;
    const { view: restored } = restoreSlots(bad, TYPES, table);
    expect(restored.nextExpiry()).toBeNull();
    expect(restored.expire({ until: asLogTime(1e12), max: 10 })).toBe(0);
  });

  test('a head that is damaged is refused as a whole', () => {
    const file = snapshotOf(applied(history(new BatchSource(), 5)));
    const bad = Buffer.from(file);
    bad[20] ^= 1;
    expect(() => restoreSlots(bad)).toThrow(/its head/);
    expect(() => decodeSnapshotFooter(file.subarray(-SNAPSHOT_FOOTER_BYTES), file.length + 1)).toThrow(/damaged/);
  });
});

describe('a slot that is stopped', () => {
  const SLOT = slotOfKey(bytes('k7'));
  const others = (view: MapView): unknown[] =>
    Array.from({ length: 300 }, (_, n) => bytes(`k${n}`))
      .filter((key) => slotOfKey(key) !== SLOT)
      .map((key) => view.get(key, view.logTime));

  test('is built anew from an older snapshot and the log, with the results of its commands, while the rest goes on', () => {
    const source = new BatchSource();
    const early = history(source, 80);
    const late = history(source, 80, 80);
    const key = keysOfSlot(SLOT, 1)[0];
    late.push(source.records([{ key, op: encodeOp('incr', []) }]));
    const commandAt = asOffset(source.nextOffset - 1);
    const right = applied([...early, ...late]);
    const older = snapshotOf(applied(early));

    const view = applied([...early, ...late.slice(0, 30)]);
    view.stopSlots([SLOT]);
    for (const batch of late.slice(30)) view.applyBatches(batch);
    expect(others(view)).toEqual(others(right));
    expect(() => view.results({ firstOffset: commandAt, lastOffset: commandAt })).toThrow(/being rebuilt/);
    expect(view.marks.list()).toEqual([]);

    const { view: shadow } = restoreSlots(older, { ...TYPES, slots: new Set([SLOT]) });
    for (const batch of late) shadow.applyBatches(batch);
    view.adoptSlots(shadow, [SLOT]);
    expect(view.stoppedSlots).toEqual([]);
    expect(contents(view)).toEqual(contents(right));
    expect(view.results({ firstOffset: commandAt, lastOffset: commandAt })).toEqual(
      right.results({ firstOffset: commandAt, lastOffset: commandAt }),
    );
    // And it is a view like any other from now on.
    const more = history(source, 20, 160);
    for (const batch of more) {
      view.applyBatches(batch);
      right.applyBatches(batch);
    }
    for (const each of [view, right]) each.expire({ until: each.logTime, max: 1e6 });
    expect(contents(view)).toEqual(contents(right));
    expect(contents(restoreMapView(view.freeze(), TYPES))).toEqual(contents(right));
  });

  test('takes over names though the other view numbers them otherwise', () => {
    const source = new BatchSource();
    const typed = (key: string, type: string): RecordInput =>
      put(key, 'v', { headers: [{ name: 'content-type', value: bytes(type) }] });
    const batches = [source.records([typed('a', 'text/one'), typed('b', 'text/two'), typed('k7', 'text/three')])];
    const view = applied(batches);
    const right = contents(view);
    const slot = slotOfKey(bytes('k7'));
    // It sees the third name first.
    const shadow = applied(batches, { dataTypes: BUILT_IN_TYPES.toReversed(), slots: new Set([slot]) });
    view.stopSlots([slot]);
    view.adoptSlots(shadow, [slot]);
    expect(contents(view)).toEqual(right);
    expect(view.get(bytes('k7'), view.logTime)?.contentType).toBe('text/three');
  });

  test('keeps what waits for the archive of both', () => {
    const source = new BatchSource();
    const options = { ...TYPES, archive: true };
    const before = source.records([put('k7', 'old', { ttlMs: 10 })]);
    source.logTime += 1000;
    const after = source.records([put('k7', 'new')]);
    const view = applied([before], options);
    view.stopSlots([SLOT]);
    view.applyBatches(after);
    const rebuilt = applied([before, after], { ...options, slots: new Set([SLOT]) });
    view.adoptSlots(rebuilt, [SLOT]);
    const due = view.take({ until: view.logTime, max: 10, bytesMax: 1e6 });
    expect(due.entries.map(({ value }) => String(value))).toEqual(['old']);
    expect(view.removeExpired(due)).toBe(1);
    expect(view.archiveQueueBytes).toBe(0);
  });
});

describe('digests', () => {
  test('are kept at offsets that are the same however a view was fed, restored and relieved of what expired', () => {
    const source = new BatchSource();
    const batches = history(source, 3000);
    const one = applied(batches);
    let other = new MapView(TYPES);
    for (const [i, batch] of batches.entries()) {
      other.applyBatches(batch);
      if (i % 50 === 0) other.expire({ until: other.logTime, max: 3 });
      if (i === 300) other = restoreMapView(other.freeze(), TYPES);
    }
    const marks = one.marks.list();
    expect(marks.length).toBeGreaterThanOrEqual(4);
    for (const { offset } of marks) expect(offset % DIGEST_MARK_RECORDS).toBeLessThan(6);
    expect(other.marks.list()).toEqual(marks);
    expect(other.marks.at(marks[0].offset)).toEqual(marks[0]);
    expect(other.marks.at(asOffset(1))).toBeNull();
  });

  test('the older the marks the further apart, so that few of them reach far back', () => {
    const source = new BatchSource();
    const view = new MapView();
    const keyless = Array.from({ length: DIGEST_MARK_RECORDS }, () => ({ value: bytes('e') }));
    for (let n = 0; n < 200; n++) view.applyBatches(source.records(keyless));
    const offsets = view.marks.list().map(({ offset }) => offset / DIGEST_MARK_RECORDS);
    expect(offsets).toEqual([64, 128, 168, 176, 184, 192, 197, 198, 199, 200].filter((n) => offsets.includes(n)));
    expect(offsets).toEqual(expect.arrayContaining([64, 192, 200]));
    expect(offsets.length).toBeLessThanOrEqual(20);
  });

  test('memory that was changed behind the back of a slot does not add up', () => {
    const view = applied(history(new BatchSource(), 100));
    const key = bytes('k7');
    const slot = slotOfKey(key);
    for (let n = 0; n < SLOTS; n++) expect(view.addsUp(n)).toBe(true);
    const stored = bytesInMemory(view, bytes('k14'));
    const damaged = slotOfKey(stored.key);
    stored.key[stored.key.length - 1] ^= 1;
    expect(view.addsUp(damaged)).toBe(false);
    if (slot !== damaged) expect(view.addsUp(slot)).toBe(true);
  });
});

test('the live entries of a snapshot are given slot by slot, and are good until those of the next are asked for', () => {
  const source = new BatchSource();
  const view = applied(history(source, 200));
  source.logTime += 300;
  view.applyBatches(source.beacon());
  const file = snapshotOf(view);
  const table = tableOf(file);
  const entries = new SnapshotEntries(file.subarray(0, table.preambleBytes), table);
  let count = 0;
  for (const place of table.slots) {
    const given = entries.entriesOf(place, file.subarray(place.position, place.position + place.bytes));
    // Whoever takes memory now does not get theirs.
    const { arena } = entries['reader'].state;
    const chunks = Array.from({ length: 8 }, () => arena.allocate(512));
    for (const { bytes: region, start, length } of chunks) region.fill(0xff, start, start + length);
    for (const chunk of chunks) arena.free(chunk);
    for (const { key, value, contentType } of given) {
      expect(view.get(key, view.logTime)).toMatchObject({ value: Buffer.from(value), contentType });
    }
    count += given.length;
  }
  const everything = { prefix: bytes(''), after: null, limit: 1e6, bytesMax: Infinity, values: false };
  expect(count).toBe(view.scan({ ...everything, time: view.logTime }).entries.length);
  expect(count).toBeLessThan(view.entries);
});
