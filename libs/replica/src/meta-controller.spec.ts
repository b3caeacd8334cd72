import { describe, expect, test } from '@jest/globals';
import { asGroupId } from '#kernel';
import { MetaController, type TopicSpec } from './meta-controller.js';
import type { TopicEntry } from './meta-directory.js';
import { groupDirectoryName } from './replica-node.js';
import { Pending, ReplicaCluster, textBatch, type ClusterMachine } from './testing/replica-cluster.js';

/** A cluster with a controller on every node that is up. */
class MetaCluster {
  readonly cluster = new ReplicaCluster({ groups: [0] });
  readonly controllers = new Map<ClusterMachine, MetaController>();
  readonly discarded: string[] = [];

  constructor(private readonly wanted: readonly TopicSpec[] = []) {
    for (const machine of this.cluster.machines) this.control(machine);
  }

  control(machine: ClusterMachine): void {
    const controller = new MetaController({
      node: machine.replica!,
      group: machine.group(0),
      wallMs: () => this.cluster.time.wallMs(),
      scheduler: this.cluster.time,
      directoryOf: (group) => `data/${groupDirectoryName(group)}`,
      discard: (directory) => this.discarded.push(`${machine.id}:${directory}`),
      onOpenFailed: (_group, error) => {
        throw error;
      },
    });
    controller.ensureTopics(this.wanted);
    this.controllers.set(machine, controller);
  }

  crash(machine: ClusterMachine): void {
    this.controllers.get(machine)!.close();
    this.controllers.delete(machine);
    machine.crash();
  }

  restart(machine: ClusterMachine): void {
    machine.start();
    this.control(machine);
  }

  get leader(): MetaController {
    return this.controllers.get(this.cluster.elect(0))!;
  }

  create(spec: TopicSpec): TopicEntry {
    const pending = new Pending<TopicEntry>();
    this.leader.createTopic(spec, pending.settle);
    return this.cluster.finish(pending);
  }

  remove(name: string): TopicEntry {
    const pending = new Pending<TopicEntry>();
    this.leader.deleteTopic(name, pending.settle);
    return this.cluster.finish(pending);
  }

  /** Every node has the same topics. */
  agree(names: readonly string[]): void {
    const wanted = JSON.stringify([...names].sort());
    this.cluster.time.until(() =>
      [...this.controllers.values()].every(
        ({ directory }) => JSON.stringify([...directory.topics.keys()].sort()) === wanted,
      ),
    );
  }
}

describe('the controller of the metadata', () => {
  test('creates the wanted topics later when they are refused at first, though nothing else happens', () => {
    const meta = new MetaCluster([{ name: 'default' }]);
    for (const { disk } of meta.cluster.machines) disk.faults.capacityBytes = disk.usedBytes + 100_000;
    meta.cluster.elect(0);
    meta.cluster.time.pass(5000);
    meta.agree([]);
    for (const { disk } of meta.cluster.machines) disk.faults.capacityBytes = Number.MAX_SAFE_INTEGER;
    meta.agree(['default']);
  });

  test('creates the wanted topics at the first start, and every node opens their partitions', () => {
    const meta = new MetaCluster([{ name: 'default' }, { name: 'orders', partitions: 3 }]);
    meta.agree(['default', 'orders']);
    const { topics } = meta.leader.directory;
    expect(topics.get('default')!.partitions).toEqual([1]);
    expect(topics.get('orders')!.partitions).toEqual([2, 3, 4]);
    for (const group of [1, 2, 3, 4]) {
      const leader = meta.cluster.elect(group);
      meta.cluster.finish(meta.cluster.append(leader, textBatch('value'), { group }));
    }
  });

  test('creates them once, whoever leads and however often all of them start', () => {
    const meta = new MetaCluster([{ name: 'default' }]);
    meta.agree(['default']);
    for (let round = 0; round < 3; round++) {
      for (const machine of meta.cluster.machines) meta.crash(machine);
      for (const machine of meta.cluster.machines) meta.restart(machine);
      meta.agree(['default']);
    }
    expect(meta.leader.directory.nextGroup).toBe(2);
  });

  test('does not bring back a wanted topic that was deleted', () => {
    const meta = new MetaCluster([{ name: 'default' }]);
    meta.agree(['default']);
    meta.remove('default');
    for (const machine of meta.cluster.machines) meta.crash(machine);
    for (const machine of meta.cluster.machines) meta.restart(machine);
    meta.create({ name: 'other' });
    meta.agree(['other']);
  });

  test('gives every topic groups of its own, also those asked for at the same moment', () => {
    const meta = new MetaCluster();
    const { leader } = meta;
    const pending = Array.from({ length: 10 }, () => new Pending<TopicEntry>());
    pending.forEach((each, i) => leader.createTopic({ name: `t${i}`, partitions: 2 }, each.settle));
    const groups = pending.flatMap((each) => meta.cluster.finish(each).partitions);
    expect(new Set(groups).size).toBe(20);
  });

  test('has a topic open on its node when it says that it is created', () => {
    const meta = new MetaCluster();
    const topic = meta.create({ name: 'orders', partitions: 2, retention: { ms: 1000 }, view: { kind: 'none' } });
    expect(topic).toMatchObject({ replication: 3, retention: { ms: 1000, bytes: null }, voters: [1, 2, 3] });
    const machine = meta.cluster.elect(0);
    for (const group of topic.partitions) expect(machine.replica!.group(group)).toBeDefined();
  });

  test('refuses a topic that exists, names and numbers that are not allowed, and what is not there', () => {
    const meta = new MetaCluster();
    meta.create({ name: 'a' });
    const codes = [
      { name: 'a' },
      { name: 'with space' },
      { name: 'b', partitions: 0 },
      { name: 'b', partitions: 257 },
      { name: 'b', retention: { bytes: -5 } },
      { name: 'b', view: { maxEntries: 0 } },
    ].map((spec) => {
      const pending = new Pending<TopicEntry>();
      meta.leader.createTopic(spec, pending.settle);
      return pending.error?.code;
    });
    expect(codes).toEqual(['topic-exists', 'bad-request', 'bad-request', 'bad-request', 'bad-request', 'bad-request']);
    const missing = new Pending<TopicEntry>();
    meta.leader.deleteTopic('nothing', missing.settle);
    expect(missing.error?.code).toBe('unknown-topic');
  });

  test('refuses at a node that does not lead, and names the leader', () => {
    const meta = new MetaCluster();
    const leader = meta.cluster.elect(0);
    meta.cluster.time.pass(500);
    const pending = new Pending<TopicEntry>();
    meta.controllers.get(meta.cluster.others(leader)[0])!.createTopic({ name: 'a' }, pending.settle);
    expect(pending.error?.code).toBe('not-leader');
    expect(pending.error?.details).toEqual({ leader: leader.id });
  });

  test('closes the partitions of a deleted topic everywhere and lets their folders go', () => {
    const meta = new MetaCluster();
    const { partitions } = meta.create({ name: 'gone', partitions: 1 });
    meta.agree(['gone']);
    meta.remove('gone');
    meta.agree([]);
    meta.cluster.time.pass(100);
    for (const machine of meta.cluster.machines) expect(machine.replica!.group(partitions[0])).toBeUndefined();
    expect([...meta.discarded].sort()).toEqual([1, 2, 3].map((id) => `${id}:data/group-000001`));
    expect(meta.create({ name: 'gone' }).partitions).toEqual([asGroupId(2)]);
  });

  test('goes on deciding after its leader is gone', () => {
    const meta = new MetaCluster();
    meta.create({ name: 'a' });
    meta.crash(meta.cluster.elect(0));
    meta.create({ name: 'b' });
    meta.agree(['a', 'b']);
    expect(meta.leader.directory.topics.get('b')!.partitions).toEqual([2]);
  });

  test('tells who listens of every change until they stop', () => {
    const meta = new MetaCluster();
    const { leader } = meta;
    const heard: string[][] = [];
    const stop = leader.onChange(({ topics }) => heard.push([...topics.keys()]));
    meta.create({ name: 'a' });
    meta.create({ name: 'b' });
    stop();
    meta.create({ name: 'c' });
    expect(heard).toEqual([['a'], ['a', 'b']]);
  });
});
