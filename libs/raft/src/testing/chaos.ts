import { SeededRng, asNodeId, asOffset, assert, randomBelow, randomChance, type NodeId, type Offset } from '#kernel';
import { ClusterInvariants } from './cluster-invariants.js';
import { CORE_OPTIONS, ClusterNode, bytesText, type CoreOptions, type NodeHost } from './cluster-node.js';
import { DiskImage } from './disk-image.js';
import type { LogRead, Message, RaftMutants, Ready } from '../types.js';

/** Chances per step (of the whole cluster) unless they say otherwise. Each run draws its own subset and rates. */
interface Rates {
  readonly loss: number;
  readonly duplication: number;
  readonly delayMax: number;
  readonly persistDelayMax: number;
  readonly partition: number;
  readonly heal: number;
  readonly crash: number;
  readonly restart: number;
  readonly propose: number;
  readonly read: number;
  readonly change: number;
  readonly transfer: number;
  readonly trim: number;
  readonly peerLost: number;
  readonly pause: number;
  readonly campaign: number;
  readonly depose: number;
  /** Per message: to be much later than the others. */
  readonly late: number;
  /** Per node and step: several events make one turn. */
  readonly turn: number;
}

/** Reads by lease, and what a test may want besides. */
interface Leases {
  /** Of each clock against true time. */
  readonly drift?: number;
  readonly mutants?: RaftMutants;
  readonly rates?: Partial<Rates>;
}

/** Steps between two ticks of a node. */
const STEPS_PER_TICK = 10;
const NODES = 5;
const MS_PER_STEP = 10;
/** Clocks are drawn apart, so that a run is otherwise the same with and without leases. */
const CLOCK_SEEDS = 1_000_000_007;

/**
 * A cluster in which anything goes wrong, from one seed: messages lost, doubled, late and out of order; partitions, also one-way; crashes
 * that lose what was not written and tear what was being written; slow disks; nodes that stop for a while; all of it during writes, reads,
 * membership changes, transfers and trims. `run` is the safety phase, `heal` the liveness phase. Throws when an invariant does not hold.
 */
export class Chaos implements NodeHost {
  readonly nodes = new Map<NodeId, ClusterNode>();
  readonly invariants = new ClusterInvariants(this.nodes);
  private readonly rng: SeededRng;
  private readonly rates: Rates;
  private readonly core: CoreOptions;
  private readonly voters: number;
  private time = 0;
  private readonly agenda = new Map<number, (() => void)[]>();
  private readonly blocked = new Set<string>();
  private readonly pausedUntil = new Map<NodeId, number>();
  private readonly tickPhase = new Map<NodeId, number>();
  private readonly clockRates = new Map<NodeId, number>();
  private nextValue = 1;
  private nextRead = 1;
  private healing = false;
  private isIdle = false;
  readonly counts = { proposed: 0, reads: 0, elections: 0, crashes: 0, snapshots: 0, changes: 0, truncations: 0 };

  /** Every other run reads by lease, with clocks as uneven as they may be. */
  constructor(seed: number, leases: Leases | null = seed % 2 === 0 ? {} : null) {
    const rng = (this.rng = new SeededRng(seed));
    const clocks = new SeededRng(seed + CLOCK_SEEDS);
    // The fastest against the slowest: 1.05 / 0.95 is just within 1 / (1 − CLOCK_DRIFT_MAX).
    const drift = leases?.drift ?? 0.05;
    for (let i = 1; i <= NODES; i++) {
      const rate = randomChance(clocks, 0.5) ? 1 : -1;
      this.clockRates.set(
        asNodeId(i),
        1 + rate * drift * (randomChance(clocks, 0.5) ? 1 : randomBelow(clocks, 100) / 100),
      );
    }
    const some = (most: number): number => (randomChance(rng, 0.5) ? (randomBelow(rng, 1000) / 1000) * most : 0);
    // Now and then one thing happens all the time: elections, membership changes. Elections with little in between make short logs that
    // part often, as in figure 8.
    const storm = randomChance(rng, 0.4);
    const churn = storm && randomChance(rng, 0.5);
    const reform = randomChance(rng, 0.25);
    this.rates = {
      loss: some(0.3),
      duplication: some(0.1),
      delayMax: 1 + randomBelow(rng, randomChance(rng, 0.5) ? 4 : 40),
      persistDelayMax: 1 + randomBelow(rng, randomChance(rng, 0.5) ? 3 : 30),
      partition: some(storm ? 0.03 : 0.01),
      heal: 0.005 + some(0.02),
      crash: churn ? 0.03 : some(storm ? 0.03 : 0.01),
      restart: churn ? 0.1 : 0.01 + some(storm ? 0.1 : 0.03),
      propose: churn ? 0.03 : 0.05 + some(0.5),
      read: some(0.3),
      change: reform ? 0.1 : some(0.01),
      transfer: some(storm ? 0.05 : 0.01),
      trim: some(0.05),
      peerLost: some(storm ? 0.1 : 0.01),
      pause: some(0.003),
      campaign: some(storm ? 0.1 : 0.005),
      depose: churn ? 0.02 : some(storm ? 0.02 : 0.005),
      late: 0.01 + some(0.05),
      turn: some(0.5),
      ...leases?.rates,
    };
    this.core = {
      ...CORE_OPTIONS,
      messageBytesMax: churn || randomChance(rng, 0.5) ? 40 : 4000,
      inflightBytesMax: randomChance(rng, 0.5) ? 100 : 10_000,
      uncommittedBytesMax: randomChance(rng, 0.3) ? 200 : 100_000,
      cacheBytesMax: randomChance(rng, 0.5) ? 60 : 10_000,
      ...(leases !== null && {
        leaseMs: CORE_OPTIONS.electionTicks * STEPS_PER_TICK * MS_PER_STEP,
        mutants: leases.mutants,
      }),
    };
    this.voters = churn ? NODES : randomChance(rng, 0.6) ? 3 : 1 + randomBelow(rng, NODES);
    for (let i = 1; i <= NODES; i++) {
      const id = asNodeId(i);
      const disk = new DiskImage();
      if (i <= this.voters) {
        const voters = Array.from({ length: this.voters }, (_, k) => asNodeId(k + 1));
        disk.baseConfiguration = { voters, outgoing: [], learners: [] };
      }
      this.tickPhase.set(id, randomBelow(rng, STEPS_PER_TICK));
      this.nodes.set(id, new ClusterNode(id, disk, { host: this, options: this.core, rng: rng.fork() }));
    }
  }

  /* ---- NodeHost ---- */

  private after(steps: number, action: () => void): void {
    const at = this.time + Math.max(1, steps);
    const due = this.agenda.get(at);
    if (due === undefined) this.agenda.set(at, [action]);
    else due.push(action);
  }

  private chance(probability: number): boolean {
    return !this.healing && randomChance(this.rng, probability);
  }

  private delay(most: number): number {
    return 1 + randomBelow(this.rng, this.healing ? 2 : most);
  }

  send(message: Message): void {
    this.invariants.sent(message);
    if (this.chance(this.rates.loss)) return;
    const copies = this.chance(this.rates.duplication) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const late = this.chance(this.rates.late) ? randomBelow(this.rng, 300) : 0;
      this.after(this.delay(this.rates.delayMax) + late, () => this.arrive(message));
    }
  }

  private arrive(message: Message): void {
    if (this.blocked.has(`${message.from}>${message.to}`)) return;
    const node = this.nodes.get(message.to);
    if (node === undefined) return;
    if (this.isPaused(node.id)) this.after(this.delay(20), () => this.arrive(message));
    else if (node.isUp) node.step({ type: 'message', message });
  }

  /** Runs what a node asked for, unless it has been restarted since. */
  private later(node: ClusterNode, steps: number, action: () => void): void {
    const { core } = node;
    const attempt = (): void => {
      if (node.core !== core || !node.isUp) return;
      if (this.isPaused(node.id)) this.after(this.delay(20), attempt);
      else action();
    };
    this.after(steps, attempt);
  }

  monotonicMs(id: NodeId): number {
    return this.time * MS_PER_STEP * this.clockRates.get(id)!;
  }

  persistDue(node: ClusterNode): void {
    this.later(node, this.delay(this.rates.persistDelayMax), () => node.persistNext());
  }

  logReadDue(node: ClusterNode, read: LogRead): void {
    this.later(node, this.delay(this.chance(0.1) ? 300 : 5), () => node.answerLogRead(read));
  }

  snapshotDue(node: ClusterNode, peer: NodeId): void {
    this.counts.snapshots++;
    this.later(node, this.delay(10), () => {
      node.answerSnapshotWanted(peer, this.boundary(node, node.volatile.baseOffset, node.volatile.commit));
    });
  }

  observe(node: ClusterNode, ready: Ready): void {
    if (ready.roleChange?.role === 'leader') this.counts.elections++;
    if (ready.truncateAfter !== null) this.counts.truncations++;
    this.invariants.observe(node, ready);
    for (const peer of node.core.status().peers) {
      assert(
        peer.inflightBytes <= this.core.inflightBytesMax + Math.max(this.core.messageBytesMax, 128),
        '26: bytes in flight stay bounded',
      );
      assert(peer.match < peer.next, 'progress keeps match below next');
    }
  }

  /** The end of an entry, or the base, in [from, to]. */
  private boundary(node: ClusterNode, from: Offset, to: Offset): Offset {
    const ends = node.volatile.entries.map((entry) => entry.lastOffset).filter((end) => end >= from && end <= to);
    return ends.length === 0 ? from : ends[randomBelow(this.rng, ends.length)];
  }

  private isPaused(id: NodeId): boolean {
    return (this.pausedUntil.get(id) ?? 0) > this.time;
  }

  /* ---- the run ---- */

  run(steps: number): void {
    for (let i = 0; i < steps; i++) this.step();
  }

  private step(): void {
    this.time++;
    for (const node of this.nodes.values()) if (this.chance(this.rates.turn)) node.beginTurn();
    const due = this.agenda.get(this.time);
    if (due !== undefined) {
      this.agenda.delete(this.time);
      for (const action of due) action();
    }
    for (const node of this.nodes.values()) {
      if (!node.isUp || this.isPaused(node.id)) continue;
      if (this.isTickDue(node.id)) node.tick();
    }
    if (!this.healing) this.disturb();
    if (!this.isIdle) this.work();
    for (const node of this.nodes.values()) if (!this.chance(this.rates.turn)) node.endTurn();
    if (this.time % 50 === 0) this.invariants.checkLogs();
  }

  /** Ticks come from the clock. Where nobody looks at clocks they are even. */
  private isTickDue(id: NodeId): boolean {
    const phase = this.tickPhase.get(id)!;
    if (this.core.leaseMs === undefined) return this.time % STEPS_PER_TICK === phase;
    const rate = this.clockRates.get(id)!;
    const ticksAt = (time: number): number => Math.floor((time * rate + phase) / STEPS_PER_TICK);
    return ticksAt(this.time) > ticksAt(this.time - 1);
  }

  private anyNode(): ClusterNode {
    const node = this.nodes.get(asNodeId(1 + randomBelow(this.rng, NODES)));
    assert(node !== undefined, 'nodes are numbered');
    return node;
  }

  private disturb(): void {
    const { rng, rates } = this;
    if (this.chance(rates.partition)) this.partition();
    if (this.chance(rates.depose)) this.depose();
    if (this.chance(rates.heal)) this.blocked.clear();
    if (this.chance(rates.crash)) this.crash(this.anyNode());
    if (this.chance(rates.crash / 20)) for (const node of this.nodes.values()) this.crash(node);
    if (this.chance(rates.restart)) this.restart(this.anyNode());
    if (this.chance(rates.pause)) this.pausedUntil.set(this.anyNode().id, this.time + randomBelow(rng, 400));
    if (this.chance(rates.trim)) this.trim(this.anyNode());
    if (this.chance(rates.peerLost)) {
      const node = this.anyNode();
      if (node.isUp) node.step({ type: 'peer-lost', peer: this.anyNode().id });
    }
  }

  /** Cuts a leader off and tells the others at once: it goes on believing in itself while they elect another. */
  private depose(): void {
    const leader = this.anyLeader();
    if (leader === undefined) return;
    const oneWay = randomChance(this.rng, 0.3);
    for (const node of this.nodes.values()) {
      if (node === leader) continue;
      this.blocked.add(`${leader.id}>${node.id}`);
      if (!oneWay) this.blocked.add(`${node.id}>${leader.id}`);
      if (node.isUp) node.step({ type: 'peer-lost', peer: leader.id });
    }
  }

  private anyLeader(): ClusterNode | undefined {
    const leaders = [...this.nodes.values()].filter((node) => node.isUp && node.core.role === 'leader');
    return leaders[randomBelow(this.rng, leaders.length)];
  }

  /** Isolates one, splits the cluster, cuts single directions, or leaves one node as the only bridge. */
  private partition(): void {
    const { rng } = this;
    const block = (from: number, to: number): void => void this.blocked.add(`${from}>${to}`);
    const shape = randomBelow(rng, 4);
    const pivot = 1 + randomBelow(rng, NODES);
    const side = Array.from({ length: NODES }, () => randomChance(rng, 0.5));
    for (let a = 1; a <= NODES; a++) {
      for (let b = 1; b <= NODES; b++) {
        if (a === b) continue;
        if (shape === 0 && (a === pivot || b === pivot)) block(a, b);
        if (shape === 1 && side[a - 1] !== side[b - 1]) block(a, b);
        if (shape === 2 && randomChance(rng, 0.3)) block(a, b);
        if (shape === 3 && a !== pivot && b !== pivot) block(a, b);
      }
    }
  }

  private crash(node: ClusterNode): void {
    if (!node.isUp) return;
    this.counts.crashes++;
    const units = randomBelow(this.rng, node.pending.length + 1);
    node.crash(units, randomChance(this.rng, 0.5) ? randomBelow(this.rng, 4) : null);
  }

  private restart(node: ClusterNode): void {
    if (node.isUp) return;
    node.restart();
    this.invariants.restarted(node);
  }

  private trim(node: ClusterNode): void {
    if (!node.isUp || node.pending.length > 0) return;
    const from = node.disk.baseOffset;
    const to = Math.min(node.volatile.commit, node.core.status().durableOffset);
    const offset = this.boundary(node, from, asOffset(to));
    if (offset > from) node.trim(offset);
  }

  private work(): void {
    const { rng, rates } = this;
    const node = (randomChance(rng, 0.5) ? this.anyLeader() : undefined) ?? this.anyNode();
    if (!node.isUp || this.isPaused(node.id)) return;
    if (randomChance(rng, rates.propose)) {
      const texts = Array.from({ length: 1 + randomBelow(rng, 4) }, () => {
        const words = Array.from({ length: 1 + randomBelow(rng, 4) }, (_, k) => `${k === 0 ? this.nextValue++ : k}`);
        return words.join(' ');
      });
      this.counts.proposed += node.propose(...texts).filter((result) => result.ok).length;
    }
    if (randomChance(rng, rates.read)) {
      const id = this.nextRead++;
      this.invariants.readRequested(id);
      if (node.read(id)) this.counts.reads++;
      else this.invariants.readRefused(id);
    }
    if (this.chance(rates.change)) {
      const ids = Array.from({ length: NODES }, (_, i) => asNodeId(i + 1));
      const voters = ids.filter(() => randomChance(rng, 0.6));
      const learners = ids.filter((id) => !voters.includes(id) && randomChance(rng, 0.5));
      // In a turn of its own, so that it is clear which configuration a commit was counted in.
      node.endTurn();
      if (node.change({ voters, learners }).ok) this.counts.changes++;
    }
    if (this.chance(rates.transfer)) node.step({ type: 'transfer-leadership', to: this.anyNode().id });
    if (this.chance(rates.campaign)) node.step({ type: 'campaign' });
  }

  /**
   * Faults end. Within `stepsMax` steps there must be one leader and something new committed; when the work ends too, every member must reach
   * the end of the log, and every read asked for since must have been answered.
   */
  heal(stepsMax = 4000): void {
    this.healing = true;
    this.blocked.clear();
    this.pausedUntil.clear();
    for (const node of this.nodes.values()) this.restart(node);
    const before = this.invariants.commitMax;
    this.invariants.forgetReads();
    for (let i = 0; i < stepsMax; i++) {
      this.step();
      if (i > stepsMax / 4 && this.invariants.commitMax > before) this.isIdle = true;
      if (this.isIdle && i % 20 === 0 && this.hasConverged()) {
        this.invariants.checkLogs();
        this.invariants.checkCommittedSurvives();
        return;
      }
    }
    assert(false, `27: a healed cluster converges: ${this.describe()}`);
  }

  private hasConverged(): boolean {
    const up = [...this.nodes.values()];
    const leader = up.find((node) => node.core.role === 'leader' && node.core.committedInTerm);
    if (leader === undefined) return false;
    const { configuration, commit, lastOffset, term } = leader.core.status();
    if (configuration.outgoing.length > 0 || commit !== lastOffset || this.invariants.readsOpen > 0) return false;
    return [...configuration.voters, ...configuration.learners].every((id) => {
      const core = this.nodes.get(id)?.core;
      return core !== undefined && core.term === term && core.commit === commit && core.lastOffset === commit;
    });
  }

  describe(): string {
    return [...this.nodes.values()]
      .map((node) => {
        const { role, term, commit, lastOffset, configuration, peers, leader } = node.core.status();
        const members = `${configuration.voters.join()}/${configuration.outgoing.join()}/${configuration.learners.join()}`;
        const progress = peers.map((peer) => `${peer.id}:${peer.state}:${peer.match}:${peer.next}`).join(' ');
        return `${node.id} ${node.isUp ? role : 'down'} t${term} c${commit} l${lastOffset} L${leader} (${members}) ${progress}`;
      })
      .join(' | ');
  }

  /** Everything that happened, in one number: the same seed gives the same. */
  fingerprint(): string {
    const last = this.invariants.committed.slice(-3).map((entry) => bytesText(entry.bytes));
    return `${this.time} ${this.invariants.commitMax} ${last.join(';')} ${JSON.stringify(this.counts)}`;
  }
}
