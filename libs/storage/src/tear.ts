import type { DiskFile } from './file-system.js';
import type { Offset } from '#kernel';
import {
  FOOTER_MAGIC_BYTES,
  FRAME_HEADER_BYTES,
  SECTOR_BYTES,
  frameBatchLength,
  frameBelongs,
  frameIsWhole,
} from './segment-format.js';
import { isZero, type SegmentGap, type SegmentScan } from './segment-scan.js';

/**
 * Torn or damaged? A crash may leave of the one write that was in flight any sectors new and any old, and old means zero, for every place
 * is written once after it was filled with zeros or cut. So the first bad place of the last segment is a torn write only if
 *
 *   1. nothing up to the durable watermark is missing,
 *   2. no frame found anywhere after it was written by a later write (such a frame's writeStart lies beyond it),
 *   3. no footer follows (it is written when everything before it is durable),
 *   4. at least one sector of the bad frame is still zero: were all of them written, a good checksum would have been, too.
 *
 * Anything else is damage. A torn write was never acknowledged, so all of it may go, even frames of it that arrived whole.
 */
export const isTornWrite = (
  file: DiskFile,
  scan: SegmentScan,
  gap: SegmentGap,
  place: { readonly group: SegmentIdentityGroup; readonly base: Offset; readonly durable: Offset },
): boolean => {
  if (gap !== scan.gaps[0] || gap.fromOffset <= place.durable) return false;
  if (scan.durableBefore > gap.position || scan.footer !== null) return false;
  return hasZeroSector(file, gap.position, badLength(file, scan, gap.position, place));
};

type SegmentIdentityGroup = Parameters<typeof frameBelongs>[2]['group'];

/** How many bytes the thing that was being written at `position` has, as far as it still says. */
const badLength = (
  file: DiskFile,
  scan: SegmentScan,
  position: number,
  place: { readonly group: SegmentIdentityGroup; readonly base: Offset },
): number => {
  const head = file.readSync(FRAME_HEADER_BYTES, position);
  const identity = { group: place.group, base: place.base, incarnation: scan.incarnation };
  if (frameIsWhole(head, 0) && frameBelongs(head, 0, identity, position)) {
    return FRAME_HEADER_BYTES + frameBatchLength(head, 0);
  }
  const isFooter = head.length >= 8 && head.subarray(0, 4).equals(FOOTER_MAGIC_BYTES);
  return isFooter ? Math.max(FRAME_HEADER_BYTES, Math.min(head.readUInt32LE(4), 64 * 1024)) : FRAME_HEADER_BYTES;
};

/** Whether some sector that [position, position + length) touches is zero from `position` on; what lies beyond the file's end is. */
const hasZeroSector = (file: DiskFile, position: number, length: number): boolean => {
  const firstSector = position - (position % SECTOR_BYTES);
  const end = Math.ceil((position + length) / SECTOR_BYTES) * SECTOR_BYTES;
  if (file.sizeSync() < position + length) return true;
  const bytes = file.readSync(end - firstSector, firstSector);
  for (let at = 0; at < end - firstSector; at += SECTOR_BYTES) {
    const from = Math.max(at, position - firstSector);
    if (isZero(bytes.subarray(from, at + SECTOR_BYTES))) return true;
  }
  return false;
};
