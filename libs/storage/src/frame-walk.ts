import { BATCH_HEADER_BYTES, batchHeaderIsValid, batchIsControl } from '#wire';
import type { DiskFile } from './file-system.js';
import { FRAME_HEADER_BYTES, frameBatchLength, type SegmentIdentity } from './segment-format.js';
import { ScanWindow, frameProblem } from './segment-scan.js';

const NEED = FRAME_HEADER_BYTES + BATCH_HEADER_BYTES;
/** Read-ahead when batches are small and many share a read … */
const WINDOW_SMALL_BATCHES = 256 * 1024;
/** … and when they are large and only their headers are wanted. */
const WINDOW_LARGE_BATCHES = 4096;
const LARGE_BATCH_BYTES = 32 * 1024;

/** Told of each frame; returns false to stop. `at` is where the frame begins in `bytes`; a control batch is there as a whole. */
export type FrameVisitor = (bytes: Buffer, at: number, position: number) => boolean;

/**
 * Goes from frame to frame by their headers, without reading the payload of large batches. Checks the headers, not the payloads.
 * Returns the position where it stopped: `end`, the frame that the visitor refused, or one that is bad.
 */
export const walkFrames = (
  file: DiskFile,
  identity: SegmentIdentity,
  range: { readonly from: number; readonly to: number },
  visit: FrameVisitor,
): number => {
  let window = new ScanWindow(file, WINDOW_SMALL_BATCHES);
  let position = range.from;
  while (position < range.to) {
    let at = window.at(position, NEED);
    if (at < 0 || frameProblem(window.bytes, at, identity, position, -1) !== null) return position;
    if (!batchHeaderIsValid(window.bytes, at + FRAME_HEADER_BYTES)) return position;
    const length = frameBatchLength(window.bytes, at);
    if (batchIsControl(window.bytes, at + FRAME_HEADER_BYTES)) at = window.at(position, FRAME_HEADER_BYTES + length);
    if (at < 0 || !visit(window.bytes, at, position)) return position;
    if (length > LARGE_BATCH_BYTES !== window.windowBytes < WINDOW_SMALL_BATCHES) {
      window = new ScanWindow(file, length > LARGE_BATCH_BYTES ? WINDOW_LARGE_BATCHES : WINDOW_SMALL_BATCHES);
    }
    position += FRAME_HEADER_BYTES + length;
  }
  return position;
};
