import {
  ByteReader,
  ByteWriter,
  asGroupId,
  asNodeId,
  asTerm,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
  type Term,
} from '#kernel';
import {
  decodeClusterDescription,
  encodeClusterDescription,
  type ClusterDescriptionMessage,
} from './cluster-description-v1.js';
import { readAll, readEnum, readLogTime, writeEnum } from './payload-fields.js';
import { EMPTY_PAYLOAD, type Pieces, type RequestCall, type StreamCall } from './service-call.js';

/**
 * The raft-log service, version 1: one node's partitions, addressed by Raft group. Little endian; `batches` runs to the end.
 *
 *     0x0201 describe            → cluster description (cluster-description-v1.ts)
 *     0x0202 append              u32 group · enum acks (none leader quorum) · batch
 *                                → u64 firstOffset · u64 lastOffset · u64 logTime · u32 term · u32 node · bool duplicate
 *     0x0203 fetch               u32 group · u64 from · u32 maxBytes · u32 maxWaitMs
 *                                → u64 nextOffset · u64 commitOffset · u64 logStartOffset · batches
 *     0x0204 barrier             u32 group → u64 offset · u64 time · u32 term · u32 node
 *     0x0205 openSession         u32 group → u64 session
 *     0x0206 offsetAtTime        u32 group · u64 time → u64 offset
 *     0x0207 transferLeadership  u32 group · u32 to → nothing
 *     0x0210 tail (stream)       u32 group · u64 from → items: u64 nextOffset · u64 commitOffset · batches
 */
export type AcksField = 'none' | 'leader' | 'quorum';

export interface LogAppendRequest {
  readonly group: GroupId;
  readonly acks: AcksField;
  readonly batch: Buffer;
}

export interface AppendResponse {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly logTime: LogTime;
  readonly term: Term;
  readonly node: NodeId;
  readonly duplicate: boolean;
}

export interface LogFetchRequest {
  readonly group: GroupId;
  readonly from: Offset;
  readonly maxBytes: number;
  readonly maxWaitMs: number;
}

/** Whole batches, as one run or as the pieces the storage had them in. */
export type BatchRun = Uint8Array | readonly Uint8Array[];

interface FetchPosition {
  readonly nextOffset: Offset;
  readonly commitOffset: Offset;
  readonly logStartOffset: Offset;
}
export interface FetchResponse extends FetchPosition {
  readonly batches: Buffer;
}
export interface FetchResponseInput extends FetchPosition {
  readonly batches: BatchRun;
}

interface TailPosition {
  readonly nextOffset: Offset;
  readonly commitOffset: Offset;
}
export interface TailItem extends TailPosition {
  readonly batches: Buffer;
}
export interface TailItemInput extends TailPosition {
  readonly batches: BatchRun;
}

export interface BarrierResponse {
  readonly offset: Offset;
  readonly time: LogTime;
  readonly term: Term;
  readonly node: NodeId;
}

const ACKS: readonly AcksField[] = ['none', 'leader', 'quorum'];

/** Puts a message's own bytes before a run of batches without joining them. */
export const withBatches = (head: Uint8Array, batches: BatchRun): Pieces =>
  batches instanceof Uint8Array ? [head, batches] : [head, ...batches];

/* ---- messages the gateway service has too ---- */

export const writeAppendResponse = (writer: ByteWriter, response: AppendResponse): ByteWriter =>
  writer
    .u64(response.firstOffset)
    .u64(response.lastOffset)
    .u64(response.logTime)
    .u32(response.term)
    .u32(response.node)
    .bool(response.duplicate);

export const readAppendResponse = (reader: ByteReader): AppendResponse => ({
  firstOffset: reader.offset(),
  lastOffset: reader.offset(),
  logTime: readLogTime(reader),
  term: asTerm(reader.u32()),
  node: asNodeId(reader.u32()),
  duplicate: reader.bool(),
});

export const encodeFetchResponse = (response: FetchResponseInput): Pieces =>
  withBatches(
    new ByteWriter(24).u64(response.nextOffset).u64(response.commitOffset).u64(response.logStartOffset).finish(),
    response.batches,
  );

export const decodeFetchResponse = (payload: Buffer): FetchResponse =>
  readAll(payload, (reader) => ({
    nextOffset: reader.offset(),
    commitOffset: reader.offset(),
    logStartOffset: reader.offset(),
    batches: reader.rest(),
  }));

export const encodeTailItem = (item: TailItemInput): Pieces =>
  withBatches(new ByteWriter(16).u64(item.nextOffset).u64(item.commitOffset).finish(), item.batches);

export const decodeTailItem = (payload: Buffer): TailItem =>
  readAll(payload, (reader) => ({
    nextOffset: reader.offset(),
    commitOffset: reader.offset(),
    batches: reader.rest(),
  }));

export const encodeBarrierResponse = (barrier: BarrierResponse): Buffer =>
  new ByteWriter(24).u64(barrier.offset).u64(barrier.time).u32(barrier.term).u32(barrier.node).finish();

export const decodeBarrierResponse = (payload: Buffer): BarrierResponse =>
  readAll(payload, (reader) => ({
    offset: reader.offset(),
    time: readLogTime(reader),
    term: asTerm(reader.u32()),
    node: asNodeId(reader.u32()),
  }));

export const encodeU64 = (value: number): Buffer => new ByteWriter(8).u64(value).finish();
export const decodeU64 = (payload: Buffer): number => readAll(payload, (reader) => reader.u64());
export const encodeNothing = (): Buffer => EMPTY_PAYLOAD;
export const decodeNothing = (payload: Buffer): void => readAll(payload, () => undefined);

/* ---- the calls ---- */

interface GroupRequest {
  readonly group: GroupId;
}
const encodeGroup = (request: GroupRequest): Buffer => new ByteWriter(4).u32(request.group).finish();
const decodeGroup = (payload: Buffer): GroupRequest =>
  readAll(payload, (reader) => ({ group: asGroupId(reader.u32()) }));

const describe: RequestCall<void, ClusterDescriptionMessage> = {
  method: 0x0201,
  encodeRequest: encodeNothing,
  decodeRequest: decodeNothing,
  encodeResponse: encodeClusterDescription,
  decodeResponse: decodeClusterDescription,
};

const append: RequestCall<LogAppendRequest, AppendResponse> = {
  method: 0x0202,
  encodeRequest(request) {
    const writer = new ByteWriter(5).u32(request.group);
    writeEnum(writer, ACKS, request.acks);
    return [writer.finish(), request.batch];
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      group: asGroupId(reader.u32()),
      acks: readEnum(reader, ACKS),
      batch: reader.rest(),
    })),
  encodeResponse: (response) => writeAppendResponse(new ByteWriter(33), response).finish(),
  decodeResponse: (payload) => readAll(payload, readAppendResponse),
};

const fetch: RequestCall<LogFetchRequest, FetchResponse, FetchResponseInput> = {
  method: 0x0203,
  encodeRequest: (request) =>
    new ByteWriter(20).u32(request.group).u64(request.from).u32(request.maxBytes).u32(request.maxWaitMs).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      group: asGroupId(reader.u32()),
      from: reader.offset(),
      maxBytes: reader.u32(),
      maxWaitMs: reader.u32(),
    })),
  encodeResponse: encodeFetchResponse,
  decodeResponse: decodeFetchResponse,
};

const barrier: RequestCall<GroupRequest, BarrierResponse> = {
  method: 0x0204,
  encodeRequest: encodeGroup,
  decodeRequest: decodeGroup,
  encodeResponse: encodeBarrierResponse,
  decodeResponse: decodeBarrierResponse,
};

const openSession: RequestCall<GroupRequest, number> = {
  method: 0x0205,
  encodeRequest: encodeGroup,
  decodeRequest: decodeGroup,
  encodeResponse: encodeU64,
  decodeResponse: decodeU64,
};

const offsetAtTime: RequestCall<{ readonly group: GroupId; readonly time: LogTime }, Offset> = {
  method: 0x0206,
  encodeRequest: (request) => new ByteWriter(12).u32(request.group).u64(request.time).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({ group: asGroupId(reader.u32()), time: readLogTime(reader) })),
  encodeResponse: encodeU64,
  decodeResponse: (payload) => readAll(payload, (reader) => reader.offset()),
};

const transferLeadership: RequestCall<{ readonly group: GroupId; readonly to: NodeId }, void> = {
  method: 0x0207,
  encodeRequest: (request) => new ByteWriter(8).u32(request.group).u32(request.to).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({ group: asGroupId(reader.u32()), to: asNodeId(reader.u32()) })),
  encodeResponse: encodeNothing,
  decodeResponse: decodeNothing,
};

const tail: StreamCall<{ readonly group: GroupId; readonly from: Offset }, TailItem, TailItemInput> = {
  method: 0x0210,
  encodeRequest: (request) => new ByteWriter(12).u32(request.group).u64(request.from).finish(),
  decodeRequest: (payload) => readAll(payload, (reader) => ({ group: asGroupId(reader.u32()), from: reader.offset() })),
  encodeItem: encodeTailItem,
  decodeItem: decodeTailItem,
};

export const logServiceV1 = {
  describe,
  append,
  fetch,
  barrier,
  openSession,
  offsetAtTime,
  transferLeadership,
  tail,
} as const;
