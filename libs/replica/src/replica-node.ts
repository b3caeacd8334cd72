import {
  TidelineError,
  asGroupId,
  assert,
  randomBelow,
  type Clock,
  type GroupId,
  type NodeId,
  type Rng,
  type Scheduler,
} from '#kernel';
import type { PartitionLog } from '#storage';
import { decodeCheckpoint } from './checkpoint-v1.js';
import type { Announcer, DamageState, GroupHost, TurnTaker } from './group-host.js';
import { LogRepair } from './log-repair.js';
import { LogScrub, type ScrubPace } from './log-scrub.js';
import { LogState } from './log-state.js';
import type { PeerNetwork } from './peer-network.js';
import { PeerFrameWriter, decodePeerFrame, type PeerMessage } from './raft-messages-v1.js';
import { REPLICA_LIMITS, type ReplicaLimits, type ReplicaMutants } from './replica-limits.js';
import { Group } from './replica-group.js';

export const ELECTION_TIMEOUT_MS = 1000;
export const HEARTBEAT_MS = 100;
export const TICK_MS = 50;
/**
 * Followers hear of a commit with the next entries. When none follow they are told after this long: it is what a tail on a follower may be
 * behind, and it spares a message to, and a wake-up of, each follower for each batch.
 */
export const ANNOUNCE_AFTER_MS = 2;
/**
 * So many turns in a row have had one log to write before the event loop may make such a write itself: the disks and the pool do several at a time, the
 * loop does one after the other, and whatever arrives meanwhile waits.
 */
const SOLE_WRITES_MIN = 16;
/** Groups of one node. */
export const GROUPS_MAX = 4096;

export interface ReplicaNodeOptions {
  readonly nodeId: NodeId;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly rng: Rng;
  readonly network: PeerNetwork;
  /** Opens or creates the log of a group in its folder; throws what the storage throws. */
  readonly openLog: (group: GroupId, directory: string) => PartitionLog;
  /** A log cannot be written any more. The process must end: nothing of the group may be trusted to work again. */
  readonly onFatal: (group: GroupId, error: Error) => void;
  /** One durable write took so long. */
  readonly onSync?: (group: GroupId, elapsedMs: number) => void;
  /** Damage of a log was found and is being repaired from the peers; or that is done. */
  readonly onDamage?: (group: GroupId, state: DamageState) => void;
  readonly tickMs?: number;
  readonly electionTimeoutMs?: number;
  readonly heartbeatMs?: number;
  /**
   * Linearizable reads are answered without asking a quorum, as long as followers stand by a promise. Assumes clocks that keep step: see
   * `read-lease.ts` of the Raft core. Off unless said; a follower that is to lend a lease needs it, too.
   */
  readonly readLease?: boolean;
  readonly limits?: Partial<ReplicaLimits>;
  /** How fast logs are looked through for damage; without it they are not. */
  readonly scrub?: ScrubPace;
  readonly mutants?: ReplicaMutants;
}

export interface OpenGroup {
  readonly group: GroupId;
  readonly directory: string;
  /** Who votes in a group that has no configuration in its log yet; the same on every node. */
  readonly bootstrapVoters: readonly NodeId[];
}

/** What the node has done, over all groups. Read by the metrics. */
export interface NodeCounters {
  framesSent: number;
  framesReceived: number;
  framesDropped: number;
  bytesSent: number;
  bytesReceived: number;
  messagesSent: number;
  messagesReceived: number;
  /** Of groups this node does not have (yet). */
  messagesUnknown: number;
  messagesCorrupt: number;
  framesMalformed: number;
}

interface Peer {
  readonly id: NodeId;
  readonly writer: PeerFrameWriter;
  /** On the list of those with something to send. */
  waiting: boolean;
  /** The heartbeat whose answer tells the round trip time; one at a time. */
  probeGroup: GroupId | null;
  probeRound: number;
  probeSentAt: number;
  rttMs: number | null;
}

/** A probe that was not answered after this long is given up. */
const PROBE_TIMEOUT_MS = 5000;

/**
 * The Raft groups of one node. Work is done in turns: whatever happens in a turn of the event loop (frames, appends, ticks, finished
 * writes) marks its group; at the end of the turn every marked group carries out what its core has decided, and each peer gets all
 * messages of all groups in one frame. It leaves at once, before this node begins to write and to answer: the others have the longer way.
 */
export class ReplicaNode {
  readonly nodeId: NodeId;
  readonly counters: NodeCounters = {
    framesSent: 0,
    framesReceived: 0,
    framesDropped: 0,
    bytesSent: 0,
    bytesReceived: 0,
    messagesSent: 0,
    messagesReceived: 0,
    messagesUnknown: 0,
    messagesCorrupt: 0,
    framesMalformed: 0,
  };

  private readonly groups = new Map<GroupId, Group>();
  private readonly repairs = new Map<GroupId, { readonly log: PartitionLog; readonly repair: LogRepair }>();
  private readonly openedListeners = new Set<(group: Group) => void>();
  private readonly peers = new Map<NodeId, Peer>();
  private readonly host: GroupHost;
  private awake: TurnTaker[] = [];
  private sending: Peer[] = [];
  private announcing: Announcer[] = [];
  private cancelAnnouncing: (() => void) | null = null;
  private flushScheduled = false;
  /** Turns in a row in which only one log was to be written, counted up to SOLE_WRITES_MIN. */
  private soleWrites = 0;
  /** Within the end of a turn. */
  private ending = false;
  private cancelTick: (() => void) | null = null;
  /** null: logs are not looked through. */
  readonly scrub: LogScrub | null;
  private closed = false;
  private readonly flush = (): void => this.endTurn();

  constructor(private readonly options: ReplicaNodeOptions) {
    this.nodeId = options.nodeId;
    const tickMs = options.tickMs ?? TICK_MS;
    const ticks = (ms: number): number => Math.max(1, Math.round(ms / tickMs));
    this.host = {
      nodeId: options.nodeId,
      clock: options.clock,
      rng: options.rng,
      limits: { ...REPLICA_LIMITS, ...options.limits },
      mutants: options.mutants ?? {},
      electionTicks: ticks(options.electionTimeoutMs ?? ELECTION_TIMEOUT_MS),
      heartbeatTicks: ticks(options.heartbeatMs ?? HEARTBEAT_MS),
      leaseMs: options.readLease === true ? (options.electionTimeoutMs ?? ELECTION_TIMEOUT_MS) : null,
      wake: (group) => this.wake(group),
      announceSoon: (group) => this.announceSoon(group),
      send: (group, message) => this.send(group, message),
      synced: (group, elapsedMs) => options.onSync?.(group, elapsedMs),
      damage: (group, state) => options.onDamage?.(group, state),
      fatal: (group, error) => options.onFatal(group, error),
    };
    this.scrub = options.scrub
      ? new LogScrub({
          scheduler: options.scheduler,
          groupIds: () => this.groupIds(),
          group: (id) => this.groups.get(id),
          pace: options.scrub,
        })
      : null;
  }

  /** Lets time pass by itself, through the scheduler. Without it somebody calls `tick`. */
  start(): void {
    assert(this.cancelTick === null, 'a node is started once');
    const tickMs = this.options.tickMs ?? TICK_MS;
    const again = (): void => {
      this.cancelTick = this.options.scheduler.after(tickMs, again);
      this.tick();
    };
    // Nodes started together should not tick, and so campaign, together.
    this.cancelTick = this.options.scheduler.after(1 + randomBelow(this.options.rng, tickMs), again);
    this.scrub?.start();
  }

  /**
   * Opens a group. null: its log is damaged; it takes no part in anything until it has been repaired from its peers, then it is opened and
   * `onOpened` tells.
   * @throws TidelineError of the storage; `storage-damaged` when there is nobody to repair from; `bad-option` beyond GROUPS_MAX
   */
  openGroup({ group, directory, bootstrapVoters }: OpenGroup): Group | null {
    assert(!this.closed, 'a closed node opens no group');
    assert(!this.groups.has(group) && !this.repairs.has(group), 'a group is opened once');
    if (this.groups.size + this.repairs.size >= GROUPS_MAX) {
      throw new TidelineError('bad-option', `a node has at most ${GROUPS_MAX} partitions`);
    }
    const log = this.options.openLog(group, directory);
    return this.openOrRepair(log, bootstrapVoters);
  }

  private openOrRepair(log: PartitionLog, bootstrapVoters: readonly NodeId[]): Group | null {
    try {
      if (log.damaged.length === 0) return this.opened(log, bootstrapVoters);
    } catch (error) {
      // Older parts of the log are read only now, and only by their headers.
      if (log.damaged.length === 0) throw error;
    }
    this.repair(log, bootstrapVoters);
    return null;
  }

  private opened(log: PartitionLog, bootstrapVoters: readonly NodeId[]): Group {
    const group = new Group(this.host, log, bootstrapVoters);
    this.groups.set(log.group, group);
    for (const listener of this.openedListeners) listener(group);
    return group;
  }

  /** Called with each group that is opened from now on, at once or after its repair. Returns a function that ends it. */
  onOpened(listener: (group: Group) => void): () => void {
    this.openedListeners.add(listener);
    return () => this.openedListeners.delete(listener);
  }

  private repair(log: PartitionLog, bootstrapVoters: readonly NodeId[]): void {
    const peers = membersOf(log, bootstrapVoters).filter((id) => id !== this.nodeId);
    if (peers.length === 0) {
      const [{ fromOffset }] = log.damaged;
      throw new TidelineError(
        'storage-damaged',
        `the log of group ${log.group} is damaged from offset ${fromOffset} on and there is no peer to repair it from: ` +
          'restore the data directory from a copy, or see what `tideline verify` finds in it',
        { details: { group: log.group, fromOffset } },
      );
    }
    const repair = new LogRepair(log, {
      nodeId: this.nodeId,
      peers,
      askEveryTicks: this.host.electionTicks,
      adopt: null,
      sessions: this.host.limits.sessions,
      send: (request) => this.send(log.group, request),
      done: () => {
        this.repairs.delete(log.group);
        this.host.damage(log.group, 'repaired');
        this.openOrRepair(log, bootstrapVoters);
      },
      failed: (error) => this.options.onFatal(log.group, error),
    });
    this.repairs.set(log.group, { log, repair });
    this.host.damage(log.group, 'found');
  }

  /** Groups whose logs are being repaired. */
  get damagedGroups(): GroupId[] {
    return [...this.repairs.keys()];
  }

  /** Its callers end as `shutting-down`; the files stay. */
  closeGroup(group: GroupId, done: () => void): void {
    const open = this.groups.get(group);
    const damaged = this.repairs.get(group);
    this.groups.delete(group);
    this.repairs.delete(group);
    damaged?.repair.stop();
    if (open !== undefined) open.close(done);
    else if (damaged !== undefined) damaged.log.close(done);
    else done();
  }

  group(id: GroupId): Group | undefined {
    return this.groups.get(id);
  }

  groupIds(): GroupId[] {
    return [...this.groups.keys()];
  }

  tick(): void {
    for (const group of this.groups.values()) group.tick();
    for (const { repair } of this.repairs.values()) repair.tick();
  }

  /** A frame of a peer. The bytes are kept for as long as the entries in them are needed. */
  receive(from: NodeId, payload: Buffer): void {
    if (this.closed || from === this.nodeId) return;
    const { counters } = this;
    counters.framesReceived++;
    counters.bytesReceived += payload.length;
    const faults = decodePeerFrame(payload, { from, to: this.nodeId }, (id, message) => {
      const group = this.groups.get(id);
      if (group === undefined) {
        const damaged = this.repairs.get(id);
        if (damaged === undefined) counters.messagesUnknown++;
        else if (message.type === 'repair-response') damaged.repair.receive(message);
        return;
      }
      counters.messagesReceived++;
      if (message.type === 'heartbeat-response') this.measure(from, id, message.round);
      group.receive(message);
    });
    counters.messagesCorrupt += faults.corrupt;
    counters.framesMalformed += faults.malformed;
  }

  /** The connection to a peer ended: a hint that lets its followers campaign sooner. */
  peerLost(peer: NodeId): void {
    if (this.closed) return;
    for (const group of this.groups.values()) group.peerLost(peer);
  }

  /** Last measured round trip to a peer, from a frame's sending to the answer's arrival; null when none was measured. */
  peerRttMs(peer: NodeId): number | null {
    return this.peers.get(peer)?.rttMs ?? null;
  }

  get peerIds(): NodeId[] {
    return [...this.peers.keys()];
  }

  close(done: () => void): void {
    assert(!this.closed, 'a node is closed once');
    this.closed = true;
    this.cancelTick?.();
    this.scrub?.stop();
    this.cancelAnnouncing?.();
    const ids = [...this.groups.keys(), ...this.repairs.keys()];
    let open = ids.length;
    if (open === 0) done();
    for (const id of ids) this.closeGroup(id, () => --open === 0 && done());
  }

  /* ---- the turn ---- */

  private wake(group: TurnTaker): void {
    if (!group.awake) {
      group.awake = true;
      this.awake.push(group);
    }
    // What happens within the end of a turn is looked at when it is over.
    if (!this.ending) this.scheduleFlush();
  }

  private announceSoon(group: Announcer): void {
    group.announcing = true;
    this.announcing.push(group);
    this.cancelAnnouncing ??= this.options.scheduler.after(ANNOUNCE_AFTER_MS, this.announce);
  }

  private readonly announce = (): void => {
    this.cancelAnnouncing = null;
    const { announcing } = this;
    this.announcing = [];
    for (const group of announcing) {
      group.announcing = false;
      group.announceCommit();
    }
  };

  private scheduleFlush(): void {
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    this.options.scheduler.defer(this.flush);
  }

  private send(group: GroupId, message: PeerMessage): void {
    if (this.closed) return;
    const peer = this.peer(message.to);
    peer.writer.add(group, message);
    this.counters.messagesSent++;
    if (message.type === 'heartbeat') this.probe(peer, group, message.round);
    if (!peer.waiting) {
      peer.waiting = true;
      this.sending.push(peer);
    }
    // What is said within the end of a turn leaves with it.
    if (!this.ending) this.scheduleFlush();
  }

  private peer(id: NodeId): Peer {
    let peer = this.peers.get(id);
    if (peer === undefined) {
      peer = {
        id,
        writer: new PeerFrameWriter(),
        waiting: false,
        probeGroup: null,
        probeRound: 0,
        probeSentAt: 0,
        rttMs: null,
      };
      this.peers.set(id, peer);
    }
    return peer;
  }

  private probe(peer: Peer, group: GroupId, round: number): void {
    const now = this.options.clock.monotonicMs();
    if (peer.probeGroup !== null && now - peer.probeSentAt < PROBE_TIMEOUT_MS) return;
    peer.probeGroup = group;
    peer.probeRound = round;
    peer.probeSentAt = now;
  }

  private measure(from: NodeId, group: GroupId, round: number): void {
    const peer = this.peers.get(from);
    if (peer === undefined || peer.probeGroup !== group || peer.probeRound !== round) return;
    peer.probeGroup = null;
    peer.rttMs = this.options.clock.monotonicMs() - peer.probeSentAt;
  }

  private endTurn(): void {
    this.flushScheduled = false;
    this.ending = true;
    try {
      const turn = this.decideAndPost();
      this.writeAll(turn);
      // What is durable by now has its consequences in this turn.
      const again = this.awake.length > 0 ? this.decideAndPost() : [];
      for (const group of again) group.write(false);
      for (const group of turn) group.settle();
      for (const group of again) if (!turn.includes(group)) group.settle();
      this.postAll();
    } finally {
      this.ending = false;
      if (this.awake.length > 0) this.scheduleFlush();
    }
  }

  private decideAndPost(): readonly TurnTaker[] {
    const { awake } = this;
    this.awake = [];
    for (const group of awake) {
      group.awake = false;
      group.decide();
    }
    this.postAll();
    return awake;
  }

  private writeAll(turn: readonly TurnTaker[]): void {
    let writers = 0;
    for (const group of turn) if (group.hasToWrite) writers++;
    if (writers > 1) this.soleWrites = 0;
    else if (writers === 1 && this.soleWrites < SOLE_WRITES_MIN) this.soleWrites++;
    const atOnce = this.soleWrites >= SOLE_WRITES_MIN;
    for (const group of turn) group.write(atOnce);
  }

  private postAll(): void {
    const { sending } = this;
    if (sending.length === 0) return;
    this.sending = [];
    for (const peer of sending) {
      peer.waiting = false;
      this.post(peer);
    }
  }

  private post(peer: Peer): void {
    const { counters } = this;
    for (const frame of peer.writer.take()) {
      let bytes = 0;
      for (const piece of frame) bytes += piece.length;
      if (this.options.network.post(peer.id, frame.length === 1 ? frame[0] : frame)) {
        counters.framesSent++;
        counters.bytesSent += bytes;
      } else counters.framesDropped++;
    }
  }
}

/** Everybody who may have the group: its first voters, and the members its checkpoints know. */
const membersOf = (log: PartitionLog, bootstrapVoters: readonly NodeId[]): NodeId[] => {
  const members = new Set(bootstrapVoters);
  for (const { bytes } of log.checkpoints) {
    try {
      const { voters, outgoing, learners } = LogState.decode(decodeCheckpoint(bytes).state).configuration.configuration;
      for (const id of [...voters, ...outgoing, ...learners]) members.add(id);
    } catch (error) {
      if (!(error instanceof TidelineError)) throw error;
    }
  }
  return [...members];
};

export const groupDirectoryName = (group: GroupId): string => `group-${String(group).padStart(6, '0')}`;

export const parseGroupDirectoryName = (name: string): GroupId | null =>
  /^group-\d{6,}$/.test(name) ? asGroupId(Number(name.slice('group-'.length))) : null;
