import { assert } from '#kernel';
import { BlockAppender, isRefusal, openDirectSync, roundUp } from './block-appender.js';
import type { DiskCallback, DiskFile, FileSystem } from './file-system.js';
import type { LoopWrites } from './loop-writes.js';
import type { Segment } from './segment.js';

/** Zeros written at a time when preallocating through the page cache. */
const ZEROS = Buffer.alloc(256 * 1024);

/** Above this a write costs more than growing the file does, and writing everything twice costs more than it saves. */
const PREALLOCATED_WRITE_BYTES_MAX = 256 * 1024;

export interface PreallocationOptions {
  readonly segmentBytes: number;
  /** First step of a segment; steps double with what is written … */
  readonly preallocateFirstBytes: number;
  /** … up to this. */
  readonly preallocateBytes: number;
}

export interface SegmentWrite {
  readonly buffers: readonly Uint8Array[];
  readonly position: number;
  /** Of all buffers. */
  readonly length: number;
}

/**
 * Writes the last segment. Writing into blocks that are allocated and zero costs one disk write; growing a file costs a journal commit more
 * (measured: 0.17 ms against 0.33 ms). So zeros are laid out ahead, through a handle of their own, while data goes on being written
 * below them; data never enters a range that is being zeroed. Both go past the page cache where they can (block-appender.ts). A writer that catches
 * up, or writes a lot at a time, grows the file itself. A full disk stops the zeros, not the data.
 */
export class SegmentWriter {
  private readonly file: DiskFile;
  private readonly data: BlockAppender;
  private fillFile: DiskFile | null = null;
  /** Up to here the file has room that is zero or data. */
  private filledTo: number;
  private fillingFrom = -1;
  private zeros: Buffer = ZEROS;
  private fillStopped = false;
  private closed = false;
  /** A write or a wait for the zeros to end; at most one. */
  private blocked: (() => void) | null = null;

  constructor(
    private readonly fs: FileSystem,
    readonly segment: Segment,
    private readonly options: PreallocationOptions,
    private readonly onFailure: (error: Error) => void,
    loopWrites: LoopWrites | null = null,
  ) {
    this.file = segment.openSync(fs);
    this.data = BlockAppender.openSync(fs, this.file, { loopWrites });
    this.filledTo = this.wholeBlocks(Math.max(this.file.sizeSync(), segment.dataEnd));
  }

  /** Durable at `position` when done. `atOnce`: it may be when this returns. */
  write({ buffers, position, length }: SegmentWrite, done: DiskCallback, atOnce = false): void {
    const end = position + length;
    if (this.fillingFrom >= 0 && end > this.fillingFrom) {
      this.block(() => this.write({ buffers, position, length }, done));
      return;
    }
    this.filledTo = Math.max(this.filledTo, this.wholeBlocks(end));
    this.data.write(buffers, position, done, atOnce);
    if (length <= PREALLOCATED_WRITE_BYTES_MAX) this.fillAhead(end);
  }

  /** Cuts the file at `position`, durably: what was there reads as zeros ever after. */
  cut(position: number, done: DiskCallback): void {
    this.whenNotFilling(() => {
      try {
        this.file.truncateSync(position);
      } catch (error) {
        return done(error as Error);
      }
      this.data.forget();
      this.filledTo = this.wholeBlocks(position);
      this.file.sync(done);
    });
  }

  /** Ends the segment with its footer and gives back the room behind it. */
  seal(done: DiskCallback): void {
    this.whenNotFilling(() => {
      const footer = this.segment.footer();
      this.data.write([footer], this.segment.dataEnd, (error) => {
        if (error) done(error);
        else this.cut(this.segment.dataEnd + footer.length, done);
      });
    });
  }

  whenNotFilling(then: () => void): void {
    if (this.fillingFrom < 0) then();
    else this.block(then);
  }

  /** Call when nothing is being filled. The data handle belongs to the segment. */
  closeSync(): void {
    this.closed = true;
    this.data.closeSync();
    this.fillFile?.closeSync();
    this.fillFile = null;
  }

  /** Zeros begin and end with a block, and so behind the one that the data ends in. */
  private wholeBlocks(position: number): number {
    return roundUp(position, this.data.blockBytes);
  }

  private block(then: () => void): void {
    assert(this.blocked === null, 'one operation waits for a segment');
    this.blocked = then;
  }

  private fillAhead(dataEnd: number): void {
    const { segmentBytes, preallocateFirstBytes, preallocateBytes } = this.options;
    if (this.fillingFrom >= 0 || this.fillStopped || this.closed || this.filledTo >= segmentBytes) return;
    const step = Math.min(preallocateBytes, Math.max(preallocateFirstBytes, dataEnd));
    if (step === 0 || this.filledTo - dataEnd > step / 2) return;
    const to = this.wholeBlocks(Math.min(segmentBytes, this.filledTo + step));
    this.fillingFrom = this.filledTo;
    try {
      this.fillFile ??= this.openFillSync();
    } catch (error) {
      return this.filled(this.fillingFrom, error as Error);
    }
    this.fill(this.fillFile, this.fillingFrom, to);
  }

  private openFillSync(): DiskFile {
    const staging = this.data.blockBytes > 1 ? this.fs.staging?.() : null;
    const direct = staging ? openDirectSync(this.fs, this.segment.path, { synced: false }) : null;
    this.zeros = direct ? staging!.zeros : ZEROS;
    return direct ?? this.fs.openSync(this.segment.path, {});
  }

  private fill(file: DiskFile, from: number, to: number): void {
    if (from >= to) {
      file.sync((error) => this.filled(to, error));
      return;
    }
    const { zeros } = this;
    const length = Math.min(zeros.length, to - from);
    file.write([length === zeros.length ? zeros : zeros.subarray(0, length)], from, (error) => {
      if (error) this.filled(from, error);
      else this.fill(file, from + length, to);
    });
  }

  private filled(to: number, error: Error | null): void {
    this.fillingFrom = -1;
    if (error && isRefusal(error) && this.zeros !== ZEROS) {
      // No direct writes here after all; the data will find that, too, and the zeros go the other way from then on.
      this.fillFile?.closeSync();
      this.fillFile = null;
    } else if (error) {
      this.fillStopped = true;
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOSPC' && code !== 'EDQUOT') this.onFailure(error);
    } else if (to > this.filledTo) this.filledTo = to;
    const { blocked } = this;
    this.blocked = null;
    blocked?.();
  }
}
