/**
 * How one call of a framed service is written down: its number and the two directions' payloads. A service is a table of these
 * (log-service-v1.ts, view-service-v1.ts, gateway-service-v1.ts); numbers are unique over all services, so that a frame that
 * reaches the wrong port is an unknown method there and never another call:
 *
 *     0x01xx peers   0x02xx log   0x03xx view   0x04xx gateway   0x05xx Nest patterns
 *
 * Encoders return a buffer or several pieces that go out one after the other: a batch is never copied into a message.
 * Decoders return views into the payload and throw `malformed-frame` for anything that does not parse to its last byte.
 */
export type Pieces = Uint8Array | readonly Uint8Array[];

export interface RequestCall<Request, Response, ResponseInput = Response> {
  readonly method: number;
  encodeRequest(request: Request): Pieces;
  decodeRequest(payload: Buffer): Request;
  encodeResponse(response: ResponseInput): Pieces;
  decodeResponse(payload: Buffer): Response;
}

export interface StreamCall<Request, Item, ItemInput = Item> {
  readonly method: number;
  encodeRequest(request: Request): Pieces;
  decodeRequest(payload: Buffer): Request;
  encodeItem(item: ItemInput): Pieces;
  decodeItem(payload: Buffer): Item;
}

export const EMPTY_PAYLOAD: Buffer = Buffer.alloc(0);
