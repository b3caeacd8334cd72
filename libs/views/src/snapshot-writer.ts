import { crc32 } from 'node:zlib';
import { ByteWriter, assert, type LogTime, type Offset } from '#kernel';
import { crc32Combine } from './crc32-combine.js';
import { EntryRun, type FrozenSlot } from './frozen-slot.js';
import type { KeptResult } from './result-ring.js';
import { CHUNK_BYTES_MAX } from './slot.js';
import {
  CRC_BYTES,
  MAGIC,
  SECTION_HEAD_BYTES,
  Section,
  VERSION,
  addSection,
  beginSection,
  endSection,
  writeEnd,
  type SlotPlace,
  type SnapshotTable,
} from './snapshot-v2.js';
import { copyBytes } from './stored-entry.js';

/** Size of the blocks a writer yields, unless one entry is larger. */
export const SNAPSHOT_BLOCK_BYTES = 1024 * 1024;
/** Of a section of results, about. */
const RESULTS_BYTES = 128 * 1024;
/** Of a stored result without its texts, about. */
const RESULT_BYTES = 48;

/** Of the body of a slot section. */
const SLOT_BYTES_MAX = 32;

/** What a view gives away to be written while it goes on. */
export interface FrozenView {
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly malformedCount: number;
  readonly contentTypes: readonly string[];
  readonly dataTypes: readonly string[];
  readonly evictedThrough: Offset;
  readonly results: readonly KeptResult[];
  readonly slots: readonly FrozenSlot[];
}

interface ByteRange {
  readonly position: number;
  readonly bytes: number;
  readonly crc: number;
}

/**
 * Iterates over the bytes of a snapshot in blocks of about SNAPSHOT_BLOCK_BYTES; making one takes a bounded time. A block is good until the next is
 * asked for, which is made in the same memory. Iterate once.
 *
 * Each byte of an entry is copied once, with its neighbours, and gone through once for a checksum, that of its section; those of slot and file are
 * put together from these.
 */
export class SnapshotWriter implements Iterable<Buffer> {
  private readonly run = new EntryRun();
  private out = new ByteWriter(SNAPSHOT_BLOCK_BYTES);
  /** In earlier blocks. */
  private yielded = 0;
  /** Of the preamble or slot at hand: where it began, and the checksum of its sections so far. */
  private rangeBegin = 0;
  private rangeCrc = 0;
  private fileCrc = 0;
  private written: SnapshotTable | null = null;

  constructor(private readonly view: FrozenView) {}

  /** The view's position when it was frozen. */
  get offset(): Offset {
    return this.view.offset;
  }

  get logTime(): LogTime {
    return this.view.logTime;
  }

  get entries(): number {
    return this.view.slots.reduce((sum, slot) => sum + slot.count, 0);
  }

  /** When everything was iterated over. */
  get table(): SnapshotTable {
    assert(this.written !== null, 'a snapshot is not written to its end');
    return this.written;
  }

  /** CRC-32 of all blocks, when everything was iterated over. */
  get checksum(): number {
    assert(this.written !== null, 'a snapshot is not written to its end');
    return this.fileCrc;
  }

  /** Lets go of the frozen state when it is not iterated to the end. */
  release(): void {
    for (const slot of this.view.slots) slot.release();
  }

  *[Symbol.iterator](): Generator<Buffer, void, undefined> {
    const { view } = this;
    try {
      this.writeHead();
      const { results } = view;
      let at = 0;
      do {
        const until = endOfSection(results, at);
        this.writeResults(results.slice(at, until));
        at = until;
        if (this.out.position >= SNAPSHOT_BLOCK_BYTES / 2) yield* this.block();
      } while (at < results.length);
      const preamble = this.endRange();
      const places: SlotPlace[] = [];
      for (const slot of view.slots) {
        if (!this.fits(SLOT_BYTES_MAX)) yield* this.block();
        this.writeSlot(slot);
        yield* this.entriesOf(slot);
        const digest = { digestA: slot.digestA >>> 0, digestB: slot.digestB >>> 0 };
        places.push({ slot: slot.number, ...this.endRange(), entries: slot.count, ...digest });
      }
      this.writeEnd({ preambleBytes: preamble.bytes, preambleCrc: preamble.crc, slots: places });
      yield* this.block();
    } finally {
      this.release();
    }
  }

  /** What is written so far; what follows goes where it was. */
  private *block(): Generator<Buffer, void, undefined> {
    const { out } = this;
    yield out.finish();
    this.yielded += out.position;
    // One that had to grow for a large entry is not kept.
    if (out.buffer.length > SNAPSHOT_BLOCK_BYTES) this.out = new ByteWriter(SNAPSHOT_BLOCK_BYTES);
    else out.position = 0;
  }

  private get position(): number {
    return this.yielded + this.out.position;
  }

  /** A section is over: its checksum becomes part of that of its range. */
  private end(start: number): void {
    const { out } = this;
    const bodyEnd = out.position;
    const crc = endSection(out, start);
    const { buffer, position } = out;
    const ends = [buffer.subarray(start, start + 4), buffer.subarray(bodyEnd, position)] as const;
    this.rangeCrc = addSection(this.rangeCrc, { crc, bodyBytes: bodyEnd - start - SECTION_HEAD_BYTES, ends });
  }

  /** Of preamble or slot; the next begins here. */
  private endRange(): ByteRange {
    const { position } = this;
    const range = { position: this.rangeBegin, bytes: position - this.rangeBegin, crc: this.rangeCrc };
    this.fileCrc = crc32Combine(this.fileCrc, range.crc, range.bytes);
    this.rangeBegin = position;
    this.rangeCrc = 0;
    return range;
  }

  private writeHead(): void {
    const { view, out } = this;
    const start = beginSection(out, Section.Head);
    out.u32(MAGIC).u8(VERSION).u64(view.offset).u64(view.logTime).u64(view.malformedCount);
    for (const names of [view.contentTypes, view.dataTypes]) {
      out.varint(names.length);
      for (const name of names) out.string(name);
    }
    this.end(start);
  }

  private writeResults(results: readonly KeptResult[]): void {
    const { view, out } = this;
    const start = beginSection(out, Section.Results);
    out.u64(view.evictedThrough).varint(results.length);
    for (const { firstOffset, lastOffset, result } of results) {
      out.u64(firstOffset).u64(lastOffset).bool(result.ok);
      out.string(result.code).string(result.message).string(result.value).u64(result.entryOffset);
    }
    this.end(start);
  }

  private writeSlot({ number, count, digestA, digestB, removedA, removedB }: FrozenSlot): void {
    const { out } = this;
    const start = beginSection(out, Section.Slot);
    out.u8(number).varint(count).u32(digestA).u32(digestB).u32(removedA).u32(removedB);
    this.end(start);
  }

  private *entriesOf(slot: FrozenSlot): Generator<Buffer, void, undefined> {
    const { run } = this;
    let bytes = 0;
    for (let more = slot.next(run); more;) {
      if (!this.fits(run.length)) yield* this.block();
      const { out } = this;
      const start = beginSection(out, Section.Entries);
      const bodyStart = out.position;
      do {
        out.ensure(run.length);
        out.position = copyBytes(out.buffer, out.position, run.bytes, run.start, run.end);
        bytes += run.length;
        more = slot.next(run);
      } while (more && out.position - bodyStart + run.length <= CHUNK_BYTES_MAX && this.fits(run.length));
      this.end(start);
    }
    assert(bytes === slot.liveBytes, 'a snapshot has other entries than its slot');
    slot.release();
  }

  /** Whether a section of so many bytes, or so many more, leave the block at its size. */
  private fits(bytes: number): boolean {
    return this.out.position + SECTION_HEAD_BYTES + bytes + CRC_BYTES <= SNAPSHOT_BLOCK_BYTES;
  }

  private writeEnd(table: SnapshotTable): void {
    const { out } = this;
    const start = out.position;
    writeEnd(out, this.position, table);
    this.fileCrc = crc32(out.buffer.subarray(start, out.position), this.fileCrc);
    this.written = table;
  }
}

/** As many results as make up about a section, but at least one. */
const endOfSection = (results: readonly KeptResult[], start: number): number => {
  let at = start;
  for (let bytes = 0; at < results.length && bytes < RESULTS_BYTES; at++) {
    const { message, value } = results[at].result;
    bytes += RESULT_BYTES + message.length + value.length;
  }
  return at;
};
