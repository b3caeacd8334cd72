import type { TidelineError } from '#kernel';
import type { Hello } from '#wire';

export type { Hello } from '#wire';

/**
 * A framed, multiplexed connection: many requests, streams and one-way posts at once over one socket (or over memory).
 * Payloads are bytes; what they mean is libs/wire's business. Frame format: libs/wire/src/frame-v1.ts.
 */

/** Bytes, or several pieces that are written one after the other without being joined first. */
export type Payload = Uint8Array | readonly Uint8Array[];

export type ResponseCallback = (error: TidelineError | null, payload: Buffer) => void;

/** One answer to one request; call exactly one of the two, once. Safe to call after the connection has gone. */
export interface Responder {
  ok(payload: Payload): void;
  fail(error: TidelineError): void;
  /** True once the other side has cancelled or gone: work may be dropped. */
  readonly cancelled: boolean;
  /** How long the asker waits, from when it asked. */
  readonly timeoutMs?: number;
}

/** The consumer's end of a stream. */
export interface StreamConsumer {
  item(payload: Buffer): void;
  /** Exactly once: null when the producer ended it, else why it broke off. */
  end(error: TidelineError | null): void;
}

export interface StreamSubscription {
  /** Lets the producer send this many more bytes of items. The first grant is made when the stream is opened. */
  grant(bytes: number): void;
  /** No call of the consumer after this one; the producer is told. */
  cancel(): void;
}

/** The producer's end of a stream. */
export interface StreamProducer {
  /** Bytes of items the consumer still takes. May go below 0 by one item: an item is sent whole. */
  readonly credit: number;
  /** Sends one item. Only while credit > 0. */
  item(payload: Payload): void;
  end(error: TidelineError | null): void;
  /** Called whenever credit becomes positive. */
  onCredit(listener: () => void): void;
  /** Called once when the consumer cancelled or its connection went: stop the work. */
  onCancel(listener: () => void): void;
}

/** What a side serves. All callbacks run on the event loop, never nested inside a call into the connection. */
export interface ConnectionHandler {
  request(method: number, payload: Buffer, responder: Responder, connection: Connection): void;
  stream(method: number, payload: Buffer, producer: StreamProducer, connection: Connection): void;
  post(method: number, payload: Buffer, connection: Connection): void;
  /** The hello exchange is done. */
  opened?(connection: Connection): void;
  closed?(connection: Connection, error: TidelineError | null): void;
}

export interface Connection {
  readonly id: number;
  readonly remoteAddress: string;
  /** The other side's hello. */
  readonly remote: Hello;
  readonly isOpen: boolean;
  /** Bytes accepted for sending and not yet handed to the kernel. */
  readonly bufferedBytes: number;
  /**
   * Fails with `timeout` (outcome unknown), `connection-lost` (outcome unknown), `overloaded` (rejected: too many in flight or too much
   * buffered; nothing was sent) or the error the other side answered.
   */
  request(method: number, payload: Payload, options: { readonly timeoutMs: number }, done: ResponseCallback): void;
  openStream(
    method: number,
    payload: Payload,
    options: { readonly creditBytes: number },
    consumer: StreamConsumer,
  ): StreamSubscription;
  /** One-way. False: dropped because too much is buffered or the connection is closed. */
  post(method: number, payload: Payload): boolean;
  /** What has been asked, answered and posted leaves now, not at the end of the turn with what is yet to come. */
  flush(): void;
  close(): void;
  /** Tells the other side why, then ends. */
  goAway(error: TidelineError): void;
  /** Called once; at once if it is closed already. */
  onClose(listener: (error: TidelineError | null) => void): void;
}

export interface Listener {
  /** As bound: with port 0 the port the system gave. */
  readonly address: string;
  readonly port: number;
  readonly connections: number;
  /** Stops accepting, ends all connections. */
  close(): Promise<void>;
}

export interface NetLimits {
  readonly frameBytesMax: number;
  readonly inflightRequestsMax: number;
  readonly streamsMax: number;
  readonly bufferedBytesMax: number;
  readonly connectionsMax: number;
  /** A connection that has not said hello by then is closed. */
  readonly helloTimeoutMs: number;
  /** A ping is sent after this much silence; twice as much, in time in which this side itself ran, ends the connection. */
  readonly idlePingMs: number;
}

/** Port: TCP in production (`tcpTransport`), an in-memory twin for tests and simulation (`MemoryNetwork`). */
export interface Transport {
  /** @throws (rejects) TidelineError `address-in-use` … */
  listen(
    address: { readonly host: string; readonly port: number },
    hello: Hello,
    handler: ConnectionHandler,
    limits?: Partial<NetLimits>,
  ): Promise<Listener>;
  /** Resolves after the hello exchange. Rejects with `connection-lost` (outcome rejected) or `cluster-mismatch`. */
  connect(
    address: string,
    hello: Hello,
    handler: ConnectionHandler | null,
    options?: { readonly timeoutMs?: number; readonly limits?: Partial<NetLimits> },
  ): Promise<Connection>;
  /**
   * The same with a callback, never called from within `dial`: for code that waits through ports only. Returns a function that gives up;
   * the callback is not called after it.
   */
  dial(
    address: string,
    hello: Hello,
    handler: ConnectionHandler | null,
    options: { readonly timeoutMs?: number; readonly limits?: Partial<NetLimits> },
    done: (error: TidelineError | null, connection: Connection | null) => void,
  ): () => void;
}
