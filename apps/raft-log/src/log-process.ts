import { RemoteLogNodeDirectory, RoutingCommandLog, serveLogNode, type NodeDescription } from '#command-log';
import { META_GROUP, TidelineError, systemClock, systemRng, systemScheduler, type GroupId, type NodeId } from '#kernel';
import { tcpTransport, type Hello, type Listener } from '#net';
import { formatAddress, type TidelineOptions } from '#platform';
import {
  MetaController,
  ReplicaNode,
  SCRUB_PACE,
  SESSION_LIMITS,
  TcpPeerNetwork,
  type Group,
  type TopicEntry,
} from '#replica';
import {
  LoopWrites,
  nodeFileSystem,
  openDataDirectory,
  openPartitionLog,
  unsyncedFileSystem,
  type DataDirectory,
} from '#storage';
import { LocalLogNode } from './local-log-node.js';

const SOFTWARE = 'tideline';

export interface LogProcessOptions {
  readonly options: TidelineOptions;
  /** Services of this process beyond log and peers, by name, for others to find. */
  readonly addresses: Readonly<Record<string, string>>;
  readonly say: (message: string) => void;
  /** Nothing can be trusted any more: the process must end. */
  readonly onFatal: (error: Error) => void;
  readonly onSync?: (group: GroupId, elapsedMs: number) => void;
}

/**
 * Everything a log node is, apart from Nest: the data directory, the Raft groups, the connections to the peers, the log service, and the
 * command log that this process and others use.
 */
export class LogProcess {
  readonly directory: DataDirectory;
  readonly node: ReplicaNode;
  readonly local: LocalLogNode;
  readonly commandLog: RoutingCommandLog;
  private readonly remotes: RemoteLogNodeDirectory;
  private readonly network: TcpPeerNetwork;
  private readonly addresses: Readonly<Record<string, string>>;
  /** What the peers have said of themselves. */
  private readonly hellos = new Map<NodeId, Hello>();
  private logListener: Listener | null = null;
  private meta: MetaController | null = null;
  /** Refusals, one of each: they come again with every attempt to connect. */
  private readonly said = new Set<string>();
  /** Partitions whose log could not be opened, and why. */
  readonly unopened = new Map<GroupId, TidelineError>();

  /** @throws TidelineError `directory-locked` | `directory-foreign` | `unsupported-version` | `storage-damaged` */
  constructor(private readonly parts: LogProcessOptions) {
    const { options } = parts;
    const voters = votersOf(options);
    const fs = options.durability === 'os' ? unsyncedFileSystem(nodeFileSystem) : nodeFileSystem;
    this.directory = openDataDirectory({
      fs,
      directory: options.dataDir,
      nodeId: options.nodeId,
      clusterId: options.clusterName,
      clusterVoters: voters,
    });
    try {
      refuseOtherVoters(this.directory, voters);
    } catch (error) {
      this.directory.close();
      throw error;
    }
    this.addresses = {
      ...parts.addresses,
      log: `${options.advertiseHost}:${options.logPort}`,
      peer: `${options.advertiseHost}:${options.peerPort}`,
    };
    const hello = {
      nodeId: options.nodeId,
      clusterId: this.clusterId,
      software: SOFTWARE,
      addresses: this.addresses,
      directory: this.directory.directoryId,
    };
    this.network = new TcpPeerNetwork({
      transport: tcpTransport,
      scheduler: systemScheduler,
      rng: systemRng,
      hello,
      peers: options.peers.map((peer) => ({ id: peer.nodeId, address: formatAddress(peer) })),
      limits: { connectionsMax: options.connectionsMax },
      onHello: (remote) => this.hellos.set(remote.nodeId as NodeId, remote),
      refusal: (remote) => this.refusalOf(remote),
      onRefused: (peer, error) => this.refusedBy(peer, error),
    });
    const loopWrites = new LoopWrites(systemClock);
    this.node = new ReplicaNode({
      nodeId: options.nodeId,
      clock: systemClock,
      scheduler: systemScheduler,
      rng: systemRng,
      network: this.network,
      openLog: (group, directory) =>
        openPartitionLog({
          fs,
          directory,
          group,
          clock: systemClock,
          scheduler: systemScheduler,
          loopWrites,
          options: { segmentBytes: options.segmentBytes },
        }),
      onFatal: (group, error) =>
        parts.onFatal(
          new Error(
            `the log of group ${group} in ${this.directory.path} cannot be written any more: ${error.message}`,
            { cause: error },
          ),
        ),
      ...(parts.onSync ? { onSync: parts.onSync } : {}),
      onDamage: (group, state) => {
        const log = `the log of group ${group} in ${this.directory.groupDirectory(group)}`;
        parts.say(
          state === 'found'
            ? `${log} is damaged; it is being repaired from the other nodes`
            : `${log} has been repaired`,
        );
      },
      scrub: SCRUB_PACE,
      electionTimeoutMs: options.electionTimeoutMs,
      heartbeatMs: options.heartbeatMs,
      readLease: options.readMode === 'lease',
      limits: {
        sessions: {
          ...SESSION_LIMITS,
          sessionsMax: options.sessionsMax,
          idempotencyKeysMax: options.sessionsMax,
          sessionIdleMsMax: options.sessionTimeoutMs,
          idempotencyKeyMsMax: options.sessionTimeoutMs,
        },
      },
    });
    this.local = new LocalLogNode({
      node: this.node,
      scheduler: systemScheduler,
      clusterId: () => this.clusterId,
      topics: () => this.topics,
      nodes: () => this.nodes(),
    });
    this.remotes = new RemoteLogNodeDirectory({ transport: tcpTransport, hello, local: this.local });
    this.commandLog = new RoutingCommandLog({
      directory: this.remotes,
      rng: systemRng,
      region: options.region,
      timeoutMs: options.requestTimeoutMs,
    });
  }

  get clusterId(): string {
    return this.directory.clusterId ?? '';
  }

  /** Listens, opens the groups, and takes part. */
  async start(): Promise<void> {
    const { options } = this.parts;
    const hello: Hello = {
      nodeId: options.nodeId,
      clusterId: this.clusterId,
      service: 'log',
      software: SOFTWARE,
      addresses: this.addresses,
    };
    this.logListener = await tcpTransport.listen(
      { host: options.bind, port: options.logPort },
      hello,
      serveLogNode(this.local),
      {
        connectionsMax: options.connectionsMax,
      },
    );
    this.openMetadata();
    await this.network.start({ host: options.bind, port: options.peerPort }, this.node);
    this.node.start();
  }

  /** Topics of the cluster as far as this node has heard, in order of creation. */
  get topics(): readonly TopicEntry[] {
    return this.meta ? [...this.meta.directory.topics.values()] : [];
  }

  /** Group 0 first: it names the others. A damaged one is repaired from the peers, and the rest follows when that is done. */
  private openMetadata(): void {
    const { options } = this.parts;
    const stop = this.node.onOpened((group) => {
      if (group.id !== META_GROUP) return;
      stop();
      this.follow(group);
    });
    this.node.openGroup({
      group: META_GROUP,
      directory: this.directory.groupDirectory(META_GROUP),
      bootstrapVoters: votersOf(options),
    });
  }

  private follow(group: Group): void {
    const { options, say } = this.parts;
    this.meta = new MetaController({
      node: this.node,
      group,
      wallMs: () => systemClock.wallMs(),
      scheduler: systemScheduler,
      directoryOf: (id) => this.directory.groupDirectory(id),
      onOpenFailed: (failed, error) => {
        this.unopened.set(failed, error);
        say(`the log of group ${failed} cannot be opened: ${error.message}`);
      },
    });
    this.meta.ensureTopics(options.topics);
  }

  private nodes(): NodeDescription[] {
    const { options } = this.parts;
    const own: NodeDescription = { id: options.nodeId, addresses: this.addresses, region: options.region, alive: true };
    const others = options.peers
      .filter((peer) => peer.nodeId !== options.nodeId)
      .map((peer): NodeDescription => ({
        id: peer.nodeId,
        addresses: this.hellos.get(peer.nodeId)?.addresses ?? { peer: formatAddress(peer) },
        // Where another node runs is not told; reads prefer this process anyway.
        region: '',
        alive: this.network.isConnected(peer.nodeId),
      }));
    return [own, ...others].sort((a, b) => a.id - b.id);
  }

  /** A node that comes back with another directory has forgotten what it acknowledged and how it voted. */
  private refusalOf({ nodeId, directory = '' }: Hello): TidelineError | null {
    if (this.directory.admitPeer(nodeId as NodeId, directory)) return null;
    const error = foreignDirectory(nodeId as NodeId);
    this.sayOnce(error.message);
    return error;
  }

  private refusedBy(peer: NodeId, error: TidelineError): void {
    if (error.code === 'cluster-mismatch') this.parts.say(`node ${peer} belongs to another cluster: ${error.message}`);
    if (error.code === 'directory-foreign') this.sayOnce(`node ${peer} does not talk to this node: ${error.message}`);
  }

  private sayOnce(message: string): void {
    if (this.said.has(message)) return;
    this.said.add(message);
    this.parts.say(message);
  }

  /** Stops taking part; what is being written is waited for. */
  async close(): Promise<void> {
    await this.commandLog.close();
    await this.remotes.close();
    await this.logListener?.close();
    this.meta?.close();
    await this.network.close();
    await new Promise<void>((resolve) => this.node.close(resolve));
    this.directory.close();
  }
}

const votersOf = (options: TidelineOptions): NodeId[] => {
  const ids = options.peers.map((peer) => peer.nodeId);
  return (ids.length > 0 ? ids : [options.nodeId]).toSorted((a, b) => a - b);
};

const foreignDirectory = (nodeId: NodeId): TidelineError =>
  new TidelineError(
    'directory-foreign',
    `node ${nodeId} has another data directory than before. What it acknowledged and how it voted is in the old one, so it takes no part under its old id: ` +
      `start it with its old directory, or remove node ${nodeId} from the cluster and add it under a new id with an empty one.`,
    { details: { nodeId } },
  );

/** The nodes a cluster began with are part of its data: an option that names others is a slip with a high price. */
const refuseOtherVoters = (directory: DataDirectory, voters: readonly NodeId[]): void => {
  const stored = directory.clusterVoters.toSorted((a, b) => a - b);
  if (stored.length === 0 || stored.join() === voters.join()) return;
  throw new TidelineError(
    'directory-foreign',
    `${directory.path} belongs to a cluster of nodes ${stored.join(', ')}; the peers option names ${voters.join(', ')}. ` +
      `Start the node with its own peers, or with an empty --data-dir.`,
    { details: { directory: directory.path, voters: stored } },
  );
};
