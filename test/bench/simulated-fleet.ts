import { SeededRng, assert, randomBelow, type NodeId } from '#kernel';
import {
  ReplicaCluster,
  decodePeerFrame,
  recordsBatch,
  type ClusterMachine,
  type PeerMessage,
} from '../../libs/replica/src/testing/index.js';
import { VALUE } from './workload.js';

/** Replicas of a partition. */
export const REPLICATION = 3;
export const HEARTBEATS_PER_SECOND = 10;

/** What went over the network in a stretch of virtual time, all nodes together. */
export interface Traffic {
  readonly seconds: number;
  readonly messages: number;
  readonly frames: number;
  readonly bytes: number;
  readonly byType: ReadonlyMap<PeerMessage['type'], number>;
}

/**
 * More nodes than a machine can run as processes: the production code of log nodes (groups, Raft, logs) over simulated disks, a network in memory
 * and virtual time. Each partition is on three nodes drawn at random.
 */
export class SimulatedFleet {
  private readonly cluster: ReplicaCluster;
  private readonly rng = new SeededRng(1);
  private readonly placement: (readonly NodeId[])[] = [];
  private byType = new Map<PeerMessage['type'], number>();

  constructor(
    readonly nodes: number,
    readonly partitions: number,
  ) {
    this.cluster = new ReplicaCluster({
      nodes,
      groups: [],
      // So that the disk, which is in memory here, holds little more than what is written.
      log: { preallocateFirstBytes: 4096, preallocateBytes: 4096, tailCacheBytes: 64 * 1024, reserveBytes: 0 },
    });
    const { cluster } = this;
    cluster.network.filter = (from, to, frame) => {
      decodePeerFrame(frame, { from, to }, (_group, { type }) => {
        this.byType.set(type, (this.byType.get(type) ?? 0) + 1);
      });
      return true;
    };
    for (let partition = 0; partition < partitions; partition++) {
      const members = new Set<NodeId>();
      while (members.size < Math.min(REPLICATION, nodes)) members.add(cluster.ids[randomBelow(this.rng, nodes)]);
      const voters = [...members];
      this.placement.push(voters);
      for (const id of voters) cluster.machine(id).open(partition + 1, voters);
    }
  }

  /** Lets virtual time pass until every partition has a leader that has committed. */
  elect(): void {
    this.cluster.time.until(() => this.placement.every((_, i) => this.leaderOf(i) !== undefined), 60_000, 'leaders');
  }

  private leaderOf(partition: number): ClusterMachine | undefined {
    return this.placement[partition]
      .map((id) => this.cluster.machine(id))
      .find((machine) => machine.group(partition + 1).isEstablishedLeader);
  }

  /** Peers a node has groups in common with, on the average: so many connections it keeps. */
  get peersPerNode(): number {
    const peers = this.cluster.ids.map(() => new Set<NodeId>());
    for (const voters of this.placement)
      for (const id of voters) for (const other of voters) if (other !== id) peers[id - 1].add(other);
    return peers.reduce((sum, set) => sum + set.size, 0) / this.nodes;
  }

  /** Most leaders on one node. */
  get leadersMax(): number {
    const counts = new Map<NodeId, number>();
    for (let i = 0; i < this.partitions; i++) {
      const id = this.leaderOf(i)?.id;
      if (id !== undefined) counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    return Math.max(0, ...counts.values());
  }

  /** Traffic of `seconds` with `batchesPerSecond` appended to partitions drawn at random, each acknowledged by a quorum. */
  run(seconds: number, batchesPerSecond = 0): Traffic {
    const { cluster } = this;
    const counted = (): { messages: number; frames: number; bytes: number } =>
      cluster.machines.reduce(
        (sum, { replica }) => ({
          messages: sum.messages + replica!.counters.messagesSent,
          frames: sum.frames + replica!.counters.framesSent,
          bytes: sum.bytes + replica!.counters.bytesSent,
        }),
        { messages: 0, frames: 0, bytes: 0 },
      );
    const before = counted();
    this.byType = new Map();
    let acknowledged = 0;
    const batches = Math.round(seconds * batchesPerSecond);
    for (let i = 0; i < batches; i++) {
      cluster.time.after((1000 * i) / batchesPerSecond, () => {
        const partition = randomBelow(this.rng, this.partitions);
        const leader = this.leaderOf(partition);
        assert(leader !== undefined, 'nobody fails in this fleet');
        const batch = recordsBatch([{ key: Buffer.from('bench-key-0000000000'), value: VALUE }]);
        leader.group(partition + 1).append(batch, { acks: 'quorum' }, (error) => {
          assert(error === null, 'an append is acknowledged');
          acknowledged++;
        });
      });
    }
    cluster.time.pass(seconds * 1000);
    const after = counted();
    const traffic = {
      seconds,
      messages: after.messages - before.messages,
      frames: after.frames - before.frames,
      bytes: after.bytes - before.bytes,
      byType: this.byType,
    };
    // The last ones are still on their way when the time is over.
    cluster.time.pass(1000);
    assert(acknowledged === batches, 'every batch is acknowledged');
    return traffic;
  }
}
