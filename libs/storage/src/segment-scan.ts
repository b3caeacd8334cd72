import {
  BATCH_HEADER_BYTES,
  batchFirstOffset,
  batchHeaderIsValid,
  batchLastOffset,
  batchLength,
  batchLogTime,
  batchPayloadIsValid,
  batchTerm,
} from '#wire';
import { asLogTime, asOffset, readU32, type GroupId, type LogTime, type Offset, type Term } from '#kernel';
import type { DiskFile } from './file-system.js';
import {
  FOOTER_MAGIC_BYTES,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC_BYTES,
  SEGMENT_HEADER_BYTES,
  decodeSegmentFooter,
  decodeSegmentHeader,
  footerBelongs,
  footerBytes,
  frameBatchHeaderCrc,
  frameBatchLength,
  frameBelongs,
  frameCrc,
  frameGroup,
  frameIncarnation,
  frameIsWhole,
  framePosition,
  framePrevious,
  frameSegment,
  frameWriteStart,
  type SegmentFooter,
  type SegmentHeader,
  type SegmentIdentity,
} from './segment-format.js';
import type { TermStartInLog } from './partition-log.js';

/** Bytes read at a time. A frame longer than that is read whole. */
const WINDOW_BYTES = 4 * 1024 * 1024;
const ZEROS = Buffer.alloc(64 * 1024);

/** A moving view of a file for front-to-back reading. */
export class ScanWindow {
  bytes: Buffer = Buffer.alloc(0);
  private start = 0;
  readonly size: number;

  constructor(
    private readonly file: DiskFile,
    readonly windowBytes = WINDOW_BYTES,
  ) {
    this.size = file.sizeSync();
  }

  /** Index in `bytes` of `position`, with `length` bytes after it in the view; −1 when the file ends before. */
  at(position: number, length: number): number {
    if (position + length > this.size) return -1;
    if (position < this.start || position + length > this.start + this.bytes.length) {
      this.bytes = this.file.readSync(Math.min(Math.max(length, this.windowBytes), this.size - position), position);
      this.start = position;
      if (this.bytes.length < length) return -1;
    }
    return position - this.start;
  }
}

export const isZero = (bytes: Buffer): boolean => {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const piece = bytes.subarray(at, at + ZEROS.length);
    if (!piece.equals(ZEROS.subarray(0, piece.length))) return false;
  }
  return true;
};

/** End of the last byte at or after `from` that is not zero; `from` when all are. */
export const endOfData = (file: DiskFile, from: number): number => {
  const size = file.sizeSync();
  let end = from;
  for (let at = from; at < size; at += WINDOW_BYTES) {
    const bytes = file.readSync(Math.min(WINDOW_BYTES, size - at), at);
    for (let last = bytes.length; last > 0; last -= ZEROS.length) {
      const piece = bytes.subarray(Math.max(0, last - ZEROS.length), last);
      if (isZero(piece)) continue;
      let i = piece.length - 1;
      while (piece[i] === 0) i--;
      end = at + Math.max(0, last - ZEROS.length) + i + 1;
      break;
    }
  }
  return end;
};

/** A place where the chain of frames is broken. */
export interface SegmentGap {
  readonly position: number;
  /** Where the next good frame (or the footer) begins; null when nothing good follows. */
  readonly resumesAt: number | null;
  readonly fromOffset: Offset;
  readonly toOffset: Offset | null;
  readonly reason: string;
}

export interface ScannedFrame {
  readonly position: number;
  readonly end: number;
  readonly bytes: Buffer;
  /** Of the batch in `bytes`. */
  readonly batchAt: number;
}

export interface SegmentScan {
  readonly header: SegmentHeader | null;
  readonly incarnation: number;
  /** After the last good frame (or where the scan was told to stop). */
  readonly dataEnd: number;
  /** crc of the last good frame; of the header when there is none. */
  readonly chain: number;
  readonly batches: number;
  readonly lastOffset: Offset;
  readonly lastTerm: Term;
  readonly firstLogTime: LogTime;
  readonly lastLogTime: LogTime;
  readonly termStarts: readonly TermStartInLog[];
  readonly gaps: readonly SegmentGap[];
  /** Everything before this position was durable once: a frame written later says so (even one whose batch is bad). */
  readonly durableBefore: number;
  readonly footer: SegmentFooter | null;
}

export interface ScanOptions {
  readonly group: GroupId;
  readonly base: Offset;
  /** What the header must be, when the header itself cannot say (it is damaged): from the neighbour. */
  readonly expectedHeader?: SegmentHeader | null;
  readonly previousTerm?: Term;
  /** What comes after this offset is not looked at: a cut was begun. */
  readonly stopAfter?: Offset | null;
  readonly visit?: (frame: ScannedFrame) => void;
}

/**
 * Reads a whole segment and checks everything in it: header, every frame and its place in the chain, every batch's header and payload, the
 * footer. Where something is wrong it looks for the next frame that is good and belongs here, and goes on from there.
 */
export const scanSegment = (file: DiskFile, options: ScanOptions): SegmentScan => {
  const { group, base } = options;
  const window = new ScanWindow(file);
  const headerAt = window.at(0, SEGMENT_HEADER_BYTES);
  let header =
    headerAt < 0 ? null : decodeSegmentHeader(window.bytes.subarray(headerAt, headerAt + SEGMENT_HEADER_BYTES));
  if (header && (header.group !== group || header.base !== base)) header = null;
  const evidence: Evidence = {
    group,
    base,
    incarnation: (header ?? options.expectedHeader)?.incarnation ?? 0,
    durableBefore: 0,
  };

  let chain = (header ?? options.expectedHeader)?.crc ?? -1;
  let position = SEGMENT_HEADER_BYTES;
  let dataEnd = position;
  let lastOffset = asOffset(base - 1);
  let lastTerm = (header?.previousTerm ?? options.previousTerm ?? 0) as Term;
  let firstLogTime = asLogTime(0);
  let lastLogTime = header?.previousLogTime ?? asLogTime(0);
  let batches = 0;
  let footer: SegmentFooter | null = null;
  const termStarts: TermStartInLog[] = [];
  const gaps: SegmentGap[] = [];

  for (;;) {
    if (options.stopAfter != null && lastOffset >= options.stopAfter) break;
    let at = window.at(position, FRAME_HEADER_BYTES);
    const whole = at >= 0 && frameIsWhole(window.bytes, at);
    if (whole) witness(window.bytes, at, evidence, position);
    /** Batches are missing before a good one: in a segment written anew around damage that is still to be repaired. */
    let isHole = false;
    let problem =
      at < 0 ? 'the file ends within a frame' : framePlaceProblem(window.bytes, at, evidence, position, chain, whole);
    const length = problem === null ? frameBatchLength(window.bytes, at) : 0;
    if (problem === null) {
      at = window.at(position, FRAME_HEADER_BYTES + length);
      problem = at < 0 ? 'the file ends within a batch' : batchProblem(window.bytes, at, length);
      if (problem === null && batchFirstOffset(window.bytes, at + FRAME_HEADER_BYTES) !== lastOffset + 1) {
        problem = 'the batch does not continue the one before it';
        isHole = true;
      }
    }
    if (problem === null) {
      const batchAt = at + FRAME_HEADER_BYTES;
      const first = batchFirstOffset(window.bytes, batchAt);
      const term = batchTerm(window.bytes, batchAt);
      if (termStarts.length === 0 || term !== lastTerm) termStarts.push({ term, firstOffset: first });
      lastLogTime = batchLogTime(window.bytes, batchAt);
      if (batches === 0) firstLogTime = lastLogTime;
      lastTerm = term;
      lastOffset = batchLastOffset(window.bytes, batchAt);
      chain = frameCrc(window.bytes, at);
      batches++;
      options.visit?.({ position, end: position + FRAME_HEADER_BYTES + length, bytes: window.bytes, batchAt });
      position += FRAME_HEADER_BYTES + length;
      dataEnd = position;
      continue;
    }
    footer = footerAt(window, evidence, position, chain);
    if (footer) break;
    if (restIsZero(window, position)) break;

    const next = nextGood(window, evidence, isHole ? position : position + 1, lastOffset);
    if (next === null || (options.stopAfter != null && next.firstOffset > options.stopAfter)) {
      gaps.push({ position, resumesAt: null, fromOffset: asOffset(lastOffset + 1), toOffset: null, reason: problem });
      break;
    }
    gaps.push({
      position,
      resumesAt: next.position,
      fromOffset: asOffset(lastOffset + 1),
      toOffset: next.firstOffset,
      reason: problem,
    });
    position = next.position;
    chain = next.chain;
    lastOffset = asOffset(next.firstOffset - 1);
    if (next.footer) {
      footer = next.footer;
      dataEnd = position;
      lastTerm = footer.lastTerm;
      lastLogTime = footer.lastLogTime;
      break;
    }
  }
  return {
    header,
    incarnation: evidence.incarnation,
    dataEnd,
    chain,
    batches,
    lastOffset,
    lastTerm,
    firstLogTime,
    lastLogTime,
    termStarts,
    gaps,
    durableBefore: evidence.durableBefore,
    footer,
  };
};

/** What is wrong with the frame's 44 bytes; null when nothing is. `chain` −1: not known. */
export const frameProblem = (
  bytes: Buffer,
  at: number,
  identity: SegmentIdentity,
  position: number,
  chain: number,
): string | null => framePlaceProblem(bytes, at, identity, position, chain, frameIsWhole(bytes, at));

const framePlaceProblem = (
  bytes: Buffer,
  at: number,
  identity: SegmentIdentity,
  position: number,
  chain: number,
  whole: boolean,
): string | null => {
  if (!whole) {
    return isZero(bytes.subarray(at, at + FRAME_HEADER_BYTES))
      ? 'zeros where a frame should be'
      : 'the frame fails its checksum';
  }
  if (!frameBelongs(bytes, at, identity, position)) {
    const here = frameSegment(bytes, at) === identity.base && frameGroup(bytes, at) === identity.group;
    return here && framePosition(bytes, at) === position
      ? 'stale bytes: a frame of an earlier file of this name'
      : `misdirected: a frame of group ${frameGroup(bytes, at)}, segment ${frameSegment(bytes, at)}, position ${framePosition(bytes, at)}`;
  }
  if (frameBatchLength(bytes, at) < BATCH_HEADER_BYTES) return 'the frame holds no batch';
  if (chain !== -1 && framePrevious(bytes, at) !== chain)
    return 'stale bytes: the frame does not follow the one before it';
  return null;
};

/** What is wrong with the batch behind a good frame; null when nothing is. */
export const batchProblem = (bytes: Buffer, at: number, length: number): string | null => {
  const batchAt = at + FRAME_HEADER_BYTES;
  if (batchLength(bytes, batchAt) !== length) return 'the batch has another length than its frame says';
  if (readU32(bytes, batchAt + 8) !== frameBatchHeaderCrc(bytes, at))
    return 'the batch is not the one the frame was made for';
  if (!batchHeaderIsValid(bytes, batchAt)) return 'the batch header fails its checksum';
  if (!batchPayloadIsValid(bytes, batchAt)) return 'the batch payload fails its checksum';
  return null;
};

const footerAt = (
  window: ScanWindow,
  identity: SegmentIdentity,
  position: number,
  chain: number,
): SegmentFooter | null => {
  const rest = window.size - position;
  if (rest < footerBytes(0)) return null;
  const fixed = window.at(position, footerBytes(0));
  const length = readU32(window.bytes, fixed + 4);
  if (length > rest || length > 16 * 1024 * 1024) return null;
  const at = window.at(position, Math.max(length, footerBytes(0)));
  const footer = at < 0 ? null : decodeSegmentFooter(window.bytes, at);
  if (!footer || !footerBelongs(footer, identity, position)) return null;
  return chain === -1 || footer.previous === chain ? footer : null;
};

const restIsZero = (window: ScanWindow, from: number): boolean => {
  for (let position = from; position < window.size;) {
    const length = Math.min(ZEROS.length, window.size - position);
    const at = window.at(position, length);
    if (at < 0 || !isZero(window.bytes.subarray(at, at + length))) return false;
    position += length;
  }
  return true;
};

interface NextGood {
  readonly position: number;
  readonly firstOffset: Offset;
  /** What the frame found says came before it. */
  readonly chain: number;
  readonly footer: SegmentFooter | null;
}

/** What the frames themselves tell, also those whose batch is bad. */
interface Evidence extends SegmentIdentity {
  /** 0 until known: the header is damaged, and the first frame that says it belongs here tells. */
  incarnation: number;
  durableBefore: number;
}

/** Takes note of a whole frame that belongs at `position`; returns whether it does. */
const witness = (bytes: Buffer, at: number, evidence: Evidence, position: number): boolean => {
  if (evidence.incarnation === 0) {
    const incarnation = frameIncarnation(bytes, at);
    if (frameBelongs(bytes, at, { ...evidence, incarnation }, position)) evidence.incarnation = incarnation;
  }
  if (!frameBelongs(bytes, at, evidence, position)) return false;
  evidence.durableBefore = Math.max(evidence.durableBefore, frameWriteStart(bytes, at));
  return true;
};

/** The next frame that says of itself that it belongs here, or the footer. Its batch's payload is judged when the scan gets there. */
const nextGood = (window: ScanWindow, evidence: Evidence, from: number, after: Offset): NextGood | null => {
  const enough = FRAME_HEADER_BYTES + BATCH_HEADER_BYTES;
  for (let position = from; position + FRAME_HEADER_BYTES <= window.size;) {
    const length = Math.min(WINDOW_BYTES, window.size - position);
    const start = window.at(position, length);
    if (start < 0) return null;
    const view = window.bytes.subarray(start, start + length);
    for (let found = nextMagic(view, 0); found >= 0; found = nextMagic(view, found + 1)) {
      const candidate = position + found;
      if (view[found + 2] === FOOTER_MAGIC_BYTES[2]) {
        const footer = footerAt(window, evidence, candidate, -1);
        if (!footer || footer.lastOffset < after) continue;
        return { position: candidate, firstOffset: asOffset(footer.lastOffset + 1), chain: footer.previous, footer };
      }
      if (!frameIsWhole(view, found) || !witness(view, found, evidence, candidate)) continue;
      if (found + enough > view.length) continue;
      const batchAt = found + FRAME_HEADER_BYTES;
      if (readU32(view, batchAt + 8) !== frameBatchHeaderCrc(view, found) || !batchHeaderIsValid(view, batchAt))
        continue;
      const firstOffset = batchFirstOffset(view, batchAt);
      if (firstOffset <= after) continue;
      return { position: candidate, firstOffset, chain: framePrevious(view, found), footer: null };
    }
    if (position + length === window.size) return null;
    position += length - enough;
  }
  return null;
};

/** Where the next frame or footer may begin. */
const nextMagic = (bytes: Buffer, from: number): number => {
  for (let at = bytes.indexOf(MAGIC_PREFIX, from); at >= 0; at = bytes.indexOf(MAGIC_PREFIX, at + 1)) {
    const third = bytes[at + 2];
    if (third === FRAME_MAGIC_BYTES[2] && bytes[at + 3] === FRAME_MAGIC_BYTES[3]) return at;
    if (third === FOOTER_MAGIC_BYTES[2] && bytes[at + 3] === FOOTER_MAGIC_BYTES[3]) return at;
  }
  return -1;
};
const MAGIC_PREFIX = FRAME_MAGIC_BYTES.subarray(0, 2);
