import {
  NO_NODE,
  TidelineError,
  asNodeId,
  toTidelineError,
  randomBelow,
  type Clock,
  type NodeId,
  type Rng,
} from '#kernel';
import type { Connection, Hello, Transport } from '#net';
import type { ClusterDescriptionMessage } from '#wire';

/** A gateway that could not be reached is left alone for this long, ms, doubling with each failure. */
const COOL_DOWN_MS_MIN = 50;
const COOL_DOWN_MS_MAX = 2_000;

/** One gateway, by address. Connects when it is needed. */
export class Gateway {
  connection: Connection | null = null;
  /** NO_NODE until it has said hello or another one has described it. */
  node: NodeId = NO_NODE;
  private dialling: Promise<Connection> | null = null;
  private failures = 0;
  private notBeforeMs = 0;
  private closed = false;

  constructor(
    readonly address: string,
    private readonly options: {
      readonly transport: Transport;
      readonly hello: Hello;
      readonly clock: Clock;
      readonly connectTimeoutMs: number;
    },
  ) {}

  get isOpen(): boolean {
    return this.connection?.isOpen === true;
  }

  /** Whether trying it is worth while. */
  get isPromising(): boolean {
    return this.isOpen || this.options.clock.monotonicMs() >= this.notBeforeMs;
  }

  /** One dial at a time, shared. Errors: `connection-lost` (rejected) · `cluster-mismatch` */
  connect(): Promise<Connection> {
    if (this.isOpen) return Promise.resolve(this.connection!);
    this.dialling ??= this.dial().finally(() => {
      this.dialling = null;
    });
    return this.dialling;
  }

  private async dial(): Promise<Connection> {
    const { transport, hello, connectTimeoutMs } = this.options;
    let connection: Connection;
    try {
      connection = await transport.connect(this.address, hello, null, { timeoutMs: connectTimeoutMs });
    } catch (thrown) {
      this.avoid();
      throw toTidelineError(thrown);
    }
    if (this.closed) {
      connection.close();
      throw new TidelineError('shutting-down', 'the client is closed');
    }
    this.failures = 0;
    this.notBeforeMs = 0;
    this.connection = connection;
    if (connection.remote.nodeId > 0) this.node = asNodeId(connection.remote.nodeId);
    return connection;
  }

  /** It did not answer or is not there: others first, for a while. */
  avoid(): void {
    const pauseMs = Math.min(COOL_DOWN_MS_MAX, COOL_DOWN_MS_MIN * 2 ** Math.min(this.failures++, 10));
    this.notBeforeMs = this.options.clock.monotonicMs() + pauseMs;
  }

  close(): void {
    this.closed = true;
    this.connection?.close();
    this.connection = null;
  }
}

/** The gateways a client knows: those it was given, and those that the cluster has described. */
export class GatewayPool {
  private readonly byAddress = new Map<string, Gateway>();
  private readonly byNode = new Map<NodeId, Gateway>();
  private closed = false;

  constructor(
    private readonly options: {
      readonly seeds: readonly string[];
      readonly transport: Transport;
      readonly hello: Hello;
      readonly clock: Clock;
      readonly rng: Rng;
      readonly connectTimeoutMs: number;
    },
  ) {
    for (const address of options.seeds) this.at(address);
  }

  private at(address: string): Gateway {
    let gateway = this.byAddress.get(address);
    if (gateway === undefined) {
      gateway = new Gateway(address, this.options);
      this.byAddress.set(address, gateway);
    }
    return gateway;
  }

  /** Takes in what `from` says of the cluster. Gateways that are not in it any more, and were not given, are let go. */
  learn(description: ClusterDescriptionMessage, from: Gateway): void {
    const wanted = new Set(this.options.seeds);
    wanted.add(from.address);
    this.byNode.clear();
    for (const node of description.nodes) {
      const address = node.addresses['native'];
      if (address === undefined) continue;
      wanted.add(address);
      const gateway = this.at(address);
      gateway.node = node.id;
      this.byNode.set(node.id, gateway);
    }
    // The describing node is reached, by whatever address that was: no second connection by the one it calls its own.
    if (description.node !== NO_NODE && from.isOpen) {
      from.node = description.node;
      this.byNode.set(description.node, from);
    }
    for (const [address, gateway] of this.byAddress) {
      if (wanted.has(address)) continue;
      this.byAddress.delete(address);
      gateway.close();
    }
  }

  /**
   * The gateway to ask: that of `preferred` if it can be expected to answer, else one that is connected, else any; `avoided` only when
   * there is no other.
   */
  choose(preferred: NodeId, avoided: ReadonlySet<Gateway>): Gateway {
    if (this.closed) throw new TidelineError('shutting-down', 'the client is closed');
    const favourite = this.byNode.get(preferred);
    if (favourite?.isPromising && !avoided.has(favourite)) return favourite;
    const distinct = new Set(this.byNode.values());
    for (const gateway of this.byAddress.values()) {
      // Another address of a node that is in the set already would be the same process.
      if (gateway.node === NO_NODE || !this.byNode.has(gateway.node)) distinct.add(gateway);
    }
    const all = [...distinct];
    const fresh = all.filter((gateway) => !avoided.has(gateway));
    const promising = fresh.filter((gateway) => gateway.isPromising);
    const open = promising.filter((gateway) => gateway.isOpen);
    const candidates = [open, promising, fresh, all].find((list) => list.length > 0);
    if (candidates === undefined) throw new TidelineError('bad-option', 'no addresses were given');
    return candidates[randomBelow(this.options.rng, candidates.length)];
  }

  close(): void {
    this.closed = true;
    for (const gateway of this.byAddress.values()) gateway.close();
  }
}
