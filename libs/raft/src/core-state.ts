import {
  NO_NODE,
  NO_OFFSET,
  asOffset,
  assert,
  randomBelow,
  type NodeId,
  type Offset,
  type Rng,
  type Term,
} from '#kernel';
import { ConfigurationHistory, membersOf } from './configuration.js';
import { Durability } from './durability.js';
import { EntryLog } from './entry-log.js';
import { Outbox } from './outbox.js';
import { Progress } from './progress.js';
import { majorityValue } from './quorum.js';
import { firstPromise } from './read-lease.js';
import type { Configuration, Entry, EntryKind, RaftOptions, Role } from './types.js';

/** Terms are 32 bits in batches and messages. */
export const TERM_MAX = 0xffff_ffff;

const NO_BYTES = new Uint8Array(0);

type Countable = 'match' | 'roundAcked' | 'promisedUntilMs';

/** Reads that got the same heartbeat round, and the commit offset when it began. */
export interface ReadRound {
  readonly round: number;
  readonly offset: Offset;
  readonly ids: readonly number[];
}

/** The state that the handlers of this folder share. It decides nothing; it keeps its parts consistent with each other. */
export class CoreState {
  readonly id: NodeId;
  readonly options: RaftOptions;
  readonly rng: Rng;

  role: Role = 'follower';
  term: Term;
  vote: NodeId;
  leader: NodeId = NO_NODE;
  commit: Offset;
  readonly log: EntryLog;
  readonly configurations: ConfigurationHistory;
  readonly durability: Durability;
  readonly outbox = new Outbox();
  hardStateChanged = false;
  /** The log up to here has been given to the driver to persist. */
  handedOver: Offset;

  /** Ticks since the start: the only time there is, but for leases. */
  now = 0;
  /** With leases: what the driver's monotonic clock said last. */
  nowMs: number;
  /** With leases: before then this node gives no vote and does not campaign, unless a leader hands over. Outlives terms. */
  promisedUntilMs: number;
  /** Follower: ticks since the leader was heard or a vote was given. Candidate: since the campaign began. */
  elapsed = 0;
  /** Ticks of `elapsed` at which a campaign begins. */
  timeout = 0;

  /* ---- candidate ---- */
  readonly votes = new Map<NodeId, boolean>();
  /** The persist unit that makes this node's vote for itself durable; only then does it count. */
  ownVoteUnit = 0;

  /* ---- follower ---- */
  /** The highest offset acknowledged to the present leader. */
  acknowledged: Offset = NO_OFFSET;

  /* ---- leader ---- */
  /** The other members, and this node's own durable offset in the same shape. */
  peers: Progress[] = [];
  self: Progress;
  /** Progress of each voter, of each outgoing voter. */
  private voters: Progress[] = [];
  private outgoing: Progress[] = [];
  /** Offset of the noop that opened this leader's term. */
  termFirstOffset: Offset = NO_OFFSET;
  ticksSinceHeartbeat = 0;
  /** Something may have to be sent to a follower. */
  replicationDue = false;
  /** Followers are to be told of the commit offset even if there is nothing else to send. */
  announcementDue = false;
  transferTo: NodeId = NO_NODE;
  transferSince = 0;
  /** Tick of the last order to take over. */
  transferOrderedAt = 0;
  /** The configuration that removed this leader is committed: the next ready is its last as leader. */
  retiring = false;
  /** Number of the last heartbeat round; never goes back, not even over terms. */
  round = 0;
  /** Reads without a round yet, and rounds not yet confirmed, oldest first. */
  waitingReads: number[] = [];
  readonly readRounds: ReadRound[] = [];
  /** With leases: when each of the last rounds was sent. */
  readonly roundSentMs: number[] = [];
  /** With leases: somebody was told to take over in this term. */
  leaseGivenUp = false;
  /** Peers with a log read outstanding. Outlives leadership: the driver answers each read once. */
  readonly readsOutstanding = new Set<NodeId>();

  private readonly scratch: number[] = [];

  constructor(options: RaftOptions) {
    const { log, hardState } = options;
    assert(
      options.electionTicks > options.heartbeatTicks && options.heartbeatTicks > 0,
      'heartbeats outpace elections',
    );
    assert(log.commit >= log.baseOffset && log.commit <= log.lastOffset, 'the commit offset lies within the log');
    this.id = options.id;
    this.options = options;
    this.rng = options.rng;
    this.term = hardState.term;
    this.vote = hardState.vote;
    this.commit = log.commit;
    this.log = new EntryLog(log);
    assert(this.log.lastTerm <= this.term, 'the hard state is as new as the log');
    this.configurations = new ConfigurationHistory({
      current: { configuration: log.configuration, offset: log.configurationOffset },
      previous: log.previousConfiguration,
      commit: log.commit,
    });
    this.durability = new Durability(log.lastOffset);
    this.handedOver = log.lastOffset;
    this.self = new Progress(this.id, asOffset(log.lastOffset + 1), 0);
    this.nowMs = options.readLease?.startMs ?? 0;
    this.promisedUntilMs = firstPromise(this);
    this.drawTimeout();
  }

  get configuration(): Configuration {
    return this.configurations.current;
  }

  /** Whether this node may campaign. */
  get promotable(): boolean {
    return this.configurations.mayCampaign(this.id);
  }

  /** Whether a leader has committed an entry of its own term. */
  get committedInTerm(): boolean {
    return this.role === 'leader' && this.commit >= this.termFirstOffset;
  }

  /** Starts the election timer anew, with another length: uniform in [electionTicks, 2 × electionTicks). */
  drawTimeout(): void {
    const { electionTicks } = this.options;
    this.elapsed = 0;
    this.timeout = electionTicks + randomBelow(this.rng, electionTicks);
  }

  /** Appends to the own log as leader. */
  appendOwn(kind: EntryKind, count: number, bytes: Uint8Array, configuration?: Configuration): Offset {
    assert(this.role === 'leader', 'only a leader appends entries of its own');
    const firstOffset = asOffset(this.log.lastOffset + 1);
    const lastOffset = asOffset(this.log.lastOffset + count);
    const { term } = this;
    const entry: Entry =
      configuration === undefined
        ? { firstOffset, lastOffset, term, kind, bytes }
        : { firstOffset, lastOffset, term, kind, bytes, configuration };
    this.log.append(entry);
    this.replicationDue = true;
    return firstOffset;
  }

  /** An entry without records: the driver encodes it. */
  appendControl(kind: 'noop' | 'configuration', configuration?: Configuration): Offset {
    const offset = this.appendOwn(kind, 1, NO_BYTES, configuration);
    if (configuration !== undefined) {
      this.configurations.append(configuration, offset);
      this.followConfiguration(false);
    }
    return offset;
  }

  commitUpTo(offset: Offset): void {
    assert(offset > this.commit, 'the commit offset does not go back');
    assert(offset <= this.log.lastOffset, 'nothing beyond the log is committed');
    // What a new term or a membership change waits for is not held back.
    if (isPassed(this.termFirstOffset, this.commit, offset)) this.announcementDue = true;
    if (isPassed(this.configurations.currentOffset, this.commit, offset)) this.announcementDue = true;
    this.commit = offset;
    this.configurations.settle(offset);
    this.settle();
    this.replicationDue = true;
  }

  /** Lets the log keep less in memory, and settles what commit or durability made final. */
  settle(): void {
    const { commit } = this;
    const { offset } = this.durability;
    this.log.settle(commit < offset ? commit : offset, this.options.cacheBytesMax);
  }

  peer(id: NodeId): Progress | undefined {
    const { peers } = this;
    for (let i = 0; i < peers.length; i++) if (peers[i].id === id) return peers[i];
    return undefined;
  }

  /** Brings the progress list in line with the configuration in force; afresh at the start of a term. */
  followConfiguration(afresh: boolean): void {
    const known = afresh ? [] : [...this.peers, this.self];
    const next = asOffset(this.log.lastOffset + 1);
    const progressOf = (id: NodeId): Progress => {
      let progress = known.find((p) => p.id === id);
      if (progress === undefined) {
        progress = new Progress(id, next, this.now);
        known.push(progress);
      }
      return progress;
    };
    this.self = progressOf(this.id);
    this.self.match = this.durability.offset;
    this.self.roundAcked = this.round;
    this.self.promisedUntilMs = Number.POSITIVE_INFINITY;
    const { voters, outgoing } = this.configuration;
    this.peers = membersOf(this.configuration)
      .filter((id) => id !== this.id)
      .map(progressOf);
    this.voters = voters.map(progressOf);
    this.outgoing = outgoing.map(progressOf);
    this.replicationDue = true;
  }

  /** What a quorum has: of durable offsets, of answered heartbeat rounds, of promises. Both majorities while joint. */
  quorumOf(what: Countable): number {
    const incoming = this.majorityOf(this.voters, what);
    if (this.outgoing.length === 0) return incoming;
    return Math.min(incoming, this.majorityOf(this.outgoing, what));
  }

  private majorityOf(members: readonly Progress[], what: Countable): number {
    const { scratch } = this;
    scratch.length = members.length;
    for (let i = 0; i < members.length; i++) scratch[i] = countOf(members[i], what);
    return majorityValue(scratch);
  }

  /** Whether a quorum was heard within the last election timeout. */
  get quorumActive(): boolean {
    const since = this.now - this.options.electionTicks;
    const active = (members: readonly Progress[]): boolean => {
      let heard = 0;
      for (const member of members) if (member === this.self || member.heardAt > since) heard++;
      return heard * 2 > members.length;
    };
    return active(this.voters) && (this.outgoing.length === 0 || active(this.outgoing));
  }
}

const countOf = ({ match, roundAcked, promisedUntilMs }: Progress, what: Countable): number => {
  if (what === 'match') return match;
  return what === 'roundAcked' ? roundAcked : promisedUntilMs;
};

const isPassed = (milestone: Offset, before: Offset, now: Offset): boolean => before < milestone && milestone <= now;
