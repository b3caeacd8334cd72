import { connect as connectSocket, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { TidelineError, afterRunning, eventLoopTurn, systemClock, systemScheduler } from '#kernel';
import type { Hello } from '#wire';
import { formatAddress, parseAddress, type HostPort } from './address.js';
import type { ByteLink, ByteLinkEvents } from './byte-link.js';
import type { Connection, ConnectionHandler, Listener, NetLimits, Transport } from './connection.js';
import { DeadlineWheel } from './deadline-wheel.js';
import { FramedConnection, type ConnectionEnvironment, type FramedConnectionOptions } from './framed-connection.js';
import { CLOSE_GRACE_MS, CONNECT_TIMEOUT_MS, withDefaults } from './net-limits.js';
import { SocketReader, readingBy } from './socket-reader.js';
import { TcpLink } from './tcp-link.js';

const environment: ConnectionEnvironment = {
  clock: systemClock,
  scheduler: systemScheduler,
  wheel: new DeadlineWheel(systemClock, systemScheduler),
  // After everything this turn of the event loop has read: answers to one chunk, and to the chunks of other sockets, leave together.
  flushLater: (flush) => eventLoopTurn.atEnd(flush),
};

let lastConnectionId = 0;

/** The link needs the connection for its events and the connection needs the link: made in this order, joined here. */
const overSocket = (
  socket: Socket,
  reader: SocketReader,
  options: Omit<FramedConnectionOptions, 'id' | 'link' | 'environment'>,
): FramedConnection => {
  let connection: FramedConnection | null = null;
  const events: ByteLinkEvents = {
    data: (chunk) => connection!.data(chunk),
    get room() {
      return connection!.room;
    },
    filled: (count) => connection!.filled(count),
    handedOn: (waited) => connection!.handedOn(waited),
    closed: (cause) => connection!.closed(cause),
  };
  const link: ByteLink = new TcpLink(socket, reader, environment.scheduler, events);
  connection = new FramedConnection({ ...options, id: ++lastConnectionId, link, environment });
  return connection;
};

class TcpListener implements Listener {
  readonly address: string;
  readonly port: number;
  private readonly open = new Set<FramedConnection>();
  private readonly sockets = new Set<Socket>();
  private closing: Promise<void> | null = null;

  constructor(
    private readonly server: Server,
    private readonly hello: Hello,
    private readonly handler: ConnectionHandler,
    private readonly limits: NetLimits,
  ) {
    const { address, port } = server.address() as AddressInfo;
    this.address = formatAddress({ host: address, port });
    this.port = port;
    server.on('connection', (socket) => this.accept(socket));
    // Accepting can fail (no file descriptor left); the next one may work, and those there are go on.
    server.on('error', () => undefined);
  }

  get connections(): number {
    return this.open.size;
  }

  private accept(accepted: Socket): void {
    const reader = new SocketReader();
    const socket = readingBy(reader, accepted);
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    const connection = overSocket(socket, reader, {
      role: 'accepting',
      hello: this.hello,
      handler: this.handler,
      limits: this.limits,
      closed: (closed) => this.open.delete(closed),
    });
    if (this.closing !== null) connection.goAway(new TidelineError('shutting-down', 'the node is stopping'));
    else if (this.open.size >= this.limits.connectionsMax) {
      connection.goAway(new TidelineError('overloaded', `no more than ${this.limits.connectionsMax} connections`));
    } else this.open.add(connection);
  }

  close(): Promise<void> {
    this.closing ??= new Promise((resolve) => {
      const giveUp = afterRunning(systemScheduler, CLOSE_GRACE_MS * 2, () => {
        for (const socket of this.sockets) socket.destroy();
      });
      this.server.close(() => {
        giveUp();
        resolve();
      });
      for (const connection of this.open) {
        connection.goAway(new TidelineError('shutting-down', 'the node is stopping'));
      }
    });
    return this.closing;
  }
}

const listenError = (error: NodeJS.ErrnoException, address: HostPort): TidelineError =>
  error.code === 'EADDRINUSE'
    ? new TidelineError('address-in-use', `another process listens on ${formatAddress(address)}`, { cause: error })
    : new TidelineError('bad-option', `cannot listen on ${formatAddress(address)}: ${error.message}`, { cause: error });

const listen = (
  address: HostPort,
  hello: Hello,
  handler: ConnectionHandler,
  limits?: Partial<NetLimits>,
): Promise<Listener> =>
  new Promise((resolve, reject) => {
    const server = createServer({ noDelay: true });
    const failed = (error: NodeJS.ErrnoException): void => reject(listenError(error, address));
    server.once('error', failed);
    server.listen(address.port, address.host, () => {
      server.off('error', failed);
      resolve(new TcpListener(server, hello, handler, withDefaults(limits)));
    });
  });

const dial: Transport['dial'] = (address, hello, handler, options, done) => {
  const timeoutMs = options.timeoutMs ?? CONNECT_TIMEOUT_MS;
  let socket: Socket | null = null;
  let greeting: FramedConnection | null = null;
  let settled = false;
  const settle = (error: TidelineError | null, connection: Connection | null): void => {
    if (settled) return;
    settled = true;
    cancelTimeout();
    if (error !== null) abandon();
    done(error, connection);
  };
  const abandon = (): void => {
    if (greeting !== null) greeting.close();
    else socket?.destroy();
  };
  const failed = (message: string, cause?: unknown): void =>
    settle(
      new TidelineError('connection-lost', `cannot reach ${address}: ${message}`, { cause, outcome: 'rejected' }),
      null,
    );
  const cancelTimeout = afterRunning(systemScheduler, timeoutMs, () => failed(`no hello in ${timeoutMs} ms`));
  const start = (): void => {
    if (settled) return;
    let target: HostPort;
    try {
      target = parseAddress(address);
    } catch (error) {
      return settle(error as TidelineError, null);
    }
    const reader = new SocketReader();
    const dialled = connectSocket({ ...target, noDelay: true, onread: reader.onread });
    socket = dialled;
    const refused = (error: Error): void => failed(error.message, error);
    dialled.once('error', refused);
    dialled.once('connect', () => {
      dialled.off('error', refused);
      greeting = overSocket(dialled, reader, {
        role: 'dialling',
        hello,
        handler,
        limits: { ...withDefaults(options.limits), helloTimeoutMs: timeoutMs },
        opened: (connection) => settle(null, connection),
        closed: (_connection, error) => {
          // Before the hello: a refusal keeps its code, anything else means nobody there speaks this protocol.
          if (error !== null && error.code !== 'connection-lost') settle(error, null);
          else failed(error?.message ?? 'closed', error);
        },
      });
    });
  };
  systemScheduler.defer(start);
  return () => {
    if (settled) return;
    settled = true;
    cancelTimeout();
    abandon();
  };
};

export const connectWith =
  (dialWith: Transport['dial']): Transport['connect'] =>
  (address, hello, handler, options = {}) =>
    new Promise((resolve, reject) => {
      dialWith(address, hello, handler, options, (error, connection) => {
        if (connection === null) reject(error!);
        else resolve(connection);
      });
    });

/** Framed connections over TCP. */
export const tcpTransport: Transport = { listen, dial, connect: connectWith(dial) };
