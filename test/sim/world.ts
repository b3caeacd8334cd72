import { SeededRng, asNodeId, type GroupId, type NodeId } from '#kernel';
import type { NodeDescription } from '#command-log';
import type { TopicEntry } from '#replica';
import { DiskDown } from '../../libs/storage/src/testing/index.js';
import { AcknowledgementsChecker } from './checkers/acknowledgements.js';
import { BoundsChecker } from './checkers/bounds.js';
import { CommittedLogChecker } from './checkers/committed-log.js';
import { ConfigurationsChecker } from './checkers/configurations.js';
import { ExactlyOnceChecker } from './checkers/exactly-once.js';
import { ExpiryChecker } from './checkers/expiry.js';
import { HistoriesChecker } from './checkers/histories.js';
import { LeadersChecker } from './checkers/leaders.js';
import { LogMatchingChecker } from './checkers/log-matching.js';
import { ReadIndexChecker } from './checkers/read-index.js';
import { SnapshotsChecker } from './checkers/snapshots.js';
import { ViewsChecker } from './checkers/views.js';
import { VotesChecker } from './checkers/votes.js';
import { EventQueue, type Owner } from './event-queue.js';
import { EVENTS, Machine, THINGS, describeNodes, topicsOf } from './machine.js';
import type { Mutant } from './mutants.js';
import { Network } from './network.js';
import { GroupRecord, type Checker, type Replica } from './observer.js';
import type { Swarm } from './swarm.js';
import { Trace } from './trace.js';
import { rethrowViolation } from './violation.js';

/** How often hosts are asked for their digests and queues for their length. */
const SAMPLE_MS = 500;

/** Machines, the network between them, and those who watch. */
export class World {
  readonly queue = new EventQueue();
  readonly trace = new Trace(() => this.queue.now);
  readonly network: Network;
  readonly machines: Machine[] = [];
  readonly records = new Map<GroupId, GroupRecord>();
  readonly firstVoters: readonly NodeId[];
  readonly topics: readonly TopicEntry[];
  readonly nodeDescriptions: readonly NodeDescription[];

  readonly leaders = new LeadersChecker((group, node) => this.replica(group, node));
  readonly logMatching = new LogMatchingChecker();
  readonly readIndex = new ReadIndexChecker();
  readonly histories = new HistoriesChecker();
  readonly exactlyOnce = new ExactlyOnceChecker();
  readonly expiry = new ExpiryChecker();
  readonly snapshots = new SnapshotsChecker();
  readonly configurations = new ConfigurationsChecker();
  readonly views: ViewsChecker;
  readonly bounds: BoundsChecker;
  readonly checkers: readonly Checker[];

  constructor(
    readonly swarm: Swarm,
    readonly mutant: Mutant,
    readonly rng: SeededRng,
  ) {
    this.network = new Network(this.queue, rng.fork(), swarm.network);
    this.nodeDescriptions = describeNodes(swarm.nodes);
    this.firstVoters = this.nodeDescriptions.slice(0, swarm.voters).map(({ id }) => id);
    this.topics = topicsOf(this.firstVoters);
    for (const { group } of [THINGS, EVENTS]) this.records.set(group, new GroupRecord(group));
    this.views = new ViewsChecker(THINGS.group, rng.fork());
    this.bounds = new BoundsChecker({ sessionsMax: swarm.sessionsMax, pendingAppendsMax: 1000 });
    this.checkers = [
      this.leaders,
      this.logMatching,
      new CommittedLogChecker((record, entry) => {
        for (const checker of this.checkers) checker.committed?.(record, entry);
      }),
      new VotesChecker(),
      new AcknowledgementsChecker((group, node) => this.machine(node)?.group(group)?.term ?? 0),
      this.snapshots,
      this.configurations,
      this.views,
      this.exactlyOnce,
    ];
    for (let i = 0; i < swarm.nodes; i++) this.machines.push(new Machine(asNodeId(i + 1), this, rng.fork()));
    for (const machine of this.machines) machine.start();
    this.queue.settle();
    this.sample();
  }

  record(group: GroupId): GroupRecord {
    return this.records.get(group)!;
  }

  machine(id: Owner): Machine | undefined {
    return this.machines[id - 1];
  }

  get up(): Machine[] {
    return this.machines.filter((machine) => machine.isUp);
  }

  replica(group: GroupId, node: NodeId): Replica | null {
    return this.machine(node)?.replicas.find((replica) => replica.group.id === group) ?? null;
  }

  /** The machine that leads with the highest term and has committed in it. */
  leader(group: GroupId): Machine | null {
    let best: Machine | null = null;
    for (const machine of this.machines) {
      const own = machine.group(group);
      if (own?.isEstablishedLeader !== true) continue;
      if (best === null || own.term > best.group(group)!.term) best = machine;
    }
    return best;
  }

  /** One event, and a look at what it did. False when nothing is due by `until`. */
  step(until: number): boolean {
    const { queue } = this;
    let owner: Owner;
    try {
      owner = queue.step(until);
    } catch (error) {
      if (!(error instanceof DiskDown)) throw error;
      // A machine lost power in the middle of a synchronous step.
      this.followDisks();
      queue.settle();
      return true;
    }
    if (owner < 0) return false;
    this.trace.mix((queue.now * 1000) | 0);
    this.trace.mix(owner);
    const machine = this.machines[owner - 1];
    if (machine !== undefined) {
      if (machine.disk.isDown) machine.followDisk();
      for (const replica of machine.replicas) this.touched(replica);
    } else if (owner === 0) {
      // The hand of an operator, or of fate.
      this.followDisks();
      this.lookAtAll();
    }
    rethrowViolation();
    return true;
  }

  private touched(replica: Replica): void {
    for (const checker of this.checkers) checker.touched?.(replica);
  }

  lookAtAll(): void {
    for (const machine of this.machines) for (const replica of machine.replicas) this.touched(replica);
  }

  followDisks(): void {
    for (const machine of this.machines) machine.followDisk();
  }

  run(ms: number): void {
    const end = this.queue.now + ms;
    while (this.step(end));
    this.queue.now = end;
  }

  /** Lets time pass until the condition holds; false when it does not within `ms`. */
  runUntil(condition: () => boolean, ms: number): boolean {
    const end = this.queue.now + ms;
    for (let i = 0; ; i++) {
      if (i % 64 === 0 && condition()) return true;
      if (!this.step(end)) break;
    }
    this.queue.now = end;
    return condition();
  }

  private sample(): void {
    this.bounds.queue(this.queue.size);
    for (const machine of this.machines) {
      const { views } = machine;
      if (views === null) continue;
      for (const { group, node } of machine.replicas) this.bounds.group(node, group.status());
      void views.stats().then((all) => {
        for (const { partitions } of all) this.views.host(machine.id, partitions[0]);
      });
    }
    this.queue.after(SAMPLE_MS, 0, () => this.sample());
  }
}
