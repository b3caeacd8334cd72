import { ClientProxy, type ReadPacket, type WritePacket } from '@nestjs/microservices';
import { TidelineError } from '#kernel';
import type { Hello } from '#wire';
import type { Connection, NetLimits, Transport } from '../connection.js';
import { tcpTransport } from '../tcp-transport.js';
import { decodeValue, encodeValue, patternCallsV1, patternHello } from './pattern-message.js';
import { rpcErrorPayload, rpcPayloadOf } from './rpc-error.js';

export interface TidelineClientOptions {
  /** host:port */
  readonly address: string;
  readonly hello?: Partial<Hello>;
  readonly transport?: Transport;
  readonly limits?: Partial<NetLimits>;
  readonly connectTimeoutMs?: number;
  /** Bytes of one response that the server may send ahead. */
  readonly creditBytes?: number;
}

const CREDIT_BYTES = 256 * 1024;

/**
 * `ClientsModule.register([{ name: 'TIDELINE', customClass: TidelineClientProxy, options: { address: '127.0.0.1:7401' } }])`
 *
 * Connects at the first use, and again at the first use after the connection went. Unsubscribing stops the work on the server.
 */
export class TidelineClientProxy extends ClientProxy<Record<never, never>, 'connected' | 'disconnected'> {
  private connection: Connection | null = null;
  private connecting: Promise<Connection> | null = null;
  private closed = false;

  constructor(private readonly options: TidelineClientOptions) {
    super();
    this.initializeSerializer({});
    this.initializeDeserializer({});
  }

  connect(): Promise<Connection> {
    this.closed = false;
    if (this.connection?.isOpen === true) return Promise.resolve(this.connection);
    const { address, hello, limits, connectTimeoutMs, transport = tcpTransport } = this.options;
    this.connecting ??= transport
      .connect(address, patternHello(hello), null, {
        ...(connectTimeoutMs === undefined ? {} : { timeoutMs: connectTimeoutMs }),
        ...(limits === undefined ? {} : { limits }),
      })
      .then((connection) => this.connected(connection))
      .catch((error: unknown) => {
        throw error instanceof TidelineError ? Object.assign(new Error(error.message), rpcErrorPayload(error)) : error;
      })
      .finally(() => {
        this.connecting = null;
      });
    return this.connecting;
  }

  private connected(connection: Connection): Connection {
    if (this.closed) connection.close();
    this.connection = connection;
    this._status$.next('connected');
    connection.onClose(() => {
      if (this.connection !== connection) return;
      this.connection = null;
      this._status$.next('disconnected');
    });
    return connection;
  }

  close(): void {
    this.closed = true;
    this.connection?.close();
  }

  unwrap<T>(): T {
    return this.connection as T;
  }

  protected publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    const { connection } = this;
    if (connection === null) {
      callback({
        err: rpcErrorPayload(new TidelineError('connection-lost', 'not connected', { outcome: 'rejected' })),
      });
      return () => undefined;
    }
    let payload: Buffer;
    try {
      payload = encodeValue(packet);
    } catch (err) {
      callback({ err });
      return () => undefined;
    }
    const subscription = connection.openStream(
      patternCallsV1.call.method,
      payload,
      { creditBytes: this.options.creditBytes ?? CREDIT_BYTES },
      {
        item: (item) => {
          let response: unknown;
          try {
            response = decodeValue(item);
          } catch (error) {
            subscription.cancel();
            return callback({ err: error, isDisposed: true });
          }
          callback({ response });
          // The subscriber is done with it: Observables are pushed.
          subscription.grant(item.length);
        },
        end: (error) =>
          callback(error === null ? { isDisposed: true } : { err: rpcPayloadOf(error), isDisposed: true }),
      },
    );
    return () => subscription.cancel();
  }

  protected async dispatchEvent<T = unknown>(packet: ReadPacket): Promise<T> {
    const sent = this.connection?.post(patternCallsV1.event.method, encodeValue(packet)) ?? false;
    if (!sent) throw new TidelineError('overloaded', 'the event was not sent');
    return undefined as T;
  }
}
