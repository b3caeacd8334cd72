import { crc32 } from 'node:zlib';
import { ByteWriter, TidelineError, type LogTime, type Offset } from '#kernel';
import {
  readAll,
  readCount,
  readEnum,
  readLogTime,
  readOptionalText,
  readOptionalU64,
  writeEnum,
  writeOptionalText,
  writeOptionalU64,
} from './payload-fields.js';
import type { RequestCall } from './service-call.js';
import { readPart, writePart, type ViewPart } from './view-part-v1.js';

/**
 * What hosts of views ask one another, and operators ask them, version 1; on the materializer's port beside view-service-v1.ts. Little endian;
 * part as in view-part-v1.ts.
 *
 *     info   string host · string view · varint partition · u64 offset · u64 logTime · string digest · varint bytes · varint entries
 *            varint slots · u64 createdAt · bool verified
 *
 *     0x0341 snapshots  optional string view · bool everywhere → varint count × info
 *     0x0342 create     string view · optional u64 partition → varint count × info
 *     0x0343 restore    string view · optional u64 partition · optional u64 offset → varint count × (varint partition · string source · u64 offset)
 *     0x0344 piece      part · u64 offset · u64 position · varint length → u64 bytes of the file · u32 CRC-32 of the piece · varint length, piece
 *     0x0345 marks      → string host · varint count × (part · varint count × (u64 offset · string digest))
 *     0x0346 digests    part · u64 offset → bool known · 512 × u32 if known                    (two lanes a slot)
 *     0x0348 dispute    part · u64 offset · 512 × u32 → nothing                                 (the sender's; no digest is that of most hosts)
 *     0x0347 health     optional string view → varint count × (string view · varint partition
 *                       bool restoring: enum phase (snapshot, log) · string source · u8 percent · u64 offset · u64 target · optional u64 etaSeconds
 *                       varint count × u8 stopped slot · optional string problem)
 */
export interface SnapshotInfoMessage {
  readonly host: string;
  readonly view: string;
  readonly partition: number;
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly digest: string;
  readonly bytes: number;
  readonly entries: number;
  readonly slots: number;
  readonly createdAt: number;
  readonly verified: boolean;
}

export interface SnapshotPieceRequest extends ViewPart {
  readonly offset: Offset;
  readonly position: number;
  /** At most SNAPSHOT_PIECE_BYTES_MAX; fewer bytes come at the end of the file. */
  readonly length: number;
}

export interface SnapshotPiece {
  readonly fileBytes: number;
  readonly bytes: Buffer;
}

export interface DigestMarksMessage {
  readonly host: string;
  readonly parts: readonly (ViewPart & {
    readonly marks: readonly { readonly offset: Offset; readonly digest: string }[];
  })[];
}

export interface PartitionHealthMessage {
  readonly view: string;
  readonly partition: number;
  readonly restoring: {
    readonly phase: 'snapshot' | 'log';
    readonly source: string;
    readonly percent: number;
    readonly offset: Offset;
    readonly target: Offset;
    readonly etaSeconds: number | null;
  } | null;
  readonly stoppedSlots: readonly number[];
  readonly problem: string | null;
}

export const SNAPSHOT_PIECE_BYTES_MAX = 1024 * 1024;
const LANES = 512;
const PHASES = ['snapshot', 'log'] as const;
/** Smallest info, part with marks, and state of a partition. */
const INFO_BYTES_MIN = 33;
const PART_BYTES_MIN = 8;
const HEALTH_BYTES_MIN = 5;

const encodeInfos = (infos: readonly SnapshotInfoMessage[]): Buffer => {
  const writer = new ByteWriter(1024).varint(infos.length);
  for (const info of infos) {
    writer.string(info.host).string(info.view).varint(info.partition).u64(info.offset).u64(info.logTime);
    writer.string(info.digest).varint(info.bytes).varint(info.entries).varint(info.slots);
    writer.u64(info.createdAt).bool(info.verified);
  }
  return writer.finish();
};

const decodeInfos = (payload: Buffer): SnapshotInfoMessage[] =>
  readAll(payload, (reader) => {
    const infos: SnapshotInfoMessage[] = [];
    for (let left = readCount(reader, INFO_BYTES_MIN); left > 0; left--) {
      infos.push({
        host: reader.string(),
        view: reader.string(),
        partition: reader.varint(),
        offset: reader.offset(),
        logTime: readLogTime(reader),
        digest: reader.string(),
        bytes: reader.varint(),
        entries: reader.varint(),
        slots: reader.varint(),
        createdAt: reader.u64(),
        verified: reader.bool(),
      });
    }
    return infos;
  });

const snapshots: RequestCall<
  { readonly view: string | null; readonly everywhere: boolean },
  readonly SnapshotInfoMessage[]
> = {
  method: 0x0341,
  encodeRequest: ({ view, everywhere }) => writeOptionalText(new ByteWriter(64), view).bool(everywhere).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({ view: readOptionalText(reader), everywhere: reader.bool() })),
  encodeResponse: encodeInfos,
  decodeResponse: decodeInfos,
};

const create: RequestCall<
  { readonly view: string; readonly partition: number | null },
  readonly SnapshotInfoMessage[]
> = {
  method: 0x0342,
  encodeRequest: ({ view, partition }) => {
    const writer = new ByteWriter(64).string(view);
    writeOptionalU64(writer, partition);
    return writer.finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({ view: reader.string(), partition: readOptionalU64(reader) })),
  encodeResponse: encodeInfos,
  decodeResponse: decodeInfos,
};

interface RestoredMessage {
  readonly partition: number;
  readonly source: string;
  readonly offset: Offset;
}

const restore: RequestCall<
  { readonly view: string; readonly partition: number | null; readonly offset: Offset | null },
  readonly RestoredMessage[]
> = {
  method: 0x0343,
  encodeRequest: ({ view, partition, offset }) => {
    const writer = new ByteWriter(64).string(view);
    writeOptionalU64(writer, partition);
    writeOptionalU64(writer, offset);
    return writer.finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      view: reader.string(),
      partition: readOptionalU64(reader),
      offset: reader.bool() ? reader.offset() : null,
    })),
  encodeResponse: (restored) => {
    const writer = new ByteWriter(256).varint(restored.length);
    for (const { partition, source, offset } of restored) writer.varint(partition).string(source).u64(offset);
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const restored: RestoredMessage[] = [];
      for (let left = readCount(reader, 10); left > 0; left--) {
        restored.push({ partition: reader.varint(), source: reader.string(), offset: reader.offset() });
      }
      return restored;
    }),
};

const piece: RequestCall<SnapshotPieceRequest, SnapshotPiece> = {
  method: 0x0344,
  encodeRequest: (request) =>
    writePart(new ByteWriter(128), request).u64(request.offset).u64(request.position).varint(request.length).finish(),
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readPart(reader),
      offset: reader.offset(),
      position: reader.u64(),
      length: reader.varint(),
    })),
  encodeResponse: ({ fileBytes, bytes }) => [
    new ByteWriter(24).u64(fileBytes).u32(crc32(bytes)).varint(bytes.length).finish(),
    bytes,
  ],
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const fileBytes = reader.u64();
      const crc = reader.u32();
      const bytes = reader.lengthPrefixed();
      if (crc32(bytes) !== crc)
        throw new TidelineError('malformed-frame', 'a piece of a snapshot was damaged on its way');
      return { fileBytes, bytes };
    }),
};

const marks: RequestCall<void, DigestMarksMessage> = {
  method: 0x0345,
  encodeRequest: () => Buffer.alloc(0),
  decodeRequest: (payload) => readAll(payload, () => undefined),
  encodeResponse: ({ host, parts }) => {
    const writer = new ByteWriter(1024).string(host).varint(parts.length);
    for (const part of parts) {
      writePart(writer, part).varint(part.marks.length);
      for (const { offset, digest } of part.marks) writer.u64(offset).string(digest);
    }
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const host = reader.string();
      const parts: DigestMarksMessage['parts'][number][] = [];
      for (let left = readCount(reader, PART_BYTES_MIN); left > 0; left--) {
        const part = readPart(reader);
        const list: { offset: Offset; digest: string }[] = [];
        for (let more = readCount(reader, 9); more > 0; more--) {
          list.push({ offset: reader.offset(), digest: reader.string() });
        }
        parts.push({ ...part, marks: list });
      }
      return { host, parts };
    }),
};

const digests: RequestCall<ViewPart & { readonly offset: Offset }, Uint32Array | null> = {
  method: 0x0346,
  encodeRequest: (request) => writePart(new ByteWriter(128), request).u64(request.offset).finish(),
  decodeRequest: (payload) => readAll(payload, (reader) => ({ ...readPart(reader), offset: reader.offset() })),
  encodeResponse: (lanes) => {
    const writer = new ByteWriter(1 + LANES * 4).bool(lanes !== null);
    for (const lane of lanes ?? []) writer.u32(lane);
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => (reader.bool() ? Uint32Array.from({ length: LANES }, () => reader.u32()) : null)),
};

const dispute: RequestCall<ViewPart & { readonly offset: Offset; readonly digests: Uint32Array }, void> = {
  method: 0x0348,
  encodeRequest: (request) => {
    const writer = writePart(new ByteWriter(128 + LANES * 4), request).u64(request.offset);
    for (const lane of request.digests) writer.u32(lane);
    return writer.finish();
  },
  decodeRequest: (payload) =>
    readAll(payload, (reader) => ({
      ...readPart(reader),
      offset: reader.offset(),
      digests: Uint32Array.from({ length: LANES }, () => reader.u32()),
    })),
  encodeResponse: () => Buffer.alloc(0),
  decodeResponse: (payload) => readAll(payload, () => undefined),
};

const health: RequestCall<{ readonly view: string | null }, readonly PartitionHealthMessage[]> = {
  method: 0x0347,
  encodeRequest: ({ view }) => writeOptionalText(new ByteWriter(64), view).finish(),
  decodeRequest: (payload) => readAll(payload, (reader) => ({ view: readOptionalText(reader) })),
  encodeResponse: (partitions) => {
    const writer = new ByteWriter(256).varint(partitions.length);
    for (const { view, partition, restoring, stoppedSlots, problem } of partitions) {
      writer
        .string(view)
        .varint(partition)
        .bool(restoring !== null);
      if (restoring !== null) {
        writeEnum(writer, PHASES, restoring.phase);
        writer.string(restoring.source).u8(restoring.percent).u64(restoring.offset).u64(restoring.target);
        writeOptionalU64(writer, restoring.etaSeconds);
      }
      writer.varint(stoppedSlots.length);
      for (const slot of stoppedSlots) writer.u8(slot);
      writeOptionalText(writer, problem);
    }
    return writer.finish();
  },
  decodeResponse: (payload) =>
    readAll(payload, (reader) => {
      const partitions: PartitionHealthMessage[] = [];
      for (let left = readCount(reader, HEALTH_BYTES_MIN); left > 0; left--) {
        const view = reader.string();
        const partition = reader.varint();
        const restoring = reader.bool()
          ? {
              phase: readEnum(reader, PHASES),
              source: reader.string(),
              percent: reader.u8(),
              offset: reader.offset(),
              target: reader.offset(),
              etaSeconds: readOptionalU64(reader),
            }
          : null;
        const stoppedSlots: number[] = [];
        for (let slots = readCount(reader, 1); slots > 0; slots--) stoppedSlots.push(reader.u8());
        partitions.push({ view, partition, restoring, stoppedSlots, problem: readOptionalText(reader) });
      }
      return partitions;
    }),
};

export const snapshotServiceV1 = { snapshots, create, restore, piece, marks, digests, dispute, health } as const;
