import { assert, asOffset, type GroupId, type Offset } from '#kernel';
import { batchFirstOffset, batchLastOffset, batchLogTime, batchTerm } from '#wire';
import type { Damage } from './damage.js';
import type { FileSystem } from './file-system.js';
import { walkFrames } from './frame-walk.js';
import { OffsetIndex, indexPath } from './offset-index.js';
import { rebuildIndex } from './recovery.js';
import { FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, frameBatchLength, frameCrc } from './segment-format.js';
import { scanSegment, type SegmentScan } from './segment-scan.js';
import type { Segment } from './segment.js';

/** Sealed segments whose files stay open for readers. */
const OPEN_SEALED_MAX = 8;
/** Sealed segments whose index stays in memory. */
const LOADED_INDEXES_MAX = 64;

export interface SegmentPlace {
  readonly fs: FileSystem;
  readonly directory: string;
  readonly group: GroupId;
  readonly indexIntervalBytes: number;
}

/** The segments of a log in order, their indexes and open files. */
export class SegmentList {
  /** Rises whenever bytes that were part of the log stop being so: a read begun before may have seen them go. */
  epoch = 0;
  private uses = 0;

  constructor(
    private readonly place: SegmentPlace,
    private readonly damage: Damage,
    public all: Segment[],
  ) {}

  get last(): Segment | undefined {
    return this.all[this.all.length - 1];
  }

  get byteLength(): number {
    let bytes = 0;
    for (const segment of this.all) bytes += segment.dataEnd;
    return bytes;
  }

  /** Index of the segment that holds `offset`: the last one that begins at or below it; −1 when there is none. */
  find(offset: Offset): number {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.all[middle].base <= offset) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  indexOf(segment: Segment): OffsetIndex {
    segment.lastUse = ++this.uses;
    if (segment.index) return segment.index;
    segment.index = OffsetIndex.loadSync(this.place.fs, segment.path, segment, this.place.indexIntervalBytes);
    if (segment.index === null) {
      rebuildIndex(this.place, segment);
      this.damage.findings.push({ kind: 'index-rebuilt', file: indexPath(segment.path) });
    }
    const loaded = this.all.filter((other) => other.sealed && other.index !== null && other !== segment);
    if (loaded.length >= LOADED_INDEXES_MAX) leastUsed(loaded).index = null;
    return segment.index!;
  }

  saveIndex(segment: Segment): void {
    try {
      segment.index?.saveSync(this.place.fs, segment.path, segment);
    } catch {
      // A cache: made again when it is missed.
    }
  }

  /** Call after a sealed segment was opened. */
  limitOpen(): void {
    const open = this.all.filter((segment) => segment.sealed && segment.isOpen && !segment.isBusy);
    if (open.length > OPEN_SEALED_MAX) leastUsed(open).closeSync();
  }

  /** Removes the files of segments that are no longer in the list, in the order given. */
  removeFiles(gone: readonly Segment[]): void {
    for (const segment of gone) {
      segment.retire();
      segment.unlinkSync(this.place.fs);
    }
    if (gone.length > 0) this.place.fs.syncDirectorySync(this.place.directory);
  }

  /** A read met damage up to `durable`: the whole segment is looked at, so that the owner knows what to repair and readers find around it. */
  examine(segment: Segment, durable: Offset): SegmentScan {
    const { fs, group, indexIntervalBytes } = this.place;
    const index = new OffsetIndex(indexIntervalBytes);
    // What is being written at the moment is nobody's to judge. A sealed segment is written, whatever the watermark, which is saved late, says.
    const end = segment.sealed ? segment.lastOffset : asOffset(Math.min(segment.lastOffset, durable));
    const file = fs.openSync(segment.path, { readOnly: true });
    try {
      const scan = scanSegment(file, {
        group,
        base: segment.base,
        stopAfter: end,
        visit: (frame) => {
          const { bytes, batchAt } = frame;
          index.add(batchFirstOffset(bytes, batchAt), frame, batchLogTime(bytes, batchAt));
        },
      });
      segment.index = index;
      for (const { fromOffset, toOffset, position, reason } of scan.gaps) {
        const to = asOffset(Math.min(toOffset ?? end + 1, end + 1));
        if (fromOffset >= to) continue;
        this.damage.note({ kind: 'corruption', file: segment.path, position, fromOffset, toOffset: to, reason });
      }
      return scan;
    } finally {
      file.closeSync();
    }
  }

  /**
   * The segment as it is when the frames after `after` are gone; a sealed one becomes writable again. The file is not touched.
   * @throws TidelineError `storage-damaged` when the place of the cut cannot be found
   */
  shorten(segment: Segment, after: Offset): Segment {
    const index = this.indexOf(segment);
    const file = segment.openSync(this.place.fs);
    const from = index.positionAtOrBelow(after) ?? SEGMENT_HEADER_BYTES;
    let dropped = 0;
    const kept = {
      end: SEGMENT_HEADER_BYTES,
      chain: -1,
      offset: asOffset(segment.base - 1),
      term: segment.previousTerm,
      time: segment.previousLogTime,
    };
    const stopped = walkFrames(file, segment, { from, to: segment.dataEnd }, (bytes, at, position) => {
      const batchAt = at + FRAME_HEADER_BYTES;
      if (batchFirstOffset(bytes, batchAt) > after) {
        dropped++;
        return true;
      }
      kept.end = position + FRAME_HEADER_BYTES + frameBatchLength(bytes, at);
      kept.chain = frameCrc(bytes, at);
      kept.offset = batchLastOffset(bytes, batchAt);
      kept.term = batchTerm(bytes, batchAt);
      kept.time = batchLogTime(bytes, batchAt);
      return true;
    });
    if (kept.offset < after && stopped < segment.dataEnd && dropped === 0) throw this.damage.errorAt(after);
    assert(kept.offset === after, 'the log is cut between batches');
    const target = segment.sealed ? this.reopen(segment) : segment;
    target.dataEnd = kept.end;
    target.chain = kept.chain;
    target.lastOffset = kept.offset;
    target.lastTerm = kept.term;
    target.lastLogTime = kept.time;
    target.batches -= dropped;
    target.termStarts = segment.termStarts.filter((start) => start.firstOffset <= after);
    target.index = index;
    index.truncateAfter(after);
    target.forgetCursors();
    return target;
  }

  /** A fresh handle for a sealed segment that is written again; readers of the old one finish undisturbed. */
  private reopen(segment: Segment): Segment {
    const open = segment.copy();
    open.sealed = false;
    this.all[this.all.indexOf(segment)] = open;
    segment.retire();
    return open;
  }
}

const leastUsed = (segments: readonly Segment[]): Segment =>
  segments.reduce((least, segment) => (segment.lastUse < least.lastUse ? segment : least));
