import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ByteWriter, SLOTS, asLogTime, hashKey, slotOf, type LogTime } from '#kernel';
import { readAllFound, type RecordInput } from '#wire';
import { MapView, type MapViewOptions } from './map-view.js';
import { BatchSource } from './testing/index.js';

const viewOf = (records: readonly RecordInput[], options: MapViewOptions = {}): MapView => {
  const view = new MapView(options);
  const source = new BatchSource();
  for (const record of records) view.applyBatches(source.records([record]));
  return view;
};

const found = (view: MapView, keys: readonly Buffer[], time: LogTime = view.logTime, bytesMax = 1e9) => {
  const writer = new ByteWriter(1);
  view.writeFound(keys, time, bytesMax, writer);
  return readAllFound(writer.finish(), keys.length);
};

const alone = (view: MapView, keys: readonly Buffer[], time: LogTime = view.logTime) =>
  keys.map((key) => {
    const entry = view.get(key, time);
    if (entry === null) return null;
    const { key: _key, ...rest } = entry;
    return rest;
  });

const contentType = (name: string) => [{ name: 'content-type', value: Buffer.from(name) }];

describe('keys that are asked for together', () => {
  test('have what each has by itself, in their order: there or not, twice, more than are looked at together', () => {
    const key = fc.integer({ min: 0, max: 400 }).map((n) => Buffer.from(`key-${n}`));
    const record: fc.Arbitrary<RecordInput> = fc.record(
      {
        key,
        value: fc.option(
          fc.uint8Array({ maxLength: 700 }).map((bytes) => Buffer.from(bytes)),
          { freq: 5 },
        ),
        ttlMs: fc.integer({ min: 0, max: 2000 }),
        headers: fc.constantFrom('text/plain', 'application/json').map(contentType),
      },
      { requiredKeys: ['key', 'value'] },
    );
    fc.assert(
      fc.property(
        fc.array(record, { maxLength: 200 }),
        fc.array(key, { maxLength: 100 }),
        fc.constantFrom(null, 500),
        fc.integer({ min: 0, max: 3000 }),
        (records, keys, maxIdleMs, later) => {
          const view = viewOf(records, { maxIdleMs });
          const time = asLogTime(view.logTime + later);
          expect(found(view, keys, time)).toEqual(alone(view, keys, time));
        },
      ),
      { numRuns: 60 },
    );
  });

  test('may be of any size, alone in their chunk too', () => {
    const sizes = [0, 1, 100, 511, 512, 513, 30_000, 33_000, 300_000];
    const view = viewOf(sizes.map((size) => ({ key: Buffer.from(`${size}`), value: Buffer.alloc(size, size) })));
    const keys = sizes.map((size) => Buffer.from(`${size}`));
    expect(found(view, keys).map((entry) => entry?.value.length)).toEqual(sizes);
    expect(found(view, keys)).toEqual(alone(view, keys));
  });

  test('of the same hash have entries of their own', () => {
    const [first, second] = ['k15599', 'k97211'].map((key) => Buffer.from(key));
    expect(hashKey(first)).toBe(hashKey(second));
    const ask = (...stored: Buffer[]) =>
      found(viewOf(stored.map((key) => ({ key, value: key }))), [first, second]).map((entry) => entry?.value);
    expect(ask(first, second)).toEqual([first, second]);
    expect(ask(second, first)).toEqual([first, second]);
    expect(ask(first)).toEqual([first, undefined]);
    expect(ask(second)).toEqual([undefined, second]);
  });

  test('have content types by number and, when there are too many for that, in place', () => {
    const records = Array.from({ length: 1100 }, (_, n) => ({
      key: Buffer.from(`k${n}`),
      value: Buffer.from('v'),
      headers: contentType(`type/${n}`),
    }));
    const source = new BatchSource();
    const view = new MapView();
    view.applyBatches(source.records(records));
    const keys = [0, 1, 1000, 1099].map((n) => Buffer.from(`k${n}`));
    expect(found(view, keys).map((entry) => entry?.contentType)).toEqual([
      'type/0',
      'type/1',
      'type/1000',
      'type/1099',
    ]);
  });

  test('are not answered in a slot that is stopped, while those of others are', () => {
    const keys = Array.from({ length: 40 }, (_, n) => Buffer.from(`key-${n}`));
    const view = viewOf(keys.map((key) => ({ key, value: key })));
    const stopped = slotOf(hashKey(keys[7]));
    view.stopSlots([stopped]);
    const answers = found(view, keys);
    for (const [i, key] of keys.entries()) {
      if (slotOf(hashKey(key)) === stopped) expect(answers[i]).toBeUndefined();
      else expect(answers[i]?.value).toEqual(key);
    }
    expect(answers[7]).toBeUndefined();
  });

  test('are not answered beyond the bytes an answer may have, but for the first', () => {
    const keys = Array.from({ length: 50 }, (_, n) => Buffer.from(`key-${n}`));
    const view = viewOf(keys.map((key) => ({ key, value: Buffer.alloc(1000) })));
    const answered = (bytesMax: number) =>
      found(view, keys, view.logTime, bytesMax).map((entry) => entry !== undefined);
    expect(answered(1)).toEqual(keys.map((_, i) => i < 1));
    expect(answered(10_000)).toEqual(keys.map((_, i) => i < 10));
  });

  test('in a view that has nothing are nothing', () => {
    const keys = Array.from({ length: SLOTS }, (_, n) => Buffer.from(`key-${n}`));
    expect(found(new MapView(), keys, asLogTime(0))).toEqual(keys.map(() => null));
    expect(found(new MapView(), [], asLogTime(0))).toEqual([]);
  });
});
