import {
  AssertionFailure,
  TidelineError,
  afterRunning,
  assert,
  isTidelineError,
  toTidelineError,
  type Clock,
  type Scheduler,
} from '#kernel';
import {
  FRAME_HEADER_BYTES,
  FrameDecoder,
  FrameType,
  HELLO_FRAME_BYTES_MAX,
  decodeError,
  decodeHello,
  encodeError,
  encodeHello,
  type FrameSink,
  type Hello,
} from '#wire';
import type { ByteLink, ByteLinkEvents } from './byte-link.js';
import type {
  Connection,
  ConnectionHandler,
  NetLimits,
  Payload,
  Responder,
  ResponseCallback,
  StreamConsumer,
  StreamProducer,
  StreamSubscription,
} from './connection.js';
import { Deadline, type DeadlineWheel } from './deadline-wheel.js';
import { FrameBuffer, payloadLength } from './frame-buffer.js';
import { SMALL_ANSWER_BYTES_MAX, STREAM_BUFFERED_BYTES_MAX } from './net-limits.js';
import { SilenceWatch } from './silence-watch.js';

/**
 * The protocol of frame-v1.ts over any ByteLink: the same code over sockets and in memory.
 *
 *     greeting ──(hello of the other side)──► open ──(close, goaway, broken link, silence, nonsense)──► closed
 *
 * Outgoing frames gather in a FrameBuffer and leave together once a turn. Backpressure has three layers:
 *
 *     stream items   wait for credit of the consumer and for room in the send buffer (STREAM_BUFFERED_BYTES_MAX)
 *     answers        the accepting side stops reading while a quarter of bufferedBytesMax waits to be sent; only that side,
 *                    so that two sides can never wait for each other
 *     at the limit   requests answer `overloaded`, posts are dropped, large answers turn into errors; at twice the limit the
 *                    connection ends with `too-slow`
 */
export interface ConnectionEnvironment {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly wheel: DeadlineWheel;
  /** Runs the flush of a turn's frames at the end of it. */
  readonly flushLater: (flush: () => void) => void;
}

export interface FramedConnectionOptions {
  readonly id: number;
  readonly link: ByteLink;
  /** The dialling side says hello first and never stops reading. */
  readonly role: 'dialling' | 'accepting';
  readonly hello: Hello;
  readonly handler: ConnectionHandler | null;
  readonly limits: NetLimits;
  readonly environment: ConnectionEnvironment;
  /** The hello exchange is done; before handler.opened. */
  readonly opened?: (connection: FramedConnection) => void;
  /** After everybody else has been told. */
  readonly closed?: (connection: FramedConnection, error: TidelineError | null) => void;
}

const EMPTY = Buffer.alloc(0);
const U32_MAX = 0xffff_ffff;

const lost = (message: string, cause?: unknown): TidelineError =>
  new TidelineError('connection-lost', message, cause === undefined ? {} : { cause });

const isPayloadTooLarge = (length: number, limits: NetLimits): boolean =>
  length + FRAME_HEADER_BYTES > limits.frameBytesMax;

class PendingRequest extends Deadline {
  constructor(
    private readonly connection: FramedConnection,
    private readonly id: number,
    readonly done: ResponseCallback,
  ) {
    super();
  }

  expire(): void {
    this.connection.requestExpired(this.id);
  }
}

class IncomingRequest implements Responder {
  cancelled = false;
  private answered = false;

  constructor(
    private readonly connection: FramedConnection,
    private readonly id: number,
    readonly timeoutMs: number,
  ) {}

  ok(payload: Payload): void {
    if (this.answerOnce()) this.connection.answer(this.id, payload);
  }

  fail(error: TidelineError): void {
    if (this.answerOnce()) this.connection.answerError(this.id, error);
  }

  private answerOnce(): boolean {
    assert(!this.answered, 'a request is answered once');
    this.answered = true;
    return !this.cancelled;
  }
}

/** The producer's end of a stream that the other side opened. */
class StreamSource implements StreamProducer {
  granted: number;
  private ended = false;
  private cancelled = false;
  private creditListener: (() => void) | null = null;
  private cancelListener: (() => void) | null = null;

  constructor(
    private readonly connection: FramedConnection,
    private readonly id: number,
    credit: number,
  ) {
    this.granted = credit;
  }

  get credit(): number {
    if (this.granted <= 0 || this.ended || this.cancelled) return Math.min(this.granted, 0);
    return this.connection.holdsItemsBack() ? 0 : this.granted;
  }

  item(payload: Payload): void {
    if (this.ended || this.cancelled) return;
    assert(this.granted > 0, 'a stream item is sent only with credit');
    const length = payloadLength(payload);
    this.granted -= length;
    if (!this.connection.sendItem(this.id, payload, length)) {
      this.end(new TidelineError('internal', `a stream item of ${length} bytes does not fit in a frame`));
    }
  }

  end(error: TidelineError | null): void {
    if (this.ended || this.cancelled) return;
    this.ended = true;
    this.connection.endStream(this.id, error);
  }

  onCredit(listener: () => void): void {
    this.creditListener = listener;
  }

  onCancel(listener: () => void): void {
    this.cancelListener = listener;
    if (this.cancelled) this.connection.defer(listener);
  }

  grant(bytes: number): void {
    const before = this.granted;
    this.granted = before + bytes;
    if (before <= 0) this.wake();
  }

  wake(): void {
    if (this.credit > 0) this.creditListener?.();
  }

  markCancelled(): void {
    this.cancelled = true;
  }

  tellCancelled(): void {
    this.cancelListener?.();
  }
}

/** The consumer's end of a stream that this side opened. */
class StreamSink implements StreamSubscription {
  /** What the other side may still send; it may go below 0 by one item. */
  credit: number;
  /** Granted and not yet told. */
  untold = 0;
  ended = false;

  constructor(
    private readonly connection: FramedConnection,
    readonly id: number,
    credit: number,
    readonly consumer: StreamConsumer,
  ) {
    this.credit = credit;
  }

  grant(bytes: number): void {
    if (this.ended || bytes <= 0) return;
    if (this.untold === 0) this.connection.tellCredit(this);
    this.untold += bytes;
  }

  cancel(): void {
    if (this.ended) return;
    this.ended = true;
    this.connection.cancelStream(this.id);
  }
}

export class FramedConnection implements Connection, FrameSink, ByteLinkEvents {
  readonly id: number;
  remote: Hello = { nodeId: 0, clusterId: '', service: '', software: '', addresses: {} };
  private state: 'greeting' | 'open' | 'closed' = 'greeting';
  private closeError: TidelineError | null = null;
  private told = false;
  private readonly link: ByteLink;
  private readonly limits: NetLimits;
  private readonly environment: ConnectionEnvironment;
  private readonly decoder: FrameDecoder;
  private readonly out = new FrameBuffer();
  private flushScheduled = false;
  private lastId = 0;
  /** What this side asked for. */
  private readonly pending = new Map<number, PendingRequest>();
  private readonly sinks = new Map<number, StreamSink>();
  /** What the other side asked for. */
  private readonly incoming = new Map<number, IncomingRequest>();
  private readonly sources = new Map<number, StreamSource>();
  private credits: StreamSink[] = [];
  private readonly streamBufferedBytesMax: number;
  /** A producer was told it has no credit because the send buffer is full. */
  private itemsHeldBack = false;
  private waitingSources: StreamSource[] = [];
  private readingPaused = false;
  private readonly silence: SilenceWatch;
  private readonly cancelHelloTimeout: () => void;
  private readonly closeListeners: ((error: TidelineError | null) => void)[] = [];

  constructor(private readonly options: FramedConnectionOptions) {
    this.id = options.id;
    this.link = options.link;
    this.limits = options.limits;
    this.environment = options.environment;
    this.decoder = new FrameDecoder(this, Math.min(HELLO_FRAME_BYTES_MAX, options.limits.frameBytesMax));
    this.streamBufferedBytesMax = Math.min(STREAM_BUFFERED_BYTES_MAX, options.limits.bufferedBytesMax / 2);
    const { clock, scheduler } = options.environment;
    this.silence = new SilenceWatch({
      clock,
      scheduler,
      idlePingMs: options.limits.idlePingMs,
      ask: () => this.queue(FrameType.Ping, 0, 0, 0, EMPTY),
      silent: (silentMs) => this.fellSilent(silentMs),
    });
    this.cancelHelloTimeout = afterRunning(scheduler, this.limits.helloTimeoutMs, () => {
      this.terminate(new TidelineError('timeout', 'no hello in time', { outcome: 'rejected' }), 'goaway');
    });
    if (options.role === 'dialling') this.queue(FrameType.Hello, 0, 0, 0, encodeHello(options.hello));
  }

  get remoteAddress(): string {
    return this.link.remoteAddress;
  }

  get isOpen(): boolean {
    return this.state === 'open';
  }

  get bufferedBytes(): number {
    return this.out.bytes + this.link.pendingBytes;
  }

  defer(task: () => void): void {
    this.environment.scheduler.defer(task);
  }

  /* ---- what this side asks ---- */

  request(method: number, payload: Payload, options: { readonly timeoutMs: number }, done: ResponseCallback): void {
    const refusal = this.refusal(payload, this.pending.size >= this.limits.inflightRequestsMax);
    if (refusal !== null) {
      this.defer(() => done(refusal, EMPTY));
      return;
    }
    const id = this.nextId();
    const pending = new PendingRequest(this, id, done);
    this.pending.set(id, pending);
    this.environment.wheel.add(pending, options.timeoutMs);
    this.queue(FrameType.Request, method, id, Math.min(options.timeoutMs, U32_MAX), payload);
  }

  openStream(
    method: number,
    payload: Payload,
    options: { readonly creditBytes: number },
    consumer: StreamConsumer,
  ): StreamSubscription {
    const refusal = this.refusal(payload, this.sinks.size >= this.limits.streamsMax);
    const id = refusal === null ? this.nextId() : 0;
    const credit = Math.max(0, Math.min(options.creditBytes, U32_MAX));
    const sink = new StreamSink(this, id, credit, consumer);
    if (refusal !== null) {
      this.defer(() => {
        if (sink.ended) return;
        sink.ended = true;
        consumer.end(refusal);
      });
      return sink;
    }
    this.sinks.set(id, sink);
    this.queue(FrameType.StreamOpen, method, id, credit, payload);
    return sink;
  }

  post(method: number, payload: Payload): boolean {
    if (this.refusal(payload, false) !== null) return false;
    this.queue(FrameType.Post, method, 0, 0, payload);
    return true;
  }

  /** Why nothing can be sent now; what is refused here has certainly not been sent. */
  private refusal(payload: Payload, full: boolean): TidelineError | null {
    if (this.state !== 'open') {
      return new TidelineError('connection-lost', 'the connection is closed', { outcome: 'rejected' });
    }
    if (full) return new TidelineError('overloaded', 'too much is in flight on the connection');
    if (this.bufferedBytes > this.limits.bufferedBytesMax) {
      return new TidelineError('overloaded', `${this.bufferedBytes} bytes wait to be sent on the connection`);
    }
    const length = payloadLength(payload);
    if (!isPayloadTooLarge(length, this.limits)) return null;
    return new TidelineError('request-too-large', `${length} bytes do not fit in a frame`, {
      details: { limit: this.limits.frameBytesMax },
    });
  }

  private nextId(): number {
    do this.lastId = this.lastId === U32_MAX ? 1 : this.lastId + 1;
    while (this.pending.has(this.lastId) || this.sinks.has(this.lastId));
    return this.lastId;
  }

  requestExpired(id: number): void {
    const pending = this.pending.get(id);
    if (pending === undefined) return;
    this.pending.delete(id);
    this.queue(FrameType.Cancel, 0, id, 0, EMPTY);
    pending.done(new TidelineError('timeout', 'no answer in time'), EMPTY);
  }

  cancelStream(id: number): void {
    if (this.sinks.delete(id)) this.queue(FrameType.Cancel, 0, id, 0, EMPTY);
  }

  /** Grants of one turn go out as one frame a stream. */
  tellCredit(sink: StreamSink): void {
    this.credits.push(sink);
    this.scheduleFlush();
  }

  /* ---- what this side answers ---- */

  answer(id: number, payload: Payload): void {
    if (!this.incoming.delete(id)) return;
    const length = payloadLength(payload);
    if (isPayloadTooLarge(length, this.limits)) {
      const error = new TidelineError('request-too-large', `the answer of ${length} bytes does not fit in a frame`, {
        outcome: 'unknown',
      });
      this.queue(FrameType.Error, 0, id, 0, encodeError(error));
    } else if (length > SMALL_ANSWER_BYTES_MAX && this.bufferedBytes > this.limits.bufferedBytesMax) {
      const error = new TidelineError('overloaded', 'answers are not read fast enough', { outcome: 'unknown' });
      this.queue(FrameType.Error, 0, id, 0, encodeError(error));
    } else {
      this.queue(FrameType.Response, 0, id, 0, payload);
    }
  }

  answerError(id: number, error: TidelineError): void {
    if (this.incoming.delete(id)) this.queue(FrameType.Error, 0, id, 0, encodeError(error));
  }

  /** False when it cannot be sent at all. */
  sendItem(id: number, payload: Payload, length: number): boolean {
    if (isPayloadTooLarge(length, this.limits)) return false;
    this.queue(FrameType.StreamItem, 0, id, 0, payload);
    return true;
  }

  endStream(id: number, error: TidelineError | null): void {
    if (!this.sources.delete(id)) return;
    this.queue(FrameType.StreamEnd, 0, id, 0, error === null ? EMPTY : encodeError(error));
  }

  holdsItemsBack(): boolean {
    if (this.bufferedBytes < this.streamBufferedBytesMax) return false;
    this.itemsHeldBack = true;
    return true;
  }

  /** There is room again: producers go on, those first that did not get their turn the last time. */
  private releaseItems(): void {
    this.itemsHeldBack = false;
    const queue = [...new Set([...this.waitingSources, ...this.sources.values()])];
    this.waitingSources = [];
    for (let i = 0; i < queue.length; i++) {
      if (this.holdsItemsBack()) {
        this.waitingSources = queue.slice(i);
        return;
      }
      queue[i].wake();
    }
  }

  /* ---- sending ---- */

  private queue(type: FrameType, method: number, id: number, argument: number, payload: Payload): void {
    if (this.state === 'closed') return;
    this.out.add(type, method, id, argument, payload);
    this.scheduleFlush();
  }

  private scheduleFlush(): void {
    if (this.flushScheduled || this.state === 'closed') return;
    this.flushScheduled = true;
    this.environment.flushLater(this.endOfTurn);
  }

  private readonly endOfTurn = (): void => {
    this.flushScheduled = false;
    this.flush();
  };

  flush(): void {
    if (this.state === 'closed') return;
    if (this.credits.length > 0) {
      for (const sink of this.credits) {
        const bytes = Math.min(sink.untold, U32_MAX);
        sink.untold = 0;
        if (sink.ended) continue;
        sink.credit += bytes;
        this.out.add(FrameType.Credit, 0, sink.id, bytes, EMPTY);
      }
      this.credits = [];
    }
    if (this.out.bytes > 0) this.link.send(this.out.take());
    const { bufferedBytes } = this;
    if (bufferedBytes > this.limits.bufferedBytesMax * 2) {
      this.terminate(new TidelineError('too-slow', 'the other side does not read'), 'drop');
    } else if (
      this.options.role === 'accepting' &&
      !this.readingPaused &&
      bufferedBytes > this.limits.bufferedBytesMax / 4
    ) {
      this.readingPaused = true;
      this.link.pauseReading();
    }
  }

  handedOn(waited: boolean): void {
    if (this.state === 'closed') return;
    // The other side takes what is sent, so it lives, even if it has nothing to say.
    if (waited) this.silence.heard();
    const { bufferedBytes } = this;
    if (this.readingPaused && bufferedBytes <= this.limits.bufferedBytesMax / 8) {
      this.readingPaused = false;
      this.link.resumeReading();
    }
    if (this.itemsHeldBack && bufferedBytes <= this.streamBufferedBytesMax / 2) this.releaseItems();
  }

  /* ---- receiving ---- */

  data(chunk: Buffer): void {
    if (this.state !== 'closed') this.heard(() => this.decoder.push(chunk));
  }

  get room(): Buffer | null {
    return this.decoder.room;
  }

  filled(count: number): void {
    if (this.state !== 'closed') this.heard(() => this.decoder.filled(count));
  }

  private heard(decode: () => void): void {
    this.silence.heard();
    try {
      decode();
    } catch (error) {
      // A callback of this side's user threw: a defect, and the rest of the chunk is gone.
      this.terminate(lost('a callback failed', error), 'drop');
      throw error;
    }
  }

  malformed(error: TidelineError): void {
    this.terminate(error, 'goaway');
  }

  private violation(message: string): void {
    this.terminate(new TidelineError('malformed-frame', message), 'goaway');
  }

  frame(type: FrameType, method: number, id: number, argument: number, payload: Buffer): void {
    if (this.state === 'greeting') {
      if (type === FrameType.Hello) this.greeted(payload);
      else if (type === FrameType.Goaway) this.goneAway(payload);
      else this.violation('the first frame is not a hello');
      return;
    }
    switch (type) {
      case FrameType.Request:
        return this.requested(method, id, argument, payload);
      case FrameType.Response:
        return this.settle(id, null, payload);
      case FrameType.Error:
        return this.failed(id, payload);
      case FrameType.Post:
        return this.posted(method, payload);
      case FrameType.StreamOpen:
        return this.streamOpened(method, id, argument, payload);
      case FrameType.StreamItem:
        return this.itemReceived(id, payload);
      case FrameType.StreamEnd:
        return this.streamEnded(id, payload);
      case FrameType.Credit:
        return this.sources.get(id)?.grant(argument);
      case FrameType.Cancel:
        return this.cancelled(id);
      case FrameType.Ping:
        return this.queue(FrameType.Pong, 0, 0, argument, EMPTY);
      case FrameType.Pong:
        return;
      case FrameType.Goaway:
        return this.goneAway(payload);
      case FrameType.Hello:
        return this.violation('a second hello');
    }
  }

  private greeted(payload: Buffer): void {
    let hello: Hello;
    try {
      hello = decodeHello(payload);
    } catch (error) {
      return this.malformed(toTidelineError(error));
    }
    const { clusterId } = this.options.hello;
    if (clusterId !== '' && hello.clusterId !== '' && clusterId !== hello.clusterId) {
      const message = `this is cluster ${clusterId}, not ${hello.clusterId}`;
      return this.terminate(new TidelineError('cluster-mismatch', message), 'goaway');
    }
    this.remote = hello;
    if (this.options.role === 'accepting') this.queue(FrameType.Hello, 0, 0, 0, encodeHello(this.options.hello));
    this.state = 'open';
    this.cancelHelloTimeout();
    this.decoder.setFrameBytesMax(this.limits.frameBytesMax);
    this.silence.start();
    this.options.opened?.(this);
    this.options.handler?.opened?.(this);
  }

  private requested(method: number, id: number, timeoutMs: number, payload: Buffer): void {
    if (this.incoming.has(id) || this.sources.has(id)) return this.violation(`id ${id} is in use`);
    const responder = new IncomingRequest(this, id, timeoutMs);
    this.incoming.set(id, responder);
    const { handler } = this.options;
    if (handler === null) {
      responder.fail(new TidelineError('bad-request', 'this side answers no requests'));
    } else if (this.incoming.size > this.limits.inflightRequestsMax) {
      responder.fail(new TidelineError('overloaded', 'too many requests in flight on the connection'));
    } else {
      try {
        handler.request(method, payload, responder, this);
      } catch (error) {
        if (error instanceof AssertionFailure || !this.incoming.has(id)) throw error;
        responder.fail(toTidelineError(error));
      }
    }
  }

  private posted(method: number, payload: Buffer): void {
    try {
      this.options.handler?.post(method, payload, this);
    } catch (error) {
      // What a post should have done is not done, and the sender cannot be told but by ending this.
      if (!isTidelineError(error)) throw error;
      this.terminate(error, 'goaway');
    }
  }

  private streamOpened(method: number, id: number, credit: number, payload: Buffer): void {
    if (this.incoming.has(id) || this.sources.has(id)) return this.violation(`id ${id} is in use`);
    const source = new StreamSource(this, id, credit);
    this.sources.set(id, source);
    const { handler } = this.options;
    if (handler === null) {
      source.end(new TidelineError('bad-request', 'this side has no streams'));
    } else if (this.sources.size > this.limits.streamsMax) {
      source.end(new TidelineError('overloaded', 'too many streams on the connection'));
    } else {
      try {
        handler.stream(method, payload, source, this);
      } catch (error) {
        if (error instanceof AssertionFailure) throw error;
        source.end(toTidelineError(error));
      }
    }
  }

  private settle(id: number, error: TidelineError | null, payload: Buffer): void {
    const pending = this.pending.get(id);
    if (pending === undefined) return; // given up before the answer came
    this.pending.delete(id);
    this.environment.wheel.remove(pending);
    pending.done(error, payload);
  }

  private failed(id: number, payload: Buffer): void {
    const error = this.decodedError(payload);
    if (error !== null) this.settle(id, error, EMPTY);
  }

  /** null: it does not parse, and that has ended the connection. */
  private decodedError(payload: Buffer): TidelineError | null {
    try {
      return decodeError(payload);
    } catch (error) {
      this.malformed(toTidelineError(error));
      return null;
    }
  }

  private itemReceived(id: number, payload: Buffer): void {
    const sink = this.sinks.get(id);
    if (sink === undefined) return; // cancelled while this was on its way
    if (sink.credit <= 0) return this.violation('a stream item without credit');
    sink.credit -= payload.length;
    sink.consumer.item(payload);
  }

  private streamEnded(id: number, payload: Buffer): void {
    const sink = this.sinks.get(id);
    if (sink === undefined) return;
    const error = payload.length === 0 ? null : this.decodedError(payload);
    if (this.state === 'closed') return;
    this.sinks.delete(id);
    sink.ended = true;
    sink.consumer.end(error);
  }

  private cancelled(id: number): void {
    const request = this.incoming.get(id);
    if (request !== undefined) {
      request.cancelled = true;
      this.incoming.delete(id);
      return;
    }
    const source = this.sources.get(id);
    if (source === undefined) return;
    this.sources.delete(id);
    source.markCancelled();
    source.tellCancelled();
  }

  private goneAway(payload: Buffer): void {
    const error = this.decodedError(payload);
    if (error !== null) this.terminate(error, 'drop');
  }

  /* ---- silence and the end ---- */

  private fellSilent(silentMs: number): void {
    const error = this.readingPaused
      ? new TidelineError('too-slow', 'the other side does not read')
      : lost(`nothing heard for ${Math.round(silentMs)} ms`);
    this.terminate(error, 'drop');
  }

  closed(cause: Error | null): void {
    const error = cause === null ? lost('closed by the other side') : lost(cause.message, cause);
    this.terminate(error, 'drop');
  }

  close(): void {
    this.terminate(null, 'flush');
  }

  /** Says why, then ends. */
  goAway(error: TidelineError): void {
    this.terminate(error, 'goaway');
  }

  onClose(listener: (error: TidelineError | null) => void): void {
    if (this.told) this.defer(() => listener(this.closeError));
    else this.closeListeners.push(listener);
  }

  private terminate(error: TidelineError | null, how: 'flush' | 'goaway' | 'drop'): void {
    if (this.state === 'closed') return;
    const wasOpen = this.state === 'open';
    if (how === 'drop') {
      this.link.destroy();
    } else {
      if (error !== null) this.out.add(FrameType.Goaway, 0, 0, 0, encodeError(error));
      if (this.out.bytes > 0) this.link.send(this.out.take());
      this.link.end();
    }
    this.state = 'closed';
    this.closeError = error;
    this.decoder.stop();
    this.cancelHelloTimeout();
    this.silence.stop();
    for (const pending of this.pending.values()) this.environment.wheel.remove(pending);
    for (const request of this.incoming.values()) request.cancelled = true;
    for (const source of this.sources.values()) source.markCancelled();
    this.incoming.clear();
    this.waitingSources = [];
    this.defer(() => this.tellClosed(wasOpen));
  }

  private tellClosed(wasOpen: boolean): void {
    const error = this.closeError;
    const reason = error?.code === 'connection-lost' ? error : lost(error?.message ?? 'closed by this side', error);
    for (const pending of this.pending.values()) pending.done(reason, EMPTY);
    this.pending.clear();
    for (const sink of this.sinks.values()) {
      if (sink.ended) continue;
      sink.ended = true;
      sink.consumer.end(reason);
    }
    this.sinks.clear();
    for (const source of this.sources.values()) source.tellCancelled();
    this.sources.clear();
    this.told = true;
    if (wasOpen) this.options.handler?.closed?.(this, error);
    for (const listener of this.closeListeners) listener(error);
    this.options.closed?.(this, error);
  }
}
