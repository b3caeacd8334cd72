import type { Server as NetServer, Socket } from 'node:net';
import { ServerTCP, type TcpSocket } from '@nestjs/microservices';
import { REQUEST_BYTES_MAX, TidelineError } from '#kernel';
import { formatAddress } from '../address.js';
import { JsonConnection, packetText, type JsonConnectionLimits } from './json-connection.js';
import { ResponseStream, type ResponseSink } from './response-stream.js';
import { TidelineRpcContext } from './rpc-context.js';
import { rpcPayloadOf } from './rpc-error.js';

export interface TidelineJsonTcpOptions {
  readonly host: string;
  /** 0: the system chooses; see `unwrap()`. */
  readonly port: number;
  /** Longest message, in characters. */
  readonly messageBytesMax?: number;
  /** While more waits for a socket, its streams hold back and no more of its requests are read. */
  readonly sendBufferBytesMax?: number;
  /** Items of one pushed stream that wait for its reader; more ends it with `too-slow`. */
  readonly streamQueueBytesMax?: number;
  /** A socket that takes nothing for so long, while something waits, is closed. */
  readonly stallMs?: number;
  /** Requests and streams at once on one socket. */
  readonly callsMax?: number;
  readonly connectionsMax?: number;
}

const DEFAULTS = {
  messageBytesMax: REQUEST_BYTES_MAX,
  sendBufferBytesMax: 1024 * 1024,
  streamQueueBytesMax: 8 * 1024 * 1024,
  stallMs: 30_000,
  callsMax: 4096,
  connectionsMax: 4096,
};

interface Packet {
  readonly id?: unknown;
  readonly pattern?: unknown;
  readonly data?: unknown;
  readonly metadata?: unknown;
  readonly isDisposed?: unknown;
}

/** Responses under way on one socket, by the caller's id. */
type Calls = Map<string, ResponseStream<string>>;

/**
 * The server side of stock `Transport.TCP` (JSON), for stock clients, without its leaks:
 *
 *  - a stream's producer is torn down when its client disconnects, or says `{"id": …, "isDisposed": true}`. A stock client says nothing when
 *    its subscriber leaves (it only forgets the id); `TidelineJsonClient` does
 *  - producers are pushed back or dropped when the reader is slow (response-stream.ts), instead of 128 MB being kept for it
 *  - messages, sockets and calls have limits; garbage ends its socket and nothing else
 *  - a response that cannot be written ends in an error instead of never
 */
export class TidelineJsonTcpServer extends ServerTCP {
  private readonly settings: typeof DEFAULTS;
  private readonly calls = new Map<TcpSocket, Calls>();
  private readonly closing: Promise<void>;

  constructor(options: TidelineJsonTcpOptions) {
    super({ host: options.host, port: options.port });
    const { host: _host, port: _port, ...limits } = options;
    this.settings = { ...DEFAULTS, ...limits };
    this.server.maxConnections = this.settings.connectionsMax;
    this.closing = new Promise((resolve) => this.server.once('close', resolve));
  }

  /** Streams and requests under way, over all sockets. */
  get callCount(): number {
    let count = 0;
    for (const calls of this.calls.values()) count += calls.size;
    return count;
  }

  override listen(callback: (error?: unknown, ...rest: unknown[]) => void): void {
    const server: NetServer = this.server;
    const failed = (cause: NodeJS.ErrnoException): void => {
      const address = formatAddress({ host: this.host, port: this.port });
      callback(
        cause.code === 'EADDRINUSE'
          ? new TidelineError('address-in-use', `another process listens on ${address}`, { cause })
          : new TidelineError('bad-option', `cannot listen on ${address}: ${cause.message}`, { cause }),
      );
    };
    server.once('error', failed);
    server.listen(this.port, this.host, () => {
      server.off('error', failed);
      callback();
    });
  }

  /** Tears every producer down at once; resolves when every socket is closed. */
  override close(): Promise<void> {
    const { listening } = this.server;
    for (const calls of this.calls.values()) for (const call of calls.values()) call.cancel();
    super.close();
    return listening ? this.closing : Promise.resolve();
  }

  override bindHandler(socket: Socket): void {
    this.trackOpenSocket(socket);
    const calls: Calls = new Map();
    const limits: JsonConnectionLimits = this.settings;
    const connection: JsonConnection = new JsonConnection(socket, limits, {
      message: (message) => {
        this.handleMessage(connection, message).catch((error: unknown) => this.handleError(String(error)));
      },
      writable: () => {
        // Those that get their turn now go to the end of the line.
        for (const [id, call] of Array.from(calls)) {
          if (!connection.writable) return;
          calls.delete(id);
          calls.set(id, call);
          call.writable();
        }
      },
      closed: (error) => {
        this.calls.delete(connection);
        for (const call of calls.values()) call.cancel();
        if (error !== null) this.logger.warn(`${connection.netSocket.remoteAddress ?? 'a client'}: ${error.message}`);
      },
    });
    this.calls.set(connection, calls);
  }

  override async handleMessage(socket: TcpSocket, rawMessage: unknown): Promise<void> {
    const connection = socket as JsonConnection;
    const calls = this.calls.get(connection);
    if (calls === undefined) return;
    const raw: Packet = typeof rawMessage === 'object' && rawMessage !== null ? rawMessage : {};
    if (raw.pattern === undefined && raw.isDisposed === true) {
      calls.get(String(raw.id))?.cancel();
      return;
    }
    const packet = (await this.deserializer.deserialize(raw)) as Packet & { data: unknown };
    if (this.calls.get(connection) !== calls) return; // gone meanwhile
    const pattern = this.getPatternAsString(packet.pattern);
    if (packet.id === undefined) {
      const pace = { ready: true, whenReady: () => undefined };
      const context = new TidelineRpcContext([connection, pattern, packet.metadata, pace]);
      // Nest types an event's pattern as any and reads nothing else of the packet than its data.
      return this.handleEvent(pattern, packet as never, context);
    }
    this.call(connection, calls, String(packet.id), pattern, packet);
  }

  private call(connection: JsonConnection, calls: Calls, id: string, pattern: string, packet: Packet): void {
    const end = (error: TidelineError | null): string =>
      packetText(
        this.serializer.serialize(
          error === null ? { id, isDisposed: true } : { id, err: rpcPayloadOf(error), isDisposed: true },
        ),
      );
    const sink: ResponseSink<string> = {
      get writable() {
        return connection.writable;
      },
      encode: (response, last) =>
        packetText(this.serializer.serialize(last ? { id, response, isDisposed: true } : { id, response })),
      encodeEnd: end,
      send: (text) => connection.sendText(text),
    };
    if (calls.has(id)) return connection.sendText(end(new TidelineError('bad-request', `id ${id} is in use`)));
    if (calls.size >= this.settings.callsMax) {
      return connection.sendText(end(new TidelineError('overloaded', 'too many calls on the connection')));
    }
    const handler = this.getHandlerByPattern(pattern);
    if (!handler) return connection.sendText(end(new TidelineError('not-found', `nothing handles ${pattern}`)));

    const ended: (() => void)[] = [];
    const response: ResponseStream<string> = new ResponseStream(sink, this.settings.streamQueueBytesMax, () => {
      calls.delete(id);
      for (const tell of ended) tell();
    });
    calls.set(id, response);
    const context = new TidelineRpcContext([connection, pattern, packet.metadata, response]);
    this.runWithProcessingHooks(context, async (runEndHook) => {
      ended.push(runEndHook);
      try {
        response.run(await handler(packet.data, context));
      } catch (error) {
        response.fail(error);
      }
    });
  }
}
