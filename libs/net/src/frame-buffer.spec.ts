import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FrameType, encodeFrame } from '#wire';
import { FrameBuffer } from './frame-buffer.js';

test('what is taken is the frames that were added, one after the other', () => {
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.integer({ min: 3000, max: 9000 }).map((size) => new Uint8Array(size).fill(size)),
    fc.array(fc.uint8Array({ maxLength: 5000 }), { maxLength: 4 }),
  );
  fc.assert(
    fc.property(fc.array(fc.array(payload, { maxLength: 30 }), { maxLength: 4 }), (turns) => {
      const buffer = new FrameBuffer();
      for (const turn of turns) {
        const expected: Buffer[] = [];
        for (const [id, one] of turn.entries()) {
          buffer.add(FrameType.Request, 3, id, 9, one);
          const joined = one instanceof Uint8Array ? one : Buffer.concat(one);
          expected.push(encodeFrame({ type: FrameType.Request, method: 3, id, argument: 9 }, joined));
        }
        const all = Buffer.concat(expected);
        expect(buffer.bytes).toBe(all.length);
        expect(Buffer.concat(buffer.take()).equals(all)).toBe(true);
        expect(buffer.bytes).toBe(0);
      }
    }),
    { numRuns: 60 },
  );
});

test('small frames of a turn are one piece, a large payload is not copied', () => {
  const buffer = new FrameBuffer();
  const large = Buffer.alloc(10_000);
  for (let i = 0; i < 10; i++) buffer.add(FrameType.Post, 1, 0, 0, Buffer.alloc(100));
  expect(buffer.take().length).toBe(1);
  buffer.add(FrameType.Post, 1, 0, 0, [Buffer.alloc(5), large]);
  expect(buffer.take()[1]).toBe(large);
});

test('pieces already taken are never written into again', () => {
  const buffer = new FrameBuffer();
  const taken: { piece: Uint8Array; copy: Buffer }[] = [];
  for (let i = 0; i < 500; i++) {
    for (let j = 0; j < i % 7; j++) buffer.add(FrameType.Post, i, j, 0, Buffer.alloc((i * 37) % 900, i));
    for (const piece of buffer.take()) taken.push({ piece, copy: Buffer.from(piece) });
  }
  for (const { piece, copy } of taken) expect(copy.equals(piece)).toBe(true);
});
