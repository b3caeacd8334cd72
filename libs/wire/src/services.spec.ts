import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { VIEW_DEFAULTS, asNodeId, isTidelineError, type ViewSettings } from '#kernel';
import {
  archiveServiceV1,
  decodeClusterDescription,
  decodeCondition,
  decodeError,
  decodeHello,
  decodeOp,
  encodeClusterDescription,
  gatewayServiceV1,
  logServiceV1,
  peerServiceV1,
  projectionServiceV1,
  snapshotServiceV1,
  viewServiceV1,
} from './index.js';

const calls: object[] = [
  archiveServiceV1,
  gatewayServiceV1,
  logServiceV1,
  projectionServiceV1,
  snapshotServiceV1,
  viewServiceV1,
].flatMap((service) => Object.values(service));

const decoders: [string, (payload: Buffer) => unknown][] = [
  ['decodeHello', decodeHello],
  ['decodeError', decodeError],
  ['decodeOp', decodeOp],
  ['decodeCondition', decodeCondition],
];
for (const call of calls) {
  const { method } = call as { method: number };
  for (const [name, decode] of Object.entries(call)) {
    if (name.startsWith('decode')) decoders.push([`${method.toString(16)} ${name}`, decode as () => unknown]);
  }
}

test('every method number belongs to one call', () => {
  const numbers = [...calls, peerServiceV1.raftMessages].map((call) => (call as { method: number }).method);
  expect(new Set(numbers).size).toBe(numbers.length);
});

/** Bytes that look like messages: small counts, flags and lengths besides noise. */
const payload = fc
  .array(fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 })), {
    maxLength: 120,
  })
  .map((bytes) => Buffer.from(bytes));

test.each(decoders)('%s answers noise with a malformed-frame error or a value, and nothing else', (_name, decode) => {
  fc.assert(
    fc.property(payload, (bytes) => {
      try {
        decode(bytes);
      } catch (error) {
        expect(isTidelineError(error, 'malformed-frame') || isTidelineError(error, 'unsupported-version')).toBe(true);
      }
    }),
    { numRuns: 300 },
  );
});

test('a description has the settings of a view, and those that make no sense are malformed', () => {
  const topic = (view: Partial<ViewSettings>) => ({
    name: 't',
    partitions: [],
    replication: 1,
    retention: { ms: null, bytes: null },
    view: { kind: 'map' as const, ...VIEW_DEFAULTS, ...view },
  });
  const topics = [
    topic({ archive: true, defaultTtlMs: 5000, maxIdleMs: 60_000, maxEntries: 2 ** 32 - 1, maxBytes: 2 ** 40 }),
    topic({ maxIdleMs: 1, maxBytes: 4096 }),
    topic({}),
  ];
  const whole = { clusterId: 'c', node: asNodeId(1), nodes: [], topics };
  expect(decodeClusterDescription(encodeClusterDescription(whole))).toEqual(whole);
  const wrong = encodeClusterDescription({ ...whole, topics: [topic({ maxEntries: 0 })] });
  expect(() => decodeClusterDescription(wrong)).toThrow('maxEntries of a view is 0');
});

test('a count that cannot fit is refused before anything is allocated for it', () => {
  const huge = Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
  expect(() => viewServiceV1.watch.decodeItem(huge)).toThrow(/do not fit/);
  expect(() => viewServiceV1.stats.decodeResponse(huge)).toThrow(/do not fit/);
});

test('bytes left over are an error', () => {
  expect(() => logServiceV1.barrier.decodeRequest(Buffer.alloc(5))).toThrow(/left over/);
});

test('an encoder refuses a value that has no number', () => {
  const request = { group: 1, acks: 'all', batch: Buffer.alloc(0) } as never;
  expect(() => logServiceV1.append.encodeRequest(request)).toThrow(/none of/);
});

test('a batch goes into a message without being copied', () => {
  const batch = Buffer.from('batch');
  const pieces = logServiceV1.append.encodeRequest({ group: 1 as never, acks: 'quorum', batch }) as Uint8Array[];
  expect(pieces[1]).toBe(batch);
  const payload = Buffer.concat(pieces);
  const decoded = logServiceV1.append.decodeRequest(payload);
  expect(decoded.batch.buffer).toBe(payload.buffer);
});
