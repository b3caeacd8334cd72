import {
  TidelineError,
  asNodeId,
  toTidelineError,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
} from '#kernel';
import type { Connection, Hello, Transport } from '#net';
import { logServiceV1, type RequestCall } from '#wire';
import { Observable } from 'rxjs';
import type {
  Acks,
  AppendResult,
  Barrier,
  ClusterDescription,
  FetchResult,
  LogNode,
  TailChunk,
} from './command-log.js';

export const CONNECT_TIMEOUT_MS = 2_000;
/** A bound on requests nobody waits for any more; those who wait have shorter ones. */
export const REQUEST_TIMEOUT_MS = 30_000;

/**
 * A log node behind a connection (service `log`, normally port 7410). It connects on first use and again after a loss: a call finds
 * the connection there, waits for one, or fails with `connection-lost` (rejected: nothing was sent). Pausing between tries is the caller's.
 */
export class RemoteLogNode implements LogNode {
  private connection: Connection | null = null;
  private dialling: Promise<Connection> | null = null;
  private closed = false;
  private nodeId: NodeId;

  constructor(
    private readonly options: {
      readonly transport: Transport;
      /** host:port */
      readonly address: string;
      readonly hello: Hello;
      /** NO_NODE when it is not known before the first hello. */
      readonly id: NodeId;
      readonly requestTimeoutMs?: number;
    },
  ) {
    this.nodeId = options.id;
  }

  get id(): NodeId {
    return this.nodeId;
  }

  append(group: GroupId, batch: Buffer, options: { readonly acks: Acks }): Promise<AppendResult> {
    return this.call(logServiceV1.append, { group, acks: options.acks, batch });
  }

  fetch(
    group: GroupId,
    from: Offset,
    options: { readonly maxBytes: number; readonly maxWaitMs: number },
  ): Promise<FetchResult> {
    return this.call(logServiceV1.fetch, { group, from, ...options }, options.maxWaitMs);
  }

  barrier(group: GroupId): Promise<Barrier> {
    return this.call(logServiceV1.barrier, { group });
  }

  openSession(group: GroupId): Promise<number> {
    return this.call(logServiceV1.openSession, { group });
  }

  offsetAtTime(group: GroupId, time: LogTime): Promise<Offset> {
    return this.call(logServiceV1.offsetAtTime, { group, time });
  }

  transferLeadership(group: GroupId, to: NodeId): Promise<void> {
    return this.call(logServiceV1.transferLeadership, { group, to });
  }

  describe(): Promise<ClusterDescription> {
    return this.call(logServiceV1.describe, undefined);
  }

  tail(group: GroupId, from: Offset, { creditBytes }: { readonly creditBytes: number }): Observable<TailChunk> {
    return new Observable((subscriber) => {
      let cancel: (() => void) | null = null;
      let ended = false;
      const open = (connection: Connection): void => {
        if (ended) return;
        const subscription = connection.openStream(
          logServiceV1.tail.method,
          logServiceV1.tail.encodeRequest({ group, from }),
          { creditBytes },
          {
            item: (payload) => {
              let chunk: TailChunk;
              try {
                chunk = {
                  ...logServiceV1.tail.decodeItem(payload),
                  release: once(() => {
                    if (!ended) subscription.grant(payload.length);
                  }),
                };
              } catch (thrown) {
                subscription.cancel();
                subscriber.error(toTidelineError(thrown));
                return;
              }
              subscriber.next(chunk);
            },
            end: (error) => {
              ended = true;
              if (error) subscriber.error(error);
              else subscriber.complete();
            },
          },
        );
        cancel = () => subscription.cancel();
      };
      this.connect().then(open, (thrown: unknown) => subscriber.error(toTidelineError(thrown)));
      return () => {
        if (!ended) cancel?.();
        ended = true;
      };
    });
  }

  close(): void {
    this.closed = true;
    this.connection?.close();
    this.connection = null;
  }

  private async call<Request, Response>(
    call: RequestCall<Request, Response, never>,
    request: Request,
    extraMs = 0,
  ): Promise<Response> {
    const connection = this.connection?.isOpen ? this.connection : await this.connect();
    const timeoutMs = (this.options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS) + extraMs;
    return new Promise((resolve, reject) => {
      connection.request(call.method, call.encodeRequest(request), { timeoutMs }, (error, payload) => {
        if (error) {
          reject(error);
          return;
        }
        try {
          resolve(call.decodeResponse(payload));
        } catch (thrown) {
          // The other side has answered, with what we cannot read: whatever was asked may have happened.
          reject(new TidelineError('internal', 'the answer does not parse', { cause: thrown, outcome: 'unknown' }));
        }
      });
    });
  }

  /** One dial at a time, shared by all who wait for it. */
  private connect(): Promise<Connection> {
    if (this.closed) return Promise.reject(new TidelineError('shutting-down', 'the log node stub is closed'));
    if (this.connection?.isOpen) return Promise.resolve(this.connection);
    this.dialling ??= this.dial().finally(() => {
      this.dialling = null;
    });
    return this.dialling;
  }

  private async dial(): Promise<Connection> {
    const { transport, address, hello } = this.options;
    const connection = await transport.connect(address, hello, null, { timeoutMs: CONNECT_TIMEOUT_MS });
    if (this.closed) {
      connection.close();
      throw new TidelineError('shutting-down', 'the log node stub is closed');
    }
    this.connection = connection;
    this.nodeId = asNodeId(connection.remote.nodeId);
    return connection;
  }
}

const once = (run: () => void): (() => void) => {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    run();
  };
};
