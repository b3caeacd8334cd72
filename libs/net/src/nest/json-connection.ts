import type { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { TcpSocket } from '@nestjs/microservices';
import { JSON_DEPTH_MAX, TidelineError, afterRunning, systemScheduler, toTidelineError } from '#kernel';
import { jsonIsDeeperThan } from './json-depth.js';
import { rpcErrorPayload } from './rpc-error.js';

/**
 * One socket of the JSON server. The stock protocol: length in UTF-16 units as decimal text, `#`, that much JSON.
 *
 * Input: a length is checked before anything is gathered for it; one message is held, no more. Output: while more than
 * `sendBufferBytesMax` waits, `writable` is false, streams hold back and no further message is read; a socket that
 * takes nothing for `stallMs` is closed.
 */
export interface JsonConnectionLimits {
  /** Characters of one message. */
  readonly messageBytesMax: number;
  readonly sendBufferBytesMax: number;
  readonly stallMs: number;
}

export interface JsonConnectionEvents {
  message(message: unknown): void;
  writable(): void;
  /** Once. The error says why, if it was this side that ended it. */
  closed(error: TidelineError | null): void;
}

/** Digits of the longest length there can be, 2^53. */
const LENGTH_DIGITS_MAX = 16;
/** Answers to requests already taken may overrun the send buffer; by more than this nobody reads. */
const OVERRUN_FACTOR = 32;
const END_GRACE_MS = 1000;

const bigintAsText = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? value.toString() : value);

/** JSON text of a packet; a bigint, which JSON cannot hold, becomes its decimal text. */
export const packetText = (packet: unknown): string => {
  try {
    return JSON.stringify(packet);
  } catch (error) {
    if (error instanceof TypeError) return JSON.stringify(packet, bigintAsText);
    throw error;
  }
};

export class JsonConnection extends TcpSocket {
  private readonly decoder = new StringDecoder();
  private text = '';
  /** Of the message being gathered; −1 between messages. */
  private length = -1;
  private error: TidelineError | null = null;
  private ended = false;
  private cancelStall: (() => void) | null = null;

  constructor(
    socket: Socket,
    private readonly limits: JsonConnectionLimits,
    private readonly events: JsonConnectionEvents,
  ) {
    super(socket);
    socket.setNoDelay(true);
    socket.on('drain', () => this.drained());
    socket.on('error', () => undefined); // 'close' follows
    socket.once('close', () => {
      this.ended = true;
      this.clearStall();
      this.events.closed(this.error);
    });
  }

  get writable(): boolean {
    return !this.ended && this.socket.writableLength < this.limits.sendBufferBytesMax;
  }

  /** JSON text of a packet, as `packetText` gives it. */
  sendText(text: string): void {
    if (this.ended) return;
    this.socket.write(`${text.length}#${text}`);
    if (this.socket.writableLength < this.limits.sendBufferBytesMax) return;
    if (this.socket.writableLength > this.limits.sendBufferBytesMax * OVERRUN_FACTOR) {
      return this.drop(new TidelineError('too-slow', 'the answers are not read'));
    }
    this.socket.pause();
    this.cancelStall ??= afterRunning(systemScheduler, this.limits.stallMs, () =>
      this.drop(new TidelineError('too-slow', `nothing was read for ${this.limits.stallMs} ms`)),
    );
  }

  protected override handleSend(message: unknown, callback?: (error?: unknown) => void): void {
    this.sendText(packetText(message));
    callback?.();
  }

  private drained(): void {
    if (this.ended) return;
    this.clearStall();
    this.socket.resume();
    this.events.writable();
    this.readMessages();
  }

  private clearStall(): void {
    this.cancelStall?.();
    this.cancelStall = null;
  }

  protected override handleData(data: Buffer | string): void {
    if (this.ended) return;
    this.text += typeof data === 'string' ? data : this.decoder.write(data);
    this.readMessages();
  }

  private readMessages(): void {
    try {
      // Not while answers wait to be read: what is here already is taken up again after that.
      while (this.writable && this.readMessage());
    } catch (error) {
      this.refuse(toTidelineError(error));
    }
  }

  private readMessage(): boolean {
    if (this.length < 0) {
      const end = this.text.indexOf('#');
      if (end < 0 && this.text.length <= LENGTH_DIGITS_MAX) return false;
      const digits = this.text.slice(0, end < 0 ? LENGTH_DIGITS_MAX : end);
      if (!/^\d{1,16}$/.test(digits) || end < 0) {
        throw new TidelineError('malformed-frame', 'a message begins with its length and #');
      }
      const length = Number(digits);
      if (length > this.limits.messageBytesMax) {
        throw new TidelineError('request-too-large', `a message of ${length} characters`, {
          details: { limit: this.limits.messageBytesMax },
        });
      }
      this.length = length;
      this.text = this.text.slice(end + 1);
    }
    if (this.text.length < this.length) return false;
    const json = this.text.slice(0, this.length);
    this.text = this.text.slice(this.length);
    this.length = -1;
    this.events.message(parsed(json));
    return true;
  }

  /** Says why, with an error that belongs to no request, and ends. */
  refuse(error: TidelineError): void {
    if (this.ended) return;
    this.sendText(packetText({ err: rpcErrorPayload(error), isDisposed: true }));
    this.error = error;
    this.ended = true;
    this.text = '';
    this.socket.resume();
    this.socket.end();
    const giveUp = afterRunning(systemScheduler, END_GRACE_MS, () => this.socket.destroy());
    this.socket.once('close', giveUp);
  }

  private drop(error: TidelineError): void {
    this.error = error;
    this.ended = true;
    this.socket.destroy();
  }
}

const parsed = (json: string): unknown => {
  if (jsonIsDeeperThan(json, JSON_DEPTH_MAX)) {
    throw new TidelineError('too-deep', `the JSON is nested deeper than ${JSON_DEPTH_MAX}`);
  }
  try {
    return JSON.parse(json) as unknown;
  } catch (error) {
    throw new TidelineError('malformed-json', 'the message is not JSON', { cause: error });
  }
};
