import { TidelineError, randomBelow, type Rng, type Scheduler } from '#kernel';
import type { Hello } from '#wire';
import type {
  Connection,
  ConnectionHandler,
  NetLimits,
  Payload,
  ResponseCallback,
  StreamConsumer,
  StreamSubscription,
  Transport,
} from './connection.js';

export interface ReconnectingPeerOptions {
  readonly transport: Transport;
  readonly address: string;
  readonly hello: Hello;
  readonly handler?: ConnectionHandler | null;
  readonly scheduler: Scheduler;
  readonly rng: Rng;
  readonly limits?: Partial<NetLimits>;
  readonly connectTimeoutMs?: number;
  /** First wait after a failure; doubled each time up to the maximum, and each time half of it drawn at random. */
  readonly backoffMsMin?: number;
  readonly backoffMsMax?: number;
  readonly onOpen?: (connection: Connection) => void;
  /** The connection that was open has ended. */
  readonly onClose?: (error: TidelineError | null) => void;
  /** An attempt failed; another follows. */
  readonly onRefused?: (error: TidelineError) => void;
}

const BACKOFF_MS_MIN = 50;
const BACKOFF_MS_MAX = 2000;

const NO_SUBSCRIPTION: StreamSubscription = { grant: () => undefined, cancel: () => undefined };

/** Keeps one connection to an address, dialling again whenever it is gone. While there is none, everything fails at once: nothing queues. */
export class ReconnectingPeer {
  private current: Connection | null = null;
  private cancelWaiting: (() => void) | null = null;
  private failures = 0;
  private closed = false;
  private target: string;
  private readonly backoffMsMin: number;
  private readonly backoffMsMax: number;

  constructor(private readonly options: ReconnectingPeerOptions) {
    this.target = options.address;
    this.backoffMsMin = options.backoffMsMin ?? BACKOFF_MS_MIN;
    this.backoffMsMax = options.backoffMsMax ?? BACKOFF_MS_MAX;
    this.dial();
  }

  get address(): string {
    return this.target;
  }

  /** null while there is none. */
  get connection(): Connection | null {
    return this.current?.isOpen === true ? this.current : null;
  }

  post(method: number, payload: Payload): boolean {
    return this.connection?.post(method, payload) ?? false;
  }

  /** Without a connection: `connection-lost` with outcome rejected, as nothing was sent. */
  request(method: number, payload: Payload, options: { readonly timeoutMs: number }, done: ResponseCallback): void {
    const { connection } = this;
    if (connection !== null) connection.request(method, payload, options, done);
    else this.options.scheduler.defer(() => done(this.absent(), Buffer.alloc(0)));
  }

  openStream(
    method: number,
    payload: Payload,
    options: { readonly creditBytes: number },
    consumer: StreamConsumer,
  ): StreamSubscription {
    const { connection } = this;
    if (connection !== null) return connection.openStream(method, payload, options, consumer);
    let cancelled = false;
    this.options.scheduler.defer(() => {
      if (!cancelled) consumer.end(this.absent());
    });
    return {
      ...NO_SUBSCRIPTION,
      cancel: () => {
        cancelled = true;
      },
    };
  }

  /** Dials the new address at once; the connection to the old one ends. */
  redirect(address: string): void {
    if (this.closed || address === this.target) return;
    this.target = address;
    this.failures = 0;
    this.cancelWaiting?.();
    const old = this.current;
    this.current = null;
    old?.close();
    this.dial();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.cancelWaiting?.();
    this.cancelWaiting = null;
    this.current?.close();
  }

  private absent(): TidelineError {
    return new TidelineError('connection-lost', `no connection to ${this.target}`, { outcome: 'rejected' });
  }

  private dial(): void {
    const { transport, hello, handler, connectTimeoutMs, limits } = this.options;
    this.cancelWaiting = transport.dial(
      this.target,
      hello,
      handler ?? null,
      {
        ...(connectTimeoutMs === undefined ? {} : { timeoutMs: connectTimeoutMs }),
        ...(limits === undefined ? {} : { limits }),
      },
      (error, connection) => {
        this.cancelWaiting = null;
        if (connection !== null) return this.opened(connection);
        this.options.onRefused?.(error!);
        if (!this.closed) this.dialLater();
      },
    );
  }

  private opened(connection: Connection): void {
    this.current = connection;
    this.failures = 0;
    connection.onClose((error) => {
      const redirected = this.current !== connection;
      if (!redirected) this.current = null;
      this.options.onClose?.(error);
      if (!redirected && !this.closed && this.cancelWaiting === null) this.dialLater();
    });
    this.options.onOpen?.(connection);
  }

  private dialLater(): void {
    const full = Math.min(this.backoffMsMax, this.backoffMsMin * 2 ** Math.min(this.failures++, 20));
    const delayMs = full / 2 + randomBelow(this.options.rng, Math.ceil(full / 2) + 1);
    this.cancelWaiting = this.options.scheduler.after(delayMs, () => this.dial());
  }
}
