import { ByteReader, ByteWriter, TidelineError, isErrorCode, readU32, writeU32, type Outcome } from '#kernel';
import { readAddresses, writeAddresses } from './cluster-description-v1.js';

/**
 * Frame, version 1: everything on a connection between Tideline programs is a run of these. Little endian.
 *
 *     at  size
 *      0  u32  length    of the whole frame, header included: 16 … frameBytesMax
 *      4  u8   version   1
 *      5  u8   type
 *      6  u16  method    of request, post, stream-open; else 0
 *      8  u32  id        of the request or stream, chosen by the side that opened it, 1 …; else 0
 *     12  u32  argument
 *     16  payload
 *
 *     type  name         from      argument             payload
 *      1    hello        both      0                    hello (below); first frame of either side, the dialling one's first
 *      2    request      asker     timeoutMs            of the method
 *      3    response     answerer  0                    of the method
 *      4    error        answerer  0                    error (below)
 *      5    post         both      0                    of the method
 *      6    stream-open  consumer  credit in bytes      of the method
 *      7    stream-item  producer  0                    of the method; takes its length from the credit
 *      8    stream-end   producer  0                    empty, or error
 *      9    credit       consumer  more credit          –
 *     10    cancel       asker or consumer  0           – ; of a request or a stream
 *     11    ping         both      any                  –
 *     12    pong         both      the ping's           –
 *     13    goaway       both      0                    error; the sender closes the connection after it
 *
 *     hello = u32 nodeId · string clusterId · string service · string software · varint count × (string service, string address)
 *             · string directory (may be left out; what follows is left for later versions and ignored)
 *     error = string code · u8 outcome (1 rejected · 2 unknown) · string message · string details (JSON object, empty for none)
 *
 * Either side may ask, post and open streams: an id belongs to the side that chose it, and the type says which side that was.
 */
export const FRAME_HEADER_BYTES = 16;
export const FRAME_VERSION = 1;

export const FrameType = {
  Hello: 1,
  Request: 2,
  Response: 3,
  Error: 4,
  Post: 5,
  StreamOpen: 6,
  StreamItem: 7,
  StreamEnd: 8,
  Credit: 9,
  Cancel: 10,
  Ping: 11,
  Pong: 12,
  Goaway: 13,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];
const FRAME_TYPE_MAX = FrameType.Goaway;

/** A hello is the first thing a stranger sends: it gets no more room than this. */
export const HELLO_FRAME_BYTES_MAX = 64 * 1024;
/** Declared lengths are believed up to here; a longer frame's buffer grows with the bytes that really come. */
const FRAME_ALLOCATION_BYTES_INITIAL = 512 * 1024;
/** By how much, while that is not all of it. */
const FRAME_ALLOCATION_GROWTH = 4;
/** Details longer than this are left out: an error must fit in any frame. */
const ERROR_DETAILS_BYTES_MAX = 16 * 1024;
const ERROR_MESSAGE_CHARS_MAX = 4 * 1024;

export interface FrameHeader {
  readonly type: FrameType;
  readonly method: number;
  readonly id: number;
  readonly argument: number;
  readonly payloadBytes: number;
}

/** Writes a header at `at`; there must be room for it. */
export const writeFrameHeader = (bytes: Uint8Array, at: number, header: FrameHeader): void => {
  writeU32(bytes, at, FRAME_HEADER_BYTES + header.payloadBytes);
  bytes[at + 4] = FRAME_VERSION;
  bytes[at + 5] = header.type;
  bytes[at + 6] = header.method;
  bytes[at + 7] = header.method >>> 8;
  writeU32(bytes, at + 8, header.id);
  writeU32(bytes, at + 12, header.argument);
};

/** One frame as one buffer; for tests and for what is sent once. Connections write headers into buffers of their own. */
export const encodeFrame = (
  header: Omit<FrameHeader, 'payloadBytes'>,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer => {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  writeFrameHeader(bytes, 0, { ...header, payloadBytes: payload.length });
  bytes.set(payload, FRAME_HEADER_BYTES);
  return bytes;
};

export interface FrameSink {
  /** `payload` is a view into what was pushed wherever the frame arrived whole. */
  frame(type: FrameType, method: number, id: number, argument: number, payload: Buffer): void;
  /** At most once; the decoder takes nothing after it. */
  malformed(error: TidelineError): void;
}

const EMPTY = Buffer.alloc(0);

/**
 * Cuts a stream of bytes into frames as they come. Holds at most one incomplete frame, and for that no more than it has
 * received (rounded up). Anything thrown by the sink passes through `push`; the decoder is of no use then.
 */
export class FrameDecoder {
  private readonly header = Buffer.alloc(FRAME_HEADER_BYTES);
  private headerBytes = 0;
  /** The payload being gathered; null between frames and inside a header. */
  private payload: Buffer | null = null;
  private payloadBytes = 0;
  private payloadLength = 0;
  private stopped = false;

  constructor(
    private readonly sink: FrameSink,
    private frameBytesMax: number,
  ) {}

  /** Takes effect from the next frame header on. */
  setFrameBytesMax(frameBytesMax: number): void {
    this.frameBytesMax = frameBytesMax;
  }

  /** Nothing more is delivered, not even the rest of the chunk being pushed. */
  stop(): void {
    this.stopped = true;
    this.payload = null;
  }

  /** Bytes held of a frame that is not complete. */
  get heldBytes(): number {
    return this.headerBytes + this.payloadBytes;
  }

  /**
   * Where the rest of the payload that is on its way belongs, as far as there is memory for it: bytes put there are not pushed, but told by
   * `filled`. null between payloads.
   */
  get room(): Buffer | null {
    if (this.payload === null) return null;
    return this.allocated(this.payloadBytes + 1).subarray(this.payloadBytes);
  }

  /** The next `count` bytes were put into the room. */
  filled(count: number): void {
    const payload = this.payload!;
    this.payloadBytes += count;
    if (this.payloadBytes === this.payloadLength) this.complete(payload);
  }

  push(chunk: Buffer): void {
    let at = 0;
    if (this.payload !== null) at = this.gather(chunk, at);
    while (!this.stopped && at < chunk.length) {
      const left = chunk.length - at;
      if (this.headerBytes > 0 || left < FRAME_HEADER_BYTES) {
        const taken = Math.min(left, FRAME_HEADER_BYTES - this.headerBytes);
        chunk.copy(this.header, this.headerBytes, at, at + taken);
        this.headerBytes += taken;
        at += taken;
        if (this.headerBytes < FRAME_HEADER_BYTES) {
          // Garbage that is shorter than a header is found out as soon as its version byte is there.
          if (this.headerBytes > 4) this.acceptable(this.header, 0);
          return;
        }
        if (!this.acceptable(this.header, 0)) return;
        at = this.begin(this.header, 0, chunk, at);
      } else {
        if (!this.acceptable(chunk, at)) return;
        at = this.begin(chunk, at, chunk, at + FRAME_HEADER_BYTES);
      }
    }
  }

  /** False, and the sink told, when no frame can begin like this. */
  private acceptable(bytes: Buffer, at: number): boolean {
    const length = readU32(bytes, at);
    const version = bytes[at + 4];
    if (version !== FRAME_VERSION) return this.refuse('unsupported-version', `frame version ${version}`);
    if (length < FRAME_HEADER_BYTES || length > this.frameBytesMax) {
      return this.refuse('malformed-frame', `frame of ${length} bytes; the limit is ${this.frameBytesMax}`);
    }
    return true;
  }

  private refuse(code: 'malformed-frame' | 'unsupported-version', message: string): false {
    this.stop();
    this.sink.malformed(new TidelineError(code, message));
    return false;
  }

  /** A header is complete; its payload starts at `at` of the chunk. Returns where to go on in the chunk. */
  private begin(header: Buffer, headerAt: number, chunk: Buffer, at: number): number {
    const type = header[headerAt + 5];
    if (type < 1 || type > FRAME_TYPE_MAX) {
      this.refuse('malformed-frame', `frame type ${type}`);
      return at;
    }
    const length = readU32(header, headerAt) - FRAME_HEADER_BYTES;
    if (chunk.length - at >= length) {
      this.headerBytes = 0;
      this.deliver(header, headerAt, length === 0 ? EMPTY : chunk.subarray(at, at + length));
      return at + length;
    }
    if (header !== this.header) header.copy(this.header, 0, headerAt, headerAt + FRAME_HEADER_BYTES);
    this.headerBytes = FRAME_HEADER_BYTES;
    this.payload = Buffer.allocUnsafeSlow(Math.min(length, FRAME_ALLOCATION_BYTES_INITIAL));
    this.payloadBytes = 0;
    this.payloadLength = length;
    return this.gather(chunk, at);
  }

  private gather(chunk: Buffer, at: number): number {
    const taken = Math.min(chunk.length - at, this.payloadLength - this.payloadBytes);
    chunk.copy(this.allocated(this.payloadBytes + taken), this.payloadBytes, at, at + taken);
    this.filled(taken);
    return at + taken;
  }

  /** The payload's memory, grown to hold `needed` bytes if it does not. */
  private allocated(needed: number): Buffer {
    const payload = this.payload!;
    if (needed <= payload.length) return payload;
    const bytes = Math.min(this.payloadLength, Math.max(needed, payload.length * FRAME_ALLOCATION_GROWTH));
    const grown = Buffer.allocUnsafeSlow(bytes);
    payload.copy(grown, 0, 0, this.payloadBytes);
    this.payload = grown;
    return grown;
  }

  private complete(payload: Buffer): void {
    this.payload = null;
    this.payloadBytes = 0;
    this.headerBytes = 0;
    this.deliver(this.header, 0, payload);
  }

  private deliver(header: Buffer, at: number, payload: Buffer): void {
    this.sink.frame(
      header[at + 5] as FrameType,
      header[at + 6] | (header[at + 7] << 8),
      readU32(header, at + 8),
      readU32(header, at + 12),
      payload,
    );
  }
}

/* ---- payloads of the frames themselves ---- */

/** What each side says first. */
export interface Hello {
  /** 0 for a client that is not a node. */
  readonly nodeId: number;
  /** Empty for a client that does not care. A mismatch of two non-empty ids ends the connection with `cluster-mismatch`. */
  readonly clusterId: string;
  /** Whom the dialling side wants: 'peer' | 'log' | 'view' | 'gateway'. */
  readonly service: string;
  /** Name and version of the software, for logs. */
  readonly software: string;
  /** Addresses this node can be reached at, by service name, e.g. {log: '127.0.0.1:7410'}. Empty for clients. */
  readonly addresses: Readonly<Record<string, string>>;
  /** Which data directory a node runs on: a node that comes back with another one is not the node that its peers knew. Empty for clients. */
  readonly directory?: string;
}

export const encodeHello = (hello: Hello): Buffer => {
  const writer = new ByteWriter(128).u32(hello.nodeId);
  writer.string(hello.clusterId).string(hello.service).string(hello.software);
  writeAddresses(writer, hello.addresses);
  if (hello.directory !== undefined) writer.string(hello.directory);
  return writer.finish();
};

/** @throws TidelineError `malformed-frame` */
export const decodeHello = (payload: Uint8Array): Hello => {
  const reader = new ByteReader(payload);
  return {
    nodeId: reader.u32(),
    clusterId: reader.string(),
    service: reader.string(),
    software: reader.string(),
    addresses: readAddresses(reader),
    ...(reader.remaining > 0 ? { directory: reader.string() } : {}),
  };
};

const OUTCOMES: readonly Outcome[] = ['rejected', 'unknown'];

export const encodeError = (error: TidelineError): Buffer => {
  let details = '';
  if (Object.keys(error.details).length > 0) {
    try {
      details = JSON.stringify(error.details);
    } catch {
      details = ''; // a detail that is no JSON value: the code and the message still say what happened
    }
    if (Buffer.byteLength(details) > ERROR_DETAILS_BYTES_MAX) details = '';
  }
  return new ByteWriter(128)
    .string(error.code)
    .u8(OUTCOMES.indexOf(error.outcome) + 1)
    .string(error.message.slice(0, ERROR_MESSAGE_CHARS_MAX))
    .string(details)
    .finish();
};

const detailsOf = (text: string): Readonly<Record<string, unknown>> => {
  if (text === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch {
    throw new TidelineError('malformed-frame', 'error details are not JSON');
  }
};

/**
 * A code this program does not know (a newer peer's) becomes `internal` with the code in its details; the outcome stays as sent.
 * @throws TidelineError `malformed-frame`
 */
export const decodeError = (payload: Uint8Array): TidelineError => {
  const reader = new ByteReader(payload);
  const code = reader.string();
  const outcome = OUTCOMES[reader.u8() - 1];
  if (outcome === undefined) throw new TidelineError('malformed-frame', 'outcome out of range');
  const message = reader.string();
  const details = detailsOf(reader.string());
  if (isErrorCode(code)) return new TidelineError(code, message, { outcome, details });
  return new TidelineError('internal', message, { outcome, details: { ...details, code } });
};
