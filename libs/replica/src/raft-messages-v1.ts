import {
  ByteReader,
  ByteWriter,
  TidelineError,
  asGroupId,
  asOffset,
  asTerm,
  varintSize,
  type GroupId,
  type NodeId,
  type Offset,
  type Term,
} from '#kernel';
import { decodeConfiguration, encodeConfiguration, type Entry, type Message } from '#raft';
import {
  BATCH_HEADER_BYTES,
  batchFirstOffset,
  batchGroup,
  batchHeaderIsValid,
  batchLength,
  batchPayloadIsValid,
  batchRecordCount,
} from '#wire';
import { entryOfBatch } from './entry-of-batch.js';

/**
 * Messages of many groups from one node to another: all of one turn in one frame. Version 1, little endian.
 *
 *     frame   = u8 version (1), then messages up to the end of the frame
 *     message = u8 type, varint group, varint term, then by type:
 *
 *      1 vote-request        u8 flags (1 pre-vote · 2 transfer) · varint last offset · varint last term
 *      2 vote-response       u8 flags (1 pre-vote · 2 granted)
 *      3 append-request      varint previous offset · varint previous term · varint commit · varint count,
 *                            then count record batches as they are in the log
 *      4 append-response     u8 success · varint offset · varint hint term · varint hint offset
 *      5 heartbeat           varint commit · varint round
 *      6 heartbeat-response  varint round
 *      7 snapshot-request    varint offset · varint term · varint length, configuration · varint length, state
 *      8 snapshot-response   varint offset
 *      9 timeout-now
 *     10 repair-request      varint from · varint to, included (0: as far as you can): committed batches wanted in place of damaged ones
 *     11 repair-response     varint from · varint commit · varint count, then count record batches,
 *                            then varint offset · and unless that is 0: varint term · varint length, state: in place of what was trimmed
 *     12 heartbeat-response with a promise (see read-lease.ts)  varint round · varint promise, in ms
 *
 * Sender and receiver are those of the connection. Batches are written as pieces of the frame where copying would cost more, and read as views
 * of it. A batch whose checksum is wrong voids its message; what does not parse voids the rest of the frame.
 */
export const RAFT_MESSAGES_VERSION = 1;

/** A frame is closed when it has reached this size; with one more message, the largest batch in it, it is still within what the network takes. */
export const PEER_FRAME_BYTES = 2 * 1024 * 1024;
/** A batch from this size on becomes a piece of its own; a smaller one is copied. */
const PIECE_BYTES_MIN = 2048;
const WRITER_BYTES = 1024;

/** Between drivers only: the core knows nothing of it. See log-repair.ts. */
export interface RepairRequest {
  readonly type: 'repair-request';
  readonly from: NodeId;
  readonly to: NodeId;
  /** The term this node was last part of. */
  readonly term: Term;
  readonly fromOffset: Offset;
  /** 0: as far as you can. */
  readonly toOffset: Offset;
}

export interface RepairResponse {
  readonly type: 'repair-response';
  readonly from: NodeId;
  readonly to: NodeId;
  /** Of a leader that has committed in its term; 0 from anybody else. */
  readonly term: Term;
  readonly fromOffset: Offset;
  readonly commit: Offset;
  /** From fromOffset on; none when there is nothing to give. */
  readonly batches: readonly Uint8Array[];
  /** What stands for batches that have been trimmed, if fromOffset is one of them. */
  readonly snapshot: RepairSnapshot | null;
}

export interface RepairSnapshot {
  readonly offset: Offset;
  readonly term: Term;
  /** As in a Raft snapshot (checkpoint-v1.ts). */
  readonly state: Uint8Array;
}

export type PeerMessage = Message | RepairRequest | RepairResponse;

/** Gathers the messages of one turn to one peer. Reusable. */
export class PeerFrameWriter {
  private writer: ByteWriter | null = null;
  private pieces: Uint8Array[] = [];
  /** Where the bytes of the writer that are not yet a piece begin. */
  private pieceStart = 0;
  private length = 0;
  private frames: (readonly Uint8Array[])[] = [];

  get isEmpty(): boolean {
    return this.writer === null && this.frames.length === 0;
  }

  /** Frames of what has been added, each a list of pieces; the writer is empty again. */
  take(): readonly (readonly Uint8Array[])[] {
    this.closeFrame();
    const { frames } = this;
    this.frames = [];
    return frames;
  }

  private open(): ByteWriter {
    if (this.writer === null) {
      this.writer = new ByteWriter(WRITER_BYTES).u8(RAFT_MESSAGES_VERSION);
      this.pieceStart = 0;
    }
    return this.writer;
  }

  private closePiece(writer: ByteWriter): void {
    if (writer.position === this.pieceStart) return;
    this.pieces.push(writer.buffer.subarray(this.pieceStart, writer.position));
    this.length += writer.position - this.pieceStart;
    this.pieceStart = writer.position;
  }

  private closeFrame(): void {
    const { writer } = this;
    if (writer === null) return;
    this.closePiece(writer);
    this.frames.push(this.pieces);
    this.writer = null;
    this.pieces = [];
    this.length = 0;
  }

  add(group: GroupId, message: PeerMessage): void {
    const writer = this.open();
    switch (message.type) {
      case 'vote-request':
        head(writer, 1, group, message.term).u8((message.preVote ? 1 : 0) | (message.transfer ? 2 : 0));
        writer.varint(message.lastOffset).varint(message.lastTerm);
        break;
      case 'vote-response':
        head(writer, 2, group, message.term).u8((message.preVote ? 1 : 0) | (message.granted ? 2 : 0));
        break;
      case 'append-request': {
        const { entries } = message;
        head(writer, 3, group, message.term).varint(message.prevOffset).varint(message.prevTerm);
        writer.varint(message.commit).varint(entries.length);
        for (let i = 0; i < entries.length; i++) this.addBytes(writer, entries[i].bytes);
        break;
      }
      case 'append-response':
        head(writer, 4, group, message.term).bool(message.success).varint(message.offset);
        writer.varint(message.hintTerm).varint(message.hintOffset);
        break;
      case 'heartbeat':
        head(writer, 5, group, message.term).varint(message.commit).varint(message.round);
        break;
      case 'heartbeat-response':
        if (message.promiseMs === undefined) head(writer, 6, group, message.term).varint(message.round);
        else head(writer, 12, group, message.term).varint(message.round).varint(message.promiseMs);
        break;
      case 'snapshot-request': {
        const { offset, term, configuration, state } = message.snapshot;
        head(writer, 7, group, message.term).varint(offset).varint(term);
        writer.lengthPrefixed(encodeConfiguration(configuration)).varint(state.length);
        this.addBytes(writer, state);
        break;
      }
      case 'snapshot-response':
        head(writer, 8, group, message.term).varint(message.offset);
        break;
      case 'timeout-now':
        head(writer, 9, group, message.term);
        break;
      case 'repair-request':
        head(writer, 10, group, message.term).varint(message.fromOffset).varint(message.toOffset);
        break;
      case 'repair-response':
        head(writer, 11, group, message.term)
          .varint(message.fromOffset)
          .varint(message.commit)
          .varint(message.batches.length);
        for (const batch of message.batches) this.addBytes(writer, batch);
        if (message.snapshot === null) writer.varint(0);
        else {
          const { offset, term, state } = message.snapshot;
          writer.varint(offset).varint(term).varint(state.length);
          this.addBytes(writer, state);
        }
        break;
    }
    if (this.length + writer.position - this.pieceStart >= PEER_FRAME_BYTES) this.closeFrame();
  }

  private addBytes(writer: ByteWriter, bytes: Uint8Array): void {
    if (bytes.length < PIECE_BYTES_MIN) {
      writer.bytes(bytes);
      return;
    }
    this.closePiece(writer);
    this.pieces.push(bytes);
    this.length += bytes.length;
  }
}

const head = (writer: ByteWriter, type: number, group: GroupId, term: number): ByteWriter => {
  writer.ensure(1 + varintSize(group) + varintSize(term));
  return writer.u8(type).varint(group).varint(term);
};

/** What a frame held besides good messages. */
export interface FrameFaults {
  /** Messages dropped because a batch, a configuration or a snapshot in them was bad. */
  corrupt: number;
  /** 1 if the frame, or the rest of it, did not parse. */
  malformed: number;
}

const CORRUPT = 'corrupt';

/** Calls `visit` for each good message. Never throws, whatever the bytes are. */
export const decodePeerFrame = (
  payload: Buffer,
  route: { readonly from: NodeId; readonly to: NodeId },
  visit: (group: GroupId, message: PeerMessage) => void,
): FrameFaults => {
  const faults: FrameFaults = { corrupt: 0, malformed: 0 };
  const reader = new ByteReader(payload);
  if (reader.remaining === 0 || reader.u8() !== RAFT_MESSAGES_VERSION) {
    faults.malformed = 1;
    return faults;
  }
  while (reader.remaining > 0) {
    let group: GroupId;
    let message: PeerMessage | typeof CORRUPT;
    try {
      const type = reader.u8();
      group = asGroupId(reader.varint());
      message = readMessage(reader, type, group, route);
    } catch (error) {
      if (!(error instanceof TidelineError)) throw error;
      faults.malformed = 1;
      return faults;
    }
    if (message === CORRUPT) faults.corrupt++;
    else visit(group, message);
  }
  return faults;
};

const readMessage = (
  reader: ByteReader,
  type: number,
  group: GroupId,
  { from, to }: { readonly from: NodeId; readonly to: NodeId },
): PeerMessage | typeof CORRUPT => {
  const term = asTerm(reader.varint());
  switch (type) {
    case 1: {
      const flags = reader.u8();
      return {
        type: 'vote-request',
        from,
        to,
        term,
        preVote: (flags & 1) !== 0,
        transfer: (flags & 2) !== 0,
        lastOffset: asOffset(reader.varint()),
        lastTerm: asTerm(reader.varint()),
      };
    }
    case 2: {
      const flags = reader.u8();
      return { type: 'vote-response', from, to, term, preVote: (flags & 1) !== 0, granted: (flags & 2) !== 0 };
    }
    case 3: {
      const prevOffset = asOffset(reader.varint());
      const prevTerm = asTerm(reader.varint());
      const commit = asOffset(reader.varint());
      const batches = readBatches(reader, group, prevOffset + 1);
      if (batches === null) return CORRUPT;
      const entries = entriesOf(batches);
      return entries === null
        ? CORRUPT
        : { type: 'append-request', from, to, term, prevOffset, prevTerm, entries, commit };
    }
    case 4:
      return {
        type: 'append-response',
        from,
        to,
        term,
        success: reader.bool(),
        offset: asOffset(reader.varint()),
        hintTerm: asTerm(reader.varint()),
        hintOffset: asOffset(reader.varint()),
      };
    case 5:
      return { type: 'heartbeat', from, to, term, commit: asOffset(reader.varint()), round: reader.varint() };
    case 6:
      return { type: 'heartbeat-response', from, to, term, round: reader.varint() };
    case 12:
      return {
        type: 'heartbeat-response',
        from,
        to,
        term,
        round: reader.varint(),
        promiseMs: reader.varint(),
      };
    case 7: {
      const offset = asOffset(reader.varint());
      const snapshotTerm = asTerm(reader.varint());
      const configurationBytes = reader.lengthPrefixed();
      const state = reader.lengthPrefixed();
      const configuration = orCorrupt(() => decodeConfiguration(configurationBytes));
      if (configuration === null) return CORRUPT;
      return {
        type: 'snapshot-request',
        from,
        to,
        term,
        snapshot: { offset, term: snapshotTerm, configuration, state },
      };
    }
    case 8:
      return { type: 'snapshot-response', from, to, term, offset: asOffset(reader.varint()) };
    case 9:
      return { type: 'timeout-now', from, to, term };
    case 10:
      return {
        type: 'repair-request',
        from,
        to,
        term,
        fromOffset: asOffset(reader.varint()),
        toOffset: asOffset(reader.varint()),
      };
    case 11: {
      const fromOffset = asOffset(reader.varint());
      const commit = asOffset(reader.varint());
      const batches = readBatches(reader, group, null);
      const offset = asOffset(reader.varint());
      const snapshot = offset === 0 ? null : { offset, term: asTerm(reader.varint()), state: reader.lengthPrefixed() };
      return batches === null
        ? CORRUPT
        : { type: 'repair-response', from, to, term, fromOffset, commit, batches, snapshot };
    }
    default:
      throw new TidelineError('malformed-frame', `message type ${type}`);
  }
};

/** Consecutive batches from `firstOffset` on (null: from wherever the first begins); null when one of them cannot be trusted. */
const readBatches = (reader: ByteReader, group: GroupId, firstOffset: number | null): Buffer[] | null => {
  const count = reader.varint();
  const batches: Buffer[] = [];
  let good = true;
  let next = firstOffset;
  for (let i = 0; i < count; i++) {
    if (reader.remaining < BATCH_HEADER_BYTES) throw new TidelineError('malformed-frame', 'a batch is cut short');
    const length = batchLength(reader.buffer, reader.position);
    if (length < BATCH_HEADER_BYTES) throw new TidelineError('malformed-frame', `a batch of ${length} bytes`);
    const batch = reader.bytes(length);
    // A length that is wrong shows in the header's checksum, one that is right leads to the next message.
    if (!good) continue;
    good =
      batchHeaderIsValid(batch) &&
      batchGroup(batch) === group &&
      (next === null || batchFirstOffset(batch) === next) &&
      batchPayloadIsValid(batch);
    if (!good) continue;
    batches.push(batch);
    next = batchFirstOffset(batch) + batchRecordCount(batch);
  }
  return good ? batches : null;
};

const entriesOf = (batches: readonly Buffer[]): Entry[] | null => {
  const entries: Entry[] = [];
  return orCorrupt(() => {
    for (const batch of batches) entries.push(entryOfBatch(batch));
    return entries;
  });
};

const orCorrupt = <T>(decode: () => T): T | null => {
  try {
    return decode();
  } catch (error) {
    if (error instanceof TidelineError) return null;
    throw error;
  }
};
