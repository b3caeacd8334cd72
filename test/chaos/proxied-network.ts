import { connect, createServer, type Server, type Socket } from 'node:net';

/**
 * The network between the nodes, as TCP proxies: every byte from one node to another passes a Link, which can hold it back for a while
 * or for good.
 *
 *     node A ──dials──► proxy ──► node B        bytes A→B pass link(A,B), the answers link(B,A)
 *
 * What a blocked link holds is delivered, late, when it opens again, unless the connection was reset: as with a router that comes back.
 * A connection that ends behind a blocked link is not seen to end on the other side before that either.
 */
export class Link {
  private isBlocked = false;
  delayMs = 0;
  private readonly waiting = new Set<() => void>();

  get blocked(): boolean {
    return this.isBlocked;
  }

  set blocked(blocked: boolean) {
    this.isBlocked = blocked;
    if (blocked) return;
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const go of waiting) go();
  }

  /** Calls back once when the link opens. */
  whenOpen(go: () => void): void {
    this.waiting.add(go);
  }
}

/** Those who are no node: clients of the gateways. */
export const CLIENT = 0;

/** Bytes that one direction of a connection may hold; then the sender is not read from. */
const HELD_BYTES_MAX = 4 * 1024 * 1024;

/** One direction of a connection. */
class Pipe {
  private readonly held: { readonly chunk: Buffer; readonly due: number }[] = [];
  private heldBytes = 0;
  private ended = false;
  /** Waits for the moment a chunk is due, for the sink to drain, or for the link to open. */
  private waiting = false;

  constructor(
    private readonly source: () => Socket | null,
    /** Dialled when the first bytes are let through. */
    private readonly sink: () => Socket | null,
    /** null until it is known who is talking. */
    private link: Link | null,
  ) {}

  assign(link: Link): void {
    this.link = link;
    this.pump();
  }

  take(chunk: Buffer): void {
    this.held.push({ chunk, due: performance.now() + (this.link?.delayMs ?? 0) });
    this.heldBytes += chunk.length;
    if (this.heldBytes > HELD_BYTES_MAX) this.source()?.pause();
    this.pump();
  }

  /** The source is gone: so is the sink, after what is held. */
  end(): void {
    this.ended = true;
    this.pump();
  }

  private readonly goOn = (): void => {
    this.waiting = false;
    this.pump();
  };

  private pump(): void {
    const { link } = this;
    if (link === null) return;
    while (!this.waiting && (this.held.length > 0 || this.ended)) {
      if (link.blocked) {
        this.waiting = true;
        link.whenOpen(this.goOn);
        return;
      }
      if (this.held.length === 0) {
        this.sink()?.destroy();
        return;
      }
      const [{ chunk, due }] = this.held;
      const waitMs = due - performance.now();
      if (waitMs > 0) {
        this.waiting = true;
        setTimeout(this.goOn, waitMs);
        return;
      }
      const sink = this.sink();
      if (sink === null || sink.destroyed) {
        this.held.length = 0;
        this.heldBytes = 0;
        this.source()?.destroy();
        return;
      }
      this.held.shift();
      this.heldBytes -= chunk.length;
      if (this.heldBytes <= HELD_BYTES_MAX) this.source()?.resume();
      if (!sink.write(chunk)) {
        this.waiting = true;
        const drained = (): void => {
          sink.off('drain', drained);
          sink.off('close', drained);
          this.goOn();
        };
        sink.on('drain', drained);
        sink.on('close', drained);
      }
    }
  }
}

/** Where the dialling node's id is in the first bytes it sends: a frame's header, then the hello. */
const HELLO_NODE_ID_AT = 16;

class ProxiedConnection {
  private target: Socket | null = null;
  private greeting = Buffer.alloc(0);
  private readonly up: Pipe;
  private readonly down: Pipe;
  from: number | null;

  constructor(
    private readonly socket: Socket,
    private readonly route: { readonly from: number | null; readonly to: number; readonly port: number },
    private readonly linkOf: (from: number, to: number) => Link,
    private readonly closed: () => void,
  ) {
    const { from, to } = route;
    this.from = from;
    this.up = new Pipe(
      () => this.socket,
      () => this.dialled(),
      from === null ? null : linkOf(from, to),
    );
    this.down = new Pipe(
      () => this.target,
      () => this.socket,
      from === null ? null : linkOf(to, from),
    );
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.received(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      closed();
      this.up.end();
    });
  }

  private received(chunk: Buffer): void {
    if (this.from === null && this.greeting.length < HELLO_NODE_ID_AT + 4) {
      this.greeting = Buffer.concat([this.greeting, chunk]);
      if (this.greeting.length >= HELLO_NODE_ID_AT + 4) {
        this.from = this.greeting.readUInt32LE(HELLO_NODE_ID_AT);
        this.up.assign(this.linkOf(this.from, this.route.to));
        this.down.assign(this.linkOf(this.route.to, this.from));
      }
    }
    this.up.take(chunk);
  }

  private dialled(): Socket | null {
    if (this.target !== null) return this.target;
    if (this.socket.destroyed) return null;
    const target = connect(this.route.port, '127.0.0.1');
    this.target = target;
    target.setNoDelay(true);
    target.on('data', (chunk: Buffer) => this.down.take(chunk));
    target.on('error', () => undefined);
    target.on('close', () => this.down.end());
    return target;
  }

  reset(): void {
    this.closed();
    if (!this.socket.destroyed) this.socket.resetAndDestroy();
    if (this.target && !this.target.destroyed) this.target.resetAndDestroy();
  }
}

export class ProxiedNetwork {
  private readonly links = new Map<string, Link>();
  private readonly servers: Server[] = [];
  private readonly connections = new Set<ProxiedConnection & { readonly to: number }>();

  readonly link = (from: number, to: number): Link => {
    const name = `${from}>${to}`;
    let link = this.links.get(name);
    if (link === undefined) this.links.set(name, (link = new Link()));
    return link;
  };

  /**
   * Listens in front of `port` of node `to`. `from`: the node that is told this address; null when all are: the dialling side's hello tells.
   * Resolves with the port listened on.
   */
  listen(route: {
    readonly from: number | null;
    readonly to: number;
    readonly port: number;
    readonly at: { readonly host: string; readonly port: number };
  }): Promise<number> {
    return new Promise((resolve, reject) => {
      const server = createServer((socket) => {
        const connection = Object.assign(
          new ProxiedConnection(socket, route, this.link, () => this.connections.delete(connection)),
          { to: route.to },
        );
        this.connections.add(connection);
      });
      server.once('error', reject);
      server.listen(route.at.port, route.at.host, () => {
        this.servers.push(server);
        resolve((server.address() as { port: number }).port);
      });
    });
  }

  /** Ends all connections from or to the node the hard way. New ones may be made at once. */
  reset(node: number): void {
    for (const connection of this.connections)
      if (connection.from === node || connection.to === node) connection.reset();
  }

  heal(): void {
    for (const link of this.links.values()) {
      link.delayMs = 0;
      link.blocked = false;
    }
  }

  async close(): Promise<void> {
    this.heal();
    for (const connection of this.connections) connection.reset();
    await Promise.all(this.servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}
