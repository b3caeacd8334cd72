import { batchFirstOffset, batchLastOffset, batchLogTime, batchTerm } from '#wire';
import { asLogTime, asOffset, readU32, type GroupId, type LogTime, type Offset, type Term } from '#kernel';
import type { DiskFile, FileSystem } from './file-system.js';
import { OffsetIndex, indexPath, timeIndexPath } from './offset-index.js';
import type { TermStartInLog } from './partition-log.js';
import {
  FRAME_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  encodeSegmentFooter,
  encodeSegmentHeader,
  segmentFileName,
  type SegmentFooter,
  type SegmentHeader,
  type SegmentIdentity,
} from './segment-format.js';
import type { SegmentScan } from './segment-scan.js';

/** Positions a sequential reader goes on from, remembered per segment. */
const CURSORS_MAX = 32;

/** What is known in memory of one segment file. */
export class Segment implements SegmentIdentity {
  incarnation: number;
  previousTerm: Term;
  previousLogTime: LogTime;
  /** End of the last frame. */
  dataEnd = SEGMENT_HEADER_BYTES;
  /** crc of the last frame, of the header when there is none. */
  chain: number;
  lastOffset: Offset;
  lastTerm: Term;
  firstLogTime: LogTime = asLogTime(0);
  lastLogTime: LogTime;
  batches = 0;
  termStarts: TermStartInLog[] = [];
  sealed = false;
  index: OffsetIndex | null = null;

  private file: DiskFile | null = null;
  private readers = 0;
  private retired = false;
  private readonly cursors = new Map<Offset, number>();
  /** Rises with use; the least recently used open file is closed first. */
  lastUse = 0;

  constructor(
    readonly group: GroupId,
    readonly base: Offset,
    readonly path: string,
    header: Pick<SegmentHeader, 'incarnation' | 'previousTerm' | 'previousLogTime' | 'crc'>,
  ) {
    this.incarnation = header.incarnation;
    this.previousTerm = header.previousTerm;
    this.previousLogTime = header.previousLogTime;
    this.chain = header.crc;
    this.lastOffset = asOffset(base - 1);
    this.lastTerm = header.previousTerm;
    this.lastLogTime = header.previousLogTime;
  }

  /** A new file, whole under its name when this returns. Its handle is open for synced writing. */
  static createSync(
    fs: FileSystem,
    directory: string,
    start: SegmentIdentity & { readonly previousTerm: Term; readonly previousLogTime: LogTime },
    intervalBytes: number,
  ): Segment {
    const path = `${directory}/${segmentFileName(start.base)}`;
    const bytes = encodeSegmentHeader(start);
    const aside = fs.openSync(`${path}.tmp`, { create: true, synced: true });
    aside.truncateSync(0);
    aside.writeSync(bytes, 0);
    aside.closeSync();
    fs.renameSync(`${path}.tmp`, path);
    fs.syncDirectorySync(directory);
    const segment = new Segment(start.group, start.base, path, { ...start, crc: readU32(bytes, 60) });
    segment.index = new OffsetIndex(intervalBytes);
    segment.file = fs.openSync(path, { synced: true });
    return segment;
  }

  takeScan(scan: SegmentScan): void {
    this.incarnation = scan.incarnation;
    this.dataEnd = scan.dataEnd;
    if (scan.chain !== -1) this.chain = scan.chain;
    this.lastOffset = scan.lastOffset;
    this.lastTerm = scan.lastTerm;
    this.firstLogTime = scan.firstLogTime;
    this.lastLogTime = scan.lastLogTime;
    this.batches = scan.batches;
    this.termStarts = [...scan.termStarts];
  }

  takeFooter(footer: SegmentFooter): void {
    this.dataEnd = footer.position;
    this.chain = footer.previous;
    this.lastOffset = footer.lastOffset;
    this.lastTerm = footer.lastTerm;
    this.firstLogTime = footer.firstLogTime;
    this.lastLogTime = footer.lastLogTime;
    this.batches = footer.batches;
    this.termStarts = [...footer.termStarts];
    this.sealed = true;
  }

  /** The batch was put behind the last one; its frame has this crc. */
  appended(batch: Uint8Array, crc: number): void {
    const first = batchFirstOffset(batch);
    const logTime = batchLogTime(batch);
    const term = batchTerm(batch);
    const end = this.dataEnd + FRAME_HEADER_BYTES + batch.length;
    this.index?.add(first, { position: this.dataEnd, end }, logTime);
    if (this.batches === 0) this.firstLogTime = logTime;
    if (this.batches === 0 || term !== this.lastTerm) this.termStarts.push({ term, firstOffset: first });
    this.batches++;
    this.chain = crc;
    this.dataEnd = end;
    this.lastOffset = batchLastOffset(batch);
    this.lastTerm = term;
    this.lastLogTime = logTime;
  }

  /** The same segment with a handle of its own. */
  copy(): Segment {
    const same = new Segment(this.group, this.base, this.path, { ...this, crc: this.chain });
    same.dataEnd = this.dataEnd;
    same.lastOffset = this.lastOffset;
    same.lastTerm = this.lastTerm;
    same.firstLogTime = this.firstLogTime;
    same.lastLogTime = this.lastLogTime;
    same.batches = this.batches;
    same.termStarts = [...this.termStarts];
    same.sealed = this.sealed;
    same.index = this.index;
    return same;
  }

  footer(): Buffer {
    return encodeSegmentFooter({
      group: this.group,
      base: this.base,
      incarnation: this.incarnation,
      position: this.dataEnd,
      previous: this.chain,
      lastOffset: this.lastOffset,
      lastTerm: this.lastTerm,
      batches: this.batches,
      firstLogTime: this.firstLogTime,
      lastLogTime: this.lastLogTime,
      termStarts: this.termStarts,
    });
  }

  /** Where to start looking for `offset`. */
  positionFor(offset: Offset): number {
    return this.cursors.get(offset) ?? this.index?.positionAtOrBelow(offset) ?? SEGMENT_HEADER_BYTES;
  }

  rememberCursor(offset: Offset, position: number): void {
    if (this.cursors.size >= CURSORS_MAX) this.cursors.delete(this.cursors.keys().next().value!);
    this.cursors.set(offset, position);
  }

  forgetCursors(): void {
    this.cursors.clear();
  }

  /* ---- the handle: opened when needed, closed when nobody reads ---- */

  get isOpen(): boolean {
    return this.file !== null;
  }

  get isBusy(): boolean {
    return this.readers > 0;
  }

  openSync(fs: FileSystem): DiskFile {
    this.file ??= fs.openSync(this.path, this.sealed ? { readOnly: true } : { synced: true });
    return this.file;
  }

  acquire(fs: FileSystem): DiskFile {
    const file = this.openSync(fs);
    this.readers++;
    return file;
  }

  release(): void {
    this.readers--;
    if (this.retired && this.readers === 0) this.closeSync();
  }

  /** The file goes away or is replaced: closes when the last reader is done. */
  retire(): void {
    this.retired = true;
    if (this.readers === 0) this.closeSync();
  }

  closeSync(): void {
    this.file?.closeSync();
    this.file = null;
  }

  unlinkSync(fs: FileSystem): void {
    for (const path of [indexPath(this.path), timeIndexPath(this.path), this.path]) {
      if (fs.existsSync(path)) fs.unlinkSync(path);
    }
  }
}
