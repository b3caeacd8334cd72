import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asGroupId, asLogTime, asNodeId, asOffset, asTerm, type GroupId } from '#kernel';
import { encodeConfiguration, type Entry, type Message } from '#raft';
import { ControlKind, encodeBatch, encodeControlBatch, stampBatch } from '#wire';
import { entryOfBatch } from './entry-of-batch.js';
import { PEER_FRAME_BYTES, PeerFrameWriter, decodePeerFrame, type PeerMessage } from './raft-messages-v1.js';

const from = asNodeId(1);
const to = asNodeId(2);
const term = asTerm(7);
const group = asGroupId(3);
const base = { from, to, term };

const entry = (offset: number, value = 'x', inGroup: GroupId = group): Entry => {
  const bytes = encodeBatch([{ value: Buffer.from(value) }], { createTime: 5 });
  stampBatch(bytes, { firstOffset: asOffset(offset), term, logTime: asLogTime(9), group: inGroup });
  return entryOfBatch(bytes);
};

const control = (offset: number, kind: ControlKind, payload: Uint8Array): Entry => {
  const bytes = encodeControlBatch(kind, payload, 5);
  stampBatch(bytes, { firstOffset: asOffset(offset), term, logTime: asLogTime(9), group });
  return entryOfBatch(bytes);
};

const configuration = { voters: [1, 2, 3].map(asNodeId), outgoing: [asNodeId(4)], learners: [] };

const messages: PeerMessage[] = [
  { ...base, type: 'vote-request', preVote: true, transfer: false, lastOffset: asOffset(9), lastTerm: asTerm(6) },
  { ...base, type: 'vote-request', preVote: false, transfer: true, lastOffset: asOffset(2 ** 50), lastTerm: asTerm(0) },
  { ...base, type: 'vote-response', preVote: true, granted: false },
  { ...base, type: 'vote-response', preVote: false, granted: true },
  {
    ...base,
    type: 'append-request',
    prevOffset: asOffset(4),
    prevTerm: asTerm(6),
    commit: asOffset(3),
    entries: [
      control(5, ControlKind.Noop, Buffer.alloc(0)),
      entry(6),
      entry(7, 'y'.repeat(10_000)),
      control(8, ControlKind.Configuration, encodeConfiguration(configuration)),
      control(9, ControlKind.Beacon, Buffer.alloc(0)),
    ],
  },
  { ...base, type: 'append-request', prevOffset: asOffset(4), prevTerm: asTerm(6), commit: asOffset(3), entries: [] },
  { ...base, type: 'append-response', success: true, offset: asOffset(5), hintTerm: term, hintOffset: asOffset(0) },
  {
    ...base,
    type: 'append-response',
    success: false,
    offset: asOffset(5),
    hintTerm: asTerm(2),
    hintOffset: asOffset(3),
  },
  { ...base, type: 'heartbeat', commit: asOffset(12), round: 99 },
  { ...base, type: 'heartbeat-response', round: 99 },
  {
    ...base,
    type: 'snapshot-request',
    snapshot: { offset: asOffset(77), term: asTerm(5), configuration, state: Buffer.alloc(5000, 1) },
  },
  { ...base, type: 'snapshot-response', offset: asOffset(77) },
  { ...base, type: 'timeout-now' },
  { ...base, type: 'repair-request', fromOffset: asOffset(5), toOffset: asOffset(0) },
  {
    ...base,
    type: 'repair-response',
    fromOffset: asOffset(5),
    commit: asOffset(8),
    batches: [entry(5).bytes, entry(6).bytes],
    snapshot: null,
  },
  {
    ...base,
    type: 'repair-response',
    fromOffset: asOffset(5),
    commit: asOffset(8),
    batches: [],
    snapshot: { offset: asOffset(70), term: asTerm(3), state: Buffer.alloc(3000, 7) },
  },
  { ...base, type: 'heartbeat-response', round: 99, promiseMs: 1000 },
];

const framesOf = (all: readonly (readonly [GroupId, PeerMessage])[]): Buffer[] => {
  const writer = new PeerFrameWriter();
  for (const [id, message] of all) writer.add(id, message);
  const frames = writer.take().map((pieces) => Buffer.concat(pieces));
  expect(writer.isEmpty).toBe(true);
  return frames;
};

const decoded = (frame: Buffer) => {
  const found: [GroupId, PeerMessage][] = [];
  const faults = decodePeerFrame(frame, { from, to }, (id, message) => found.push([id, message]));
  return { found, faults };
};

describe('a frame of messages', () => {
  test('brings back every kind of message, in order', () => {
    const all = messages.map((message) => [group, message] as const);
    const [frame, ...more] = framesOf(all);
    expect(more).toEqual([]);
    const { found, faults } = decoded(frame);
    expect(faults).toEqual({ corrupt: 0, malformed: 0 });
    expect(found.map(([id]) => id)).toEqual(all.map(([id]) => id));
    expect(found.map(([, message]) => message)).toEqual(messages);
  });

  test('refers to large batches and does not copy them', () => {
    const large = entry(5, 'z'.repeat(100_000));
    const writer = new PeerFrameWriter();
    const append: Message = {
      ...base,
      type: 'append-request',
      prevOffset: asOffset(4),
      prevTerm: term,
      commit: asOffset(0),
      entries: [large, entry(6)],
    };
    writer.add(group, append);
    const [pieces] = writer.take();
    expect(pieces).toContain(large.bytes);
    expect(decoded(Buffer.concat(pieces)).found[0][1]).toEqual(append);
  });

  test('is closed when it has grown enough, and the next message begins another', () => {
    const append = (offset: number): Message => ({
      ...base,
      type: 'append-request',
      prevOffset: asOffset(offset - 1),
      prevTerm: term,
      commit: asOffset(0),
      entries: [entry(offset, 'z'.repeat(PEER_FRAME_BYTES / 2))],
    });
    const frames = framesOf([1, 2, 3].map((offset) => [group, append(offset)]));
    expect(frames).toHaveLength(2);
    const offsets = frames.flatMap((frame) =>
      decoded(frame).found.map(([, message]) =>
        message.type === 'append-request' ? message.entries[0].firstOffset : 0,
      ),
    );
    expect(offsets).toEqual([1, 2, 3]);
  });

  test('takes few bytes for a heartbeat', () => {
    const beats = Array.from({ length: 1000 }, (_, i) => [asGroupId(i), messages[8]] as const);
    const [frame] = framesOf(beats);
    expect(frame.length).toBeLessThan(1000 * 7);
    expect(decoded(frame).found).toHaveLength(1000);
  });

  test('has these bytes', () => {
    const [frame] = framesOf([
      [group, messages[0]],
      [asGroupId(300), messages[8]],
      [group, messages[7]],
      [group, messages[12]],
      [group, messages.at(-1)!],
    ]);
    expect(frame.toString('hex')).toBe('0101030701090605ac02070c63040307000502030903070c030763e807');
  });

  test('loses only the message whose batch is damaged', () => {
    const append = messages[4] as Extract<Message, { type: 'append-request' }>;
    const [good] = framesOf([
      [group, messages[8]],
      [group, append],
      [group, messages[9]],
    ]);
    // In the header of the first batch, in the payload of a large one, in the last batch.
    for (const at of [40, 5000, good.length - 10]) {
      const frame = Buffer.from(good);
      frame[at] ^= 4;
      const { found, faults } = decoded(frame);
      expect(faults.corrupt + faults.malformed).toBe(1);
      expect(found.some(([, message]) => message.type === 'append-request')).toBe(false);
      expect(found[0][1]).toEqual(messages[8]);
    }
  });

  test('does not take batches of another group, or with a gap', () => {
    const append = (entries: readonly Entry[]): Message => ({
      ...base,
      type: 'append-request',
      prevOffset: asOffset(4),
      prevTerm: term,
      commit: asOffset(0),
      entries,
    });
    for (const entries of [[entry(5, 'x', asGroupId(4))], [entry(6)], [entry(5), entry(7)]]) {
      const [frame] = framesOf([[group, append(entries)]]);
      expect(decoded(frame)).toEqual({ found: [], faults: { corrupt: 1, malformed: 0 } });
    }
  });

  test('of any bytes is never more than a counted fault', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const frame = Buffer.from(bytes);
        decoded(frame);
        if (frame.length > 0) frame[0] = 1;
        decoded(frame);
      }),
      { numRuns: 500 },
    );
  });

  test('with any byte changed never brings a batch that was not sent', () => {
    const [frame] = framesOf(messages.map((message) => [group, message]));
    const sent = new Set(
      messages.flatMap((message) =>
        message.type === 'append-request' ? message.entries.map((each) => Buffer.from(each.bytes).toString('hex')) : [],
      ),
    );
    fc.assert(
      fc.property(fc.nat(frame.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const bad = Buffer.from(frame);
        bad[at] ^= change;
        for (const [, message] of decoded(bad).found) {
          if (message.type !== 'append-request') continue;
          for (const { bytes } of message.entries) expect(sent.has(Buffer.from(bytes).toString('hex'))).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});
