import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asLogTime, asOffset, type LogTime } from '#kernel';
import { BATCH_HEADER_BYTES, DEL_IF, PUT_IF, encodeConditionalOp, encodeOp, type RecordInput } from '#wire';
import type { ViewChange } from './change-listeners.js';
import { MapView } from './map-view.js';
import { restoreMapView } from './map-view-restorer.js';
import { BatchSource, keysOfSlot } from './testing/batch-source.js';
import { ModelView } from './testing/model-view.js';
import { snapshotOf } from './testing/snapshot-bytes.js';

const KEYS = [
  ...keysOfSlot(7, 24),
  ...keysOfSlot(8, 3),
  Buffer.alloc(0),
  Buffer.from([0]),
  Buffer.from([0xff, 0xff]),
  Buffer.from('k'),
  Buffer.alloc(127, 1),
  Buffer.alloc(128, 1),
  Buffer.alloc(300, 2),
];
const PREFIXES = [Buffer.alloc(0), Buffer.from('key-1'), Buffer.from('k'), Buffer.from([1, 1]), Buffer.from([0xff])];

const key = fc.constantFrom(...KEYS);
const value = fc.oneof(
  { weight: 6, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 3, arbitrary: fc.integer({ min: 100, max: 400 }).map((length) => new Uint8Array(length).fill(length)) },
  { weight: 1, arbitrary: fc.constantFrom(127, 128, 16_383, 16_384, 40_000).map((n) => new Uint8Array(n).fill(n)) },
);
const ttlMs = fc.option(fc.constantFrom(0, 1, 5, 20, 100, 2 ** 50), { nil: undefined });
const headers = fc.constantFrom(
  [],
  [],
  [{ name: 'content-type', value: Buffer.from('text/plain') }],
  [
    { name: 'other', value: Buffer.from('x') },
    { name: 'content-type', value: Buffer.from('application/json') },
    { name: 'content-type', value: Buffer.from('ignored') },
  ],
  [{ name: 'content-type', value: Buffer.alloc(200, 97) }],
);
const LIFETIME_OPS = [
  ['touch'],
  ['touch'],
  ['persist'],
  ['expire', '0'],
  ['expire', '3'],
  ['expire', '30'],
  ['expire', '30', 'NX'],
  ['expire', '12', 'xx'],
  ['expire', '12', 'gt'],
  ['expire', '12', 'lt'],
  ['expire', 'soon'],
  ['expire', '5', 'ever'],
  ['expire'],
  ['touch', 'me'],
].map(([name, ...args]) =>
  encodeOp(
    name,
    args.map((arg) => Buffer.from(arg)),
  ),
);

/** Of views: a few that are usual, and any. */
const settings = fc.oneof(
  { weight: 2, arbitrary: fc.constant({}) },
  {
    weight: 3,
    arbitrary: fc.record({
      defaultTtlMs: fc.constantFrom(null, null, 6, 40),
      maxIdleMs: fc.constantFrom(null, null, 4, 25),
      maxEntries: fc.constantFrom(null, 1, 3, 8, 20),
      maxBytes: fc.constantFrom(null, null, 1, 300, 2000),
    }),
  },
);

const condition = fc.oneof(
  fc.constant({ kind: 'absent' } as const),
  fc.constant({ kind: 'present' } as const),
  fc.nat(60).map((offset) => ({ kind: 'offset', offset }) as const),
);
const op = fc.oneof(
  { weight: 6, arbitrary: condition.map((c) => encodeConditionalOp(PUT_IF, c)) },
  { weight: 3, arbitrary: condition.map((c) => encodeConditionalOp(DEL_IF, c)) },
  { weight: 5, arbitrary: fc.constantFrom(...LIFETIME_OPS) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      encodeOp('no-such', []),
      encodeOp(PUT_IF, []),
      encodeOp(DEL_IF, [Buffer.from([9])]),
      Buffer.from([7, 7]),
      Buffer.alloc(0),
    ),
  },
);
const record: fc.Arbitrary<RecordInput> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ key, value, ttlMs, headers, type: fc.constantFrom(undefined, undefined, '', 'event') }),
  },
  { weight: 3, arbitrary: fc.record({ key, value: fc.constant(null) }) },
  { weight: 4, arbitrary: fc.record({ key, value: fc.option(value), ttlMs, headers, op }) },
  {
    weight: 1,
    arbitrary: fc.record({ key: fc.constant(null), value: fc.option(value), op: fc.option(op, { nil: undefined }) }),
  },
);

type Step =
  | {
      readonly do: 'append';
      readonly records: readonly RecordInput[];
      readonly later: number;
      readonly damage: number | null;
    }
  | { readonly do: 'beacon'; readonly later: number }
  | { readonly do: 'expire'; readonly ahead: number; readonly max: number }
  | { readonly do: 'reclaim'; readonly bytes: number }
  | { readonly do: 'restart'; readonly piece: number }
  | { readonly do: 'freeze' }
  | { readonly do: 'scan'; readonly prefix: Buffer; readonly limit: number; readonly bytesMax: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      records: fc.array(record, { minLength: 1, maxLength: 12 }),
      later: fc.constantFrom(0, 0, 1, 4, 15),
      damage: fc.option(fc.nat(400), { freq: 6 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('beacon' as const), later: fc.constantFrom(0, 3, 30) }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('expire' as const), ahead: fc.constantFrom(-3, 0, 1000), max: fc.nat(6) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('reclaim' as const), bytes: fc.constantFrom(1, 1000, 1_000_000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('restart' as const), piece: fc.constantFrom(1000, 4096, 1_000_000) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('freeze' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('scan' as const),
      prefix: fc.constantFrom(...PREFIXES),
      limit: fc.integer({ min: 1, max: 5 }),
      bytesMax: fc.constantFrom(1, 300, 1_000_000),
    }),
  },
);

const piecesOf = (view: MapView, size: number): Buffer[] => {
  const whole = snapshotOf(view);
  const pieces: Buffer[] = [];
  for (let at = 0; at < whole.length; at += size) pieces.push(whole.subarray(at, at + size));
  return pieces;
};

/** Buffers as strings: comparing those is much cheaper. */
const plain = (value: unknown): unknown => {
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
};
const text = (value: unknown): string => JSON.stringify(plain(value));

const expectSame = (view: MapView, model: ModelView): void => {
  expect(view.offset).toBe(model.offset);
  expect(view.logTime).toBe(model.logTime);
  expect(view.malformedCount).toBe(model.malformedCount);
  for (const time of [model.logTime, asLogTime(model.logTime + 5)]) {
    for (const each of KEYS) expect(text(view.get(each, time))).toBe(text(model.get(each, time)));
  }
};

const expectSameScan = (view: MapView, model: ModelView, request: Step & { do: 'scan' }, time: LogTime): void => {
  let after: Buffer | null = null;
  for (let more = true; more;) {
    const page = { ...request, after, time, values: request.limit !== 3 };
    const expected = model.scan(page);
    expect(text(view.scan(page))).toBe(text(expected));
    ({ more } = expected);
    after = expected.entries.at(-1)?.key ?? after;
  }
};

describe('a map view', () => {
  test('does what the model does, whatever is removed, reclaimed or restored in between', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), settings, (steps, options) => {
        const source = new BatchSource();
        const model = new ModelView(options);
        const eager = new MapView(options);
        const lazy = new MapView(options);
        let restarted = new MapView(options);
        const changes: ViewChange[] = [];
        eager.onChange((change) => changes.push(change));
        let frozen: { readonly writer: Iterable<Buffer>; readonly digest: string; readonly entries: number } | null =
          null;

        for (const next of steps) {
          if (next.do === 'append' || next.do === 'beacon') {
            source.logTime += next.later;
            const batch = next.do === 'beacon' ? source.beacon() : source.records(next.records);
            if (next.do === 'append' && next.damage !== null) {
              const at = BATCH_HEADER_BYTES + (next.damage % (batch.length - BATCH_HEADER_BYTES));
              batch[at] ^= 0x91;
            }
            const first = model.offset + 1;
            for (const each of [model, eager, lazy, restarted]) each.applyBatches(batch);
            const range = { firstOffset: asOffset(first), lastOffset: model.offset };
            for (const view of [eager, lazy, restarted]) expect(view.results(range)).toEqual(model.results(range));
          } else if (next.do === 'expire') {
            const until = asLogTime(Math.max(0, source.logTime + next.ahead));
            expect(eager.expire({ until, max: next.max })).toBeLessThanOrEqual(next.max);
          } else if (next.do === 'reclaim') eager.reclaim(next.bytes);
          else if (next.do === 'restart') restarted = restoreMapView(piecesOf(restarted, next.piece), options);
          else if (next.do === 'freeze')
            frozen ??= { writer: eager.freeze(), digest: eager.digest, entries: eager.entries };
          else for (const view of [eager, lazy]) expectSameScan(view, model, next, model.logTime);
          expect(eager.digest).toBe(lazy.digest);
          expect(restarted.digest).toBe(lazy.digest);
        }
        for (const view of [eager, lazy, restarted]) expectSame(view, model);
        expect([eager.evictedCount, lazy.evictedCount]).toEqual([model.evictedCount, model.evictedCount]);
        if (frozen) {
          const thawed = restoreMapView(frozen.writer, options);
          expect(thawed.digest).toBe(frozen.digest);
          expect(thawed.entries).toBe(frozen.entries);
        }

        expect(text(changes.filter((change) => change.type !== 'expire'))).toBe(text(model.changes));
        eager.expire({ until: source.logTime as LogTime, max: Infinity });
        const told = new Map<string, ViewChange & { type: 'put' }>();
        for (const change of changes) {
          if (change.type === 'put') told.set(change.entry.key.toString('latin1'), change);
          else {
            if (change.type === 'expire')
              expect(told.get(change.key.toString('latin1'))?.entry.offset).toBe(change.offset);
            told.delete(change.key.toString('latin1'));
          }
        }
        expect(eager.entries).toBe(told.size);
        for (const { entry } of told.values()) expect(text(model.get(entry.key, model.logTime))).toBe(text(entry));
        const fromStart = { prefix: Buffer.alloc(0), after: null, limit: 1000, bytesMax: Infinity, values: true };
        expect(text(eager.scan({ ...fromStart, time: model.logTime }))).toBe(
          text(model.scan({ ...fromStart, time: model.logTime })),
        );
        expect(eager.entries).toBe(eager.scan({ ...fromStart, time: model.logTime }).entries.length);
      }),
      { numRuns: 60 },
    );
  });
});
