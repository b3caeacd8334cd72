import { FRAME_HEADER_BYTES, writeFrameHeader, type FrameType } from '#wire';
import type { Payload } from './connection.js';

/** Pieces up to this size are copied next to their frame header; larger ones go out as they are. */
const COPY_BYTES_MAX = 4096;
const SLAB_BYTES_MIN = 4 * 1024;
const SLAB_BYTES_MAX = 64 * 1024;

export const payloadLength = (payload: Payload): number => {
  if (payload instanceof Uint8Array) return payload.length;
  let length = 0;
  for (const piece of payload) length += piece.length;
  return length;
};

const header: { type: FrameType; method: number; id: number; argument: number; payloadBytes: number } = {
  type: 1,
  method: 0,
  id: 0,
  argument: 0,
  payloadBytes: 0,
};

/**
 * Gathers the frames of one turn into as few pieces as possible: headers and small payloads side by side in slabs, large payloads by
 * reference between them. A slab is written through once and then left to those who still send from it.
 */
export class FrameBuffer {
  private pieces: Uint8Array[] = [];
  private slab: Buffer = Buffer.alloc(0);
  /** Bytes of the slab from `start` on are not yet in `pieces`. */
  private start = 0;
  private position = 0;
  private size = 0;

  get bytes(): number {
    return this.size;
  }

  add(type: FrameType, method: number, id: number, argument: number, payload: Payload): void {
    const length = payloadLength(payload);
    this.room(FRAME_HEADER_BYTES);
    header.type = type;
    header.method = method;
    header.id = id;
    header.argument = argument;
    header.payloadBytes = length;
    writeFrameHeader(this.slab, this.position, header);
    this.position += FRAME_HEADER_BYTES;
    this.size += FRAME_HEADER_BYTES + length;
    if (payload instanceof Uint8Array) this.put(payload);
    else for (const piece of payload) this.put(piece);
  }

  private put(piece: Uint8Array): void {
    if (piece.length === 0) return;
    if (piece.length > COPY_BYTES_MAX) {
      this.seal();
      this.pieces.push(piece);
      return;
    }
    this.room(piece.length);
    this.slab.set(piece, this.position);
    this.position += piece.length;
  }

  private room(bytes: number): void {
    if (this.slab.length - this.position >= bytes) return;
    this.seal();
    this.slab = Buffer.allocUnsafeSlow(Math.min(SLAB_BYTES_MAX, Math.max(SLAB_BYTES_MIN, this.slab.length * 2)));
    this.start = 0;
    this.position = 0;
  }

  private seal(): void {
    if (this.position > this.start) this.pieces.push(this.slab.subarray(this.start, this.position));
    this.start = this.position;
  }

  /** All that was gathered; the buffer is empty then. */
  take(): Uint8Array[] {
    this.seal();
    const { pieces } = this;
    this.pieces = [];
    this.size = 0;
    return pieces;
  }
}
