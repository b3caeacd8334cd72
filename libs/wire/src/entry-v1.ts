import { ByteReader, ByteWriter, TidelineError, asLogTime, type LogTime, type Offset } from '#kernel';
import { readCount, readLogTime, readOptionalU64, writeOptionalU64 } from './payload-fields.js';

/**
 * What views answer with, version 1; parts of messages of the view and the gateway service.
 *
 *     entry       = varint length, key · varint length, value · u8 flags (1 content type · 2 expires)
 *                   string contentType if 1 · u64 expiresAt if 2 · u64 offset · u64 logTime
 *     position    = u64 offset · u64 logTime
 *     result      = bool ok · string code · string message · string value · u64 entryOffset
 *     watch event = u8 type (1 put · 2 delete · 3 expire · 4 live) · varint partition
 *                   put: entry · delete, expire: varint length, key · u64 offset · live: u64 offset
 *     read point  = u64 offset · optional u64 time
 *
 * Lists are a varint count, then the items.
 */
export interface EntryMessage {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly contentType: string | null;
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly expiresAt: LogTime | null;
}

export interface PositionMessage {
  readonly offset: Offset;
  readonly logTime: LogTime;
}

export interface ReadPointMessage {
  readonly offset: Offset;
  readonly time: LogTime | null;
}

export interface ApplyResultMessage {
  readonly ok: boolean;
  readonly code: string;
  readonly message: string;
  /** JSON text; empty for none. */
  readonly value: string;
  readonly entryOffset: Offset;
}

export type WatchEventMessage =
  | { readonly type: 'put'; readonly partition: number; readonly entry: EntryMessage }
  | { readonly type: 'delete' | 'expire'; readonly partition: number; readonly key: Buffer; readonly offset: Offset }
  | { readonly type: 'live'; readonly partition: number; readonly offset: Offset };

const EntryFlag = { ContentType: 1, Expires: 2 } as const;
const WatchKind = { Put: 1, Delete: 2, Expire: 3, Live: 4 } as const;

/** Smallest encodings, to refuse counts that cannot fit. */
const ENTRY_BYTES_MIN = 19;
const RESULT_BYTES_MIN = 12;
const WATCH_EVENT_BYTES_MIN = 10;

export const writeEntry = (writer: ByteWriter, entry: EntryMessage): void => {
  const { contentType, expiresAt } = entry;
  writer.lengthPrefixed(entry.key).lengthPrefixed(entry.value);
  writer.u8((contentType === null ? 0 : EntryFlag.ContentType) | (expiresAt === null ? 0 : EntryFlag.Expires));
  if (contentType !== null) writer.string(contentType);
  if (expiresAt !== null) writer.u64(expiresAt);
  writer.u64(entry.offset).u64(entry.logTime);
};

export const readEntry = (reader: ByteReader): EntryMessage => {
  const key = reader.lengthPrefixed();
  const value = reader.lengthPrefixed();
  const flags = reader.u8();
  if (flags > 3) throw new TidelineError('malformed-frame', `entry flags ${flags}`);
  const contentType = flags & EntryFlag.ContentType ? reader.string() : null;
  const expiresAt = flags & EntryFlag.Expires ? readLogTime(reader) : null;
  return { key, value, contentType, offset: reader.offset(), logTime: readLogTime(reader), expiresAt };
};

export const writeEntries = (writer: ByteWriter, entries: readonly EntryMessage[]): void => {
  writer.varint(entries.length);
  for (const entry of entries) writeEntry(writer, entry);
};

export const readEntries = (reader: ByteReader): EntryMessage[] => {
  const entries: EntryMessage[] = [];
  for (let left = readCount(reader, ENTRY_BYTES_MIN); left > 0; left--) entries.push(readEntry(reader));
  return entries;
};

export const writePosition = (writer: ByteWriter, position: PositionMessage): ByteWriter =>
  writer.u64(position.offset).u64(position.logTime);

export const readPosition = (reader: ByteReader): PositionMessage => ({
  offset: reader.offset(),
  logTime: readLogTime(reader),
});

export const writeReadPoint = (writer: ByteWriter, at: ReadPointMessage): void => {
  writer.u64(at.offset);
  writeOptionalU64(writer, at.time);
};

export const readReadPoint = (reader: ByteReader): ReadPointMessage => {
  const offset = reader.offset();
  const time = readOptionalU64(reader);
  return { offset, time: time === null ? null : asLogTime(time) };
};

export const writeResults = (writer: ByteWriter, results: readonly ApplyResultMessage[]): void => {
  writer.varint(results.length);
  for (const { ok, code, message, value, entryOffset } of results) {
    writer.bool(ok).string(code).string(message).string(value).u64(entryOffset);
  }
};

export const readResults = (reader: ByteReader): ApplyResultMessage[] => {
  const results: ApplyResultMessage[] = [];
  for (let left = readCount(reader, RESULT_BYTES_MIN); left > 0; left--) {
    results.push({
      ok: reader.bool(),
      code: reader.string(),
      message: reader.string(),
      value: reader.string(),
      entryOffset: reader.offset(),
    });
  }
  return results;
};

/** Events of one item of a watch stream: as many as there were, so that a large view does not cost a frame an entry. */
export const writeWatchEvents = (writer: ByteWriter, events: readonly WatchEventMessage[]): void => {
  writer.varint(events.length);
  for (const event of events) {
    if (event.type === 'put') {
      writer.u8(WatchKind.Put).varint(event.partition);
      writeEntry(writer, event.entry);
    } else if (event.type === 'live') {
      writer.u8(WatchKind.Live).varint(event.partition).u64(event.offset);
    } else {
      writer.u8(event.type === 'delete' ? WatchKind.Delete : WatchKind.Expire).varint(event.partition);
      writer.lengthPrefixed(event.key).u64(event.offset);
    }
  }
};

export const readWatchEvents = (reader: ByteReader): WatchEventMessage[] => {
  const events: WatchEventMessage[] = [];
  for (let left = readCount(reader, WATCH_EVENT_BYTES_MIN); left > 0; left--) {
    const kind = reader.u8();
    const partition = reader.varint();
    if (kind === WatchKind.Put) events.push({ type: 'put', partition, entry: readEntry(reader) });
    else if (kind === WatchKind.Live) events.push({ type: 'live', partition, offset: reader.offset() });
    else if (kind === WatchKind.Delete || kind === WatchKind.Expire) {
      const type = kind === WatchKind.Delete ? 'delete' : 'expire';
      events.push({ type, partition, key: reader.lengthPrefixed(), offset: reader.offset() });
    } else throw new TidelineError('malformed-frame', `watch event kind ${kind}`);
  }
  return events;
};
