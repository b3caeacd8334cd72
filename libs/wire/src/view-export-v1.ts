import { crc32 } from 'node:zlib';
import {
  BATCH_BYTES_MAX,
  ByteReader,
  ByteWriter,
  TidelineError,
  asLogTime,
  isTidelineError,
  readU32,
  writeU32,
  type LogTime,
  type Offset,
} from '#kernel';
import { readCount, readLogTime, readOptionalU64 } from './payload-fields.js';

/**
 * A view in one file, version 1: what `tideline export` writes and `tideline import` reads. Little endian. A row of sections, nothing
 * between, before or after them:
 *
 *     section  = u32 length of the body · u8 kind · body · u32 CRC-32 of kind and body
 *
 *     1 head     u32 magic "TLEX" · u8 version (1) · u64 createdAt · string clusterId · string view · varint entries there will be
 *                varint count × (varint partition · u64 offset · u64 logTime)                 each partition as it was at its offset
 *     2 entries  varint count × (varint length, key · varint length, value · optional u64 expiresAt
 *                optional string contentType · optional string dataType)                      the value of a data type: its state
 *     3 end      varint entries · u32 CRC-32 of all bytes before this section
 *
 * Order: head, entries (any number), end. Times are log time: milliseconds since the Unix epoch.
 */
const MAGIC = 0x58454c54;
const VERSION = 1;
const Section = { Head: 1, Entries: 2, End: 3 } as const;
const SECTION_HEAD_BYTES = 5;
const CRC_BYTES = 4;
const SECTION_BYTES_MAX = 2 * BATCH_BYTES_MAX;
const ENTRY_BYTES_MIN = 5;
const POSITION_BYTES_MIN = 17;
/** Of entries in one section, about, unless one is larger. */
export const EXPORT_SECTION_BYTES = 256 * 1024;

export interface ExportHead {
  readonly createdAt: number;
  readonly clusterId: string;
  readonly view: string;
  readonly entries: number;
  readonly partitions: readonly { readonly partition: number; readonly offset: Offset; readonly logTime: LogTime }[];
}

export interface ExportedEntry {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly expiresAt: LogTime | null;
  readonly contentType: string | null;
  /** Null: a plain value. */
  readonly dataType: string | null;
}

const writeOptionalText = (writer: ByteWriter, text: string | null): void => {
  writer.bool(text !== null);
  if (text !== null) writer.string(text);
};

/** Gives the bytes of a file, section after section. */
export class ViewExportWriter {
  private crc = 0;
  private count = 0;

  head(head: ExportHead): Buffer {
    return this.section(Section.Head, (writer) => {
      writer.u32(MAGIC).u8(VERSION).u64(head.createdAt).string(head.clusterId).string(head.view).varint(head.entries);
      writer.varint(head.partitions.length);
      for (const { partition, offset, logTime } of head.partitions) writer.varint(partition).u64(offset).u64(logTime);
    });
  }

  entries(entries: readonly ExportedEntry[]): Buffer {
    this.count += entries.length;
    return this.section(Section.Entries, (writer) => {
      writer.varint(entries.length);
      for (const { key, value, expiresAt, contentType, dataType } of entries) {
        writer
          .lengthPrefixed(key)
          .lengthPrefixed(value)
          .bool(expiresAt !== null);
        if (expiresAt !== null) writer.u64(expiresAt);
        writeOptionalText(writer, contentType);
        writeOptionalText(writer, dataType);
      }
    });
  }

  end(): Buffer {
    const { crc, count } = this;
    return this.section(Section.End, (writer) => writer.varint(count).u32(crc));
  }

  private section(kind: number, body: (writer: ByteWriter) => void): Buffer {
    const writer = new ByteWriter(1024).u32(0).u8(kind);
    body(writer);
    writeU32(writer.buffer, 0, writer.position - SECTION_HEAD_BYTES);
    writer.u32(crc32(writer.buffer.subarray(4, writer.position)));
    const bytes = writer.finish();
    this.crc = crc32(bytes, this.crc);
    return bytes;
  }
}

/** Reads a file that comes in pieces of any size. Whatever is wrong is told with the byte at which it was found. */
export class ViewExportReader {
  head: ExportHead | null = null;
  /** That have come. */
  entries = 0;
  private waiting: Buffer = Buffer.alloc(0);
  /** Bytes before those that wait. */
  private at = 0;
  private crc = 0;
  private ended = false;

  /** What this piece completes. @throws TidelineError `storage-damaged` | `unsupported-version` */
  push(piece: Uint8Array): ExportedEntry[] {
    const bytes = this.waiting.length === 0 ? Buffer.from(piece) : Buffer.concat([this.waiting, piece]);
    const found: ExportedEntry[] = [];
    let at = 0;
    while (bytes.length - at >= SECTION_HEAD_BYTES) {
      if (this.ended) this.damaged(this.at + at, 'something follows its end');
      const length = readU32(bytes, at);
      if (length > SECTION_BYTES_MAX) this.damaged(this.at + at, `a section of ${length} bytes`);
      const end = at + SECTION_HEAD_BYTES + length + CRC_BYTES;
      if (end > bytes.length) break;
      if (crc32(bytes.subarray(at + 4, end - CRC_BYTES)) !== readU32(bytes, end - CRC_BYTES)) {
        this.damaged(this.at + at, 'a checksum does not match');
      }
      const body = bytes.subarray(at + SECTION_HEAD_BYTES, end - CRC_BYTES);
      this.section(this.at + at, bytes[at + 4], body, found);
      this.crc = crc32(bytes.subarray(at, end), this.crc);
      at = end;
    }
    this.waiting = bytes.subarray(at);
    this.at += at;
    if (this.ended && this.waiting.length > 0) this.damaged(this.at, 'something follows its end');
    return found;
  }

  /** No more comes. @throws TidelineError `storage-damaged` when the file is cut off */
  finish(): ExportHead {
    if (!this.ended) this.damaged(this.at + this.waiting.length, 'it is cut off');
    return this.head!;
  }

  private section(position: number, kind: number, body: Buffer, found: ExportedEntry[]): void {
    if ((kind === Section.Head) !== (this.head === null)) this.damaged(position, 'it is not an export of a view');
    try {
      const reader = new ByteReader(body);
      if (kind === Section.Head) this.head = readHead(reader);
      else if (kind === Section.Entries) this.readEntries(reader, found);
      else if (kind === Section.End) this.readEnd(position, reader);
      else this.damaged(position, `a section of kind ${kind}`);
      if (reader.remaining > 0) this.damaged(position, 'a section is too long');
    } catch (error) {
      if (isTidelineError(error, 'malformed-frame')) this.damaged(position, error.message);
      throw error;
    }
  }

  private readEntries(reader: ByteReader, found: ExportedEntry[]): void {
    for (let left = readCount(reader, ENTRY_BYTES_MIN); left > 0; left--) {
      const key = reader.lengthPrefixed();
      const value = reader.lengthPrefixed();
      const expiresAt = readOptionalU64(reader);
      found.push({
        key,
        value,
        expiresAt: expiresAt === null ? null : asLogTime(expiresAt),
        contentType: reader.bool() ? reader.string() : null,
        dataType: reader.bool() ? reader.string() : null,
      });
      this.entries++;
    }
  }

  private readEnd(position: number, reader: ByteReader): void {
    const entries = reader.varint();
    if (entries !== this.entries) this.damaged(position, `it has ${this.entries} entries and should have ${entries}`);
    if (reader.u32() !== this.crc) this.damaged(position, 'sections are missing or out of order');
    this.ended = true;
  }

  private damaged(position: number, what: string): never {
    throw new TidelineError('storage-damaged', `the export is damaged at byte ${position}: ${what}`, {
      details: { position },
    });
  }
}

const readHead = (reader: ByteReader): ExportHead => {
  if (reader.u32() !== MAGIC) throw new TidelineError('malformed-frame', 'it is not an export of a view');
  const version = reader.u8();
  if (version !== VERSION) throw new TidelineError('unsupported-version', `view export version ${version}`);
  const createdAt = reader.u64();
  const clusterId = reader.string();
  const view = reader.string();
  const entries = reader.varint();
  const partitions: ExportHead['partitions'][number][] = [];
  for (let left = readCount(reader, POSITION_BYTES_MIN); left > 0; left--) {
    partitions.push({ partition: reader.varint(), offset: reader.offset(), logTime: readLogTime(reader) });
  }
  return { createdAt, clusterId, view, entries, partitions };
};
