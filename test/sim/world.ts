import {
  META_GROUP,
  SeededRng,
  VIEW_DEFAULTS,
  asGroupId,
  asNodeId,
  asOffset,
  hashKey,
  partitionOf,
  type GroupId,
  type NodeId,
} from '#kernel';
import type { ViewStats } from '#views';
import type { NodeDescription } from '#command-log';
import type { TopicSpec } from '#replica';
import { DiskDown } from '../../libs/storage/src/testing/index.js';
import { ApplyNeverThrowsChecker } from './checkers/apply-never-throws.js';
import { BoundsChecker } from './checkers/bounds.js';
import { DepartedEntriesChecker } from './checkers/departed-entries.js';
import { DurableAcknowledgementsChecker } from './checkers/durable-acknowledgements.js';
import { DurableQuorumChecker } from './checkers/durable-quorum.js';
import { DurableReadsChecker } from './checkers/durable-reads.js';
import { EqualDigestsChecker } from './checkers/equal-digests.js';
import { EqualHashesChecker } from './checkers/equal-hashes.js';
import { ExactlyOnceChecker } from './checkers/exactly-once.js';
import { ExpiryChecker } from './checkers/expiry.js';
import { KeptAcknowledgementsChecker } from './checkers/kept-acknowledgements.js';
import { KeptSuffixChecker } from './checkers/kept-suffix.js';
import { LeaderAppendOnlyChecker } from './checkers/leader-append-only.js';
import { LeaderCompletenessChecker } from './checkers/leader-completeness.js';
import { LinearizabilityChecker } from './checkers/linearizability.js';
import { LogMatchingChecker } from './checkers/log-matching.js';
import { NoCommittedCutChecker } from './checkers/no-committed-cut.js';
import { NoGapsChecker } from './checkers/no-gaps.js';
import { NoWayBackChecker } from './checkers/no-way-back.js';
import { OneChangeChecker } from './checkers/one-change.js';
import { OneLeaderChecker } from './checkers/one-leader.js';
import { OneVoteChecker } from './checkers/one-vote.js';
import { ReadIndexChecker } from './checkers/read-index.js';
import { StateMachineSafetyChecker } from './checkers/state-machine-safety.js';
import { TrueOutcomesChecker } from './checkers/true-outcomes.js';
import { ViewIsFoldChecker } from './checkers/view-is-fold.js';
import { EventQueue, type Owner } from './event-queue.js';
import { Machine, describeNodes, isDiskError } from './machine.js';
import type { Mutant } from './mutants.js';
import { Network } from './network.js';
import { GroupRecord, Observer, type Replica } from './observer.js';
import { EVENTS, THINGS, type Place } from './place.js';
import { LIMITED_ENTRIES, LimitedReference, ReferenceView } from './reference-view.js';
import { ArchiveDatabase } from './simulated-archive.js';
import type { Swarm } from './swarm.js';
import { Trace } from './trace.js';
import { Violation, rethrowViolation } from './violation.js';
import { WriteLedger } from './write-ledger.js';

/** How often hosts are asked for their digests and queues for their length. */
const SAMPLE_MS = 500;
/** By then a database that is there has answered. */
const ARCHIVE_ANSWER_MS = 5000;

/** Machines, the network between them, and those who watch. */
export class World {
  readonly queue = new EventQueue();
  readonly trace = new Trace(() => this.queue.now);
  readonly network: Network;
  readonly machines: Machine[] = [];
  readonly records = new Map<GroupId, GroupRecord>();
  readonly firstVoters: readonly NodeId[];
  readonly nodeDescriptions: readonly NodeDescription[];
  /** The first leader of the metadata creates the topics in this order: the numbers of their groups follow from it. */
  readonly topics: readonly TopicSpec[];
  readonly things: readonly Place[];
  readonly events: Place;
  /** The metadata's first. */
  readonly groups: readonly GroupId[];

  /** One that all share, one for each machine, or none. */
  readonly archives: readonly ArchiveDatabase[];

  /** What the committed logs of `things` add up to, by group. */
  readonly references = new Map<GroupId, ReferenceView>();
  readonly ledger = new WriteLedger((group) => this.topicOf(group));

  readonly readIndex = new ReadIndexChecker();
  readonly linearizability = new LinearizabilityChecker();
  readonly exactlyOnce = new ExactlyOnceChecker(this.ledger);
  readonly trueOutcomes = new TrueOutcomesChecker(this.ledger);
  readonly durableReads = new DurableReadsChecker();
  readonly expiry = new ExpiryChecker();
  readonly departedEntries = new DepartedEntriesChecker();
  readonly keptAcknowledgements = new KeptAcknowledgementsChecker();
  readonly keptSuffix = new KeptSuffixChecker();
  readonly oneChange = new OneChangeChecker();
  readonly equalDigests = new EqualDigestsChecker();
  readonly viewIsFold: ViewIsFoldChecker;
  readonly bounds: BoundsChecker;
  /** Null: `events` has no view. */
  readonly limited: LimitedReference | null;
  readonly observer: Observer;

  constructor(
    readonly swarm: Swarm,
    readonly mutant: Mutant,
    readonly rng: SeededRng,
  ) {
    this.network = new Network(this.queue, rng.fork(), swarm.network);
    this.nodeDescriptions = describeNodes(swarm.nodes);
    this.firstVoters = this.nodeDescriptions.slice(0, swarm.voters).map(({ id }) => id);
    this.topics = [
      {
        name: THINGS,
        partitions: swarm.partitions,
        view: { kind: 'map', ...VIEW_DEFAULTS, archive: swarm.archive !== 'none' },
      },
      {
        name: EVENTS,
        view: this.hasEvictions
          ? { kind: 'map', ...VIEW_DEFAULTS, archive: true, maxEntries: LIMITED_ENTRIES }
          : { kind: 'none' },
      },
    ];
    const databases = { none: 0, shared: 1, own: swarm.nodes }[swarm.archive];
    this.archives = Array.from({ length: databases }, () => new ArchiveDatabase(() => Math.floor(this.queue.now)));
    this.things = Array.from({ length: swarm.partitions }, (_, partition) => ({
      topic: THINGS,
      partition,
      group: asGroupId(1 + partition),
    }));
    this.events = { topic: EVENTS, partition: 0, group: asGroupId(1 + swarm.partitions) };
    this.groups = [META_GROUP, ...this.things.map(({ group }) => group), this.events.group];
    for (const group of this.groups) this.records.set(group, new GroupRecord(group));
    for (const { group, partition } of this.things) this.references.set(group, new ReferenceView(group, partition));
    this.limited = this.hasEvictions ? new LimitedReference(this.events.group) : null;
    const followed = new Map<number, ReferenceView | LimitedReference>(this.references);
    if (this.limited !== null) followed.set(this.limited.group, this.limited);
    this.viewIsFold = new ViewIsFoldChecker(this.references, rng.fork());
    this.bounds = new BoundsChecker({ sessionsMax: swarm.sessionsMax, pendingAppendsMax: 1000 });
    this.observer = new Observer([
      new OneLeaderChecker(),
      new LeaderAppendOnlyChecker((group, node) => this.replica(group, node)),
      new LogMatchingChecker(),
      new StateMachineSafetyChecker(),
      new DurableQuorumChecker(),
      new LeaderCompletenessChecker(),
      new NoWayBackChecker(),
      new OneVoteChecker(),
      new DurableAcknowledgementsChecker((group, node) => this.machine(node)?.group(group)?.term ?? 0),
      this.keptAcknowledgements,
      new NoCommittedCutChecker(),
      new NoGapsChecker(),
      this.keptSuffix,
      new EqualHashesChecker(),
      this.oneChange,
      new ApplyNeverThrowsChecker(followed),
      this.viewIsFold,
      this.exactlyOnce,
      { committed: (record, entry) => this.ledger.committed(record, entry) },
    ]);
    for (let i = 0; i < swarm.nodes; i++) this.machines.push(new Machine(asNodeId(i + 1), this, rng.fork()));
    for (const machine of this.machines) machine.start();
    this.queue.settle();
    this.sample();
    this.join();
  }

  /** An operator lets nodes that are not among the first voters learn the metadata, so that they hear of the partitions. */
  private join(): void {
    const leader = this.leader(META_GROUP)?.group(META_GROUP);
    if (leader !== undefined) {
      const { voters, outgoing, learners } = leader.configuration;
      const others = this.machines.map(({ id }) => id).filter((id) => !voters.includes(id));
      if (others.every((id) => learners.includes(id))) return;
      if (outgoing.length === 0) leader.proposeConfiguration({ voters, learners: others }, () => undefined);
    }
    this.queue.after(SAMPLE_MS, 0, () => this.join());
  }

  record(group: GroupId): GroupRecord {
    return this.records.get(group)!;
  }

  /** `events` has a view, and that has to make room. */
  get hasEvictions(): boolean {
    return this.swarm.evictions && this.swarm.archive !== 'none';
  }

  /** null: the metadata. */
  topicOf(group: number): string | null {
    if (group === META_GROUP) return null;
    return group === this.events.group ? EVENTS : THINGS;
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
      // A machine lost power in the middle of a synchronous step, or its process met a disk error that nobody expects: it ends.
      if (isDiskError(error)) this.machine(queue.owner)?.die(error as Error);
      else if (!(error instanceof DiskDown)) throw error;
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
      for (const replica of machine.replicas) this.observer.touched(replica);
    } else if (owner === 0) {
      // The hand of an operator, or of fate.
      this.followDisks();
      this.lookAtAll();
    }
    rethrowViolation();
    return true;
  }

  lookAtAll(): void {
    for (const machine of this.machines) for (const replica of machine.replicas) this.observer.touched(replica);
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
      this.bounds.files(machine.id, machine.disk.openFiles);
      for (const { group, node } of machine.replicas) this.bounds.group(node, group.status());
      void views.stats().then((all) => {
        for (const view of all) this.look(machine, view);
      });
    }
    this.queue.after(SAMPLE_MS, 0, () => this.sample());
  }

  private look(machine: Machine, { topic, partitions }: ViewStats): void {
    for (const stats of partitions) {
      const { group } = topic === EVENTS ? this.events : this.things[stats.partition];
      const reference = topic === EVENTS ? this.limited! : this.references.get(group)!;
      try {
        this.durableReads.host(machine.id, this.record(group), stats);
        this.equalDigests.host(machine.id, reference, stats);
      } catch (error) {
        // The run ends with it all the same, see rethrowViolation.
        if (!(error instanceof Violation)) throw error;
      }
    }
  }

  /** All is quiet and has converged: histories, fates of writes, and what views hold. */
  end(): void {
    for (const machine of this.machines) {
      if (machine.isOutcast) for (const replica of machine.replicas) this.keptAcknowledgements.outcast(replica);
      if (machine.unusable !== null) continue;
      for (const reference of this.references.values()) this.compare(machine, reference);
      if (this.swarm.archive !== 'none') this.lookBack(machine);
    }
    // Until the archive has answered, too.
    this.run(this.swarm.archive === 'none' ? 1 : ARCHIVE_ANSWER_MS);
    this.linearizability.end();
    this.viewIsFold.end();
    this.exactlyOnce.end();
    this.trueOutcomes.end();
  }

  /** A host that has applied everything has all that expired, or its archive does. */
  private lookBack(machine: Machine): void {
    const { views } = machine;
    for (const text of views === null ? [] : this.departedEntries.keys()) {
      const key = Buffer.from(text);
      const partition = partitionOf(hashKey(key), this.swarm.partitions);
      const { model } = this.references.get(this.things[partition].group)!;
      const at = { offset: asOffset(0), time: null };
      void views!.getOrDeparted({ view: THINGS, partition, key, at, timeoutMs: 1000 }).then(
        (read) => {
          if (read.position.offset !== model.offset) return;
          this.departedEntries.looked(text, read, this.queue.now, `the host on node ${machine.id}`);
        },
        // As above; or the archive's answer was lost.
        () => undefined,
      );
    }
    this.queue.settle();
  }

  private compare(machine: Machine, reference: ReferenceView): void {
    void machine.views
      ?.scan({
        view: THINGS,
        partition: reference.partition,
        prefix: Buffer.alloc(0),
        after: null,
        limit: 1_000_000,
        bytesMax: Number.MAX_SAFE_INTEGER,
        values: true,
        at: { offset: 0 as never, time: null },
        timeoutMs: 1000,
      })
      .then(
        ({ entries, position }) => {
          if (position.offset === reference.model.offset) this.viewIsFold.entries(machine.id, reference, entries);
        },
        // It does not know the topic: see docs/correctness.md, limits.
        () => undefined,
      );
    this.queue.settle();
  }
}
