import { ByteWriter, type LogTime, type Offset } from '#kernel';
import {
  readPosition,
  readViewRead,
  writePosition,
  writeViewRead,
  type PositionMessage,
  type ViewReadMessage,
} from './entry-v1.js';
import { decodeNothing, encodeNothing } from './log-service-v1.js';
import {
  readAll,
  readCount,
  readEnum,
  readLogTime,
  readOptionalBytes,
  readOptionalText,
  readOptionalU64,
  writeEnum,
  writeOptionalBytes,
  writeOptionalText,
  writeOptionalU64,
} from './payload-fields.js';
import type { RequestCall } from './service-call.js';
import { decodeScanResponse, encodeScanResponse, type ViewScanResponse } from './view-service-v1.js';

/**
 * What a materializer says of projections, version 1; part of its service (view-service-v1.ts). Little endian; entries, position and view
 * read as in entry-v1.ts.
 *
 *     0x0320 lookup       view read · string index · string value
 *                         optional (varint length, after) · varint limit · varint bytesMax · bool values
 *                         → entries · bool more · position
 *     0x0321 parked       view read · u64 after · varint limit
 *                         → varint count × parked event · bool more · position
 *     0x0322 projections  → varint count × projection
 *
 *     parked event = varint partition · u64 offset · u64 logTime · optional string type · optional (varint length, key)
 *                    optional (varint length, value) · optional string contentType · string error · varint attempts
 *     projection   = string view · string topic · varint version · enum state (live building halted refused) · bool archive · varint parked
 *                    string refusal · varint count × string index · bool building, then if so: building
 *                    varint count × (varint partition · u64 offset · string reason)
 *     building     = varint version · u64 offset · u64 target · varint percent × 10 · optional u64 etaSeconds
 */
export interface ViewLookupRequest extends ViewReadMessage {
  readonly index: string;
  readonly value: string;
  readonly after: Buffer | null;
  readonly limit: number;
  readonly bytesMax: number;
  readonly values: boolean;
}

export interface ViewParkedRequest extends ViewReadMessage {
  readonly after: Offset;
  readonly limit: number;
}

export interface ParkedEventMessage {
  readonly partition: number;
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly type: string | null;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly contentType: string | null;
  readonly error: string;
  readonly attempts: number;
}

export interface ViewParkedResponse {
  readonly events: readonly ParkedEventMessage[];
  readonly more: boolean;
  readonly position: PositionMessage;
}

export interface ProjectionMessage {
  readonly view: string;
  readonly topic: string;
  readonly version: number;
  readonly state: 'live' | 'building' | 'halted' | 'refused';
  readonly indexes: readonly string[];
  readonly archive: boolean;
  readonly building: ProjectionBuildingMessage | null;
  readonly halted: readonly { readonly partition: number; readonly offset: Offset; readonly reason: string }[];
  readonly parked: number;
  readonly refusal: string;
}

export interface ProjectionBuildingMessage {
  readonly version: number;
  readonly offset: number;
  readonly target: number;
  /** In tenths. */
  readonly percent: number;
  readonly etaSeconds: number | null;
}

const STATES = ['live', 'building', 'halted', 'refused'] as const;
/** partition, offset, time, four absences, an empty error, attempts. */
const PARKED_BYTES_MIN = 23;
const PROJECTION_BYTES_MIN = 10;

const lookup: RequestCall<ViewLookupRequest, ViewScanResponse> = {
  method: 0x0320,
  encodeRequest(request) {
    const writer = writeViewRead(new ByteWriter(96), request).string(request.index).string(request.value);
    writeOptionalBytes(writer, request.after);
    return writer.varint(request.limit).varint(request.bytesMax).bool(request.values).finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readViewRead(reader),
      index: reader.string(),
      value: reader.string(),
      after: readOptionalBytes(reader),
      limit: reader.varint(),
      bytesMax: reader.varint(),
      values: reader.bool(),
    })),
  encodeResponse: encodeScanResponse,
  decodeResponse: decodeScanResponse,
};

const parked: RequestCall<ViewParkedRequest, ViewParkedResponse> = {
  method: 0x0321,
  encodeRequest(request) {
    return writeViewRead(new ByteWriter(64), request).u64(request.after).varint(request.limit).finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readViewRead(reader),
      after: reader.offset(),
      limit: reader.varint(),
    })),
  encodeResponse({ events, more, position }) {
    const writer = new ByteWriter(512).varint(events.length);
    for (const event of events) {
      writer.varint(event.partition).u64(event.offset).u64(event.logTime);
      writeOptionalText(writer, event.type);
      writeOptionalBytes(writer, event.key);
      writeOptionalBytes(writer, event.value);
      writeOptionalText(writer, event.contentType);
      writer.string(event.error).varint(event.attempts);
    }
    return writePosition(writer.bool(more), position).finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const events: ParkedEventMessage[] = [];
      for (let left = readCount(reader, PARKED_BYTES_MIN); left > 0; left--) {
        events.push({
          partition: reader.varint(),
          offset: reader.offset(),
          logTime: readLogTime(reader),
          type: readOptionalText(reader),
          key: readOptionalBytes(reader),
          value: readOptionalBytes(reader),
          contentType: readOptionalText(reader),
          error: reader.string(),
          attempts: reader.varint(),
        });
      }
      return { events, more: reader.bool(), position: readPosition(reader) };
    }),
};

const projections: RequestCall<void, readonly ProjectionMessage[]> = {
  method: 0x0322,
  encodeRequest: encodeNothing,
  decodeRequest: decodeNothing,
  encodeResponse(list) {
    const writer = new ByteWriter(512).varint(list.length);
    for (const projection of list) {
      const { building } = projection;
      writer.string(projection.view).string(projection.topic).varint(projection.version);
      writeEnum(writer, STATES, projection.state);
      writer.bool(projection.archive).varint(projection.parked).string(projection.refusal);
      writer.varint(projection.indexes.length);
      for (const index of projection.indexes) writer.string(index);
      writer.bool(building !== null);
      if (building !== null) {
        writer.varint(building.version).u64(building.offset).u64(building.target);
        writeOptionalU64(writer.varint(Math.round(building.percent * 10)), building.etaSeconds);
      }
      writer.varint(projection.halted.length);
      for (const { partition, offset, reason } of projection.halted) {
        writer.varint(partition).u64(offset).string(reason);
      }
    }
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const list: ProjectionMessage[] = [];
      for (let left = readCount(reader, PROJECTION_BYTES_MIN); left > 0; left--) {
        const head = {
          view: reader.string(),
          topic: reader.string(),
          version: reader.varint(),
          state: readEnum(reader, STATES),
          archive: reader.bool(),
          parked: reader.varint(),
          refusal: reader.string(),
        };
        const indexes = Array.from({ length: readCount(reader, 1) }, () => reader.string());
        const building = reader.bool()
          ? {
              version: reader.varint(),
              offset: reader.u64(),
              target: reader.u64(),
              percent: reader.varint() / 10,
              etaSeconds: readOptionalU64(reader),
            }
          : null;
        const halted = Array.from({ length: readCount(reader, 10) }, () => ({
          partition: reader.varint(),
          offset: reader.offset(),
          reason: reader.string(),
        }));
        list.push({ ...head, indexes, building, halted });
      }
      return list;
    }),
};

export const projectionServiceV1 = { lookup, parked, projections } as const;
