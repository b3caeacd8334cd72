import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TidelineError } from '#kernel';
import {
  FRAME_HEADER_BYTES,
  FrameDecoder,
  FrameType,
  decodeError,
  encodeError,
  encodeFrame,
  type FrameSink,
} from './frame-v1.js';

class Recorder implements FrameSink {
  readonly frames: { type: number; method: number; id: number; argument: number; payload: Buffer }[] = [];
  error: TidelineError | null = null;
  frame(type: number, method: number, id: number, argument: number, payload: Buffer): void {
    this.frames.push({ type, method, id, argument, payload });
  }
  malformed(error: TidelineError): void {
    expect(this.error).toBeNull();
    this.error = error;
  }
}

const LIMIT = 1 << 20;

const frames = fc.array(
  fc.record({
    type: fc.integer({ min: 1, max: 13 }),
    method: fc.integer({ min: 0, max: 0xffff }),
    id: fc.integer({ min: 0, max: 0xffff_ffff }),
    argument: fc.integer({ min: 0, max: 0xffff_ffff }),
    payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  }),
  { maxLength: 8 },
);

const cut = (bytes: Buffer, sizes: readonly number[]): Buffer[] => {
  const chunks: Buffer[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes.length === 0 ? bytes.length : sizes[i % sizes.length];
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
};

describe('frame decoder', () => {
  test('gives the frames that were written, however the bytes are cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 5 }), (written, sizes) => {
        const bytes = Buffer.concat(written.map(({ payload, ...header }) => encodeFrame(header as never, payload)));
        const sink = new Recorder();
        const decoder = new FrameDecoder(sink, LIMIT);
        for (const chunk of cut(bytes, sizes)) decoder.push(chunk);
        expect(sink.error).toBeNull();
        expect(sink.frames).toEqual(written);
        expect(decoder.heldBytes).toBe(0);
      }),
    );
  });

  test('gives them as well when the rest of a payload is put where it belongs instead of being pushed', () => {
    fc.assert(
      fc.property(
        frames,
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 5 }),
        (written, sizes) => {
          const bytes = Buffer.concat(written.map(({ payload, ...header }) => encodeFrame(header as never, payload)));
          const sink = new Recorder();
          const decoder = new FrameDecoder(sink, LIMIT);
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const chunk = bytes.subarray(at, at + sizes[i % sizes.length]);
            const { room } = decoder;
            const taken = room === null ? chunk.length : chunk.copy(room);
            if (room === null) decoder.push(chunk);
            else decoder.filled(taken);
            at += taken;
          }
          expect(sink.error).toBeNull();
          expect(sink.frames).toEqual(written);
          expect(decoder.room).toBeNull();
        },
      ),
    );
  });

  test('finds room for a payload longer than its first buffer, and never more than the payload needs', () => {
    const payload = Buffer.alloc(3_000_000);
    for (let i = 0; i < payload.length; i += 997) payload[i] = i;
    const bytes = encodeFrame({ type: FrameType.Post, method: 0, id: 0, argument: 0 }, payload);
    const sink = new Recorder();
    const decoder = new FrameDecoder(sink, 4 << 20);
    decoder.push(bytes.subarray(0, FRAME_HEADER_BYTES + 10));
    let at = FRAME_HEADER_BYTES + 10;
    for (let { room } = decoder; room !== null; { room } = decoder) {
      expect(room.length).toBeLessThanOrEqual(bytes.length - at);
      bytes.copy(room, 0, at);
      at += room.length;
      decoder.filled(room.length);
    }
    expect(at).toBe(bytes.length);
    expect(sink.frames[0].payload.equals(payload)).toBe(true);
  });

  test('hands out views of what came whole', () => {
    const sink = new Recorder();
    const bytes = encodeFrame({ type: FrameType.Post, method: 1, id: 0, argument: 0 }, Buffer.from('abc'));
    new FrameDecoder(sink, LIMIT).push(bytes);
    expect(sink.frames[0].payload.buffer).toBe(bytes.buffer);
  });

  test('answers noise with an error or with frames, never by throwing, and stops at the first error', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 10 }), (chunks) => {
        const sink = new Recorder();
        const decoder = new FrameDecoder(sink, 4096);
        let framesAtError = -1;
        for (const chunk of chunks) {
          decoder.push(Buffer.from(chunk));
          if (sink.error && framesAtError < 0) framesAtError = sink.frames.length;
        }
        if (sink.error) {
          expect(['malformed-frame', 'unsupported-version']).toContain(sink.error.code);
          expect(sink.frames.length).toBe(framesAtError);
        }
      }),
    );
  });

  test('survives any byte of a good stream being changed', () => {
    const good = Buffer.concat([
      encodeFrame({ type: FrameType.Request, method: 7, id: 1, argument: 0 }, Buffer.alloc(40, 1)),
      encodeFrame({ type: FrameType.Ping, method: 0, id: 0, argument: 3 }),
      encodeFrame({ type: FrameType.Response, method: 0, id: 1, argument: 0 }, Buffer.alloc(40, 2)),
    ]);
    for (let at = 0; at < good.length; at++) {
      for (const change of [1, 0x80, 0xff]) {
        const bytes = Buffer.from(good);
        bytes[at] ^= change;
        const sink = new Recorder();
        new FrameDecoder(sink, 4096).push(bytes);
        for (const { payload } of sink.frames) expect(payload.length).toBeLessThanOrEqual(4096);
      }
    }
  });

  test.each([0, 15, LIMIT + 1, 0xffff_ffff])('refuses a declared length of %d', (length) => {
    const bytes = encodeFrame({ type: FrameType.Post, method: 0, id: 0, argument: 0 });
    bytes.writeUInt32LE(length, 0);
    const sink = new Recorder();
    new FrameDecoder(sink, LIMIT).push(bytes);
    expect(sink.error?.code).toBe('malformed-frame');
  });

  test('finds out a stranger by the first five bytes', () => {
    const sink = new Recorder();
    new FrameDecoder(sink, LIMIT).push(Buffer.from('GET /'));
    expect(sink.error).not.toBeNull();
  });

  test('does not allocate what a length declares before the bytes come', () => {
    const before = process.memoryUsage().arrayBuffers;
    const decoders = Array.from({ length: 64 }, () => new FrameDecoder(new Recorder(), 64 << 20));
    const header = encodeFrame({ type: FrameType.Post, method: 0, id: 0, argument: 0 });
    header.writeUInt32LE(64 << 20, 0);
    for (const decoder of decoders) decoder.push(header);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 << 20);
    expect(decoders.every((decoder) => decoder.heldBytes === FRAME_HEADER_BYTES)).toBe(true);
  });

  test('puts a frame longer than its first buffer together', () => {
    const payload = Buffer.alloc(1_000_003, 5);
    payload[1_000_002] = 9;
    const bytes = encodeFrame({ type: FrameType.StreamItem, method: 0, id: 4, argument: 0 }, payload);
    const sink = new Recorder();
    const decoder = new FrameDecoder(sink, 4 << 20);
    for (const chunk of cut(bytes, [65536])) decoder.push(chunk);
    expect(sink.frames[0].payload.equals(payload)).toBe(true);
  });

  test('delivers nothing more once it was stopped, even by the sink in the middle of a chunk', () => {
    const ping = encodeFrame({ type: FrameType.Ping, method: 0, id: 0, argument: 0 });
    let seen = 0;
    const decoder: FrameDecoder = new FrameDecoder(
      {
        frame: () => {
          seen++;
          decoder.stop();
        },
        malformed: () => undefined,
      },
      LIMIT,
    );
    decoder.push(Buffer.concat([ping, ping, ping]));
    decoder.push(ping);
    expect(seen).toBe(1);
  });
});

describe('error payload', () => {
  test('keeps a code it does not know, and its outcome', () => {
    const bytes = encodeError({ code: 'from-the-future', outcome: 'rejected', message: 'm', details: {} } as never);
    expect(decodeError(bytes)).toMatchObject({
      code: 'internal',
      outcome: 'rejected',
      details: { code: 'from-the-future' },
    });
  });

  test('leaves out details that are no JSON or too many, never the code', () => {
    const loop: Record<string, unknown> = {};
    loop['self'] = loop;
    for (const details of [loop, { big: 'x'.repeat(100_000) }, { n: 1n }]) {
      const error = decodeError(encodeError(new TidelineError('timeout', 'late', { details })));
      expect(error).toMatchObject({ code: 'timeout', outcome: 'unknown', message: 'late', details: {} });
    }
  });
});
