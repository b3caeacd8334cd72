import { ByteWriter, type LogTime, type Offset } from '#kernel';
import { readEntry, writeEntry, type EntryMessage } from './entry-v1.js';
import {
  readAll,
  readCount,
  readLogTime,
  readOptionalLogTime,
  readOptionalText,
  writeOptionalText,
  writeOptionalU64,
} from './payload-fields.js';
import type { RequestCall } from './service-call.js';
import { readPart, writePart, type ViewPart } from './view-part-v1.js';

/**
 * What a host of views asks another whose archive has what its own lacks, version 1; on the materializer's port beside view-service-v1.ts. Little
 * endian; entry as in entry-v1.ts, part as in view-part-v1.ts.
 *
 *     0x0351 departed  part · string mark · u64 applied · optional u64 from · u64 until · optional string cursor · varint limit · varint bytesMax
 *                      → varint count × (entry · bool evicted) · optional string cursor · u64 until
 *     0x0352 kept      the same → the same                                                (of what the host's archive has, be it all or not)
 *
 * Entries that left between the log times `from` (null: the beginning) and `until` (exclusive), page by page. `not-ready` from a host that has not
 * applied `applied`, or whose archive lacks some of them. Where the answer's `until` is before the one that was asked for, that is as far as the host's
 * archive goes. Whose archive is in the same database as the asker's, which the `mark` shows, has none to give.
 */
export interface DepartedRequest extends ViewPart {
  /** The asker has it in its catalog. */
  readonly mark: string;
  readonly applied: Offset;
  readonly from: LogTime | null;
  readonly until: LogTime;
  /** From an earlier page, of whichever host. */
  readonly cursor: string | null;
  /** Entries, and the bytes of their keys and values; a page has at least one entry if there is one. */
  readonly limit: number;
  readonly bytesMax: number;
}

export interface DepartedEntryOfPart extends EntryMessage {
  readonly evicted: boolean;
}

export interface DepartedPage {
  readonly entries: readonly DepartedEntryOfPart[];
  /** Null: there are no more before `until`. */
  readonly cursor: string | null;
  readonly until: LogTime;
}

/** Smallest entry, and whether it was evicted. */
const DEPARTED_BYTES_MIN = 20;

const departed: RequestCall<DepartedRequest, DepartedPage> = {
  method: 0x0351,
  encodeRequest: ({ mark, applied, from, until, cursor, limit, bytesMax, ...part }) => {
    const writer = writePart(new ByteWriter(256), part).string(mark).u64(applied);
    writeOptionalU64(writer, from);
    return writeOptionalText(writer.u64(until), cursor).varint(limit).varint(bytesMax).finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readPart(reader),
      mark: reader.string(),
      applied: reader.offset(),
      from: readOptionalLogTime(reader),
      until: readLogTime(reader),
      cursor: readOptionalText(reader),
      limit: reader.varint(),
      bytesMax: reader.varint(),
    })),
  encodeResponse: ({ entries, cursor, until }) => {
    const writer = new ByteWriter(1024).varint(entries.length);
    for (const entry of entries) {
      writeEntry(writer, entry);
      writer.bool(entry.evicted);
    }
    return writeOptionalText(writer, cursor).u64(until).finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const entries: DepartedEntryOfPart[] = [];
      for (let left = readCount(reader, DEPARTED_BYTES_MIN); left > 0; left--) {
        entries.push({ ...readEntry(reader), evicted: reader.bool() });
      }
      return { entries, cursor: readOptionalText(reader), until: readLogTime(reader) };
    }),
};

const kept: RequestCall<DepartedRequest, DepartedPage> = { ...departed, method: 0x0352 };

export const archiveServiceV1 = { departed, kept } as const;
