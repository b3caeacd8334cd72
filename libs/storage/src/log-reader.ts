import { TidelineError, asOffset, type LogTime, type Offset, type Scheduler } from '#kernel';
import {
  BATCH_HEADER_BYTES,
  batchControlPayload,
  batchFirstOffset,
  batchIsControl,
  batchLastOffset,
  batchLogTime,
  forEachBatch,
} from '#wire';
import type { Damage } from './damage.js';
import type { FileSystem } from './file-system.js';
import { walkFrames } from './frame-walk.js';
import { FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, frameBatchLength } from './segment-format.js';
import type { SegmentList } from './segment-list.js';
import { readSegment, type SegmentReadRequest } from './segment-read.js';
import type { TailCache } from './tail-cache.js';

/** A read that does not check out is tried again: with a fresh index, then with an examined segment. */
const READ_ATTEMPTS_MAX = 3;
/** Bytes looked at in one step when an offset is sought by time. */
const TIME_SEARCH_BYTES = 64 * 1024;

export type ReadCallback = (error: Error | null, batches: Buffer) => void;

/** Where the log begins and ends at the moment. */
export interface LogExtent {
  readonly baseOffset: Offset;
  readonly lastOffset: Offset;
  readonly durableOffset: Offset;
}

export interface ReaderParts {
  readonly fs: FileSystem;
  readonly scheduler: Scheduler;
  readonly segments: SegmentList;
  readonly damage: Damage;
  readonly tail: TailCache;
  readonly extent: LogExtent;
  readonly indexIntervalBytes: number;
}

/** The reading half of a partition log; contract at PartitionLog. */
export class LogReader {
  private inFlight = 0;
  private onIdle: (() => void) | null = null;

  constructor(private readonly parts: ReaderParts) {}

  /** Calls back when no read of the disk is in flight. */
  whenIdle(then: () => void): void {
    if (this.inFlight === 0) then();
    else this.onIdle = then;
  }

  read(request: SegmentReadRequest, done: ReadCallback): void {
    this.attempt(request, 1, done);
  }

  private attempt(request: SegmentReadRequest, attempt: number, done: ReadCallback): void {
    const { scheduler, damage, tail, extent } = this.parts;
    const { from, bytesMax } = request;
    const answer = (error: Error | null, batches: Buffer): void => scheduler.defer(() => done(error, batches));
    if (from <= extent.baseOffset) {
      const details = { logStart: extent.baseOffset + 1, lastOffset: extent.lastOffset };
      const message = `offset ${from} is below the log start ${details.logStart}`;
      return answer(new TidelineError('offset-out-of-range', message, { details }), EMPTY);
    }
    if (damage.has(from)) return answer(damage.errorAt(from), EMPTY);
    const to = damage.goodUntil(from, asOffset(Math.min(request.to, extent.lastOffset)));
    if (from > to) return answer(null, EMPTY);
    if (from >= tail.firstOffset) return answer(null, tail.read(from, to, bytesMax));
    this.fromDisk({ from, to, bytesMax }, attempt, done);
  }

  private fromDisk(request: SegmentReadRequest, attempt: number, done: ReadCallback): void {
    const { fs, scheduler, segments, damage, extent } = this.parts;
    const segment = segments.all[segments.find(request.from)];
    const { epoch } = segments;
    this.inFlight++;
    const finish = (error: Error | null, batches: Buffer): void => {
      this.inFlight--;
      done(error, batches);
      if (this.inFlight > 0 || !this.onIdle) return;
      const idle = this.onIdle;
      this.onIdle = null;
      idle();
    };
    const wasOpen = segment.isOpen;
    let file;
    try {
      segments.indexOf(segment);
      file = segment.acquire(fs);
    } catch (error) {
      scheduler.defer(() => finish(error as Error, EMPTY));
      return;
    }
    readSegment(file, segment, request, this.parts.indexIntervalBytes, (error, result) => {
      segment.release();
      if (!wasOpen && segment.sealed) segments.limitOpen();
      if (error) return finish(error, EMPTY);
      if (result && 'batches' in result) return finish(null, result.batches);
      if (attempt >= READ_ATTEMPTS_MAX) return finish(damage.errorAt(request.from), EMPTY);
      // The log may have changed under the read, or a cursor or the index may be wrong. If that is not it, it is the segment.
      segment.forgetCursors();
      if (segments.epoch === epoch) {
        if (attempt === 1) segment.index = segment.sealed ? null : segment.index;
        else {
          try {
            segments.examine(segment, extent.durableOffset);
          } catch (failure) {
            return finish(failure as Error, EMPTY);
          }
        }
      }
      this.attempt(request, attempt + 1, finish);
    });
  }

  offsetAtTime(time: LogTime, done: (error: Error | null, offset: Offset) => void): void {
    const { scheduler, segments, extent } = this.parts;
    const after = asOffset(extent.lastOffset + 1);
    const holder = segments.all.find(
      (segment) => segment.lastOffset > extent.baseOffset && segment.lastLogTime >= time,
    );
    if (!holder) return scheduler.defer(() => done(null, after));
    let start: Offset;
    try {
      start = segments.indexOf(holder).offsetBefore(time) ?? holder.base;
    } catch (error) {
      return scheduler.defer(() => done(error as Error, after));
    }
    const search = (from: Offset): void => {
      this.read({ from, to: extent.lastOffset, bytesMax: TIME_SEARCH_BYTES }, (error, batches) => {
        if (error) return done(error, from);
        let found: Offset | null = null;
        let next = from;
        forEachBatch(batches, (batchAt) => {
          if (found === null && batchLogTime(batches, batchAt) >= time) found = batchFirstOffset(batches, batchAt);
          next = asOffset(batchLastOffset(batches, batchAt) + 1);
        });
        if (found !== null) done(null, found);
        else if (next === from) done(null, asOffset(extent.lastOffset + 1));
        else search(next);
      });
    };
    search(asOffset(Math.max(start, extent.baseOffset + 1)));
  }

  scanHeadersSync(from: Offset, visit: (header: Buffer, controlPayload: Buffer | null) => void): void {
    const { fs, segments, extent } = this.parts;
    const start = asOffset(Math.max(from, extent.baseOffset + 1));
    if (start > extent.lastOffset) return;
    for (const segment of segments.all.slice(Math.max(segments.find(start), 0))) {
      const index = segments.indexOf(segment);
      const file = segment.acquire(fs);
      try {
        let position = index.positionAtOrBelow(start) ?? SEGMENT_HEADER_BYTES;
        while (position < segment.dataEnd) {
          position = walkFrames(file, segment, { from: position, to: segment.dataEnd }, (bytes, at) => {
            const batchAt = at + FRAME_HEADER_BYTES;
            if (batchLastOffset(bytes, batchAt) < start) return true;
            const isControl = batchIsControl(bytes, batchAt);
            const length = isControl ? frameBatchLength(bytes, at) : BATCH_HEADER_BYTES;
            const header = bytes.subarray(batchAt, batchAt + length);
            visit(header, isControl ? (batchControlPayload(header) as Buffer) : null);
            return true;
          });
          if (position >= segment.dataEnd) break;
          // Damage: reported when the log was opened or now, and passed over.
          const { gaps } = segments.examine(segment, extent.durableOffset);
          const gap = gaps.find(({ resumesAt }) => resumesAt !== null && resumesAt > position);
          if (!gap) break;
          position = gap.resumesAt!;
        }
      } finally {
        segment.release();
      }
      segments.limitOpen();
    }
  }
}

const EMPTY = Buffer.alloc(0);
