import { ByteWriter, type ByteReader, type LogTime, type Offset } from '#kernel';
import {
  readEntries,
  readEntry,
  readKeys,
  readPosition,
  readResults,
  readViewRead,
  readWatchEvents,
  writeEntries,
  writeEntry,
  writeKeys,
  writePosition,
  writeResults,
  writeViewRead,
  writeWatchEvents,
  type ApplyResultMessage,
  type EntryMessage,
  type PositionMessage,
  type ViewReadMessage,
  type WatchEventMessage,
} from './entry-v1.js';
import {
  readAll,
  readCount,
  readEnum,
  readLogTime,
  readOptionalBytes,
  readOptionalLogTime,
  readOptionalText,
  readOptionalU64,
  writeEnum,
  writeOptionalBytes,
  writeOptionalText,
  writeOptionalU64,
} from './payload-fields.js';
import { decodeNothing, encodeNothing } from './log-service-v1.js';
import type { Pieces, RequestCall, StreamCall } from './service-call.js';

/**
 * The materializer service, version 1. Little endian; entry, position, view read, result and watch event as in entry-v1.ts.
 *
 *     0x0301 get      view read · varint length, key
 *                     → optional entry · position
 *     0x0302 scan     view read · varint length, prefix
 *                     optional (varint length, after) · varint limit · varint bytesMax · bool values
 *                     → entries · bool more · position
 *     0x0303 results  string view · varint partition · u64 firstOffset · u64 lastOffset · u32 timeoutMs
 *                     → results · position
 *     0x0304 stats    → varint count × (string view · string topic · enum kind (map projection) · varint slots · varint entries · varint bytes
 *                       varint count × (varint partition · position · u64 commitOffset · string digest · varint entries · varint bytes))
 *     0x0305 archive  string view · optional (varint length, key) · optional u64 from · optional u64 to · varint limit · optional string cursor
 *                     → varint count × (varint partition · entry · u64 archivedAt · bool evicted) · optional string cursor
 *     0x0306 getMany  view read · u32 bytesMax · varint count × (varint length, key)
 *                     → position · found, of each key, to the end
 *     0x0307 getOrDeparted  view read · varint length, key
 *                     → optional entry · optional departed · position
 *                       departed = varint partition · entry · optional u64 archivedAt · bool evicted
 *     0x0310 watch (stream)  string view · varint partition · varint length, prefix → items: watch events
 */
export interface ViewGetRequest extends ViewReadMessage {
  readonly key: Buffer;
}

export interface ViewGetResponse {
  readonly entry: EntryMessage | null;
  readonly position: PositionMessage;
}

export interface DepartedEntryMessage extends EntryMessage {
  readonly partition: number;
  readonly archivedAt: number | null;
  readonly evicted: boolean;
}

export interface ViewGetOrDepartedResponse extends ViewGetResponse {
  readonly departed: DepartedEntryMessage | null;
}

export interface ViewGetManyRequest extends ViewReadMessage {
  readonly keys: readonly Buffer[];
  /** When the answer has so many, what is left of the keys is not answered. */
  readonly bytesMax: number;
}

export interface ViewGetManyResponse {
  /** As entry-v1.ts has it, for `readAllFound`; those who pass it on need not. */
  readonly found: Buffer;
  readonly position: PositionMessage;
}

export interface ViewScanRequest extends ViewReadMessage {
  readonly prefix: Buffer;
  readonly after: Buffer | null;
  readonly limit: number;
  readonly bytesMax: number;
  readonly values: boolean;
}

export interface ViewScanResponse {
  readonly entries: readonly EntryMessage[];
  readonly more: boolean;
  readonly position: PositionMessage;
}

export interface ResultsRequest {
  readonly view: string;
  readonly partition: number;
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly timeoutMs: number;
}

export interface ResultsResponse {
  readonly results: readonly ApplyResultMessage[];
  readonly position: PositionMessage;
}

export interface ViewWatchRequest {
  readonly view: string;
  readonly partition: number;
  readonly prefix: Buffer;
}

export interface ViewPartitionStatsMessage extends PositionMessage {
  readonly partition: number;
  readonly commitOffset: Offset;
  readonly digest: string;
  readonly entries: number;
  readonly bytes: number;
}

export interface ViewStatsMessage {
  readonly view: string;
  readonly topic: string;
  readonly kind: 'map' | 'projection';
  readonly slots: number;
  readonly partitions: readonly ViewPartitionStatsMessage[];
  readonly entries: number;
  readonly bytes: number;
}

export interface ArchiveRequest {
  readonly view: string;
  readonly key: Buffer | null;
  readonly from: LogTime | null;
  readonly to: LogTime | null;
  readonly limit: number;
  readonly cursor: string | null;
}

export interface ArchivedEntryMessage extends DepartedEntryMessage {
  readonly archivedAt: number;
}

export interface ArchiveResponse {
  readonly entries: readonly ArchivedEntryMessage[];
  readonly cursor: string | null;
}

const KINDS = ['map', 'projection'] as const;
/** Smallest archived entry: partition, an entry without key and value, time, evicted. */
const ARCHIVED_BYTES_MIN = 29;

export const encodeGetManyResponse = ({ found, position }: ViewGetManyResponse): Pieces => [
  writePosition(new ByteWriter(16), position).finish(),
  found,
];

export const decodeGetManyResponse = (payload: Buffer): ViewGetManyResponse =>
  readAll(payload, (reader) => ({ position: readPosition(reader), found: reader.rest() }));

const writeOptionalEntry = (writer: ByteWriter, entry: EntryMessage | null): void => {
  writer.bool(entry !== null);
  if (entry !== null) writeEntry(writer, entry);
};

const readOptionalEntry = (reader: ByteReader): EntryMessage | null => (reader.bool() ? readEntry(reader) : null);

const get: RequestCall<ViewGetRequest, ViewGetResponse> = {
  method: 0x0301,
  encodeRequest(request) {
    return writeViewRead(new ByteWriter(64), request).lengthPrefixed(request.key).finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readViewRead(reader),
      key: reader.lengthPrefixed(),
    })),
  encodeResponse({ entry, position }) {
    const writer = new ByteWriter(64);
    writeOptionalEntry(writer, entry);
    return writePosition(writer, position).finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => ({ entry: readOptionalEntry(reader), position: readPosition(reader) })),
};

const writeDeparted = (
  writer: ByteWriter,
  { partition, archivedAt, evicted, ...entry }: DepartedEntryMessage,
): void => {
  writeEntry(writer.varint(partition), entry);
  writeOptionalU64(writer, archivedAt);
  writer.bool(evicted);
};

const readDeparted = (reader: ByteReader): DepartedEntryMessage => ({
  partition: reader.varint(),
  ...readEntry(reader),
  archivedAt: readOptionalU64(reader),
  evicted: reader.bool(),
});

const getOrDeparted: RequestCall<ViewGetRequest, ViewGetOrDepartedResponse> = {
  method: 0x0307,
  encodeRequest: get.encodeRequest,
  decodeRequest: get.decodeRequest,
  encodeResponse({ entry, departed, position }) {
    const writer = new ByteWriter(64);
    writeOptionalEntry(writer, entry);
    writer.bool(departed !== null);
    if (departed !== null) writeDeparted(writer, departed);
    return writePosition(writer, position).finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => ({
      entry: readOptionalEntry(reader),
      departed: reader.bool() ? readDeparted(reader) : null,
      position: readPosition(reader),
    })),
};

const getMany: RequestCall<ViewGetManyRequest, ViewGetManyResponse> = {
  method: 0x0306,
  encodeRequest(request) {
    const writer = writeViewRead(new ByteWriter(1024), request).u32(request.bytesMax);
    writeKeys(writer, request.keys);
    return writer.finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readViewRead(reader),
      bytesMax: reader.u32(),
      keys: readKeys(reader),
    })),
  encodeResponse: encodeGetManyResponse,
  decodeResponse: decodeGetManyResponse,
};

export const encodeScanResponse = ({ entries, more, position }: ViewScanResponse): Buffer => {
  const writer = new ByteWriter(1024);
  writeEntries(writer, entries);
  return writePosition(writer.bool(more), position).finish();
};

export const decodeScanResponse = (payload: Buffer): ViewScanResponse =>
  readAll(payload, (reader) => ({
    entries: readEntries(reader),
    more: reader.bool(),
    position: readPosition(reader),
  }));

const scan: RequestCall<ViewScanRequest, ViewScanResponse> = {
  method: 0x0302,
  encodeRequest(request) {
    const writer = writeViewRead(new ByteWriter(64), request).lengthPrefixed(request.prefix);
    writeOptionalBytes(writer, request.after);
    return writer.varint(request.limit).varint(request.bytesMax).bool(request.values).finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readViewRead(reader),
      prefix: reader.lengthPrefixed(),
      after: readOptionalBytes(reader),
      limit: reader.varint(),
      bytesMax: reader.varint(),
      values: reader.bool(),
    })),
  encodeResponse: encodeScanResponse,
  decodeResponse: decodeScanResponse,
};

export const encodeResultsRequest = (request: ResultsRequest): Buffer =>
  new ByteWriter(64)
    .string(request.view)
    .varint(request.partition)
    .u64(request.firstOffset)
    .u64(request.lastOffset)
    .u32(request.timeoutMs)
    .finish();

export const decodeResultsRequest = (payload: Buffer): ResultsRequest =>
  readAll(payload, (reader) => ({
    view: reader.string(),
    partition: reader.varint(),
    firstOffset: reader.offset(),
    lastOffset: reader.offset(),
    timeoutMs: reader.u32(),
  }));

export const encodeResultsResponse = (response: ResultsResponse): Buffer => {
  const writer = new ByteWriter(128);
  writeResults(writer, response.results);
  return writePosition(writer, response.position).finish();
};

export const decodeResultsResponse = (payload: Buffer): ResultsResponse =>
  readAll(payload, (reader) => ({ results: readResults(reader), position: readPosition(reader) }));

const results: RequestCall<ResultsRequest, ResultsResponse> = {
  method: 0x0303,
  encodeRequest: encodeResultsRequest,
  decodeRequest: decodeResultsRequest,
  encodeResponse: encodeResultsResponse,
  decodeResponse: decodeResultsResponse,
};

const stats: RequestCall<void, readonly ViewStatsMessage[]> = {
  method: 0x0304,
  encodeRequest: encodeNothing,
  decodeRequest: decodeNothing,
  encodeResponse(views) {
    const writer = new ByteWriter(512).varint(views.length);
    for (const view of views) {
      writer.string(view.view).string(view.topic);
      writeEnum(writer, KINDS, view.kind);
      writer.varint(view.slots).varint(view.entries).varint(view.bytes).varint(view.partitions.length);
      for (const partition of view.partitions) {
        writePosition(writer.varint(partition.partition), partition);
        writer.u64(partition.commitOffset).string(partition.digest);
        writer.varint(partition.entries).varint(partition.bytes);
      }
    }
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const views: ViewStatsMessage[] = [];
      for (let left = readCount(reader, 7); left > 0; left--) {
        const head = { view: reader.string(), topic: reader.string(), kind: readEnum(reader, KINDS) };
        const totals = { slots: reader.varint(), entries: reader.varint(), bytes: reader.varint() };
        const partitions: ViewPartitionStatsMessage[] = [];
        for (let more = readCount(reader, 28); more > 0; more--) {
          partitions.push({
            partition: reader.varint(),
            offset: reader.offset(),
            logTime: readLogTime(reader),
            commitOffset: reader.offset(),
            digest: reader.string(),
            entries: reader.varint(),
            bytes: reader.varint(),
          });
        }
        views.push({ ...head, ...totals, partitions });
      }
      return views;
    }),
};

const archive: RequestCall<ArchiveRequest, ArchiveResponse> = {
  method: 0x0305,
  encodeRequest({ view, key, from, to, limit, cursor }) {
    const writer = new ByteWriter(64).string(view);
    writeOptionalBytes(writer, key);
    writeOptionalU64(writer, from);
    writeOptionalU64(writer, to);
    writeOptionalText(writer.varint(limit), cursor);
    return writer.finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      view: reader.string(),
      key: readOptionalBytes(reader),
      from: readOptionalLogTime(reader),
      to: readOptionalLogTime(reader),
      limit: reader.varint(),
      cursor: readOptionalText(reader),
    })),
  encodeResponse({ entries, cursor }) {
    const writer = new ByteWriter(1024).varint(entries.length);
    for (const entry of entries) {
      writeEntry(writer.varint(entry.partition), entry);
      writer.u64(entry.archivedAt).bool(entry.evicted);
    }
    writeOptionalText(writer, cursor);
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const entries: ArchivedEntryMessage[] = [];
      for (let left = readCount(reader, ARCHIVED_BYTES_MIN); left > 0; left--) {
        const partition = reader.varint();
        entries.push({ partition, ...readEntry(reader), archivedAt: reader.u64(), evicted: reader.bool() });
      }
      return { entries, cursor: readOptionalText(reader) };
    }),
};

export const encodeWatchItem = (events: readonly WatchEventMessage[]): Buffer => {
  const writer = new ByteWriter(512);
  writeWatchEvents(writer, events);
  return writer.finish();
};

export const decodeWatchItem = (payload: Buffer): readonly WatchEventMessage[] => readAll(payload, readWatchEvents);

const watch: StreamCall<ViewWatchRequest, readonly WatchEventMessage[]> = {
  method: 0x0310,
  encodeRequest: (request) =>
    new ByteWriter(64).string(request.view).varint(request.partition).lengthPrefixed(request.prefix).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      view: reader.string(),
      partition: reader.varint(),
      prefix: reader.lengthPrefixed(),
    })),
  encodeItem: encodeWatchItem,
  decodeItem: decodeWatchItem,
};

export const viewServiceV1 = { get, getOrDeparted, getMany, scan, results, stats, archive, watch } as const;
