import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import {
  ByteWriter,
  asGroupId,
  asLogTime,
  asNodeId,
  asOffset,
  asPartitionId,
  asTerm,
  TidelineError,
  VIEW_DEFAULTS,
} from '#kernel';
import {
  ControlKind,
  FrameType,
  archiveServiceV1 as archives,
  decodeError,
  decodeHello,
  encodeBatch,
  encodeConditionalOp,
  encodeControlBatch,
  encodeError,
  encodeFrame,
  encodeHello,
  encodeOp,
  gatewayServiceV1 as gateway,
  logServiceV1 as log,
  readAllFound,
  stampBatch,
  snapshotServiceV1 as snapshots,
  viewServiceV1 as view,
  writeFound,
  writeNotAnswered,
  type ClusterDescriptionMessage,
  type EntryMessage,
  type Pieces,
  type RequestCall,
  type StreamCall,
} from './index.js';

/**
 * Bytes that must never change: what an older program wrote, a newer one reads. A new message version is a new file with new
 * lines; TIDELINE_REWRITE_GOLDEN=1 writes the files anew, for lines that were added.
 */
const folder = join(dirname(fileURLToPath(import.meta.url)), 'golden');
const rewrite = process.env['TIDELINE_REWRITE_GOLDEN'] === '1';

const joined = (pieces: Pieces): Buffer =>
  pieces instanceof Uint8Array ? Buffer.from(pieces) : Buffer.concat(pieces as readonly Uint8Array[]);

const golden = (file: string, samples: Readonly<Record<string, Buffer>>): void => {
  const path = join(folder, `${file}.hex`);
  const written = Object.entries(samples)
    .map(([name, bytes]) => `${name} ${bytes.toString('hex')}\n`)
    .join('');
  if (rewrite) writeFileSync(path, written);
  test(`${file} is encoded as it always was`, () => {
    expect(existsSync(path)).toBe(true);
    expect(written.split('\n')).toEqual(readFileSync(path, 'utf8').split('\n'));
  });
};

const CREATED = 1_700_000_000_000;
const offset = asOffset(0x1_0000_0007);
const logTime = asLogTime(CREATED + 5);
const batch = encodeBatch(
  [
    { key: Buffer.from('k'), value: Buffer.from('v') },
    { key: Buffer.from('gone') },
    {
      key: Buffer.alloc(0),
      value: Buffer.alloc(200, 0x61),
      headers: [{ name: 'content-type', value: Buffer.from('text/plain') }],
      ttlMs: 30_000,
      type: 'Placed',
      op: encodeOp('incrby', [Buffer.from('5')]),
      timestamp: CREATED - 3,
    },
  ],
  { createTime: CREATED, session: { low: 7, high: 0, sequence: 2 } },
);
const stamped = Buffer.from(batch);
stampBatch(stamped, { firstOffset: offset, term: asTerm(3), logTime, group: asGroupId(2) });

golden('record-batch-v1', {
  batch,
  stamped,
  noop: encodeControlBatch(ControlKind.Noop, Buffer.alloc(0), CREATED),
  configuration: encodeControlBatch(ControlKind.Configuration, Buffer.from([1, 2, 3]), CREATED),
});

golden('op-v1', {
  command: encodeOp('hset', [Buffer.from('field'), Buffer.from('value')]),
  putIfAbsent: encodeConditionalOp('put-if', { kind: 'absent' }),
  deleteIfPresent: encodeConditionalOp('del-if', { kind: 'present' }),
  putIfOffset: encodeConditionalOp('put-if', { kind: 'offset', offset }),
});

const hello = {
  nodeId: 2,
  clusterId: 'c1',
  service: 'peer',
  software: 'tideline 0.1.0',
  addresses: { log: '127.0.0.1:7410', http: '127.0.0.1:7400' },
};
const failure = new TidelineError('not-leader', 'ask node 3', { details: { leader: 3 } });

golden('frame-v1', {
  hello: encodeFrame({ type: FrameType.Hello, method: 0, id: 0, argument: 0 }, encodeHello(hello)),
  request: encodeFrame({ type: FrameType.Request, method: 0x0202, id: 9, argument: 5000 }, Buffer.from('payload')),
  error: encodeFrame({ type: FrameType.Error, method: 0, id: 9, argument: 0 }, encodeError(failure)),
  credit: encodeFrame({ type: FrameType.Credit, method: 0, id: 4, argument: 0xffff_ffff }),
});

test('a hello and an error are read back as they were', () => {
  expect(decodeHello(encodeHello(hello))).toEqual(hello);
  expect(decodeError(encodeError(failure))).toMatchObject({
    code: 'not-leader',
    outcome: 'rejected',
    message: 'ask node 3',
    details: { leader: 3 },
  });
});

/* ---- services ---- */

const description: ClusterDescriptionMessage = {
  clusterId: 'c1',
  node: asNodeId(1),
  nodes: [
    { id: asNodeId(1), addresses: { log: '127.0.0.1:7410' }, region: 'eu', alive: true },
    { id: asNodeId(2), addresses: {}, region: '', alive: false },
  ],
  topics: [
    {
      name: 'orders',
      replication: 3,
      retention: { ms: 60_000, bytes: null },
      view: { kind: 'map', ...VIEW_DEFAULTS, archive: true },
      partitions: [
        {
          partition: asPartitionId(0),
          group: asGroupId(1),
          leader: asNodeId(2),
          term: asTerm(4),
          replicas: [asNodeId(1), asNodeId(2), asNodeId(3)],
          learners: [asNodeId(4)],
          commitOffset: offset,
          logStartOffset: asOffset(1),
        },
      ],
    },
  ],
};
const appended = {
  firstOffset: offset,
  lastOffset: asOffset(offset + 2),
  logTime,
  term: asTerm(3),
  node: asNodeId(1),
  duplicate: true,
};
const barrier = { offset, time: logTime, term: asTerm(3), node: asNodeId(1) };
const fetched = { nextOffset: offset, commitOffset: offset, logStartOffset: asOffset(1), batches: stamped };
const tailed = { nextOffset: offset, commitOffset: offset, batches: stamped };
const position = { offset, logTime };
const entry: EntryMessage = {
  key: Buffer.from('k'),
  value: Buffer.from('v'),
  contentType: 'text/plain',
  offset,
  logTime,
  expiresAt: asLogTime(logTime + 1000),
};
const plainEntry: EntryMessage = { ...entry, contentType: null, expiresAt: null };
const results = [
  { ok: true, code: '', message: '', value: '6', entryOffset: offset },
  { ok: false, code: 'wrong-type', message: 'holds a list', value: '', entryOffset: asOffset(0) },
];
const watched = [
  { type: 'put', partition: 0, entry },
  { type: 'delete', partition: 1, key: Buffer.from('k'), offset },
  { type: 'expire', partition: 0, key: Buffer.from('k'), offset },
  { type: 'live', partition: 0, offset },
] as const;
const stats = [
  {
    view: 'orders',
    topic: 'orders',
    kind: 'map' as const,
    slots: 256,
    partitions: [{ partition: 0, offset, logTime, commitOffset: offset, digest: 'a1b2', entries: 2, bytes: 340 }],
    entries: 2,
    bytes: 340,
  },
];
const group = asGroupId(2);
const from = asOffset(5);
const target = { topic: 'orders', partition: 1 };
const read = { consistency: 'bounded' as const, minOffset: 0, maxLagMs: 500, timeoutMs: 2000 };
const viewScan = { prefix: Buffer.from('a'), after: Buffer.from('ab'), limit: 100, bytesMax: 65536, values: true };

const keys = [Buffer.from('k'), Buffer.from(''), Buffer.from('kk'), Buffer.from('gone')];
const found = (() => {
  const writer = new ByteWriter();
  writeFound(writer, entry);
  writeFound(writer, plainEntry);
  writeNotAnswered(writer);
  writeFound(writer, null);
  return writer.finish();
})();

test('what is found under keys is read back, each by itself, and nothing besides', () => {
  const { key: _key, ...rest } = entry;
  const { key: _plain, ...plain } = plainEntry;
  expect(readAllFound(found, keys.length)).toEqual([rest, plain, undefined, null]);
  for (const count of [keys.length - 1, keys.length + 1]) {
    expect(() => readAllFound(found, count)).toThrow(expect.objectContaining({ code: 'malformed-frame' }));
  }
  for (const flags of [1, 2, 3, 9, 12, 16, 255]) {
    expect(() => readAllFound(Buffer.from([flags, ...found.subarray(1)]), keys.length)).toThrow(/found flags/);
  }
});

type Sample<Request, Answer> = { readonly request: Request; readonly answer: Answer };
const samples: { name: string; encoded: Record<string, Buffer>; check: () => void }[] = [];

const request = <Request, Response, Input>(
  name: string,
  call: RequestCall<Request, Response, Input>,
  sample: Sample<Request, Response & Input>,
): void => {
  const question = joined(call.encodeRequest(sample.request));
  const answer = joined(call.encodeResponse(sample.answer));
  samples.push({
    name,
    encoded: { [`${name}.request`]: question, [`${name}.response`]: answer },
    check: () => {
      expect(call.decodeRequest(question)).toEqual(sample.request);
      expect(call.decodeResponse(answer)).toEqual(sample.answer);
    },
  });
};

const stream = <Request, Item, Input>(
  name: string,
  call: StreamCall<Request, Item, Input>,
  sample: Sample<Request, Item & Input>,
): void => {
  const question = joined(call.encodeRequest(sample.request));
  const item = joined(call.encodeItem(sample.answer));
  samples.push({
    name,
    encoded: { [`${name}.request`]: question, [`${name}.item`]: item },
    check: () => {
      expect(call.decodeRequest(question)).toEqual(sample.request);
      expect(call.decodeItem(item)).toEqual(sample.answer);
    },
  });
};

const service = (name: string, define: () => void): void => {
  describe(name, () => {
    samples.length = 0;
    define();
    golden(name, Object.assign({}, ...samples.map(({ encoded }) => encoded)));
    for (const { name: call, check } of samples) test(`${call} is read back as it was written`, check);
  });
};

service('log-service-v1', () => {
  request('describe', log.describe, { request: undefined, answer: description });
  request('append', log.append, { request: { group, acks: 'quorum', batch }, answer: appended });
  request('fetch', log.fetch, { request: { group, from, maxBytes: 1 << 20, maxWaitMs: 500 }, answer: fetched });
  request('barrier', log.barrier, { request: { group }, answer: barrier });
  request('openSession', log.openSession, { request: { group }, answer: offset });
  request('offsetAtTime', log.offsetAtTime, { request: { group, time: logTime }, answer: offset });
  request('transferLeadership', log.transferLeadership, {
    request: { group, to: asNodeId(3) },
    answer: undefined,
  });
  stream('tail', log.tail, { request: { group, from }, answer: tailed });
});

service('view-service-v1', () => {
  const scope = { view: 'orders', partition: 3, timeoutMs: 2000 };
  request('get', view.get, {
    request: { ...scope, key: Buffer.from('k'), at: { offset, time: logTime } },
    answer: { entry, position },
  });
  request('get-absent', view.get, {
    request: { ...scope, key: Buffer.from('k'), at: { offset, time: null } },
    answer: { entry: null, position },
  });
  request('scan', view.scan, {
    request: { ...scope, ...viewScan, at: { offset, time: logTime } },
    answer: { entries: [entry, plainEntry], more: true, position },
  });
  request('getMany', view.getMany, {
    request: { ...scope, keys, bytesMax: 65536, at: { offset, time: logTime } },
    answer: { found, position },
  });
  request('results', view.results, {
    request: { ...scope, firstOffset: from, lastOffset: offset },
    answer: { results, position },
  });
  request('stats', view.stats, { request: undefined, answer: stats });
  request('getOrDeparted', view.getOrDeparted, {
    request: { view: 'orders', partition: 3, key: Buffer.from('k'), at: { offset, time: logTime }, timeoutMs: 2000 },
    answer: { entry: plainEntry, departed: null, position },
  });
  request('getOrDeparted-archived', view.getOrDeparted, {
    request: { view: 'orders', partition: 3, key: Buffer.from('k'), at: { offset, time: null }, timeoutMs: 2000 },
    answer: {
      entry: null,
      departed: { ...plainEntry, partition: 3, archivedAt: CREATED + 9, evicted: false },
      position,
    },
  });
  request('getOrDeparted-waiting', view.getOrDeparted, {
    request: { view: 'orders', partition: 3, key: Buffer.from('k'), at: { offset, time: null }, timeoutMs: 2000 },
    answer: { entry: null, departed: { ...plainEntry, partition: 3, archivedAt: null, evicted: true }, position },
  });
  request('archive', view.archive, {
    request: {
      view: 'orders',
      key: Buffer.from('k'),
      from: logTime,
      to: null,
      limit: 100,
      cursor: '1.0.7.x',
    },
    answer: {
      entries: [{ ...plainEntry, partition: 1, archivedAt: CREATED + 9, evicted: true }],
      cursor: '1.0.8.y',
    },
  });
  request('archive-page', view.archive, {
    request: { view: 'orders', key: null, from: null, to: logTime, limit: 1, cursor: null },
    answer: { entries: [], cursor: null },
  });
  stream('watch', view.watch, {
    request: { view: 'orders', partition: 3, prefix: Buffer.from('a') },
    answer: watched,
  });
});

service('snapshot-service-v1', () => {
  const part = { clusterId: 'c1', view: 'orders', partition: 3, group: 7 };
  const info = {
    host: 'host:7420',
    view: 'orders',
    partition: 3,
    offset,
    logTime,
    digest: '485b2e6592ca94e4',
    bytes: 123_456,
    entries: 1000,
    slots: 256,
    createdAt: CREATED,
    verified: true,
  };
  const lanes = Uint32Array.from({ length: 512 }, (_, n) => n * 0x0101_0101);
  request('snapshots', snapshots.snapshots, { request: { view: null, everywhere: true }, answer: [info] });
  request('create', snapshots.create, { request: { view: 'orders', partition: 3 }, answer: [info] });
  request('restore', snapshots.restore, {
    request: { view: 'orders', partition: null, offset },
    answer: [{ partition: 3, source: 'a snapshot', offset }],
  });
  request('piece', snapshots.piece, {
    request: { ...part, offset, position: 4096, length: 1024 },
    answer: { fileBytes: 123_456, bytes: Buffer.from('piece') },
  });
  request('marks', snapshots.marks, {
    request: undefined,
    answer: { host: 'host:7420', parts: [{ ...part, marks: [{ offset, digest: '485b2e6592ca94e4' }] }] },
  });
  request('digests', snapshots.digests, { request: { ...part, offset }, answer: lanes });
  request('digests-unknown', snapshots.digests, { request: { ...part, offset }, answer: null });
  request('dispute', snapshots.dispute, { request: { ...part, offset, digests: lanes }, answer: undefined });
  request('health', snapshots.health, {
    request: { view: 'orders' },
    answer: [
      {
        view: 'orders',
        partition: 3,
        restoring: { phase: 'log', source: 'a snapshot', percent: 42, offset, target: offset, etaSeconds: 7 },
        stoppedSlots: [1, 255],
        problem: 'why',
      },
      { view: 'orders', partition: 4, restoring: null, stoppedSlots: [], problem: null },
    ],
  });
});

service('archive-service-v1', () => {
  const part = { clusterId: 'c1', view: 'orders', partition: 3, group: 7 };
  request('departed', archives.departed, {
    request: {
      ...part,
      mark: 'a mark',
      applied: offset,
      from: logTime,
      until: asLogTime(logTime + 1),
      cursor: '1.0.7.x',
      limit: 500,
      bytesMax: 262_144,
    },
    answer: { entries: [{ ...plainEntry, evicted: true }], cursor: '1.0.8.y', until: asLogTime(logTime + 1) },
  });
  request('departed-from-the-beginning', archives.departed, {
    request: { ...part, mark: '', applied: offset, from: null, until: logTime, cursor: null, limit: 1, bytesMax: 1 },
    answer: { entries: [], cursor: null, until: logTime },
  });
  request('kept', archives.kept, {
    request: { ...part, mark: '', applied: offset, from: null, until: logTime, cursor: null, limit: 1, bytesMax: 1 },
    answer: { entries: [], cursor: null, until: logTime },
  });
});

service('gateway-service-v1', () => {
  request('describe', gateway.describe, { request: undefined, answer: description });
  request('append', gateway.append, {
    request: { ...target, acks: 'applied', timeoutMs: 2000, batch },
    answer: { ...appended, results },
  });
  request('fetch', gateway.fetch, {
    request: { ...target, from, maxBytes: 1 << 20, maxWaitMs: 500 },
    answer: fetched,
  });
  request('barrier', gateway.barrier, { request: target, answer: barrier });
  request('openSession', gateway.openSession, { request: target, answer: offset });
  request('offsetAtTime', gateway.offsetAtTime, { request: { ...target, time: logTime }, answer: offset });
  request('get', gateway.get, {
    request: { view: 'orders', partition: null, key: Buffer.from('k'), ...read },
    answer: { partition: 1, entry: plainEntry, position },
  });
  request('scan', gateway.scan, {
    request: { view: 'orders', partition: 0, ...viewScan, after: null, ...read },
    answer: { entries: [entry], more: false, positions: [{ partition: 0, ...position }] },
  });
  request('getMany', gateway.getMany, {
    request: { view: 'orders', partition: 1, partitions: 2, keys, bytesMax: 65536, ...read },
    answer: { found, position },
  });
  request('results', gateway.results, {
    request: { view: 'orders', partition: 0, firstOffset: from, lastOffset: offset, timeoutMs: 2000 },
    answer: { results, position },
  });
  stream('tail', gateway.tail, { request: { ...target, from }, answer: tailed });
  stream('watch', gateway.watch, {
    request: { view: 'orders', partition: null, prefix: Buffer.from('a') },
    answer: watched,
  });
});
