import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { TidelineError, afterRunning } from '#kernel';
import type { GatewayLimits, GatewayTime } from '../gateway-options.js';

/**
 * The serving end of a WebSocket (RFC 6455) that has much to say and listens to little: texts go out, one a message; what comes in is
 * pings, a close, and short messages nobody reads.
 *
 *     0                   1                   2                   3
 *     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *    +-+-+-+-+-------+-+-------------+-------------------------------+
 *    |F|     |opcode |M| length      | 126: 16 bits, 127: 64 bits    |
 *    +-+-----+-------+-+-------------+-------------------------------+
 *    | masking key, 4 bytes, if M    | payload                       |
 *    +-------------------------------+-------------------------------+
 */
const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const Opcode = { Text: 1, Binary: 2, Close: 8, Ping: 9, Pong: 10 } as const;
export const CloseCode = {
  Normal: 1000,
  GoingAway: 1001,
  Protocol: 1002,
  TooLarge: 1009,
  TryAgainLater: 1013,
} as const;

/** Nothing a client sends here is longer; control frames have 125 bytes at most anyway (§5.5). */
const INCOMING_BYTES_MAX = 4096;
/** After a close frame the other side gets this long to end the connection too. */
const CLOSE_GRACE_MS = 5_000;

/** @throws TidelineError `bad-request` when it is no WebSocket handshake (§4.2.1) */
export const acceptKeyOf = (request: IncomingMessage): string => {
  const { headers, method } = request;
  const key = headers['sec-websocket-key'];
  if (method !== 'GET' || headers['sec-websocket-version'] !== '13') {
    throw new TidelineError('bad-request', 'a WebSocket is opened with GET and Sec-WebSocket-Version: 13');
  }
  if (key === undefined || !/^[A-Za-z0-9+/]{22}==$/.test(key)) {
    throw new TidelineError('bad-request', 'Sec-WebSocket-Key is 16 bytes in Base64');
  }
  return createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64');
};

/** A frame as a server sends it: whole, not masked. */
export const encodeServerFrame = (opcode: number, payload: Buffer): Buffer => {
  const { length } = payload;
  const head = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(head + length);
  frame[0] = 0x80 | opcode;
  if (head === 2) frame[1] = length;
  else if (head === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeUInt32BE(0, 2);
    frame.writeUInt32BE(length, 6);
  }
  payload.copy(frame, head);
  return frame;
};

export class WebSocket {
  private incoming: Buffer = Buffer.alloc(0);
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private flushScheduled = false;
  private waiting = false;
  private closed = false;
  private heard = true;
  private cancelTimer: () => void;
  /** Called when a socket that said it was full has room again. */
  onRoom: () => void = () => undefined;
  /** Called once when the other side has gone. */
  onClose: () => void = () => undefined;

  /** `head`: what came after the handshake in the same packet. Headers are those of the answer to the handshake. */
  constructor(
    private readonly socket: Duplex,
    head: Buffer,
    acceptKey: string,
    headers: Readonly<Record<string, string>>,
    private readonly limits: GatewayLimits,
    private readonly time: GatewayTime,
  ) {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey}\r\n${lines.join('')}\r\n`,
    );
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => this.drained());
    socket.on('error', () => undefined);
    // The HTTP server leaves sockets half open.
    socket.on('end', () => socket.destroy());
    socket.on('close', () => this.gone());
    this.cancelTimer = this.scheduleHeartbeat();
    if (head.length > 0) this.receive(head);
  }

  /** False: the reader is behind; `onRoom` says when to go on. */
  text(message: string): boolean {
    return this.send(Opcode.Text, Buffer.from(message));
  }

  /** Says goodbye; the connection ends when the other side ends it too, or its time is over. */
  close(code: number, reason: string): void {
    if (this.closed) return;
    const payload = Buffer.allocUnsafe(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code, 0);
    payload.write(reason, 2);
    this.send(Opcode.Close, payload);
    this.flush();
    this.closed = true;
    this.socket.end();
    this.cancelTimer();
    this.cancelTimer = afterRunning(this.time.scheduler, CLOSE_GRACE_MS, () => this.socket.destroy());
  }

  private send(opcode: number, payload: Buffer): boolean {
    if (this.closed) return true;
    const frame = encodeServerFrame(opcode, payload);
    this.pending.push(frame);
    this.pendingBytes += frame.length;
    if (!this.flushScheduled) {
      this.flushScheduled = true;
      this.time.scheduler.defer(() => {
        this.flushScheduled = false;
        this.flush();
        if (!this.socket.writableNeedDrain) this.drained();
      });
    }
    if (this.pendingBytes + this.socket.writableLength < this.limits.streamBufferBytesMax) return true;
    this.waiting = true;
    return false;
  }

  private flush(): void {
    if (this.closed || this.pending.length === 0) return;
    const frames = this.pending;
    this.pending = [];
    this.pendingBytes = 0;
    this.socket.cork();
    for (const frame of frames) this.socket.write(frame);
    this.socket.uncork();
  }

  private drained(): void {
    if (!this.waiting || this.closed) return;
    this.waiting = false;
    this.onRoom();
  }

  private receive(chunk: Buffer): void {
    this.heard = true;
    this.incoming = this.incoming.length === 0 ? chunk : Buffer.concat([this.incoming, chunk]);
    for (;;) {
      const { incoming } = this;
      if (incoming.length < 2) return;
      const opcode = incoming[0] & 0x0f;
      const short = incoming[1] & 0x7f;
      if ((incoming[1] & 0x80) === 0 || (incoming[0] & 0x70) !== 0) {
        this.close(CloseCode.Protocol, 'frames of a client are masked and plain');
        return;
      }
      const head = short === 126 ? 4 : 2;
      if (short === 127 || incoming.length < head) {
        if (short === 127) this.close(CloseCode.TooLarge, 'too large');
        return;
      }
      const length = short === 126 ? incoming.readUInt16BE(2) : short;
      if (length > INCOMING_BYTES_MAX) {
        this.close(CloseCode.TooLarge, 'too large');
        return;
      }
      const end = head + 4 + length;
      if (incoming.length < end) return;
      const mask = incoming.subarray(head, head + 4);
      const payload = Buffer.from(incoming.subarray(head + 4, end));
      for (let i = 0; i < payload.length; i++) payload[i] ^= mask[i & 3];
      this.incoming = incoming.subarray(end);
      if (opcode === Opcode.Ping && length <= 125) this.send(Opcode.Pong, payload);
      else if (opcode === Opcode.Close) {
        this.close(CloseCode.Normal, '');
        return;
      }
    }
  }

  /** A ping each heartbeat; a reader that answers none of two is gone. */
  private scheduleHeartbeat(): () => void {
    return afterRunning(this.time.scheduler, this.limits.heartbeatMs, () => {
      if (!this.heard && this.socket.writableLength === 0) {
        this.socket.destroy();
        return;
      }
      this.heard = false;
      if (this.socket.writableLength === 0) this.send(Opcode.Ping, Buffer.alloc(0));
      this.cancelTimer = this.scheduleHeartbeat();
    });
  }

  private gone(): void {
    this.closed = true;
    this.cancelTimer();
    this.onClose();
  }
}
