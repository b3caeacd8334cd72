import { ByteReader, ByteWriter, TidelineError, asLogTime, type LogTime, type Offset } from '#kernel';
import { readAll, readCount, readLogTime, readOptionalU64, writeOptionalU64 } from './payload-fields.js';

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
 *     view read   = string view · varint partition · read point · u32 timeoutMs
 *     found       = u8 flags (1 content type · 2 expires · 4 there is an entry · 8 not answered: to be asked for by itself)
 *                   if 4: varint length, value · string contentType if 1 · u64 expiresAt if 2 · u64 offset · u64 logTime
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

/** What every read of one partition of a view begins with. */
export interface ViewReadMessage {
  readonly view: string;
  readonly partition: number;
  readonly at: ReadPointMessage;
  readonly timeoutMs: number;
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

/** What is under a key that the asker knows. */
export type FoundEntryMessage = Omit<EntryMessage, 'key'>;

/** Where an entry lies, to be written without an object made of it. */
export interface FoundSource {
  readonly chunk: Buffer;
  /** Of the same bytes; null: there is no such view. */
  readonly words: DataView | null;
  readonly valueStart: number;
  readonly valueEnd: number;
  readonly offset: number;
  readonly logTime: number;
  /** Infinity: never. */
  readonly expiresAt: number;
}

const EntryFlag = { ContentType: 1, Expires: 2 } as const;
const FoundFlag = { ...EntryFlag, There: 4, NotAnswered: 8 } as const;
const WatchKind = { Put: 1, Delete: 2, Expire: 3, Live: 4 } as const;

/** Smallest encodings, to refuse counts that cannot fit. */
const ENTRY_BYTES_MIN = 19;
const KEY_BYTES_MIN = 1;
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

export const writeFound = (writer: ByteWriter, entry: FoundEntryMessage | null): void => {
  if (entry === null) {
    writeNothingFound(writer);
    return;
  }
  const { value, offset, logTime } = entry;
  const expiresAt = entry.expiresAt ?? Infinity;
  const source = { chunk: value, words: null, valueStart: 0, valueEnd: value.length, offset, logTime, expiresAt };
  writeFoundPart(writer, source, entry.contentType);
};

export const writeFoundPart = (writer: ByteWriter, source: FoundSource, contentType: string | null): void => {
  const { expiresAt } = source;
  const expires = expiresAt === Infinity ? 0 : FoundFlag.Expires;
  writer.u8(FoundFlag.There | expires | (contentType === null ? 0 : FoundFlag.ContentType));
  writer.lengthPrefixedPart(source.chunk, source.words, source.valueStart, source.valueEnd);
  if (contentType !== null) writer.string(contentType);
  if (expires) writer.u64(expiresAt);
  writer.u64(source.offset).u64(source.logTime);
};

export const writeNothingFound = (writer: ByteWriter): void => {
  writer.u8(0);
};

export const writeNotAnswered = (writer: ByteWriter): void => {
  writer.u8(FoundFlag.NotAnswered);
};

/** Null: there is none; undefined: not answered, to be asked for by itself. */
export const readFound = (reader: ByteReader): FoundEntryMessage | null | undefined => {
  const flags = reader.u8();
  if (flags === 0) return null;
  if (flags === FoundFlag.NotAnswered) return undefined;
  if ((flags & FoundFlag.There) === 0 || flags > 7) throw new TidelineError('malformed-frame', `found flags ${flags}`);
  const value = reader.lengthPrefixed();
  const contentType = flags & FoundFlag.ContentType ? reader.string() : null;
  const expiresAt = flags & FoundFlag.Expires ? readLogTime(reader) : null;
  return { value, contentType, offset: reader.offset(), logTime: readLogTime(reader), expiresAt };
};

/** @throws TidelineError `malformed-frame` unless there are `count`, and nothing else */
export const readAllFound = (found: Buffer, count: number): (FoundEntryMessage | null | undefined)[] =>
  readAll(found, (reader) => Array.from({ length: count }, () => readFound(reader)));

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

export const writeViewRead = (writer: ByteWriter, read: ViewReadMessage): ByteWriter => {
  writeReadPoint(writer.string(read.view).varint(read.partition), read.at);
  return writer.u32(read.timeoutMs);
};

export const readViewRead = (reader: ByteReader): ViewReadMessage => ({
  view: reader.string(),
  partition: reader.varint(),
  at: readReadPoint(reader),
  timeoutMs: reader.u32(),
});

export const writeKeys = (writer: ByteWriter, keys: readonly Uint8Array[]): void => {
  writer.varint(keys.length);
  for (const key of keys) writer.lengthPrefixed(key);
};

export const readKeys = (reader: ByteReader): Buffer[] => {
  const keys: Buffer[] = [];
  for (let left = readCount(reader, KEY_BYTES_MIN); left > 0; left--) keys.push(reader.lengthPrefixed());
  return keys;
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
