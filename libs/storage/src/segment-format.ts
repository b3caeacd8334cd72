import { crc32 } from 'node:zlib';
import {
  asGroupId,
  asLogTime,
  asOffset,
  asTerm,
  readU32,
  readU64,
  writeU32,
  writeU64,
  type GroupId,
  type LogTime,
  type Offset,
  type Term,
} from '#kernel';
import type { TermStartInLog } from './partition-log.js';
import { shortCrc32 } from './short-crc32.js';

/**
 * A segment, version 1: the file `%020d.log`, named by the first offset it may hold. Little endian.
 *
 *     segment = header, frame*, then zeros up to the end of the file     (the last segment, being written)
 *             | header, frame*, footer                                   (a sealed one; the footer ends the file)
 *
 *     header, 64 bytes
 *      0  u32  magic            "TLSG"
 *      4  u32  version          1
 *      8  u32  group
 *     12  u32  incarnation      rises with every segment file the partition creates: two files of one name differ in it
 *     16  u64  segment          first offset, as in the file's name
 *     24  u32  previousTerm     of the batch before this segment; with the next field: the base of the log when it starts here
 *     28  u64  previousLogTime
 *     36       zeros
 *     60  u32  crc              CRC-32 of bytes 0 … 59
 *
 *     frame, 44 bytes, then one whole record batch
 *      0  u32  magic            "TLFR"
 *      4  u32  length           of the batch
 *      8  u32  position         of this frame in the file
 *     12  u32  writeStart       where the write that carried this frame began: everything before it was durable by then
 *     16  u64  segment          as in the header
 *     24  u32  group
 *     28  u32  incarnation
 *     32  u32  previous         crc of the frame before; of the header for the first frame
 *     36  u32  batchHeaderCrc   the batch's own; through it offset, term, log time and payload checksum are bound to this place
 *     40  u32  crc              CRC-32 of bytes 0 … 39
 *
 *     footer, 76 + 12 × n bytes
 *      0  u32  magic            "TLSE"
 *      4  u32  length           of the footer
 *      8  u32  position
 *     12  u32  group
 *     16  u64  segment
 *     24  u32  incarnation
 *     28  u32  previous         crc of the last frame: through the chain it stands for the whole segment
 *     32  u64  lastOffset
 *     40  u32  lastTerm
 *     44  u32  batches
 *     48  u64  firstLogTime
 *     56  u64  lastLogTime
 *     64  u32  n, then n × (u32 term, u64 firstOffset): where terms start in this segment
 *      …  u32  crc              CRC-32 of all before
 *      …  u32  length again, so that it is found from the end of the file
 *
 * What each field is for: `position`, `segment` and `group` unmask a misdirected write (a good frame at the wrong place); `incarnation`
 * and `previous` unmask stale bytes (a good frame that was here once); `writeStart` tells a torn write from damage (see tear.ts): a
 * frame written by a later write proves that everything before its writeStart had been durable, so a bad frame there is damage.
 */
export const SEGMENT_HEADER_BYTES = 64;
export const FRAME_HEADER_BYTES = 44;
export const SEGMENT_VERSION = 1;
/** A segment's positions are 32-bit numbers. */
export const SEGMENT_BYTES_MAX = 0xffff_ffff;
/** What a disk writes whole or not at all. */
export const SECTOR_BYTES = 512;

const HEADER_MAGIC = 0x47534c54;
const FRAME_MAGIC = 0x52464c54;
const FOOTER_MAGIC = 0x45534c54;
const FOOTER_FIXED_BYTES = 68;
const FOOTER_END_BYTES = 8;

export const FRAME_MAGIC_BYTES = Buffer.from('TLFR', 'latin1');
export const FOOTER_MAGIC_BYTES = Buffer.from('TLSE', 'latin1');

export const segmentFileName = (base: Offset): string => `${String(base).padStart(20, '0')}.log`;

/** First offset by file name; null when it is not a segment's name. */
export const parseSegmentFileName = (name: string): Offset | null =>
  /^\d{20}\.log$/.test(name) ? asOffset(Number(name.slice(0, 20))) : null;

/** What makes a segment file this one and no other. */
export interface SegmentIdentity {
  readonly group: GroupId;
  readonly base: Offset;
  readonly incarnation: number;
}

export interface SegmentHeader extends SegmentIdentity {
  readonly version: number;
  readonly previousTerm: Term;
  readonly previousLogTime: LogTime;
  readonly crc: number;
}

export const encodeSegmentHeader = (header: Omit<SegmentHeader, 'version' | 'crc'>): Buffer => {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  writeU32(bytes, 0, HEADER_MAGIC);
  writeU32(bytes, 4, SEGMENT_VERSION);
  writeU32(bytes, 8, header.group);
  writeU32(bytes, 12, header.incarnation);
  writeU64(bytes, 16, header.base);
  writeU32(bytes, 24, header.previousTerm);
  writeU64(bytes, 28, header.previousLogTime);
  writeU32(bytes, 60, crc32(bytes.subarray(0, 60)));
  return bytes;
};

/** null when the bytes are not a header that can be trusted. The version is not judged here. */
export const decodeSegmentHeader = (bytes: Uint8Array): SegmentHeader | null => {
  if (bytes.length < SEGMENT_HEADER_BYTES || readU32(bytes, 0) !== HEADER_MAGIC) return null;
  const crc = readU32(bytes, 60);
  if (crc !== crc32(bytes.subarray(0, 60))) return null;
  return {
    version: readU32(bytes, 4),
    group: asGroupId(readU32(bytes, 8)),
    incarnation: readU32(bytes, 12),
    base: asOffset(readU64(bytes, 16)),
    previousTerm: asTerm(readU32(bytes, 24)),
    previousLogTime: asLogTime(readU64(bytes, 28)),
    crc,
  };
};

export interface FramePlace extends SegmentIdentity {
  readonly position: number;
  readonly writeStart: number;
  readonly previous: number;
}

/** Writes the frame of `batch` into `out` at `at`; returns the frame's crc. */
export const encodeFrame = (out: Buffer, at: number, batch: Uint8Array, place: FramePlace): number => {
  writeU32(out, at, FRAME_MAGIC);
  writeU32(out, at + 4, batch.length);
  writeU32(out, at + 8, place.position);
  writeU32(out, at + 12, place.writeStart);
  writeU64(out, at + 16, place.base);
  writeU32(out, at + 24, place.group);
  writeU32(out, at + 28, place.incarnation);
  writeU32(out, at + 32, place.previous);
  writeU32(out, at + 36, readU32(batch, 8));
  const crc = shortCrc32(out, at, at + 40);
  writeU32(out, at + 40, crc);
  return crc;
};

/* ---- a frame, read in place ---- */

export const frameBatchLength = (bytes: Uint8Array, at: number): number => readU32(bytes, at + 4);
export const framePosition = (bytes: Uint8Array, at: number): number => readU32(bytes, at + 8);
export const frameWriteStart = (bytes: Uint8Array, at: number): number => readU32(bytes, at + 12);
export const frameSegment = (bytes: Uint8Array, at: number): Offset => asOffset(readU64(bytes, at + 16));
export const frameGroup = (bytes: Uint8Array, at: number): GroupId => asGroupId(readU32(bytes, at + 24));
export const frameIncarnation = (bytes: Uint8Array, at: number): number => readU32(bytes, at + 28);
export const framePrevious = (bytes: Uint8Array, at: number): number => readU32(bytes, at + 32);
export const frameBatchHeaderCrc = (bytes: Uint8Array, at: number): number => readU32(bytes, at + 36);
export const frameCrc = (bytes: Uint8Array, at: number): number => readU32(bytes, at + 40);

/** Whether a frame's 44 bytes are what some log once wrote, here or elsewhere. */
export const frameIsWhole = (bytes: Uint8Array, at: number): boolean =>
  bytes.length - at >= FRAME_HEADER_BYTES &&
  readU32(bytes, at) === FRAME_MAGIC &&
  readU32(bytes, at + 40) === shortCrc32(bytes, at, at + 40);

/** Whether a whole frame was written for exactly this place. */
export const frameBelongs = (bytes: Uint8Array, at: number, identity: SegmentIdentity, position: number): boolean =>
  framePosition(bytes, at) === position &&
  frameSegment(bytes, at) === identity.base &&
  frameGroup(bytes, at) === identity.group &&
  frameIncarnation(bytes, at) === identity.incarnation;

export interface SegmentFooter extends SegmentIdentity {
  readonly position: number;
  readonly previous: number;
  readonly lastOffset: Offset;
  readonly lastTerm: Term;
  readonly batches: number;
  readonly firstLogTime: LogTime;
  readonly lastLogTime: LogTime;
  readonly termStarts: readonly TermStartInLog[];
}

export const footerBytes = (termStarts: number): number => FOOTER_FIXED_BYTES + FOOTER_END_BYTES + 12 * termStarts;

export const encodeSegmentFooter = (footer: SegmentFooter): Buffer => {
  const length = footerBytes(footer.termStarts.length);
  const bytes = Buffer.alloc(length);
  writeU32(bytes, 0, FOOTER_MAGIC);
  writeU32(bytes, 4, length);
  writeU32(bytes, 8, footer.position);
  writeU32(bytes, 12, footer.group);
  writeU64(bytes, 16, footer.base);
  writeU32(bytes, 24, footer.incarnation);
  writeU32(bytes, 28, footer.previous);
  writeU64(bytes, 32, footer.lastOffset);
  writeU32(bytes, 40, footer.lastTerm);
  writeU32(bytes, 44, footer.batches);
  writeU64(bytes, 48, footer.firstLogTime);
  writeU64(bytes, 56, footer.lastLogTime);
  writeU32(bytes, 64, footer.termStarts.length);
  let at = FOOTER_FIXED_BYTES;
  for (const start of footer.termStarts) {
    writeU32(bytes, at, start.term);
    writeU64(bytes, at + 4, start.firstOffset);
    at += 12;
  }
  writeU32(bytes, at, crc32(bytes.subarray(0, at)));
  writeU32(bytes, at + 4, length);
  return bytes;
};

/** The footer that starts at `at`; null when there is none that can be trusted. */
export const decodeSegmentFooter = (bytes: Uint8Array, at = 0): SegmentFooter | null => {
  if (bytes.length - at < footerBytes(0) || readU32(bytes, at) !== FOOTER_MAGIC) return null;
  const length = readU32(bytes, at + 4);
  const count = readU32(bytes, at + 64);
  if (length !== footerBytes(count) || length > bytes.length - at) return null;
  const end = at + length - FOOTER_END_BYTES;
  if (readU32(bytes, end) !== crc32(bytes.subarray(at, end)) || readU32(bytes, end + 4) !== length) return null;
  const termStarts: TermStartInLog[] = [];
  for (let p = at + FOOTER_FIXED_BYTES; p < end; p += 12) {
    termStarts.push({ term: asTerm(readU32(bytes, p)), firstOffset: asOffset(readU64(bytes, p + 4)) });
  }
  return {
    position: readU32(bytes, at + 8),
    group: asGroupId(readU32(bytes, at + 12)),
    base: asOffset(readU64(bytes, at + 16)),
    incarnation: readU32(bytes, at + 24),
    previous: readU32(bytes, at + 28),
    lastOffset: asOffset(readU64(bytes, at + 32)),
    lastTerm: asTerm(readU32(bytes, at + 40)),
    batches: readU32(bytes, at + 44),
    firstLogTime: asLogTime(readU64(bytes, at + 48)),
    lastLogTime: asLogTime(readU64(bytes, at + 56)),
    termStarts,
  };
};

export const footerBelongs = (footer: SegmentFooter, identity: SegmentIdentity, position: number): boolean =>
  footer.position === position &&
  footer.group === identity.group &&
  footer.base === identity.base &&
  footer.incarnation === identity.incarnation;
