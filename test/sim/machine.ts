import {
  META_GROUP,
  TidelineError,
  asLogTime,
  asNodeId,
  asOffset,
  assert,
  type Clock,
  type GroupId,
  type NodeId,
  type Offset,
  type Rng,
  type Scheduler,
  type SeededRng,
} from '#kernel';
import type { Archive } from '#catalog';
import { FixedLogNodeDirectory, RoutingCommandLog, type LogNode, type NodeDescription } from '#command-log';
import { MetaController, ReplicaNode, type Group } from '#replica';
import { LoopWrites, openDataDirectory, openPartitionLog, type DataDirectory, type PersistRequest } from '#storage';
import type { ViewQuery } from '#views';
import { batchFirstOffset } from '#wire';
import { GatewayServices } from '../../apps/gateway/src/gateway-services.js';
import { ViewHost } from '../../apps/materializer/src/view-host.js';
import { LocalLogNode } from '../../apps/raft-log/src/local-log-node.js';
import { decodePeerFrame } from '../../libs/replica/src/testing/index.js';
import { DiskDown, HeldProcess, SimulatedDisk } from '../../libs/storage/src/testing/index.js';
import { ObservedLog } from './observed-log.js';
import type { GroupRecord, Replica } from './observer.js';
import { RemoteNode } from './remote-node.js';
import { ShadowLog } from './shadow-log.js';
import { SimulatedArchive } from './simulated-archive.js';
import { must } from './violation.js';
import { THINGS } from './place.js';
import { talkRudely } from './rude-client.js';
import type { World } from './world.js';

const EPOCH_MS = 1_700_000_000_000;
export const CLUSTER = 'simulated';
export const DATA = 'data';
/** How long a connection takes to notice that the process at its other end is gone. */
const NOTICE_MS = 300;

/**
 * One machine: a disk and a clock that outlive the process, and the process while it runs: a log node, a host of views and a gateway as in the
 * standalone app, in production code from the first line to the last; only the ports differ.
 */
export class Machine {
  readonly disk: SimulatedDisk;
  /** Added to this machine's wall clock; it may be changed at will. */
  wallOffsetMs = 0;
  /** Of its clocks and timers. */
  readonly rate: number;
  life = 0;
  /** Its disk has lost what it must not lose, and it says so: it does not start again, or not with all of its partitions, or its peers refuse it. */
  unusable: string | null = null;

  directory: DataDirectory | null = null;

  replicaNode: ReplicaNode | null = null;
  logNode: LogNode | null = null;
  log: RoutingCommandLog | null = null;
  views: ViewHost | null = null;
  gateway: GatewayServices | null = null;
  readonly replicas: Replica[] = [];
  private readonly observed = new Map<GroupId, ObservedLog>();
  private readonly brokenTails = new Set<() => void>();
  private readonly held: HeldProcess;

  constructor(
    readonly id: NodeId,
    private readonly world: World,
    private readonly rng: SeededRng,
  ) {
    const { swarm, queue } = world;
    this.disk = new SimulatedDisk(
      { defer: (task) => queue.defer(task), after: (ms, task) => queue.after(ms, id, task) },
      rng.fork(),
      { ...swarm.disk, directWrites: swarm.directWrites },
    );
    this.held = new HeldProcess(() => queue.now);
    this.disk.holdsUp = (ms) => {
      this.held.hold(ms);
      queue.holdUntil(id, this.held.nowMs);
    };
    if (world.mutant.disk !== undefined) this.disk.mutants[world.mutant.disk] = true;
    this.rate = 1 + swarm.driftMax * (1 - (2 * rng.nextU32()) / 2 ** 32);
  }

  get isUp(): boolean {
    return this.replicaNode !== null;
  }

  /** How long its event loop will still wait for its disk. */
  get heldUpMs(): number {
    return this.held.leftMs;
  }

  group(id: GroupId): Group | undefined {
    return this.replicaNode?.group(id);
  }

  viewOffset(partition: number): number {
    const all = this.views?.partitionStats() ?? [];
    return all.find((stats) => stats.view === THINGS && stats.partition === partition)?.offset ?? -1;
  }

  /** Starts the process; it may die on the way, or refuse. */
  start(): void {
    assert(!this.isUp, 'a machine that is up is not started');
    if (this.unusable !== null && !this.isOutcast) return;
    if (this.disk.isDown) this.disk.restart();
    try {
      this.boot();
      this.world.trace.note(`node ${this.id} starts`);
    } catch (thrown) {
      // What goes wrong with a data directory has the disk's own word as its cause.
      const error = thrown instanceof TidelineError && thrown.cause !== undefined ? thrown.cause : thrown;
      if (error instanceof DiskDown) {
        this.world.trace.note(`node ${this.id} dies while it starts`);
        this.down();
      } else if (error instanceof TidelineError && error.code === 'storage-damaged') {
        this.unusable = error.message;
        this.world.trace.note(`node ${this.id} does not start: ${error.message}`);
        this.kill();
      } else if (isDiskError(error) || (error instanceof TidelineError && error.code === 'unsupported-version')) {
        this.world.trace.note(`node ${this.id} does not start: ${(error as Error).message}`);
        this.kill();
      } else throw error;
    }
  }

  /** Peers that have had a frame of this machine, and so know its directory. */
  readonly knownTo = new Set<NodeId>();

  /** The peers do not take it for the node that it was: its disk is another. */
  isOutcast = false;

  /** Its disk is replaced by an empty one, and it is started under its old id. */
  replaceDisk(): void {
    if (this.isUp) this.kill();
    this.disk.replace();
    this.isOutcast = true;
    this.unusable = 'its disk was replaced';
    for (const record of this.world.records.values()) record.loseDisk(this.id);
  }

  private boot(): void {
    const { world, rng } = this;
    const { queue, network, swarm, mutant } = world;
    const life = ++this.life;
    const isAlive = (): boolean => this.life === life;
    this.held.release();
    const { held } = this;
    const timers = queue.scheduler(this.id, isAlive, this.rate);
    const scheduler: Scheduler = {
      defer: timers.defer,
      after: (delayMs, task) => timers.after(delayMs + held.leftMs * this.rate, task),
    };
    const clock: Clock = {
      wallMs: () => Math.floor(EPOCH_MS + held.nowMs * this.rate + this.wallOffsetMs),
      monotonicMs: () => held.nowMs * this.rate,
    };
    const loopWrites = swarm.loopWrites ? new LoopWrites(clock) : undefined;
    this.observed.clear();
    this.replicas.length = 0;
    this.meta = null;
    const dataDirectory = openDataDirectory({
      fs: this.disk,
      directory: DATA,
      nodeId: this.id,
      clusterId: CLUSTER,
      clusterVoters: world.firstVoters,
      rng,
    });
    this.directory = dataDirectory;
    const replicaNode = new ReplicaNode({
      nodeId: this.id,
      clock,
      scheduler,
      rng: rng.fork(),
      network: { post: (peer, payload) => this.post(peer, payload) },
      openLog: (group, directory) => {
        const log = openPartitionLog({
          fs: this.disk,
          directory,
          group,
          clock,
          scheduler,
          loopWrites,
          options: {
            segmentBytes: swarm.segmentBytes,
            preallocateFirstBytes: 4096,
            preallocateBytes: 8192,
            indexIntervalBytes: 2048,
            tailCacheBytes: 16_384,
            reserveBytes: 32_768,
            mutantTruncateOnAnyDamage: mutant.truncateOnAnyDamage ?? false,
          },
        });
        const observed = new ObservedLog(log, this.observerOf(world.record(group)));
        this.observed.set(group, observed);
        return observed;
      },
      onFatal: (group, error) => {
        world.trace.note(`node ${this.id} ends: group ${group}: ${error.message}`);
        queue.defer(() => {
          if (isAlive()) this.kill();
        });
      },
      onDamage: (group, state) => {
        world.trace.note(`node ${this.id}: group ${group}: damage ${state}`);
        // What is under repair backs no commit.
        if (state === 'found' && this.group(group) === undefined)
          world.record(group).shadow(this.id).durable = asOffset(0);
      },
      electionTimeoutMs: swarm.electionTimeoutMs,
      readLease: swarm.readLease,
      limits: {
        messageBytesMax: swarm.messageBytesMax,
        recentBytesMax: 16_384,
        checkpointBytes: swarm.checkpointBytes,
        pendingAppendsMax: 1000,
        sessions: {
          sessionsMax: swarm.sessionsMax,
          idempotencyKeysMax: 50_000,
          sessionIdleMsMax: 24 * 3600 * 1000,
          idempotencyKeyMsMax: 24 * 3600 * 1000,
        },
      },
      mutants: mutant.replica ?? {},
    });
    this.replicaNode = replicaNode;
    replicaNode.onOpened((group) => {
      this.opened(group);
      if (group.id === META_GROUP) this.follow(group, { clock, scheduler });
    });
    replicaNode.openGroup({
      group: META_GROUP,
      directory: dataDirectory.groupDirectory(META_GROUP),
      bootstrapVoters: world.firstVoters,
    });
    replicaNode.start();

    const logNode = new LocalLogNode({
      node: replicaNode,
      scheduler,
      clusterId: () => CLUSTER,
      topics: () => [...(this.meta?.directory.topics.values() ?? [])],
      nodes: () => world.nodeDescriptions,
    });
    const askBarrier = logNode.barrier.bind(logNode);
    logNode.barrier = (group) => {
      const { commitMax } = world.record(group);
      const floor = world.expiry.barrierTime(group);
      return askBarrier(group).then((answer) => {
        world.readIndex.check(group, commitMax, answer);
        world.expiry.barrier(group, floor, answer);
        return answer;
      });
    };
    this.logNode = logNode;
    const others = world.machines
      .filter((machine) => machine !== this)
      .map((machine) => {
        const remote = new RemoteNode(network, this.id, isAlive, machine);
        remote.watch = (isBroken, then) => machine.whenDown(() => isBroken() && isAlive() && then());
        return remote;
      });
    const log = new RoutingCommandLog({
      directory: new FixedLogNodeDirectory({ local: logNode, others }),
      rng: rng.fork(),
      clock,
      scheduler,
      timeoutMs: 4000,
      attemptTimeoutMs: 1500,
      pollMs: 1000,
    });
    this.log = log;
    const database = world.archives[swarm.archive === 'own' ? this.id - 1 : 0];
    const archive = database && new SimulatedArchive(database, scheduler, rng.fork());
    this.views = new ViewHost({ log, clock, scheduler, ...(archive && { archive }) });
    this.gateway = new GatewayServices({
      log,
      views:
        mutant.localExpiry === true
          ? readingAtLocalTime(this.views, clock)
          : mutant.archiveAlone === true
            ? lookingBackInArchive(this.views, archive!)
            : this.views,
      limits: { writeTimeoutMs: 4000, readTimeoutMs: 3000 },
      time: { clock, scheduler },
    });
  }

  private meta: MetaController | null = null;

  /** As the log process does: the metadata names the other groups, and they are opened as they are heard of. */
  private follow(group: Group, { clock, scheduler }: { readonly clock: Clock; readonly scheduler: Scheduler }): void {
    const { world } = this;
    this.meta = new MetaController({
      node: this.replicaNode!,
      group,
      wallMs: clock.wallMs,
      scheduler,
      directoryOf: (id) => this.directory!.groupDirectory(id),
      onOpenFailed: (failed, error) => {
        world.trace.note(`node ${this.id}: group ${failed} cannot be opened: ${error.message}`);
        this.unusable = error.message;
      },
    });
    this.meta.ensureTopics(world.topics);
  }

  /** Somebody who does not speak the protocol talks to its gateway. */
  hearRudeness(rng: Rng): void {
    if (this.gateway !== null) talkRudely(this.gateway, this.gateway.time, rng);
  }

  /** Calls back some time after the process ended. Returns how to stop that. */
  whenDown(listener: () => void): () => void {
    this.brokenTails.add(listener);
    return () => this.brokenTails.delete(listener);
  }

  /** The group takes part from now on: what its log holds is compared with what it held. */
  private opened(group: Group): void {
    const { world } = this;
    const record = world.record(group.id);
    const log = this.observed.get(group.id)!;
    const before = record.shadow(this.id);
    const now = new ShadowLog(this.id);
    now.baseOffset = log.baseOffset;
    const baseChain = record.committedChainAt(log.baseOffset) ?? before.chainAt(log.baseOffset);
    must(baseChain !== null, 12, `the log of node ${this.id} begins after ${log.baseOffset}, which is not committed`);
    now.baseChain = baseChain;
    // The node itself reads its log from the newest checkpoint on; reading more would find damage for it.
    const [checkpoint] = log.checkpoints;
    const known = checkpoint !== undefined && before.chainAt(checkpoint.offset) !== null ? checkpoint.offset : 0;
    // A trim that a power failure took back: what it had let go of is there again.
    for (let i = record.indexOf(log.baseOffset + 1); i < record.committed.length; i++) {
      const entry = record.committed[i];
      if (entry.lastOffset > Math.min(before.baseOffset, known)) break;
      now.entries.push(entry);
    }
    for (const entry of before.entries) {
      if (entry.firstOffset > log.baseOffset && entry.lastOffset <= known) now.entries.push(entry);
    }
    if (log.lastOffset > now.lastOffset) {
      const from = asOffset(now.lastOffset + 1);
      log.scanHeadersSync(from, (header) => {
        if (batchFirstOffset(header) < from) return;
        world.observer.reread(record, now, now.append(header, false));
      });
    }
    must(now.lastOffset === log.lastOffset, 12, `node ${this.id} has lost batches within its log`);
    now.durable = now.lastOffset;
    now.term = log.state.term;
    now.vote = log.state.vote;
    now.acked = before.acked;
    now.highestCommit = group.commitOffset;
    now.seenTerm = log.state.term;
    world.observer.recovered(record, before, now);
    record.shadows.set(this.id, now);
    this.replicas.push({ node: this.id, group, record, shadow: now });
  }

  private observerOf(record: GroupRecord): ConstructorParameters<typeof ObservedLog>[1] {
    const { world, id } = this;
    const ends: { end: Offset }[] = [];
    return {
      persistBegins: (request: PersistRequest) => {
        const shadow = record.shadow(id);
        const group = this.group(record.id) ?? null;
        world.observer.persistBegins({ record, shadow, group }, request);
        const { install, truncateAfter, batches } = request;
        if (install !== undefined) {
          const chain = record.committedChainAt(install.offset)!;
          shadow.rebase(install.offset, chain, install.keepSuffix);
          if (shadow.durable > shadow.lastOffset) shadow.durable = shadow.lastOffset;
        }
        if (truncateAfter !== undefined) shadow.truncateAfter(truncateAfter);
        for (const batch of batches) {
          const entry = shadow.append(batch, true);
          record.bytesByChain.set(entry.chain, batch);
          world.observer.appended(record, shadow, entry);
        }
        ends.push({ end: shadow.lastOffset });
      },
      persistEnded: (request: PersistRequest) => {
        const shadow = record.shadow(id);
        const { end } = ends.shift()!;
        if (end > shadow.durable) shadow.durable = end;
        if (request.state !== undefined) {
          shadow.term = request.state.term;
          shadow.vote = request.state.vote;
        }
      },
      trimmed: (baseOffset) => {
        const shadow = record.shadow(id);
        const chain = shadow.chainAt(baseOffset);
        must(chain !== null, 12, `node ${id} trims to ${baseOffset}, which is not the end of a batch`);
        shadow.rebase(baseOffset, chain, true);
      },
      repaired: () => world.trace.note(`node ${id} has repaired group ${record.id}`),
    };
  }

  private post(peer: NodeId, payload: Uint8Array | readonly Uint8Array[]): boolean {
    const { world, id } = this;
    const { network, trace } = world;
    const target = world.machine(peer);
    if (target === undefined) return false;
    const directory = this.directory!.directoryId;
    // Each says hello first, with its directory: see TcpPeerNetwork.
    const greeted = target.directory?.directoryId ?? null;
    if (greeted !== null && !this.directory!.admitPeer(peer, greeted)) return false;
    const frame = payload instanceof Uint8Array ? Buffer.from(payload) : Buffer.concat(payload);
    decodePeerFrame(frame, { from: id, to: peer }, (group, message) => {
      if (message.type === 'repair-request' || message.type === 'repair-response') return;
      world.observer.sent(world.record(group), message);
    });
    const arrive = (): void => {
      trace.mix(frame.length ^ (id << 24) ^ (peer << 28));
      // However late a frame is, the connection it is of does not lead to a directory that its sender was not greeted by.
      if (target.directory === null || target.directory.directoryId !== greeted) return;
      if (!target.directory.admitPeer(id, directory)) return;
      this.knownTo.add(peer);
      // A copy: nobody shares memory over a wire, and a frame may arrive twice.
      target.replicaNode?.receive(id, Buffer.from(frame));
    };
    const { life } = this;
    const { leftMs } = this.held;
    if (leftMs === 0) network.frame(id, peer, arrive);
    else world.queue.after(leftMs, id, () => this.life === life && network.frame(id, peer, arrive));
    return true;
  }

  /** Power failure: what was not synced survives by chance. */
  crash(): void {
    this.down();
    if (!this.disk.isDown) this.disk.crash();
  }

  /** The process ends, the machine does not. */
  kill(): void {
    this.down();
    if (!this.disk.isDown) this.disk.stop();
  }

  /** The process meets an error of its disk where it expects none: nobody catches it. */
  die(error: Error): void {
    if (!this.isUp) return;
    this.world.trace.note(`node ${this.id} ends: ${error.message}`);
    this.kill();
  }

  /** The disk has gone down by itself, in the middle of something. */
  followDisk(): void {
    if (this.isUp && this.disk.isDown) {
      // What it knew when it died it may have told others.
      for (const replica of this.replicas) this.world.observer.touched(replica);
      this.world.trace.note(`node ${this.id} loses power in the middle of a disk operation`);
      this.down();
    }
  }

  private down(): void {
    this.life++;
    this.replicaNode = null;
    this.directory = null;
    this.meta = null;
    this.logNode = null;
    this.log = null;
    this.views = null;
    this.gateway = null;
    this.replicas.length = 0;
    const listeners = [...this.brokenTails];
    this.brokenTails.clear();
    for (const listener of listeners) this.world.queue.after(NOTICE_MS, 0, listener);
    // The connections of the others to this process end, and they notice.
    for (const other of this.world.machines) {
      if (other === this) continue;
      this.world.network.frame(this.id, other.id, () => other.replicaNode?.peerLost(this.id));
    }
  }
}

/** Mutant: between its expiry and the archive's write an entry is found nowhere. */
const lookingBackInArchive = (views: ViewHost, archive: Archive): ViewQuery => {
  const getOrDeparted: ViewQuery['getOrDeparted'] = async (request) => {
    const read = await views.get(request);
    const gone = read.entry === null ? await archive.latest(request.view, request.key) : undefined;
    const departed =
      gone === undefined
        ? null
        : { ...gone, key: request.key, value: Buffer.from(gone.value), contentType: gone.contentType ?? null };
    return { ...read, departed };
  };
  return Object.assign(Object.create(views) as ViewHost, { getOrDeparted });
};

/** Mutant: entries expire by the clock of whoever is asked. */
const readingAtLocalTime = (views: ViewHost, clock: Clock): ViewQuery => {
  const get: ViewQuery['get'] = (request) =>
    views.get({ ...request, at: { offset: request.at.offset, time: asLogTime(clock.wallMs()) } });
  const getMany: ViewQuery['getMany'] = (request) =>
    views.getMany({ ...request, at: { offset: request.at.offset, time: asLogTime(clock.wallMs()) } });
  return Object.assign(Object.create(views) as ViewHost, { get, getMany, getNow: undefined });
};

/** What the operating system says of a bad or full disk. */
export const isDiskError = (error: unknown): boolean => {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EIO' || code === 'ENOSPC';
};

export const describeNodes = (count: number): NodeDescription[] =>
  Array.from({ length: count }, (_, i) => ({ id: asNodeId(i + 1), addresses: {}, region: '', alive: true }));
