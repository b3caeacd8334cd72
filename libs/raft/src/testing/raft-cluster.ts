import { SeededRng, asNodeId, asOffset, asTerm, assert, type NodeId } from '#kernel';
import { ClusterInvariants } from './cluster-invariants.js';
import { CORE_OPTIONS, ClusterNode, textBytes, type CoreOptions, type NodeHost } from './cluster-node.js';
import { DiskImage } from './disk-image.js';
import type { Configuration, Entry, LogRead, Message, Ready } from '../types.js';

export interface ClusterOptions {
  readonly seed?: number;
  /** Voters, unless `configuration` says more. */
  readonly voters?: readonly number[];
  readonly learners?: readonly number[];
  /** Nodes that exist and are no members. Their configuration is empty. */
  readonly others?: readonly number[];
  readonly core?: Partial<CoreOptions>;
  /** False for tests that make up messages of nodes which do not stand behind them. */
  readonly isChecked?: boolean;
}

/**
 * Several cores in one process, moved by hand: nothing is delivered, written or ticked unless it is asked for. `settle` does all of it
 * until nothing is left, so a test that cares about one step takes that one by hand and settles the rest.
 */
export class RaftCluster implements NodeHost {
  readonly nodes = new Map<NodeId, ClusterNode>();
  readonly invariants = new ClusterInvariants(this.nodes);
  readonly rng: SeededRng;
  /** Under way, oldest first. */
  readonly mail: Message[] = [];
  readonly logReads: { readonly node: ClusterNode; readonly read: LogRead }[] = [];
  readonly snapshotsWanted: { readonly node: ClusterNode; readonly peer: NodeId }[] = [];
  /** Every ready, for tests that look closely. */
  readonly readies: { readonly id: NodeId; readonly ready: Ready }[] = [];
  /** Messages for which this is true are lost when they are sent. */
  isLost: (message: Message) => boolean = () => false;
  /** Whether `settle` writes and delivers to this node. */
  isHeld: (id: NodeId) => boolean = () => false;
  private readonly isChecked: boolean;
  private readonly coreOptions: CoreOptions;

  constructor(options: ClusterOptions = {}) {
    this.isChecked = options.isChecked ?? true;
    this.rng = new SeededRng(options.seed ?? 1);
    this.coreOptions = { ...CORE_OPTIONS, ...options.core };
    const voters = (options.voters ?? [1, 2, 3]).map(asNodeId);
    const learners = (options.learners ?? []).map(asNodeId);
    const configuration: Configuration = { voters, outgoing: [], learners };
    for (const id of [...voters, ...learners]) this.add(id, configuration);
    for (const id of options.others ?? []) this.add(asNodeId(id));
  }

  private add(id: NodeId, configuration?: Configuration): void {
    const disk = new DiskImage();
    if (configuration !== undefined) disk.baseConfiguration = configuration;
    this.nodes.set(id, new ClusterNode(id, disk, { host: this, options: this.coreOptions, rng: this.rng.fork() }));
  }

  node(id: number): ClusterNode {
    const node = this.nodes.get(asNodeId(id));
    assert(node !== undefined, `node ${id} exists`);
    return node;
  }

  /**
   * Starts a node over with a log of these terms, one offset each: `[1, 1, 2]`. Its term is `term`, its vote nobody's; the first `commit`
   * offsets are known to be committed. Entries of the same offset and term are the same on every node.
   */
  give(id: number, log: { terms: readonly number[]; term?: number; commit?: number }): void {
    const node = this.node(id);
    node.crash();
    node.disk.entries = log.terms.map((term, i): Entry => ({
      firstOffset: asOffset(i + 1),
      lastOffset: asOffset(i + 1),
      term: asTerm(term),
      kind: 'data',
      bytes: textBytes(`${term}.${i + 1}`),
    }));
    const lastTerm = log.terms[log.terms.length - 1] ?? 0;
    node.disk.hardState = { term: asTerm(log.term ?? lastTerm), vote: asNodeId(0) };
    node.disk.commit = asOffset(log.commit ?? 0);
    node.restart();
  }

  /* ---- NodeHost ---- */

  send(message: Message): void {
    if (this.isChecked) this.invariants.sent(message);
    if (!this.isLost(message)) this.mail.push(message);
  }

  persistDue(): void {}

  /** What all clocks say. */
  nowMs = 0;

  monotonicMs(): number {
    return this.nowMs;
  }

  logReadDue(node: ClusterNode, read: LogRead): void {
    this.logReads.push({ node, read });
  }

  snapshotDue(node: ClusterNode, peer: NodeId): void {
    this.snapshotsWanted.push({ node, peer });
  }

  observe(node: ClusterNode, ready: Ready): void {
    this.readies.push({ id: node.id, ready });
    if (this.isChecked) this.invariants.observe(node, ready);
  }

  /* ---- moving it ---- */

  deliver(message: Message): void {
    const node = this.nodes.get(message.to);
    if (node?.isUp === true) node.step({ type: 'message', message });
  }

  /** Delivers the oldest messages that match, those they lead to not included. Returns them. */
  deliverWhere(matches: (message: Message) => boolean): Message[] {
    const found = this.mail.filter(matches);
    for (const message of found) {
      this.mail.splice(this.mail.indexOf(message), 1);
      this.deliver(message);
    }
    return found;
  }

  /** Takes messages off the way. Returns them. */
  dropWhere(matches: (message: Message) => boolean): Message[] {
    const found = this.mail.filter(matches);
    for (const message of found) this.mail.splice(this.mail.indexOf(message), 1);
    return found;
  }

  /** Writes, delivers and answers until nothing is left. Fails if that takes more than `roundsMax` rounds. */
  settle(roundsMax = 1000): void {
    for (let round = 0; round < roundsMax; round++) {
      let moved = false;
      for (const node of this.nodes.values()) {
        if (!node.isUp || this.isHeld(node.id) || node.pending.length === 0) continue;
        node.persistAll();
        moved = true;
      }
      for (const message of this.mail.filter((mail) => !this.isHeld(mail.to))) {
        this.mail.splice(this.mail.indexOf(message), 1);
        this.deliver(message);
        moved = true;
      }
      for (const { node, read } of this.logReads.splice(0)) {
        if (node.isUp) node.answerLogRead(read);
        moved = true;
      }
      for (const { node, peer } of this.snapshotsWanted.splice(0)) {
        if (node.isUp) node.answerSnapshotWanted(peer);
        moved = true;
      }
      if (!moved) {
        if (this.isChecked) this.invariants.checkLogs();
        return;
      }
    }
    assert(false, 'the cluster settles');
  }

  tickAll(times = 1): void {
    for (let i = 0; i < times; i++) {
      for (const node of this.nodes.values()) if (node.isUp) node.tick();
      this.settle();
    }
  }

  /** Elects this node, which must be able to win. */
  elect(id: number): ClusterNode {
    const node = this.node(id);
    node.step({ type: 'campaign' });
    this.settle();
    assert(node.core.role === 'leader', `node ${id} is elected`);
    return node;
  }

  /** Nothing passes between `ids` and the rest. */
  isolate(...ids: number[]): void {
    const apart = new Set<number>(ids);
    this.isLost = (message) => apart.has(message.from) !== apart.has(message.to);
    this.dropWhere(this.isLost);
  }

  heal(): void {
    this.isLost = () => false;
  }

  get leaders(): NodeId[] {
    return [...this.nodes.values()].filter((node) => node.isUp && node.core.role === 'leader').map((node) => node.id);
  }
}
