import { crc32 } from 'node:zlib';
import {
  META_GROUP,
  asOffset,
  isTidelineError,
  randomBelow,
  randomChance,
  readU32,
  writeU32,
  type ErrorCode,
  type Rng,
} from '#kernel';
import { DIRECTORY_VERSION, META_FILE, openDataDirectory } from '#storage';
import { CLUSTER, DATA, type Machine } from './machine.js';
import { FAULT_KINDS, type FaultKind } from './swarm.js';
import { must } from './violation.js';
import type { World } from './world.js';

/** What was written this long ago is settled: the log's watermark covers it. */
const SETTLED_MS = 3000;
/** A service manager starts a process again after this time. */
const RESTART_MS = 500;

/** Does harm, as often as the swarm says, until it is told to stop; then it puts everything right again. */
export class Nemesis {
  readonly done: { [K in FaultKind]?: number } = {};
  private stopped = false;
  /** The one machine whose disk may corrupt what is on it: there is always a good copy. */
  private readonly victim: Machine;

  constructor(
    private readonly world: World,
    private readonly rng: Rng,
  ) {
    this.victim = this.any(world.machines);
    for (const kind of FAULT_KINDS) if (world.swarm.everyMs[kind] > 0) this.plan(kind);
  }

  private any<T>(list: readonly T[]): T {
    return list[randomBelow(this.rng, list.length)];
  }

  private between(min: number, max: number): number {
    return min + (this.rng.nextU32() / 2 ** 32) * (max - min);
  }

  private plan(kind: FaultKind): void {
    const mean = this.world.swarm.everyMs[kind];
    this.world.queue.after(this.between(0, 2 * mean), 0, () => {
      if (this.stopped) return;
      this.done[kind] = (this.done[kind] ?? 0) + 1;
      this[kind]();
      this.plan(kind);
    });
  }

  private note(text: string): void {
    this.world.trace.note(text);
  }

  private later(ms: number, task: () => void): void {
    this.world.queue.after(ms, 0, () => {
      if (!this.stopped) task();
    });
  }

  private restartLater(machine: Machine, ms: number): void {
    this.later(ms, () => {
      if (!machine.isUp) machine.start();
    });
  }

  /** The leader half of the time: faults elsewhere are less of a test. */
  private machine(): Machine | null {
    const { up } = this.world;
    if (up.length === 0) return null;
    const leader = this.world.leader(this.any(this.world.groups));
    return leader !== null && randomChance(this.rng, 0.5) ? leader : this.any(up);
  }

  /* ---- processes ---- */

  crash(): void {
    const machine = this.machine();
    if (machine === null) return;
    this.note(`node ${machine.id} loses power`);
    machine.crash();
    this.restartLater(machine, this.between(50, 5000));
  }

  kill(): void {
    const machine = this.machine();
    if (machine === null) return;
    this.note(`the process of node ${machine.id} is killed`);
    machine.kill();
    this.restartLater(machine, this.between(50, 3000));
  }

  crashAtOperation(): void {
    const machine = this.machine();
    if (machine === null) return;
    machine.disk.crashAtOperation = machine.disk.operations + 1 + randomBelow(this.rng, 40);
    this.restartLater(machine, this.between(1000, 5000));
    // Sometimes again while it recovers.
    if (randomChance(this.rng, 0.5)) {
      this.later(900, () => {
        if (!machine.isUp && machine.unusable === null) {
          if (machine.disk.isDown) machine.disk.restart();
          machine.disk.crashAtOperation = machine.disk.operations + 1 + randomBelow(this.rng, 15);
          machine.start();
        }
      });
      this.restartLater(machine, 6000);
    }
  }

  crashAll(): void {
    this.note('all nodes lose power');
    for (const machine of this.world.up) {
      machine.crash();
      this.restartLater(machine, this.between(50, 3000));
    }
  }

  pause(): void {
    const machine = this.machine();
    if (machine === null) return;
    const ms = this.between(200, 4000);
    this.note(`node ${machine.id} stands still for ${ms.toFixed(0)} ms`);
    this.world.queue.pause(machine.id, ms);
  }

  /* ---- network ---- */

  partition(): void {
    const { network, machines } = this.world;
    if (machines.length < 2) return;
    const ids = machines.map(({ id }) => id as number);
    const cut = (a: number, b: number): void => {
      network.block(a, b);
      network.block(b, a);
    };
    network.heal();
    switch (randomBelow(this.rng, 6)) {
      case 0: {
        const one = this.any(ids);
        this.note(`node ${one} is cut off`);
        for (const other of ids) if (other !== one) cut(one, other);
        break;
      }
      case 1: {
        const left = ids.filter(() => randomChance(this.rng, 0.5));
        this.note(`partition: ${left.join(' ')} and the others`);
        for (const a of left) for (const b of ids) if (!left.includes(b)) cut(a, b);
        break;
      }
      case 2: {
        const [a, b] = [this.any(ids), this.any(ids)];
        this.note(`nothing gets from node ${a} to node ${b}`);
        if (a !== b) network.block(a, b);
        break;
      }
      case 3: {
        const one = this.any(ids);
        const out = randomChance(this.rng, 0.5);
        this.note(`nothing gets ${out ? 'out of' : 'into'} node ${one}`);
        for (const other of ids) if (other !== one) network.block(out ? one : other, out ? other : one);
        break;
      }
      case 4: {
        this.note('nodes see their neighbours only');
        for (let i = 0; i < ids.length; i++) for (let j = i + 2; j < ids.length; j++) cut(ids[i], ids[j]);
        break;
      }
      default: {
        const hub = this.any(ids);
        this.note(`nodes see node ${hub} only`);
        for (const a of ids) for (const b of ids) if (a < b && a !== hub && b !== hub) cut(a, b);
      }
    }
    this.later(this.between(300, 8000), () => {
      this.note('the network is whole');
      network.heal();
    });
  }

  /** A node's connections break and cannot be made again: all notice at once. */
  disconnect(): void {
    const { network, machines } = this.world;
    const machine = this.machine();
    if (machine === null || machines.length < 2) return;
    this.note(`the connections of node ${machine.id} break`);
    network.heal();
    for (const other of machines) {
      if (other === machine) continue;
      network.block(machine.id, other.id);
      network.block(other.id, machine.id);
      other.replicaNode?.peerLost(machine.id);
      machine.replicaNode?.peerLost(other.id);
    }
    this.later(this.between(300, 4000), () => {
      this.note('the network is whole');
      network.heal();
    });
  }

  clog(): void {
    const { network, machines } = this.world;
    const [a, b] = [this.any(machines), this.any(machines)];
    network.clog(a.id, b.id, this.between(300, 4000));
  }

  /* ---- disks ---- */

  diskError(): void {
    const machine = this.machine();
    if (machine === null) return;
    const kind = randomBelow(this.rng, 4);
    if (kind === 0) machine.disk.failNextRead('EIO');
    else if (kind === 1) machine.disk.failNextSync('EIO');
    else machine.disk.failNextWrite('EIO');
    this.note(`the disk of node ${machine.id} fails its next ${['read', 'sync', 'write', 'write'][kind]}`);
    if (randomChance(this.rng, 0.3)) {
      // And then the power goes, before anything else is written.
      this.later(this.between(1, 300), () => {
        if (machine.isUp) machine.crash();
      });
    }
    this.restartLater(machine, this.between(1000, 5000));
    this.restartLater(machine, 7000);
  }

  diskStall(): void {
    const machine = this.machine();
    if (machine === null) return;
    const { faults } = machine.disk;
    const ms = this.between(100, 1500);
    this.note(`the disk of node ${machine.id} takes ${ms.toFixed(0)} ms`);
    faults.stallRate = 1;
    faults.stallMs = ms;
    this.later(this.between(500, 4000), () => {
      faults.stallRate = 0;
    });
  }

  diskFull(): void {
    const machine = this.machine();
    if (machine === null) return;
    const { disk } = machine;
    this.note(`the disk of node ${machine.id} is nearly full`);
    disk.faults.capacityBytes = disk.usedBytes + randomBelow(this.rng, 40_000);
    this.later(this.between(1000, 6000), () => {
      disk.faults.capacityBytes = Number.MAX_SAFE_INTEGER;
      if (!machine.isUp) machine.start();
    });
  }

  /**
   * Only what was written some seconds ago is damaged: what the disk loses of the very end of a log, before its watermark is written, cannot be told
   * from a write that never was, and no protocol survives a disk that takes back the last thing it promised.
   */
  corruption(): void {
    // With fewer than three voters, or voters that change, one bad disk may be one too many.
    if (this.world.swarm.voters < 3 || this.world.swarm.everyMs.membership > 0) return;
    const { victim } = this;
    const { disk, life } = victim;
    if (!victim.isUp || victim.isOutcast || disk.faults.stallRate > 0) return;
    const files = new Map<string, number>();
    for (const path of disk.files()) {
      if (!/\.(log|index|timeindex|checkpoint)$|\/state$/.test(path)) continue;
      const bytes = disk.durableBytes(path);
      let end = bytes?.length ?? 0;
      while (end > 0 && bytes![end - 1] === 0) end--;
      if (end > 0) files.set(path, end);
    }
    this.later(SETTLED_MS, () => {
      if (victim.life === life && !this.world.queue.isPaused(victim.id)) this.damage(files);
    });
  }

  private damage(files: ReadonlyMap<string, number>): void {
    const { victim, rng } = this;
    const { disk } = victim;
    const present = new Set(disk.files());
    const paths = [...files.keys()].filter((path) => present.has(path));
    if (paths.length === 0) return;
    const logs = paths.filter((path) => path.endsWith('.log'));
    const path = randomChance(rng, 0.6) && logs.length > 0 ? this.any(logs) : this.any(paths);
    const end = Math.min(files.get(path)!, disk.durableBytes(path)?.length ?? 0);
    if (end < 64) return;
    const position = randomBelow(rng, end);
    const pages = Math.floor(end / 4096);
    const page = randomBelow(rng, Math.max(1, pages));
    const kind = pages === 0 ? 2 : randomBelow(rng, 5);
    if (kind === 0) {
      if (disk.restoreStalePage(path, page)) this.note(`page ${page} of ${path} on node ${victim.id} is stale`);
    } else if (kind === 1) {
      const from = this.any(logs.length > 0 ? logs : paths);
      if (from === path || files.get(from)! < 4096 || (disk.durableBytes(from)?.length ?? 0) < 4096) return;
      this.note(`a page of ${from} turns up as page ${page} of ${path} on node ${victim.id}`);
      disk.misdirect({ path: from, position: 0 }, { path, position: page * 4096 }, 4096);
    } else {
      this.note(`a bit flips at ${position} of ${path} on node ${victim.id}`);
      disk.flipBit(path, position, randomBelow(rng, 8));
    }
    if (randomChance(rng, 0.7)) {
      this.later(this.between(0, 1000), () => {
        if (!victim.isUp) return;
        this.note(`the process of node ${victim.id} is killed`);
        victim.kill();
        this.restartLater(victim, this.between(50, 1000));
      });
    }
  }

  /* ---- clocks ---- */

  clockJump(): void {
    const machine = this.machine();
    if (machine === null) return;
    const far = randomChance(this.rng, 0.2) ? 3_600_000 : 10_000;
    machine.wallOffsetMs += Math.floor(this.between(-far, far));
    this.note(`the clock of node ${machine.id} is off by ${machine.wallOffsetMs} ms`);
  }

  /** Of a leader alone: what it stamps must not go back, nor run ahead of what its successor will stamp. */
  leaderClockStep(): void {
    const leader = this.world.leader(this.any(this.world.groups));
    if (leader === null) return;
    const ms = Math.floor(this.between(-3000, 3000));
    leader.wallOffsetMs += ms;
    this.note(`the clock of the leader, node ${leader.id}, steps by ${ms} ms`);
  }

  /* ---- data directories ---- */

  private refuses(machine: Machine, nodeId: number, code: ErrorCode): void {
    let refusal: unknown = null;
    try {
      openDataDirectory({
        fs: machine.disk,
        directory: DATA,
        nodeId: nodeId as never,
        clusterId: CLUSTER,
        rng: this.rng,
      }).close();
    } catch (error) {
      refusal = error;
    }
    must(
      isTidelineError(refusal, code),
      8,
      () => `the directory of node ${machine.id} was not refused with ${code} but: ${String(refusal)}`,
    );
  }

  /** Somebody starts the same node twice. */
  secondProcess(): void {
    const machine = this.machine();
    if (machine === null) return;
    this.note(`a second process is started in the directory of node ${machine.id}`);
    this.refuses(machine, machine.id, 'directory-locked');
  }

  /** A program is started that is older than the data: it leaves them alone. */
  newerVersion(): void {
    const machine = this.machine();
    const path = `${DATA}/${META_FILE}`;
    if (machine === null || !machine.disk.files().includes(path)) return;
    const { disk } = machine;
    machine.kill();
    disk.forgetFailures();
    const before = disk.contents(path);
    const newer = Buffer.from(before);
    writeU32(newer, 4, readU32(before, 4) + DIRECTORY_VERSION);
    writeU32(newer, newer.length - 4, crc32(newer.subarray(0, newer.length - 4)));
    disk.overwrite(path, newer);
    this.note(`the data of node ${machine.id} are of a later version than its program`);
    const all = (): string =>
      disk
        .files()
        .map((name) => `${name} ${crc32(disk.contents(name))}`)
        .join('\n');
    const files = all();
    machine.start();
    must(!machine.isUp, 10, () => `node ${machine.id} starts with data of a later version`);
    must(all() === files, 10, () => `node ${machine.id} changes data of a later version`);
    disk.overwrite(path, before);
    this.restartLater(machine, this.between(50, 2000));
  }

  /** The disk is lost, and somebody starts the node under its old id with a new one. Once, and only where the others can do without it. */
  blankDisk(): void {
    const { world, victim } = this;
    const { swarm, machines } = world;
    if (swarm.voters < 3 || swarm.voters < swarm.nodes || swarm.everyMs.membership > 0) return;
    if (victim.isOutcast || victim.unusable !== null || world.queue.now < SETTLED_MS) return;
    if (machines.some((machine) => machine !== victim && !victim.knownTo.has(machine.id))) return;
    this.note(`node ${victim.id} comes back with an empty disk`);
    victim.replaceDisk();
    this.restartLater(victim, this.between(50, 1000));
  }

  /* ---- strangers ---- */

  rudeClient(): void {
    this.machine()?.hearRudeness(this.rng);
  }

  /* ---- operators ---- */

  membership(): void {
    const { world, rng } = this;
    const group = this.any(world.groups);
    const leader = world.leader(group);
    if (leader === null) return;
    const shuffled = world.machines.map(({ id }) => ({ id, lot: rng.nextU32() })).sort((a, b) => a.lot - b.lot);
    const count = 1 + randomBelow(rng, shuffled.length);
    const voters = shuffled.slice(0, count).map(({ id }) => id);
    const learners = shuffled
      .slice(count)
      // Everybody goes on following the metadata.
      .filter(() => randomChance(rng, 0.5) || group === META_GROUP)
      .map(({ id }) => id);
    this.note(`group ${group} is to have voters ${voters.join(' ')} and learners ${learners.join(' ')}`);
    leader.group(group)!.proposeConfiguration({ voters, learners }, (error) => {
      this.note(`members of group ${group}: ${error === null ? 'changed' : error.code}`);
    });
  }

  transfer(): void {
    const { world } = this;
    const group = this.any(world.groups);
    const leader = world.leader(group);
    if (leader === null) return;
    const to = this.any(world.machines).id;
    this.note(`group ${group} is to be led by node ${to}`);
    leader.group(group)!.transferLeadership(to, () => undefined);
  }

  trim(): void {
    // All of it on all that are there: who is not there, or behind, needs a snapshot.
    const everywhere = randomChance(this.rng, 0.6);
    const machines = everywhere ? this.world.up : [this.any(this.world.machines)];
    for (const machine of machines) {
      const group = machine.group(this.world.events.group);
      if (group === undefined) continue;
      const { readableOffset, logStartOffset } = group;
      const count = Math.max(1, readableOffset - logStartOffset + 1);
      group.trimBefore(asOffset(logStartOffset + (everywhere ? count : randomBelow(this.rng, count))));
    }
  }

  /* ---- the archive ---- */

  archiveAway(): void {
    const { archives } = this.world;
    if (archives.length === 0) return;
    const database = this.any(archives);
    database.isAway = true;
    this.later(this.between(500, 8000), () => {
      database.isAway = false;
    });
  }

  /** Everything is put right; machines whose disks are past help stay down. */
  stop(): void {
    const { world } = this;
    this.stopped = true;
    this.note('no more faults');
    world.network.calm();
    for (const database of world.archives) database.isAway = false;
    for (const machine of world.machines) {
      const { disk } = machine;
      world.queue.resume(machine.id);
      disk.crashAtOperation = null;
      disk.faults.stallRate = 0;
      disk.faults.capacityBytes = Number.MAX_SAFE_INTEGER;
      disk.forgetFailures();
      if (!machine.isUp) machine.start();
    }
    this.keepUp();
  }

  /** What was on its way when the faults ended may still bring a process down: it is started again, as a service manager would. */
  private keepUp(): void {
    this.world.queue.after(RESTART_MS, 0, () => {
      for (const machine of this.world.machines) if (!machine.isUp) machine.start();
      this.keepUp();
    });
  }
}
