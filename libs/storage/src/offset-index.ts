import { crc32 } from 'node:zlib';
import { asLogTime, asOffset, readU32, readU64, writeU32, writeU64, type LogTime, type Offset } from '#kernel';
import type { FileSystem } from './file-system.js';
import type { SegmentIdentity } from './segment-format.js';

/**
 * Sparse index of a segment: one entry about every `intervalBytes` of frames. Kept in memory for the segment being written, saved when it is
 * sealed as two caches beside it, rebuilt from the segment when missing or bad, never trusted: a frame found through it is
 * checked like any other.
 *
 *     file = u32 magic ("TLIX" `.index`, "TLTX" `.timeindex`) · u32 version (1) · u32 group · u32 incarnation · u64 segment
 *            u32 footerPosition · u32 count · count × entry · u32 crc of all before
 *     entry of `.index`      u32 offset − segment · u32 position of its frame
 *     entry of `.timeindex`  u64 log time of the batch · u32 offset − segment
 */
const INDEX_MAGIC = 0x58494c54;
const TIME_INDEX_MAGIC = 0x58544c54;
const INDEX_VERSION = 1;
const FIXED_BYTES = 32;
/** 64 MiB of frames at the default interval give 2048 entries; a file that claims more than this is bad. */
const ENTRIES_MAX = 1 << 20;

export interface IndexedPlace extends SegmentIdentity {
  /** Where the frames end. */
  readonly dataEnd: number;
}

const seal = (magic: number, place: IndexedPlace, count: number, entryBytes: number): Buffer => {
  const bytes = Buffer.alloc(FIXED_BYTES + count * entryBytes + 4);
  writeU32(bytes, 0, magic);
  writeU32(bytes, 4, INDEX_VERSION);
  writeU32(bytes, 8, place.group);
  writeU32(bytes, 12, place.incarnation);
  writeU64(bytes, 16, place.base);
  writeU32(bytes, 24, place.dataEnd);
  writeU32(bytes, 28, count);
  return bytes;
};

const unsealed = (bytes: Buffer, magic: number, place: IndexedPlace, entryBytes: number): number | null => {
  if (bytes.length < FIXED_BYTES + 4 || readU32(bytes, 0) !== magic || readU32(bytes, 4) !== INDEX_VERSION) return null;
  const count = readU32(bytes, 28);
  if (count > ENTRIES_MAX || bytes.length !== FIXED_BYTES + count * entryBytes + 4) return null;
  if (readU32(bytes, bytes.length - 4) !== crc32(bytes.subarray(0, bytes.length - 4))) return null;
  const same =
    readU32(bytes, 8) === place.group &&
    readU32(bytes, 12) === place.incarnation &&
    readU64(bytes, 16) === place.base &&
    readU32(bytes, 24) === place.dataEnd;
  return same ? count : null;
};

export class OffsetIndex {
  private offsets: number[] = [];
  private positions: number[] = [];
  private times: number[] = [];
  private end = 0;

  constructor(private readonly intervalBytes: number) {}

  get size(): number {
    return this.offsets.length;
  }

  /** Told of every frame in order; keeps one in a while, and the first after damage, so that no search has to cross it. */
  add(offset: Offset, place: { readonly position: number; readonly end: number }, logTime: LogTime): void {
    const { position } = place;
    const count = this.positions.length;
    const follows = position === this.end;
    this.end = place.end;
    if (follows && count > 0 && position - this.positions[count - 1] < this.intervalBytes) return;
    this.offsets.push(offset);
    this.positions.push(position);
    this.times.push(logTime);
  }

  /** Position of the last entry at or below `offset`; null when there is none. */
  positionAtOrBelow(offset: Offset): number | null {
    const at = lastAtOrBelow(this.offsets, offset);
    return at < 0 ? null : this.positions[at];
  }

  /** Offset of the last entry whose log time is below `time`; null when there is none. */
  offsetBefore(time: LogTime): Offset | null {
    const at = lastAtOrBelow(this.times, time - 1);
    return at < 0 ? null : asOffset(this.offsets[at]);
  }

  truncateAfter(offset: Offset): void {
    const keep = lastAtOrBelow(this.offsets, offset) + 1;
    this.offsets.length = keep;
    this.positions.length = keep;
    this.times.length = keep;
  }

  /** Not synced: it is a cache. Errors are the caller's to ignore. */
  saveSync(fs: FileSystem, segmentPath: string, place: IndexedPlace): void {
    const count = this.offsets.length;
    const index = seal(INDEX_MAGIC, place, count, 8);
    const times = seal(TIME_INDEX_MAGIC, place, count, 12);
    for (let i = 0; i < count; i++) {
      writeU32(index, FIXED_BYTES + i * 8, this.offsets[i] - place.base);
      writeU32(index, FIXED_BYTES + i * 8 + 4, this.positions[i]);
      writeU64(times, FIXED_BYTES + i * 12, this.times[i]);
      writeU32(times, FIXED_BYTES + i * 12 + 8, this.offsets[i] - place.base);
    }
    write(fs, indexPath(segmentPath), index);
    write(fs, timeIndexPath(segmentPath), times);
  }

  /** null when a file is missing, bad, or of another segment. */
  static loadSync(fs: FileSystem, segmentPath: string, place: IndexedPlace, intervalBytes: number): OffsetIndex | null {
    const index = read(fs, indexPath(segmentPath));
    const times = read(fs, timeIndexPath(segmentPath));
    const count = index && unsealed(index, INDEX_MAGIC, place, 8);
    if (index === null || times === null || count === null) return null;
    if (unsealed(times, TIME_INDEX_MAGIC, place, 12) !== count) return null;
    const loaded = new OffsetIndex(intervalBytes);
    for (let i = 0; i < count; i++) {
      loaded.offsets.push(place.base + readU32(index, FIXED_BYTES + i * 8));
      loaded.positions.push(readU32(index, FIXED_BYTES + i * 8 + 4));
      loaded.times.push(asLogTime(readU64(times, FIXED_BYTES + i * 12)));
    }
    return loaded;
  }
}

export const indexPath = (segmentPath: string): string => segmentPath.replace(/\.log$/, '.index');
export const timeIndexPath = (segmentPath: string): string => segmentPath.replace(/\.log$/, '.timeindex');

const lastAtOrBelow = (ascending: readonly number[], value: number): number => {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
};

const write = (fs: FileSystem, path: string, bytes: Buffer): void => {
  writeU32(bytes, bytes.length - 4, crc32(bytes.subarray(0, bytes.length - 4)));
  const file = fs.openSync(path, { create: true });
  try {
    file.truncateSync(0);
    file.writeSync(bytes, 0);
  } finally {
    file.closeSync();
  }
};

const read = (fs: FileSystem, path: string): Buffer | null => {
  if (!fs.existsSync(path)) return null;
  try {
    const file = fs.openSync(path, { readOnly: true });
    try {
      const size = file.sizeSync();
      return size > FIXED_BYTES + ENTRIES_MAX * 12 + 4 ? null : file.readSync(size, 0);
    } finally {
      file.closeSync();
    }
  } catch {
    return null;
  }
};
