import { describe, expect, test } from '@jest/globals';
import {
  ByteReader,
  ByteWriter,
  SeededRng,
  asLogTime,
  asOffset,
  hashKey,
  isTidelineError,
  randomBelow,
  slotOf,
} from '#kernel';
import { BATCH_HEADER_BYTES, PUT_IF, encodeConditionalOp, encodeOp, type RecordInput } from '#wire';
import type { Command, DataType } from './data-type.js';
import { MapView } from './map-view.js';
import { restoreMapView } from './map-view-restorer.js';
import { BatchSource, keysOfSlot } from './testing/batch-source.js';
import { ModelView } from './testing/model-view.js';
import { snapshotOf } from './testing/snapshot-bytes.js';

const bytes = (text: string): Buffer => Buffer.from(text);
const put = (key: string, value: string, ttlMs?: number): RecordInput => ({
  key: bytes(key),
  value: bytes(value),
  ttlMs,
});
const everything = { prefix: Buffer.alloc(0), after: null, limit: 1_000_000, bytesMax: Infinity, values: true };
const codeOf = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    if (isTidelineError(error)) return error.code;
    throw error;
  }
  return 'none';
};

/** Counts in 8 bytes; knows when it is used on something else. */
const countBy: Command = {
  arity: { min: 1, max: 1 },
  validate: ([by]) => (by.length === 8 ? null : 'the step has 8 bytes'),
  apply: (state, [by]) => {
    const sum = (state ? new ByteReader(state.value).u64() : 0) + new ByteReader(by).u64();
    if (sum === 13) throw new Error('thirteen');
    return { effect: 'put', value: new ByteWriter(8).u64(sum).finish(), result: String(sum) };
  },
};
const counter: DataType = { name: 'counter', commands: { 'count-by': countBy } };
const count = (key: string, by: number): RecordInput => ({
  key: bytes(key),
  op: encodeOp('count-by', [new ByteWriter(8).u64(by).finish()]),
});

describe('applying', () => {
  test('a run may hold many batches, control batches among them, and may be given twice', () => {
    const source = new BatchSource();
    const view = new MapView();
    const first = source.records([put('a', '1')]);
    source.logTime += 10;
    const run = Buffer.concat([first, source.beacon(), source.records([put('a', '2'), put('b', '3')])]);
    view.applyBatches(first);
    view.applyBatches(new Uint8Array(run));
    view.applyBatches(run);
    view.applyBatches(first);
    expect([view.offset, view.logTime, view.entries]).toEqual([4, source.logTime, 2]);
    expect(view.get(bytes('a'), view.logTime)).toEqual({
      key: bytes('a'),
      value: bytes('2'),
      contentType: null,
      offset: 3,
      logTime: source.logTime,
      expiresAt: null,
    });
  });

  test('keys and values are told apart whatever lies between them', () => {
    const source = new BatchSource();
    const view = new MapView();
    const [typed, other] = keysOfSlot(slotOf(hashKey(bytes('k'))), 2);
    view.applyBatches(source.records([{ key: typed, type: '', value: Buffer.alloc(200, 1) }]));
    // Attributes key and value; the length of the value takes two bytes where one would do.
    const odd = source.records([put('k', 'wxyz')]);
    const record = Buffer.from([9, 3, 1, 0x6b, 0x84, 0x00, 0x77, 0x78, 0x79, 0x7a]);
    const batch = Buffer.concat([odd.subarray(0, BATCH_HEADER_BYTES), record]);
    batch.writeUInt32LE(batch.length, 0);
    view.applyBatches(batch);
    view.applyBatches(source.records([{ key: other, value: bytes('next') }]));
    expect(view.malformedCount).toBe(0);
    for (const each of [view, restoreMapView(view.freeze())]) {
      expect(each.get(typed, view.logTime)?.value).toEqual(Buffer.alloc(200, 1));
      expect(each.get(bytes('k'), view.logTime)?.value).toEqual(bytes('wxyz'));
      expect(each.get(other, view.logTime)?.value).toEqual(bytes('next'));
    }
  });

  test('an entry is gone at the log time it expires, and a command of that time does not see it', () => {
    const source = new BatchSource(1000);
    const view = new MapView();
    view.applyBatches(source.records([put('a', '1', 50)]));
    expect(view.get(bytes('a'), asLogTime(1049))).not.toBeNull();
    expect(view.get(bytes('a'), asLogTime(1050))).toBeNull();
    source.logTime = 1050;
    const op = encodeConditionalOp(PUT_IF, { kind: 'absent' });
    view.applyBatches(source.records([{ key: bytes('a'), value: bytes('2'), op }]));
    expect(view.results({ firstOffset: asOffset(2), lastOffset: asOffset(2) })).toMatchObject([
      { ok: true, entryOffset: 2 },
    ]);
  });

  test('a data type keeps its state in the entry, is told apart from others, and what it throws is a result', () => {
    const source = new BatchSource();
    const view = new MapView({ dataTypes: [counter] });
    view.applyBatches(
      source.records([put('text', 'x'), count('n', 5), count('n', 7), count('text', 1), count('n', 1), count('n', 2)]),
    );
    view.applyBatches(
      source.records([
        { key: bytes('n'), op: encodeOp('count-by', []) },
        { key: bytes('n'), op: encodeOp('count-by', [bytes('1')]) },
      ]),
    );
    const results = view.results({ firstOffset: asOffset(1), lastOffset: asOffset(8) });
    expect(results.map(({ ok, code, value, entryOffset }) => [ok, code, value, entryOffset])).toEqual([
      [true, '', '', 1],
      [true, '', '5', 2],
      [true, '', '12', 3],
      [false, 'wrong-type', '', 1],
      [false, 'internal', '', 3],
      [true, '', '14', 6],
      [false, 'bad-request', '', 6],
      [false, 'bad-request', '', 6],
    ]);
    const restored = restoreMapView(view.freeze(), { dataTypes: [counter] });
    const more = source.records([count('n', 6), put('n', 'plain'), count('n', 1)]);
    for (const each of [view, restored]) each.applyBatches(more);
    expect(restored.results({ firstOffset: asOffset(1), lastOffset: asOffset(11) })).toEqual(
      view.results({ firstOffset: asOffset(1), lastOffset: asOffset(11) }),
    );
    expect(restored.digest).toBe(view.digest);
    expect(view.results({ firstOffset: asOffset(11), lastOffset: asOffset(11) })).toMatchObject([
      { code: 'wrong-type' },
    ]);
  });

  test('a computed value is part of the digest, so replicas that compute differently are told apart', () => {
    const off: DataType = {
      name: 'counter',
      commands: { 'count-by': { ...countBy, apply: () => ({ effect: 'put', value: Buffer.alloc(8, 1) }) } },
    };
    const batch = new BatchSource().records([count('n', 5)]);
    const [one, other] = [counter, off].map((type) => {
      const view = new MapView({ dataTypes: [type] });
      view.applyBatches(batch);
      return view.digest;
    });
    expect(one).not.toBe(other);
  });

  test('a view that is only overwritten keeps its garbage in bounds without being told to', () => {
    const source = new BatchSource();
    const view = new MapView();
    const keys = keysOfSlot(3, 50).concat(keysOfSlot(4, 50));
    for (let round = 0; round < 300; round++) {
      // Never of the size of the one before: that would be overwritten in place.
      const value = Buffer.alloc(1000 + (round % 8) * 4, 1);
      view.applyBatches(source.records(keys.map((key) => ({ key, value }))));
    }
    expect(view.bytes).toBeLessThan(4 * 1024 * 1024);
    expect(view.entries).toBe(100);
  });

  test('what is overwritten by the same size again and again takes no more memory', () => {
    const source = new BatchSource();
    const view = new MapView();
    const fill = (byte: number): void =>
      view.applyBatches(
        source.records(Array.from({ length: 500 }, (_, n) => ({ key: bytes(`k${n}`), value: Buffer.alloc(99, byte) }))),
      );
    fill(0);
    const { bytes: before } = view;
    for (let round = 1; round < 20; round++) fill(round);
    expect(view.bytes).toBe(before);
    expect(view.get(bytes('k7'), view.logTime)?.value).toEqual(Buffer.alloc(99, 19));
    expect(restoreMapView(view.freeze()).digest).toBe(view.digest);
  });

  test('a value cut out of the one before by a command is whole, though the new entry would fit the place of the old', () => {
    const cut: Command = {
      arity: { min: 0, max: 0 },
      validate: () => null,
      apply: (state) => ({ effect: 'put', value: state!.value.subarray(0, state!.value.length - 2) }),
    };
    const source = new BatchSource();
    // The content type takes two bytes before the key, so everything after it moves.
    const view = new MapView({
      dataTypes: [{ name: 'cutter', entries: 'any', contentType: 'text/cut', commands: { cut } }],
    });
    view.applyBatches(source.records([put('k', '0123456789')]));
    view.applyBatches(source.records([{ key: bytes('k'), op: encodeOp('cut', []) }]));
    expect(view.get(bytes('k'), view.logTime)).toMatchObject({ key: bytes('k'), value: bytes('01234567') });
  });

  test('many keys in one slot are found, overwritten, deleted and reclaimed as in the model', () => {
    const rng = new SeededRng(5);
    const source = new BatchSource();
    const view = new MapView();
    const model = new ModelView();
    const keys = keysOfSlot(200, 1500);
    for (let batch = 0; batch < 100; batch++) {
      source.logTime += 1;
      const records: RecordInput[] = [];
      for (let i = 0; i < 200; i++) {
        const key = keys[randomBelow(rng, keys.length)];
        const kind = randomBelow(rng, 10);
        // Ends with mostly deletes, so that the index shrinks too.
        if (kind < (batch < 60 ? 2 : 9)) records.push({ key, value: null });
        else
          records.push({
            key,
            value: Buffer.alloc(randomBelow(rng, 200), i),
            ...(kind === 9 && { ttlMs: randomBelow(rng, 60) }),
          });
      }
      const bytes = source.records(records);
      view.applyBatches(bytes);
      model.applyBatches(bytes);
      if (batch % 7 === 0) view.expire({ until: asLogTime(source.logTime), max: 50 });
      if (batch % 3 === 0) view.reclaim(20_000);
      if (batch % 40 === 20)
        expect(view.scan({ ...everything, time: model.logTime })).toEqual(
          model.scan({ ...everything, time: model.logTime }),
        );
    }
    expect(view.scan({ ...everything, time: model.logTime })).toEqual(
      model.scan({ ...everything, time: model.logTime }),
    );
    expect(restoreMapView(view.freeze()).digest).toBe(view.digest);
  });
});

describe('results', () => {
  test('the oldest are evicted, also across a snapshot, and a range that reaches below them is refused', () => {
    const source = new BatchSource();
    const view = new MapView({ resultsMax: 3 });
    const op = encodeOp('nothing', []);
    view.applyBatches(source.records([1, 2, 3, 4, 5].map(() => ({ key: bytes('k'), op }))));
    view.applyBatches(source.records([put('a', '1')]));
    const restored = restoreMapView(view.freeze(), { resultsMax: 3 });
    const smaller = restoreMapView(view.freeze(), { resultsMax: 1 });
    for (const each of [view, restored]) {
      expect(codeOf(() => each.results({ firstOffset: asOffset(2), lastOffset: asOffset(6) }))).toBe('result-evicted');
      const kept = each.results({ firstOffset: asOffset(3), lastOffset: asOffset(6) });
      expect(kept.map(({ code, entryOffset }) => [code, entryOffset])).toEqual([
        ['unknown-command', 0],
        ['unknown-command', 0],
        ['unknown-command', 0],
        ['', 6],
      ]);
    }
    expect(codeOf(() => smaller.results({ firstOffset: asOffset(4), lastOffset: asOffset(6) }))).toBe('result-evicted');
    expect(smaller.results({ firstOffset: asOffset(5), lastOffset: asOffset(6) })).toHaveLength(2);
    expect(codeOf(() => view.results({ firstOffset: asOffset(6), lastOffset: asOffset(7) }))).toBe(
      'offset-out-of-range',
    );
  });
});

describe('expiry', () => {
  test("what is due goes earliest first, in slices, and never ahead of the view's own log time", () => {
    const source = new BatchSource(1000);
    const view = new MapView();
    view.applyBatches(source.records([put('c', '', 30), put('a', '', 10), put('b', '', 20), put('d', '')]));
    const gone: string[] = [];
    view.onChange((change) => gone.push(change.type === 'expire' ? change.key.toString() : change.type));
    expect(view.nextExpiry()).toBe(1010);
    expect(view.expire({ until: asLogTime(5000), max: 10 })).toBe(0);
    source.logTime = 1025;
    view.applyBatches(source.beacon());
    expect(view.expire({ until: asLogTime(5000), max: 1 })).toBe(1);
    expect(view.expire({ until: asLogTime(5000), max: 10 })).toBe(1);
    expect(gone).toEqual(['a', 'b']);
    expect(view.nextExpiry()).toBe(1030);
    expect(view.entries).toBe(2);
  });

  test('what expired before it was overwritten is looked for a slice at a time', () => {
    const source = new BatchSource(1000);
    const view = new MapView();
    const keys = Array.from({ length: 500 }, (_, n) => `k${n}`);
    view.applyBatches(source.records(keys.map((key) => put(key, '1', 10))));
    view.applyBatches(source.records([...keys.map((key) => put(key, '2')), put('late', '', 10)]));
    source.logTime = 1010;
    view.applyBatches(source.beacon());
    let slices = 0;
    let removed = 0;
    for (; (view.nextExpiry() ?? Infinity) <= view.logTime; slices++) {
      removed += view.expire({ until: view.logTime, max: 50 });
    }
    expect(slices).toBeGreaterThan(9);
    expect([removed, view.entries]).toEqual([1, 500]);
  });

  test('an expiry that is renewed again and again does not make the view grow', () => {
    const source = new BatchSource();
    const view = new MapView();
    for (let round = 0; round < 5000; round++) {
      source.logTime += 1;
      view.applyBatches(source.records([put('a', '1', 1000)]));
    }
    expect(view.bytes).toBeLessThan(100_000 + 1024 * 1024);
    expect(view.expire({ until: asLogTime(source.logTime), max: 10 })).toBe(0);
    expect(view.entries).toBe(1);
  });

  test('of entries that were deleted takes up no memory, whatever is written next', () => {
    const source = new BatchSource();
    const view = new MapView();
    const [kept, later, ...keys] = keysOfSlot(5, 2000);
    view.applyBatches(source.records([kept, ...keys].map((key) => ({ key, value: bytes('v'), ttlMs: 3_600_000 }))));
    const { expiries } = view['state'].slots[5]!;
    expect(expiries.size).toBe(1999);
    view.applyBatches(source.records(keys.map((key) => ({ key, value: null }))));
    view.applyBatches(source.records([{ key: later, value: bytes('v') }]));
    expect(expiries.size).toBe(1);
  });
});

/** How many bytes and which, if all are the same. */
const filledWith = (buffer: Buffer): string =>
  buffer.equals(Buffer.alloc(buffer.length, buffer[0])) ? `${buffer.length} × ${buffer[0]}` : 'different bytes';

describe('what was given away', () => {
  test.each([3, 600, 40_000])('of entries of %s bytes stays as it was when they are overwritten', (length) => {
    const source = new BatchSource();
    const view = new MapView();
    const all = ['a', 'b', 'c'];
    const fill = (byte: number): void =>
      view.applyBatches(source.records(all.map((key) => ({ key: bytes(key), value: Buffer.alloc(length, byte) }))));
    const told: Buffer[] = [];
    view.onChange((change) => told.push(change.type === 'put' ? change.entry.value : change.key));
    fill(1);
    const asked = Buffer.from('b');
    const got = view.get(asked, view.logTime)!;
    const unbuffered = view.get(new Uint8Array(asked), view.logTime)!;
    const { entries } = view.scan({ ...everything, time: view.logTime });
    for (let byte = 2; byte < 5; byte++) fill(byte);
    expect([got, unbuffered, ...entries].map(({ value }) => filledWith(value))).toEqual(Array(5).fill(`${length} × 1`));
    expect([got.key, unbuffered.key, ...entries.map(({ key }) => key)]).toEqual(['b', 'b', 'a', 'b', 'c'].map(bytes));
    expect(told.map(filledWith)).toEqual([1, 2, 3, 4].flatMap((byte) => Array(3).fill(`${length} × ${byte}`)));
  });

  test('to a snapshot stays as it was when entries are overwritten by others of their size', () => {
    const source = new BatchSource();
    const view = new MapView();
    const fill = (byte: number): void =>
      view.applyBatches(
        source.records(
          Array.from({ length: 3000 }, (_, n) => ({ key: bytes(`k${n}`), value: Buffer.alloc(1000, byte) })),
        ),
      );
    fill(1);
    const writer = view.freeze()[Symbol.iterator]();
    const { digest } = view;
    const pieces: Buffer[] = [];
    for (let next = writer.next(), byte = 2; next.done !== true; next = writer.next(), byte++) {
      pieces.push(Buffer.from(next.value));
      fill(byte);
    }
    expect(pieces.length).toBeGreaterThan(2);
    const restored = restoreMapView(pieces);
    expect(restored.digest).toBe(digest);
    for (let n = 0; n < 3000; n += 100) {
      expect(restored.get(bytes(`k${n}`), restored.logTime)?.value).toEqual(Buffer.alloc(1000, 1));
    }
    // It is over: they are overwritten in place again.
    fill(100);
    view.reclaim(1e9);
    const { bytes: before } = view;
    fill(101);
    expect(view.bytes).toBe(before);
  });
});

describe('changes', () => {
  test('a listener hears of keys with its prefix until it stops', () => {
    const source = new BatchSource();
    const view = new MapView();
    const heard: string[] = [];
    const stop = view.onChange((change) => heard.push(change.type), bytes('a'));
    view.applyBatches(
      source.records([
        put('ab', '1'),
        put('b', '1'),
        { key: bytes('ab'), value: null },
        { key: bytes('ac'), value: null },
      ]),
    );
    stop();
    view.applyBatches(source.records([put('ab', '1')]));
    expect(heard).toEqual(['put', 'delete']);
  });

  test('a listener that throws is dropped, and its error comes out when all is applied', () => {
    const source = new BatchSource();
    const view = new MapView();
    let calls = 0;
    view.onChange(() => {
      calls++;
      throw new Error('listener');
    });
    expect(() => view.applyBatches(source.records([put('a', '1'), put('b', '2')]))).toThrow('listener');
    view.applyBatches(source.records([put('c', '3')]));
    expect([calls, view.entries, view.offset]).toEqual([1, 3, 3]);
  });

  test('a listener may read the view while it is told', () => {
    const source = new BatchSource(1000);
    const view = new MapView();
    view.applyBatches(source.records([put('a', '1'), put('z', 'other'), put('t', '1', 5)]));
    const heard: unknown[] = [];
    view.scan({ ...everything, time: view.logTime });
    view.onChange((change) => {
      view.get(bytes('z'), view.logTime);
      heard.push(change.type === 'put' ? change.entry.key.toString() : `${change.type} ${change.key.toString()}`);
    });
    source.logTime = 1010;
    view.applyBatches(source.records([put('a', '2'), { key: bytes('a'), value: null }, put('t', '2')]));
    expect(heard).toEqual(['a', 'delete a', 'expire t', 't']);
    expect(view.scan({ ...everything, time: view.logTime }).entries.map((entry) => entry.key.toString())).toEqual([
      't',
      'z',
    ]);
  });
});

describe('scans', () => {
  test('keys that come and go after a scan do not pile up in the order', () => {
    const source = new BatchSource();
    const view = new MapView();
    view.applyBatches(source.records([put('kept', '1')]));
    view.scan({ ...everything, time: view.logTime });
    for (let round = 0; round < 100; round++) {
      const keys = Array.from({ length: 1000 }, (_, i) => bytes(`k${round}-${i}`));
      view.applyBatches(source.records(keys.map((key) => ({ key, value: key }))));
      view.applyBatches(source.records(keys.map((key) => ({ key, value: null }))));
    }
    expect(view.bytes).toBeLessThan(4 * 1024 * 1024);
    expect(view.scan({ ...everything, time: view.logTime }).entries).toHaveLength(1);
  });

  test('the order may be prepared in slices while batches are applied', () => {
    const source = new BatchSource();
    const view = new MapView();
    const write = (round: number) =>
      view.applyBatches(
        source.records(Array.from({ length: 500 }, (_, i) => put(`k${(i * 7919 + round) % 3000}`, 'v'))),
      );
    for (let round = 0; round < 4; round++) write(round);
    let slices = 0;
    while (!view.prepareScan(100)) if (slices++ < 20) write(100 + slices);
    const { entries, more } = view.scan({ ...everything, time: view.logTime });
    expect(slices).toBeGreaterThan(20);
    expect(more).toBe(false);
    expect(entries).toHaveLength(view.entries);
    const keys = entries.map((entry) => entry.key.toString('latin1'));
    expect(keys).toEqual([...keys].sort());
  });

  test('a first scan that is prepared a few keys of a slot at a time has all of them, whatever changes meanwhile', () => {
    const rng = new SeededRng(3);
    const source = new BatchSource();
    const view = new MapView();
    const names = [3, 4, 255].flatMap((slot) => keysOfSlot(slot, 150));
    const change = (key: Buffer, isThere: boolean): void => {
      view.applyBatches(source.records([{ key, value: isThere ? bytes('v'.repeat(randomBelow(rng, 30))) : null }]));
    };
    for (const key of names) if (randomBelow(rng, 3) > 0) change(key, true);
    for (let steps = 1; !view.prepareScan(7); steps++) {
      if (steps > 90) continue;
      change(names[randomBelow(rng, names.length)], randomBelow(rng, 2) > 0);
      view.reclaim(300);
    }
    expect(view['ungathered']).toHaveLength(0);
    const { entries } = view.scan({ ...everything, time: view.logTime });
    expect(entries.map(({ key }) => key)).toEqual(
      names.filter((key) => view.get(key, view.logTime)).sort(Buffer.compare),
    );

    // Begun anew when the slot it had come to is stopped.
    const whole = snapshotOf(view);
    const restored = restoreMapView([whole]);
    expect(restored.prepareScan(7)).toBe(false);
    restored.stopSlots([3]);
    expect(restored.prepareScan(1000)).toBe(false);
    restored.adoptSlots(restoreMapView([whole]), [3]);
    expect(restored.scan({ ...everything, time: view.logTime }).entries).toEqual(entries);
  });
});

describe('snapshots', () => {
  const filled = (): MapView => {
    const source = new BatchSource();
    const view = new MapView();
    const records = Array.from({ length: 60 }, (_, i) => put(`key-${i}`, `value ${i}`, i % 3 === 0 ? 1000 : undefined));
    view.applyBatches(source.records(records));
    view.applyBatches(source.records([{ key: bytes('x'), op: encodeOp('nothing', []) }]));
    return view;
  };

  test('one flipped bit anywhere is noticed', () => {
    const snapshot = snapshotOf(filled());
    for (let at = 0; at < snapshot.length; at++) {
      const bad = Buffer.from(snapshot);
      bad[at] ^= 1 << (at % 8);
      expect(codeOf(() => restoreMapView([bad]))).toBe('storage-damaged');
    }
  });

  test('a snapshot that is cut off, goes on or lacks a part is refused', () => {
    const snapshot = snapshotOf(filled());
    for (let length = 0; length < snapshot.length; length += 3) {
      expect(codeOf(() => restoreMapView([snapshot.subarray(0, length)]))).toBe('storage-damaged');
    }
    expect(codeOf(() => restoreMapView([snapshot, snapshot]))).toBe('storage-damaged');
    expect(codeOf(() => restoreMapView([Buffer.concat([snapshot, Buffer.from([0])])]))).toBe('storage-damaged');
    expect(codeOf(() => restoreMapView([snapshot]))).toBe('none');
  });

  test('a state that does not add up to its digest is refused though its checksums are right', () => {
    const view = filled();
    const [slot] = (view as unknown as { state: { slots: ({ digestA: number } | null)[] } }).state.slots.filter(
      Boolean,
    );
    slot!.digestA ^= 1;
    expect(codeOf(() => restoreMapView(view.freeze()))).toBe('storage-damaged');
  });

  test('two snapshots may be written at once while the view goes on', () => {
    const source = new BatchSource();
    const view = new MapView();
    const fill = (from: number) =>
      view.applyBatches(source.records(Array.from({ length: 2000 }, (_, i) => put(`k${from + i}`, 'v'.repeat(2000)))));
    fill(0);
    const first = { writer: view.freeze()[Symbol.iterator](), digest: view.digest };
    const pieces = [Buffer.from(first.writer.next().value as Buffer)];
    fill(1000);
    const second = { writer: view.freeze(), digest: view.digest };
    fill(500);
    view.reclaim(1e9);
    for (let next = first.writer.next(); next.done !== true; next = first.writer.next()) {
      pieces.push(Buffer.from(next.value));
      view.applyBatches(source.records([{ key: bytes(`k${pieces.length}`), value: null }]));
    }
    expect(pieces.length).toBeGreaterThan(2);
    expect(restoreMapView(pieces).digest).toBe(first.digest);
    expect(restoreMapView(second.writer).digest).toBe(second.digest);
  });
});
