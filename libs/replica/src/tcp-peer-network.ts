import { asNodeId, type NodeId, type Rng, type Scheduler, type TidelineError } from '#kernel';
import {
  ReconnectingPeer,
  type Connection,
  type ConnectionHandler,
  type Hello,
  type Listener,
  type NetLimits,
  type Transport,
} from '#net';
import { peerServiceV1 } from '#wire';
import type { PeerNetwork } from './peer-network.js';

export interface PeerAddress {
  readonly id: NodeId;
  /** host:port of its peer service. */
  readonly address: string;
}

/** What the network tells its node; a ReplicaNode is one. */
export interface PeerReceiver {
  receive(from: NodeId, payload: Buffer): void;
  peerLost(peer: NodeId): void;
}

export interface TcpPeerNetworkOptions {
  readonly transport: Transport;
  readonly scheduler: Scheduler;
  readonly rng: Rng;
  /** Of this node; `service` is filled in. */
  readonly hello: Omit<Hello, 'service'>;
  /** The others; an entry of this node itself is passed over. */
  readonly peers: readonly PeerAddress[];
  readonly limits?: Partial<NetLimits>;
  /** A peer said hello: its addresses by service. */
  readonly onHello?: (hello: Hello) => void;
  /** Why a node that said hello is not taken for the peer it says it is; null when it is. */
  readonly refusal?: (hello: Hello) => TidelineError | null;
  /** A peer could not be reached, or refused. Dialling goes on. */
  readonly onRefused?: (peer: NodeId, error: TidelineError) => void;
}

const SERVICE = 'peer';
const METHOD = peerServiceV1.raftMessages.method;

/**
 * Peers over a transport. Every node dials every other and sends on the connection it dialled; it receives on those it accepted. A connection
 * that ends, either way, is told as `peerLost`, and dialled again.
 */
export class TcpPeerNetwork implements PeerNetwork {
  private readonly dialled = new Map<NodeId, ReconnectingPeer>();
  /** Accepted connections of peers that are who they say they are. */
  private readonly admitted = new Set<Connection>();
  private receiver: PeerReceiver | null = null;
  private listener: Listener | null = null;
  private closed = false;

  constructor(private readonly options: TcpPeerNetworkOptions) {}

  /** Listens, then dials the others. Resolves with what it listens on. */
  async start(listen: { readonly host: string; readonly port: number }, receiver: PeerReceiver): Promise<Listener> {
    this.receiver = receiver;
    const { transport, limits } = this.options;
    this.listener = await transport.listen(listen, this.hello, this.handler, limits);
    this.setPeers(this.options.peers);
    return this.listener;
  }

  private get hello(): Hello {
    return { ...this.options.hello, service: SERVICE };
  }

  private readonly handler: ConnectionHandler = {
    request: (_method, _payload, responder) => responder.ok(Buffer.alloc(0)),
    stream: (_method, _payload, producer) => producer.end(null),
    post: (method, payload, connection) => {
      if (method === METHOD && this.admitted.has(connection)) {
        this.receiver?.receive(asNodeId(connection.remote.nodeId), payload);
      }
    },
    opened: (connection) => {
      // Only nodes have something to say here.
      if (connection.remote.nodeId === 0 || connection.remote.service !== SERVICE) connection.close();
      else if (this.admits(connection)) this.admitted.add(connection);
    },
    closed: (connection) => {
      if (this.admitted.delete(connection)) this.lost(asNodeId(connection.remote.nodeId));
    },
  };

  /** One who is not who it says it is hears nothing and is not heard. */
  private admits(connection: Connection): boolean {
    const { refusal, onHello } = this.options;
    const error = refusal?.(connection.remote) ?? null;
    if (error === null) onHello?.(connection.remote);
    else connection.goAway(error);
    return error === null;
  }

  private lost(peer: NodeId): void {
    if (!this.closed) this.receiver?.peerLost(peer);
  }

  /** Who the others are from now on: new ones are dialled, moved ones dialled anew, missing ones let go. */
  setPeers(peers: readonly PeerAddress[]): void {
    for (const [id, peer] of this.dialled) {
      if (peers.some((each) => each.id === id)) continue;
      this.dialled.delete(id);
      peer.close();
    }
    for (const { id, address } of peers) {
      if (id === this.options.hello.nodeId) continue;
      const known = this.dialled.get(id);
      if (known === undefined) this.dialled.set(id, this.dial(id, address));
      else known.redirect(address);
    }
  }

  private dial(id: NodeId, address: string): ReconnectingPeer {
    const { transport, scheduler, rng, limits, onRefused } = this.options;
    return new ReconnectingPeer({
      transport,
      address,
      hello: this.hello,
      scheduler,
      rng,
      limits,
      onOpen: (connection: Connection) => {
        // Somebody else answers at that address: nothing is sent to it under the wrong name.
        if (connection.remote.nodeId !== id) connection.close();
        else this.admits(connection);
      },
      onClose: (error) => {
        if (error !== null && error.code === 'directory-foreign') onRefused?.(id, error);
        this.lost(id);
      },
      onRefused: (error) => onRefused?.(id, error),
    });
  }

  post(peer: NodeId, payload: Uint8Array | readonly Uint8Array[]): boolean {
    const dialled = this.dialled.get(peer);
    if (dialled === undefined || !dialled.post(METHOD, payload)) return false;
    // A node posts once or twice a turn, all there is to send: there is nothing to wait for.
    dialled.connection?.flush();
    return true;
  }

  isConnected(peer: NodeId): boolean {
    return this.dialled.get(peer)?.connection !== null && this.dialled.has(peer);
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const peer of this.dialled.values()) peer.close();
    this.dialled.clear();
    await this.listener?.close();
  }
}
