import { batchFirstOffset, batchLastOffset } from '#wire';
import { asOffset, type Offset } from '#kernel';
import type { DiskFile } from './file-system.js';
import { FRAME_HEADER_BYTES, frameBatchLength, frameCrc } from './segment-format.js';
import { batchProblem, frameProblem } from './segment-scan.js';
import type { Segment } from './segment.js';

export interface SegmentReadRequest {
  readonly from: Offset;
  readonly to: Offset;
  readonly bytesMax: number;
}

/** `bad`: a frame or batch there does not check out. */
export type SegmentReadResult = { readonly batches: Buffer } | { readonly bad: string; readonly position: number };

/**
 * Reads whole batches of one segment from the disk, checks every frame and batch it hands out, and closes up the gaps the frames leave, in place.
 * The first batch is not moved, so a read of one batch copies nothing.
 */
export const readSegment = (
  file: DiskFile,
  segment: Segment,
  request: SegmentReadRequest,
  slackBytes: number,
  done: (error: Error | null, result: SegmentReadResult | null) => void,
): void => {
  const { from, to, bytesMax } = request;
  const end = segment.dataEnd;

  const readAt = (start: number, wanted: number): void => {
    file.read(Math.min(wanted, end - start), start, (error, bytes) => {
      if (error) return done(error, null);
      let at = 0;
      let chain = -1;
      let first = -1;
      let out = 0;
      let next = from;
      while (at + FRAME_HEADER_BYTES <= bytes.length) {
        const position = start + at;
        const problem = frameProblem(bytes, at, segment, position, chain);
        if (problem)
          return first < 0 ? done(null, { bad: problem, position }) : finish(bytes, first, out, next, position);
        const length = frameBatchLength(bytes, at);
        const frameEnd = at + FRAME_HEADER_BYTES + length;
        if (frameEnd > bytes.length) {
          if (first >= 0) break;
          // The batch wanted, or one before it, is longer than what was read.
          if (start + frameEnd > end) return done(null, { bad: 'the frame runs past the data', position });
          return readAt(position, Math.max(FRAME_HEADER_BYTES + length, wanted));
        }
        const batchAt = at + FRAME_HEADER_BYTES;
        const last = batchLastOffset(bytes, batchAt);
        chain = frameCrc(bytes, at);
        if (last >= from) {
          const begins = batchFirstOffset(bytes, batchAt);
          if (first >= 0 && (begins > to || out - first + length > bytesMax)) break;
          const wrong =
            begins > next || (first < 0 && begins > from) ? 'an offset is missing' : batchProblem(bytes, at, length);
          if (wrong)
            return first < 0 ? done(null, { bad: wrong, position }) : finish(bytes, first, out, next, position);
          if (first < 0) {
            first = batchAt;
            out = frameEnd;
          } else {
            bytes.copyWithin(out, batchAt, frameEnd);
            out += length;
          }
          next = asOffset(last + 1);
        }
        at = frameEnd;
      }
      if (first < 0) {
        if (bytes.length === 0 || start + at >= end)
          return done(null, { bad: 'the data ends early', position: start + at });
        return readAt(start + at, Math.max(wanted, FRAME_HEADER_BYTES));
      }
      finish(bytes, first, out, next, start + at);
    });
  };
  const finish = (bytes: Buffer, first: number, out: number, next: Offset, position: number): void => {
    segment.rememberCursor(next, position);
    done(null, { batches: bytes.subarray(first, out) });
  };
  const start = segment.positionFor(from);
  readAt(start, bytesMax + FRAME_HEADER_BYTES + slackBytes);
};
