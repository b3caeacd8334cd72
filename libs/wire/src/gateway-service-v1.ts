import { ByteReader, ByteWriter, type LogTime, type Offset } from '#kernel';
import {
  decodeClusterDescription,
  encodeClusterDescription,
  type ClusterDescriptionMessage,
} from './cluster-description-v1.js';
import {
  readEntries,
  readEntry,
  readKeys,
  readPosition,
  readResults,
  writeEntries,
  writeEntry,
  writeKeys,
  writePosition,
  writeResults,
  type ApplyResultMessage,
  type EntryMessage,
  type PositionMessage,
  type WatchEventMessage,
} from './entry-v1.js';
import {
  decodeBarrierResponse,
  decodeFetchResponse,
  decodeNothing,
  decodeTailItem,
  decodeU64,
  encodeBarrierResponse,
  encodeFetchResponse,
  encodeNothing,
  encodeTailItem,
  encodeU64,
  readAppendResponse,
  writeAppendResponse,
  type AppendResponse,
  type BarrierResponse,
  type FetchResponse,
  type FetchResponseInput,
  type TailItem,
  type TailItemInput,
} from './log-service-v1.js';
import {
  readAll,
  readCount,
  readEnum,
  readLogTime,
  readOptionalBytes,
  writeEnum,
  writeOptionalBytes,
} from './payload-fields.js';
import { projectionServiceV1 } from './projection-service-v1.js';
import type { RequestCall, StreamCall } from './service-call.js';
import {
  decodeGetManyResponse,
  decodeResultsRequest,
  decodeResultsResponse,
  decodeWatchItem,
  encodeGetManyResponse,
  encodeResultsRequest,
  encodeResultsResponse,
  encodeWatchItem,
  viewServiceV1,
  type ArchiveRequest,
  type ArchiveResponse,
  type ResultsRequest,
  type ResultsResponse,
  type ViewGetManyResponse,
} from './view-service-v1.js';

/**
 * What a gateway offers native clients, version 1: topics and views by name, any partition, any leader. Little endian;
 * entry, position, results and watch events as in entry-v1.ts; `batches` runs to the end.
 *
 *     target   = string topic · varint partition
 *     scope    = string view · optional varint partition, as varint partition + 1 (0: by the key's hash, or all of them)
 *     read     = enum consistency (linearizable session bounded stale) · u64 minOffset (session) · u32 maxLagMs (bounded) · u32 timeoutMs
 *
 *     0x0401 describe      → cluster description
 *     0x0402 append        target · enum acks (none leader quorum applied) · u32 timeoutMs · batch
 *                          → append response (log-service-v1.ts) · results (of acks applied; else empty)
 *     0x0403 fetch         target · u64 from · u32 maxBytes · u32 maxWaitMs → fetch response
 *     0x0404 barrier       target → barrier response
 *     0x0405 openSession   target → u64 session
 *     0x0406 offsetAtTime  target · u64 time → u64 offset
 *     0x0407 get           scope · read · varint length, key → varint partition · optional entry · position
 *     0x0408 scan          scope · read · varint length, prefix · optional (varint length, after) · varint limit · varint bytesMax · bool values
 *                          → entries · bool more · varint count × (varint partition · position)
 *     0x0409 results       as 0x0303
 *     0x040a archive       as 0x0305
 *     0x040b getMany       string view · varint partition · varint partitions, as the asker knows them · read · u32 bytesMax
 *                          varint count × (varint length, key) → as 0x0306
 *     0x0420 views         as 0x0304
 *     0x0421 projections   as 0x0322
 *     0x0410 tail (stream)   target · u64 from → items as 0x0210
 *     0x0411 watch (stream)  scope · varint length, prefix → items as 0x0310
 */
export type GatewayAcks = 'none' | 'leader' | 'quorum' | 'applied';
export type ConsistencyField = 'linearizable' | 'session' | 'bounded' | 'stale';

export interface GatewayTarget {
  readonly topic: string;
  readonly partition: number;
}

export interface GatewayAppendRequest extends GatewayTarget {
  readonly acks: GatewayAcks;
  readonly timeoutMs: number;
  readonly batch: Buffer;
}

export interface GatewayAppendResponse extends AppendResponse {
  readonly results: readonly ApplyResultMessage[];
}

export interface GatewayFetchRequest extends GatewayTarget {
  readonly from: Offset;
  readonly maxBytes: number;
  readonly maxWaitMs: number;
}

export interface GatewayRead {
  readonly consistency: ConsistencyField;
  /** `session`: not before this offset of the partition; 0 for none. */
  readonly minOffset: number;
  /** `bounded`: at most this far behind. */
  readonly maxLagMs: number;
  readonly timeoutMs: number;
}

export interface GatewayGetRequest extends GatewayRead {
  readonly view: string;
  /** null: where the key's hash says. */
  readonly partition: number | null;
  readonly key: Buffer;
}

export interface GatewayGetResponse {
  readonly partition: number;
  readonly entry: EntryMessage | null;
  readonly position: PositionMessage;
}

export interface GatewayGetManyRequest extends GatewayRead {
  readonly view: string;
  readonly partition: number;
  /** How many there are, as the asker knows; if that is not so, nothing is answered. */
  readonly partitions: number;
  /** At most GET_KEYS_MAX. */
  readonly keys: readonly Buffer[];
  readonly bytesMax: number;
}

export interface GatewayScanRequest extends GatewayRead {
  readonly view: string;
  /** null: all of them, merged by key. */
  readonly partition: number | null;
  readonly prefix: Buffer;
  /** Exclusive lower bound; null for none. */
  readonly after: Buffer | null;
  readonly limit: number;
  readonly bytesMax: number;
  readonly values: boolean;
}

export interface PartitionPositionMessage extends PositionMessage {
  readonly partition: number;
}

export interface GatewayScanResponse {
  readonly entries: readonly EntryMessage[];
  readonly more: boolean;
  readonly positions: readonly PartitionPositionMessage[];
}

export interface GatewayWatchRequest {
  readonly view: string;
  /** null: all of them. */
  readonly partition: number | null;
  readonly prefix: Buffer;
}

const ACKS: readonly GatewayAcks[] = ['none', 'leader', 'quorum', 'applied'];
const CONSISTENCIES: readonly ConsistencyField[] = ['linearizable', 'session', 'bounded', 'stale'];

const targetWriter = (target: GatewayTarget): ByteWriter =>
  new ByteWriter(48).string(target.topic).varint(target.partition);

const readTarget = (reader: ByteReader): GatewayTarget => ({ topic: reader.string(), partition: reader.varint() });

const encodeTarget = (target: GatewayTarget): Buffer => targetWriter(target).finish();
const decodeTarget = (payload: Buffer): GatewayTarget => readAll(payload, readTarget);

interface Scope {
  readonly view: string;
  readonly partition: number | null;
}
const scopeWriter = (scope: Scope): ByteWriter =>
  new ByteWriter(96).string(scope.view).varint(scope.partition === null ? 0 : scope.partition + 1);

const readScope = (reader: ByteReader): Scope => {
  const view = reader.string();
  const partition = reader.varint();
  return { view, partition: partition === 0 ? null : partition - 1 };
};

const writeRead = (writer: ByteWriter, read: GatewayRead): ByteWriter => {
  writeEnum(writer, CONSISTENCIES, read.consistency);
  return writer.u64(read.minOffset).u32(read.maxLagMs).u32(read.timeoutMs);
};

const readRead = (reader: ByteReader): GatewayRead => ({
  consistency: readEnum(reader, CONSISTENCIES),
  minOffset: reader.u64(),
  maxLagMs: reader.u32(),
  timeoutMs: reader.u32(),
});

const describe: RequestCall<void, ClusterDescriptionMessage> = {
  method: 0x0401,
  encodeRequest: encodeNothing,
  decodeRequest: decodeNothing,
  encodeResponse: encodeClusterDescription,
  decodeResponse: decodeClusterDescription,
};

const append: RequestCall<GatewayAppendRequest, GatewayAppendResponse> = {
  method: 0x0402,
  encodeRequest(request) {
    const writer = targetWriter(request);
    writeEnum(writer, ACKS, request.acks);
    return [writer.u32(request.timeoutMs).finish(), request.batch];
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readTarget(reader),
      acks: readEnum(reader, ACKS),
      timeoutMs: reader.u32(),
      batch: reader.rest(),
    })),
  encodeResponse(response) {
    const writer = writeAppendResponse(new ByteWriter(64), response);
    writeResults(writer, response.results);
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => ({ ...readAppendResponse(reader), results: readResults(reader) })),
};

const fetch: RequestCall<GatewayFetchRequest, FetchResponse, FetchResponseInput> = {
  method: 0x0403,
  encodeRequest: (request) =>
    targetWriter(request).u64(request.from).u32(request.maxBytes).u32(request.maxWaitMs).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readTarget(reader),
      from: reader.offset(),
      maxBytes: reader.u32(),
      maxWaitMs: reader.u32(),
    })),
  encodeResponse: encodeFetchResponse,
  decodeResponse: decodeFetchResponse,
};

const barrier: RequestCall<GatewayTarget, BarrierResponse> = {
  method: 0x0404,
  encodeRequest: encodeTarget,
  decodeRequest: decodeTarget,
  encodeResponse: encodeBarrierResponse,
  decodeResponse: decodeBarrierResponse,
};

const openSession: RequestCall<GatewayTarget, number> = {
  method: 0x0405,
  encodeRequest: encodeTarget,
  decodeRequest: decodeTarget,
  encodeResponse: encodeU64,
  decodeResponse: decodeU64,
};

const offsetAtTime: RequestCall<GatewayTarget & { readonly time: LogTime }, Offset> = {
  method: 0x0406,
  encodeRequest: (request) => targetWriter(request).u64(request.time).finish(),
  decodeRequest: (payload) => readAll(payload, (reader) => ({ ...readTarget(reader), time: readLogTime(reader) })),
  encodeResponse: encodeU64,
  decodeResponse: (payload) => readAll(payload, (reader) => reader.offset()),
};

const get: RequestCall<GatewayGetRequest, GatewayGetResponse> = {
  method: 0x0407,
  encodeRequest: (request) => writeRead(scopeWriter(request), request).lengthPrefixed(request.key).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({ ...readScope(reader), ...readRead(reader), key: reader.lengthPrefixed() })),
  encodeResponse({ partition, entry, position }) {
    const writer = new ByteWriter(64).varint(partition).bool(entry !== null);
    if (entry !== null) writeEntry(writer, entry);
    return writePosition(writer, position).finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => ({
      partition: reader.varint(),
      entry: reader.bool() ? readEntry(reader) : null,
      position: readPosition(reader),
    })),
};

const getMany: RequestCall<GatewayGetManyRequest, ViewGetManyResponse> = {
  method: 0x040b,
  encodeRequest(request) {
    const writer = new ByteWriter(1024).string(request.view).varint(request.partition).varint(request.partitions);
    writeKeys(writeRead(writer, request).u32(request.bytesMax), request.keys);
    return writer.finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      view: reader.string(),
      partition: reader.varint(),
      partitions: reader.varint(),
      ...readRead(reader),
      bytesMax: reader.u32(),
      keys: readKeys(reader),
    })),
  encodeResponse: encodeGetManyResponse,
  decodeResponse: decodeGetManyResponse,
};

const scan: RequestCall<GatewayScanRequest, GatewayScanResponse> = {
  method: 0x0408,
  encodeRequest(request) {
    const writer = writeRead(scopeWriter(request), request).lengthPrefixed(request.prefix);
    writeOptionalBytes(writer, request.after);
    return writer.varint(request.limit).varint(request.bytesMax).bool(request.values).finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readScope(reader),
      ...readRead(reader),
      prefix: reader.lengthPrefixed(),
      after: readOptionalBytes(reader),
      limit: reader.varint(),
      bytesMax: reader.varint(),
      values: reader.bool(),
    })),
  encodeResponse(response) {
    const writer = new ByteWriter(1024);
    writeEntries(writer, response.entries);
    writer.bool(response.more).varint(response.positions.length);
    for (const position of response.positions) writePosition(writer.varint(position.partition), position);
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const entries = readEntries(reader);
      const more = reader.bool();
      const positions: PartitionPositionMessage[] = [];
      for (let left = readCount(reader, 17); left > 0; left--) {
        positions.push({ partition: reader.varint(), ...readPosition(reader) });
      }
      return { entries, more, positions };
    }),
};

const results: RequestCall<ResultsRequest, ResultsResponse> = {
  method: 0x0409,
  encodeRequest: encodeResultsRequest,
  decodeRequest: decodeResultsRequest,
  encodeResponse: encodeResultsResponse,
  decodeResponse: decodeResultsResponse,
};

const archive: RequestCall<ArchiveRequest, ArchiveResponse> = { ...viewServiceV1.archive, method: 0x040a };

const tail: StreamCall<GatewayTarget & { readonly from: Offset }, TailItem, TailItemInput> = {
  method: 0x0410,
  encodeRequest: (request) => targetWriter(request).u64(request.from).finish(),
  decodeRequest: (payload) => readAll(payload, (reader) => ({ ...readTarget(reader), from: reader.offset() })),
  encodeItem: encodeTailItem,
  decodeItem: decodeTailItem,
};

const watch: StreamCall<GatewayWatchRequest, readonly WatchEventMessage[]> = {
  method: 0x0411,
  encodeRequest: (request) => scopeWriter(request).lengthPrefixed(request.prefix).finish(),
  decodeRequest: (payload) => readAll(payload, (reader) => ({ ...readScope(reader), prefix: reader.lengthPrefixed() })),
  encodeItem: encodeWatchItem,
  decodeItem: decodeWatchItem,
};

export const gatewayServiceV1 = {
  describe,
  append,
  fetch,
  barrier,
  openSession,
  offsetAtTime,
  get,
  getMany,
  scan,
  results,
  archive,
  views: { ...viewServiceV1.stats, method: 0x0420 },
  projections: { ...projectionServiceV1.projections, method: 0x0421 },
  tail,
  watch,
} as const;
