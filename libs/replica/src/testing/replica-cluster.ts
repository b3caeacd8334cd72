import {
  SeededRng,
  asGroupId,
  asNodeId,
  asOffset,
  assert,
  type Clock,
  type GroupId,
  type NodeId,
  type Scheduler,
  type TidelineError,
} from '#kernel';
import { LoopWrites, openPartitionLog, type PartitionLog, type PartitionLogOptions } from '#storage';
import { encodeBatch, type BatchSession, type RecordInput } from '#wire';
import { HeldProcess, SimulatedDisk, type DiskFaults } from '../../../storage/src/testing/index.js';
import type { Appended } from '../append-waiters.js';
import type { BarrierPoint } from '../read-barriers.js';
import type { Acks, DamageState, ReadResult } from '../group-host.js';
import type { ScrubPace } from '../log-scrub.js';
import type { Group } from '../replica-group.js';
import type { ReplicaLimits, ReplicaMutants } from '../replica-limits.js';
import { ReplicaNode, groupDirectoryName } from '../replica-node.js';
import { MemoryPeerNetwork } from './memory-peer-network.js';
import { VirtualTime } from './virtual-time.js';

export interface ReplicaClusterOptions {
  readonly nodes?: number;
  readonly groups?: readonly number[];
  readonly seed?: number;
  readonly electionTimeoutMs?: number;
  readonly readLease?: boolean;
  readonly heartbeatMs?: number;
  readonly tickMs?: number;
  readonly limits?: Partial<ReplicaLimits>;
  readonly mutants?: ReplicaMutants;
  readonly scrub?: ScrubPace;
  readonly log?: Partial<PartitionLogOptions>;
  readonly disk?: Partial<DiskFaults>;
  /** The event loop may write the log itself. */
  readonly loopWrites?: boolean;
}

/** A call that ends later: `error` or `value` is set then. */
export class Pending<T> {
  isDone = false;
  error: TidelineError | null = null;
  value: T | null = null;

  readonly settle = (error: TidelineError | null, value: T | null = null): void => {
    assert(!this.isDone, 'a call ends once');
    this.isDone = true;
    this.error = error;
    this.value = value;
  };
}

/** One machine: a disk and a clock that outlive the process, and the process while it runs. */
export class ClusterMachine {
  readonly disk: SimulatedDisk;
  /** Added to this machine's wall clock. */
  wallOffsetMs = 0;
  replica: ReplicaNode | null = null;
  readonly fatal: Error[] = [];
  /** What its process has said about damage. */
  readonly damage: DamageState[] = [];
  private life = 0;
  private readonly held: HeldProcess;

  constructor(
    readonly id: NodeId,
    private readonly cluster: ReplicaCluster,
  ) {
    const { time } = cluster;
    this.held = new HeldProcess(() => time.monotonicMs());
    const scheduler: Scheduler = {
      defer: (task) => time.defer(this.whenFree(task)),
      after: (delayMs, task) => time.after(delayMs, this.whenFree(task)),
    };
    this.disk = new SimulatedDisk(scheduler, cluster.rng.fork(), {
      latencyMsMin: 0.1,
      latencyMsMax: 0.2,
      ...cluster.options.disk,
    });
    this.disk.holdsUp = (ms) => this.held.hold(ms);
    this.disk.mkdirSync('data');
  }

  /** Nothing reaches a process that waits for its disk. */
  private whenFree(task: () => void): () => void {
    return () => {
      const { leftMs } = this.held;
      if (leftMs > 0) this.cluster.time.after(leftMs, this.whenFree(task));
      else task();
    };
  }

  get isUp(): boolean {
    return this.replica !== null;
  }

  /** False while the machine is down, and while the group's log is being repaired. */
  has(group: number = 1): boolean {
    return this.replica?.group(asGroupId(group)) !== undefined;
  }

  group(id: number = 1): Group {
    const group = this.replica?.group(asGroupId(id));
    assert(group !== undefined, 'the machine is up and has the group');
    return group;
  }

  start(): void {
    assert(this.replica === null, 'a machine that is up is not started');
    if (this.disk.isDown) this.disk.restart();
    const { cluster } = this;
    const { options, time } = cluster;
    const { held } = this;
    const life = ++this.life;
    held.release();
    // What a former process was waiting for never comes.
    const alive = (task: () => void): (() => void) => {
      return this.whenFree(() => {
        if (this.life === life) task();
      });
    };
    const scheduler: Scheduler = {
      defer: (task) => time.defer(alive(task)),
      after: (delayMs, task) => time.after(delayMs + held.leftMs, alive(task)),
    };
    const clock: Clock = {
      wallMs: () => Math.floor(time.wallMs() + held.leftMs) + this.wallOffsetMs,
      monotonicMs: () => held.nowMs,
    };
    const loopWrites = options.loopWrites === true ? new LoopWrites(clock) : undefined;
    const openLog = (group: GroupId, directory: string): PartitionLog =>
      openPartitionLog({ fs: this.disk, directory, group, clock, scheduler, loopWrites, options: options.log });
    const network = cluster.network.attach(this.id, (from, payload) => alive(() => replica.receive(from, payload))());
    const replica = new ReplicaNode({
      nodeId: this.id,
      clock,
      scheduler,
      rng: cluster.rng.fork(),
      network: {
        post: (peer, payload) => {
          if (held.leftMs === 0) return network.post(peer, payload);
          // A copy: what was posted may be altered before it leaves.
          const frame = payload instanceof Uint8Array ? Buffer.from(payload) : Buffer.concat(payload);
          time.after(
            held.leftMs,
            alive(() => network.post(peer, frame)),
          );
          return true;
        },
      },
      openLog,
      onFatal: (_group, error) => {
        // The process ends at once, and the machine stays.
        this.fatal.push(error);
        time.defer(alive(() => this.kill()));
      },
      onDamage: (_group, state) => this.damage.push(state),
      tickMs: options.tickMs ?? 50,
      electionTimeoutMs: options.electionTimeoutMs,
      heartbeatMs: options.heartbeatMs,
      readLease: options.readLease,
      limits: options.limits,
      ...(options.scrub ? { scrub: options.scrub } : {}),
      mutants: options.mutants,
    });
    this.replica = replica;
    for (const group of options.groups ?? [1]) this.open(group);
    replica.start();
  }

  /** Opens one more group, with all machines as its first voters. */
  open(group: number, voters: readonly NodeId[] = this.cluster.ids): Group | null {
    return this.replica!.openGroup({
      group: asGroupId(group),
      directory: `data/${groupDirectoryName(asGroupId(group))}`,
      bootstrapVoters: voters,
    });
  }

  /** Power failure: unsynced writes survive by chance. The disk may have gone down before, at an operation it was told. */
  crash(): void {
    this.down();
    if (!this.disk.isDown) this.disk.crash();
  }

  /** The process ends, the machine does not. */
  kill(): void {
    this.down();
    this.disk.stop();
  }

  private down(): void {
    assert(this.replica !== null, 'only what is up goes down');
    this.life++;
    this.replica = null;
    this.cluster.network.detach(this.id);
  }
}

/**
 * Several nodes in one process: real groups, real logs on simulated disks, a network in memory, virtual time. The same seed gives the same run.
 */
export class ReplicaCluster {
  readonly time = new VirtualTime();
  readonly rng: SeededRng;
  readonly network: MemoryPeerNetwork;
  readonly ids: readonly NodeId[];
  readonly machines: readonly ClusterMachine[];

  constructor(readonly options: ReplicaClusterOptions = {}) {
    this.rng = new SeededRng(options.seed ?? 1);
    this.network = new MemoryPeerNetwork({ scheduler: this.time, rng: this.rng.fork() });
    this.ids = Array.from({ length: options.nodes ?? 3 }, (_, i) => asNodeId(i + 1));
    this.machines = this.ids.map((id) => new ClusterMachine(id, this));
    for (const machine of this.machines) machine.start();
  }

  machine(id: NodeId): ClusterMachine {
    return this.machines[id - 1];
  }

  get up(): ClusterMachine[] {
    return this.machines.filter((machine) => machine.isUp);
  }

  /** The machine that leads with the highest term, and has committed in it; undefined while there is none. */
  leader(group = 1): ClusterMachine | undefined {
    return this.up
      .filter((machine) => machine.has(group) && machine.group(group).isEstablishedLeader)
      .sort((a, b) => b.group(group).term - a.group(group).term)[0];
  }

  /** Lets time pass until there is a leader, other than `not` if given. */
  elect(group = 1, not?: ClusterMachine): ClusterMachine {
    const found = (): ClusterMachine | undefined => {
      const leader = this.leader(group);
      return leader === not ? undefined : leader;
    };
    this.time.until(() => found() !== undefined, 60_000, 'a leader is elected');
    return found()!;
  }

  others(machine: ClusterMachine): ClusterMachine[] {
    return this.machines.filter((other) => other !== machine);
  }

  cutOff(machine: ClusterMachine): void {
    this.network.isolate(machine.id, this.ids);
  }

  /** Everybody who is up has the same committed log, readable to its end. */
  converge(group = 1): void {
    const settled = (): boolean => {
      const leader = this.leader(group)?.group(group).status();
      if (leader === undefined || leader.readableOffset !== leader.lastOffset) return false;
      return this.up.every(
        (machine) => machine.has(group) && machine.group(group).readableOffset === leader.lastOffset,
      );
    };
    this.time.until(settled, 120_000, 'the replicas converge');
  }

  append(
    machine: ClusterMachine,
    batch: Buffer,
    options: { acks?: Acks; group?: number; awaitedElsewhere?: boolean } = {},
  ): Pending<Appended> {
    const { acks = 'quorum', group, awaitedElsewhere } = options;
    const pending = new Pending<Appended>();
    machine.group(group).append(batch, { acks, awaitedElsewhere }, pending.settle);
    return pending;
  }

  /** Lets time pass until it ends; throws its error. */
  finish<T>(pending: Pending<T>, timeoutMs = 30_000): T {
    this.time.until(() => pending.isDone, timeoutMs, 'the call ends');
    if (pending.error !== null) throw pending.error;
    return pending.value!;
  }

  /** Appends through the leader of the moment and waits for the commit. */
  write(value: string, options: { group?: number; session?: BatchSession } = {}): Appended {
    const leader = this.elect(options.group);
    return this.finish(this.append(leader, textBatch(value, options.session), options));
  }

  openSession(machine: ClusterMachine, group = 1): Pending<Appended> {
    const pending = new Pending<Appended>();
    machine.group(group).openSession(pending.settle);
    return pending;
  }

  barrier(machine: ClusterMachine, group = 1): Pending<BarrierPoint> {
    const pending = new Pending<BarrierPoint>();
    machine.group(group).barrier(pending.settle);
    return pending;
  }

  /** All committed batches that a node serves, from `from` on. */
  readAll(machine: ClusterMachine, group = 1, from = 1): Buffer {
    const runs: Buffer[] = [];
    for (let next = asOffset(from); ;) {
      const pending = new Pending<ReadResult>();
      machine.group(group).read({ from: next, maxBytes: 64 * 1024 }, pending.settle);
      const { batches, nextOffset } = this.finish(pending);
      if (batches.length === 0) return Buffer.concat(runs);
      runs.push(Buffer.from(batches));
      next = nextOffset;
    }
  }
}

/** A batch of one record with this value and no key. */
export const textBatch = (value: string, session?: BatchSession): Buffer =>
  recordsBatch([{ value: Buffer.from(value) }], session);

export const recordsBatch = (records: readonly RecordInput[], session?: BatchSession): Buffer =>
  encodeBatch(records, { createTime: 1_700_000_000_000, session });
