import { Server, type CustomTransportStrategy } from '@nestjs/microservices';
import { TidelineError } from '#kernel';
import { FRAME_HEADER_BYTES, type Hello } from '#wire';
import type { Connection, ConnectionHandler, Listener, NetLimits, StreamProducer, Transport } from '../connection.js';
import { NET_LIMITS } from '../net-limits.js';
import { tcpTransport } from '../tcp-transport.js';
import { decodeValue, encodeValue, patternCallsV1, patternHello, type PatternMessage } from './pattern-message.js';
import { ResponseStream, type ResponseSink } from './response-stream.js';
import { TidelineRpcContext } from './rpc-context.js';

export interface TidelineServerOptions {
  readonly host: string;
  /** 0: the system chooses; see `port`. */
  readonly port: number;
  readonly hello?: Partial<Hello>;
  readonly transport?: Transport;
  readonly limits?: Partial<NetLimits>;
  /** Items of one pushed stream that wait for its reader; more ends it with `too-slow`. */
  readonly streamQueueBytesMax?: number;
}

const STREAM_QUEUE_BYTES_MAX = 8 * 1024 * 1024;

const messageOf = (payload: Buffer): PatternMessage => {
  const message = decodeValue(payload);
  if (typeof message !== 'object' || message === null || !('pattern' in message)) {
    throw new TidelineError('bad-request', 'the message has no pattern');
  }
  return message as PatternMessage;
};

/** An item, the end, or both: here the end is a frame of its own. */
interface Packet {
  readonly length: number;
  readonly item: Buffer | null;
  /** undefined: goes on. */
  readonly end: TidelineError | null | undefined;
}

/** Nest message patterns over framed connections: what `Transport.TCP` offers, with credits, cancellation, bytes and bigints. */
export class TidelineServer
  extends Server<Record<never, never>, 'connected' | 'disconnected'>
  implements CustomTransportStrategy, ConnectionHandler
{
  override transportId = Symbol('tideline');
  private listener: Listener | null = null;
  private readonly calls = new Set<ResponseStream<Packet>>();

  private readonly itemBytesMax: number;

  constructor(private readonly options: TidelineServerOptions) {
    super();
    this.itemBytesMax = (options.limits?.frameBytesMax ?? NET_LIMITS.frameBytesMax) - FRAME_HEADER_BYTES;
    this.initializeSerializer({});
    this.initializeDeserializer({});
  }

  /** As bound; 0 before. */
  get port(): number {
    return this.listener?.port ?? 0;
  }

  /** Streams and requests under way. */
  get callCount(): number {
    return this.calls.size;
  }

  async listen(callback: (error?: unknown) => void): Promise<void> {
    const { host, port, hello, limits, transport = tcpTransport } = this.options;
    try {
      this.listener = await transport.listen({ host, port }, patternHello(hello), this, limits);
    } catch (error) {
      return callback(error);
    }
    this._status$.next('connected');
    callback();
  }

  /** Tears every producer down at once; resolves when the listener is closed. */
  async close(): Promise<void> {
    for (const call of this.calls) call.cancel();
    await this.listener?.close();
    this._status$.next('disconnected');
  }

  on(): never {
    throw new TidelineError('bad-request', 'the framed transport has no events to listen to');
  }

  unwrap<T>(): T {
    return this.listener as T;
  }

  request(method: number): void {
    throw new TidelineError('bad-request', `no method ${method} here`);
  }

  post(method: number, payload: Buffer, connection: Connection): void {
    if (method !== patternCallsV1.event.method) return;
    const message = messageOf(payload);
    const pattern = this.getPatternAsString(message.pattern);
    const pace = { ready: true, whenReady: () => undefined };
    const context = new TidelineRpcContext([connection, pattern, message.metadata, pace]);
    this.handleEvent(pattern, message as never, context).catch((error: unknown) => this.handleError(String(error)));
  }

  stream(method: number, payload: Buffer, producer: StreamProducer, connection: Connection): void {
    if (method !== patternCallsV1.call.method) throw new TidelineError('bad-request', `no method ${method} here`);
    const message = messageOf(payload);
    const pattern = this.getPatternAsString(message.pattern);
    const handler = this.getHandlerByPattern(pattern);
    if (!handler) throw new TidelineError('not-found', `nothing handles ${pattern}`);

    const sink: ResponseSink<Packet> = {
      get writable() {
        return producer.credit > 0;
      },
      encode: (value, last) => {
        const item = encodeValue(value);
        if (item.length <= this.itemBytesMax) return { length: item.length, item, end: last ? null : undefined };
        throw new TidelineError('request-too-large', `an item of ${item.length} bytes does not fit in a frame`);
      },
      encodeEnd: (end) => ({ length: 0, item: null, end }),
      send: ({ item, end }) => {
        if (item !== null) producer.item(item);
        if (end !== undefined) producer.end(end);
      },
    };
    const ended: (() => void)[] = [];
    const queueMax = this.options.streamQueueBytesMax ?? STREAM_QUEUE_BYTES_MAX;
    const response: ResponseStream<Packet> = new ResponseStream(sink, queueMax, () => {
      this.calls.delete(response);
      for (const tell of ended) tell();
    });
    this.calls.add(response);
    producer.onCredit(() => response.writable());
    producer.onCancel(() => response.cancel());
    const context = new TidelineRpcContext([connection, pattern, message.metadata, response]);
    this.runWithProcessingHooks(context, async (runEndHook) => {
      ended.push(runEndHook);
      try {
        response.run(await handler(message.data, context));
      } catch (error) {
        response.fail(error);
      }
    });
  }
}
