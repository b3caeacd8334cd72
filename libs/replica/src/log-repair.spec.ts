import { asOffset } from '#kernel';
import { describe, expect, test } from '@jest/globals';
import { ReplicaCluster, textBatch, type ClusterMachine } from './testing/replica-cluster.js';
import { codeOf, valuesAt } from './testing/log-contents.js';

const SMALL = { segmentBytes: 8192, preallocateFirstBytes: 0, preallocateBytes: 0 };

const fill = (cluster: ReplicaCluster, from: number, to: number): void => {
  const leader = cluster.elect();
  const pending = [];
  for (let i = from; i <= to; i++) pending.push(cluster.append(leader, textBatch(`${i}`.padEnd(200, '.'))));
  for (const each of pending) cluster.finish(each);
};

const numbersAt = (cluster: ReplicaCluster, machine: ClusterMachine): number[] =>
  valuesAt(cluster, machine, { from: machine.group().logStartOffset }).map((value) => parseInt(value, 10));

const sequence = (to: number): number[] => Array.from({ length: to }, (_, i) => 1 + i);

const segmentsOf = (machine: ClusterMachine): string[] => machine.disk.files().filter((path) => path.endsWith('.log'));

/** Damages one byte in the middle of the segment with this number. */
const damage = (machine: ClusterMachine, segment: number): void => {
  const path = segmentsOf(machine).at(segment)!;
  machine.disk.flipBit(path, 3000, 3);
};

const open = (log: object = {}, limits: object = {}): ReplicaCluster => {
  const cluster = new ReplicaCluster({ log: { ...SMALL, validate: 'all', ...log }, limits });
  fill(cluster, 1, 115);
  cluster.converge();
  // The watermark of what is durable is saved with a delay.
  cluster.time.pass(3000);
  return cluster;
};

describe('a damaged log', () => {
  test('is repaired from the peers when the damage is in the middle, and is then as theirs is', () => {
    const cluster = open();
    const [victim] = cluster.others(cluster.elect());
    victim.kill();
    damage(victim, 1);
    victim.start();
    expect(victim.has()).toBe(false);
    expect(victim.replica!.damagedGroups).toEqual([1]);
    const opened: number[] = [];
    victim.replica!.onOpened((group) => opened.push(group.id));
    cluster.converge();
    expect(opened).toEqual([1]);
    expect(victim.damage).toEqual(['found', 'repaired']);
    expect(numbersAt(cluster, victim)).toEqual(sequence(115));
    expect(cluster.readAll(victim).equals(cluster.readAll(cluster.elect()))).toBe(true);
  });

  test('does not vote: with one other node up there is no leader until it is repaired', () => {
    const cluster = open();
    const leader = cluster.elect();
    const [victim, third] = cluster.others(leader);
    victim.kill();
    third.kill();
    leader.kill();
    damage(victim, 1);
    victim.start();
    cluster.time.pass(10_000);
    expect(victim.has()).toBe(false);
    // The peer cannot be elected without it, but it has what is missing.
    leader.start();
    cluster.time.until(() => victim.has());
    cluster.elect();
    expect(numbersAt(cluster, victim)).toEqual(sequence(115));
  });

  test('at its end is repaired only from a leader of a later term, who makes room if need be', () => {
    const cluster = open();
    const leader = cluster.elect();
    const { term } = leader.group();
    const [victim] = cluster.others(leader);
    victim.kill();
    const path = segmentsOf(victim).at(-1)!;
    // The last batches are gone to the last byte, below the watermark.
    victim.disk.zero(path, 2000, victim.disk.durableBytes(path)!.length - 2000);
    victim.start();
    expect(victim.has()).toBe(false);
    cluster.time.until(() => victim.has());
    expect(cluster.elect().group().term).toBeGreaterThan(term);
    cluster.converge();
    expect(numbersAt(cluster, victim)).toEqual(sequence(115));
    fill(cluster, 116, 125);
    cluster.converge();
    expect(numbersAt(cluster, victim)).toEqual(sequence(125));
  });

  test('in several places is repaired in all of them', () => {
    const cluster = open();
    const [victim] = cluster.others(cluster.elect());
    victim.kill();
    damage(victim, 0);
    damage(victim, 2);
    const path = segmentsOf(victim).at(-1)!;
    victim.disk.zero(path, 1000, victim.disk.durableBytes(path)!.length - 1000);
    victim.start();
    cluster.converge();
    expect(numbersAt(cluster, victim)).toEqual(sequence(115));
  });

  test('in what was never committed gives way to what was', () => {
    const cluster = open();
    const victim = cluster.elect();
    cluster.cutOff(victim);
    const lost = Array.from({ length: 60 }, () => cluster.append(victim, textBatch('never'.padEnd(200, '.'))));
    cluster.time.pass(3000);
    victim.kill();
    damage(victim, 5);
    cluster.network.heal();
    cluster.elect(1, victim);
    fill(cluster, 116, 200);
    victim.start();
    expect(victim.has()).toBe(false);
    cluster.converge();
    expect(lost.some(({ value }) => value !== null)).toBe(false);
    expect(numbersAt(cluster, victim)).toEqual(sequence(200));
  });

  test('in what the peers have trimmed gives way to the state they keep in its place', () => {
    for (const atTheEnd of [false, true]) {
      const cluster = open();
      const [victim] = cluster.others(cluster.elect());
      victim.kill();
      damage(victim, 1);
      if (atTheEnd) {
        const path = segmentsOf(victim).at(-1)!;
        victim.disk.zero(path, 1000, victim.disk.durableBytes(path)!.length - 1000);
      }
      fill(cluster, 116, 300);
      cluster.converge();
      for (const machine of cluster.up) machine.group().trimBefore(asOffset(atTheEnd ? 250 : 80));
      cluster.time.until(() => cluster.up.every((machine) => machine.group().logStartOffset > 40));
      victim.start();
      expect(victim.has()).toBe(false);
      cluster.converge();
      expect(numbersAt(cluster, victim).slice(-50)).toEqual(sequence(300).slice(-50));
    }
  });

  test('of a node alone stops the opening with a message that says what to do', () => {
    const cluster = new ReplicaCluster({ nodes: 1, log: { ...SMALL, validate: 'all' } });
    fill(cluster, 1, 100);
    cluster.time.pass(3000);
    const [machine] = cluster.machines;
    machine.kill();
    damage(machine, 1);
    expect(codeOf(() => machine.start())).toBe('storage-damaged');
  });

  test('met by a reader is said to be damaged, and is repaired while the group goes on', () => {
    const cluster = open({ validate: 'tail', tailCacheBytes: 0 }, { recentBytesMax: 1000 });
    const [victim] = cluster.others(cluster.elect());
    damage(victim, 1);
    expect(codeOf(() => cluster.readAll(victim))).toBe('storage-damaged');
    expect(victim.group().status().damaged).toBe(true);
    fill(cluster, 116, 125);
    cluster.time.until(() => !victim.group().status().damaged);
    cluster.converge();
    expect(victim.damage).toEqual(['found', 'repaired']);
    expect(numbersAt(cluster, victim)).toEqual(sequence(125));
  });

  test('in a part that is only read by its headers when it is opened is found then, and repaired', () => {
    const cluster = open({ validate: 'tail' });
    const [victim] = cluster.others(cluster.elect());
    victim.kill();
    damage(victim, 1);
    victim.start();
    cluster.converge();
    expect(numbersAt(cluster, victim)).toEqual(sequence(115));
  });
});
