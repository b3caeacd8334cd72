import { asOffset, type GroupId, type NodeId } from '#kernel';
import type { Script } from '../run.js';
import { must } from '../violation.js';
import type { World } from '../world.js';
import { elected, heal, hide, others, quiet, serves } from './stage.js';

/**
 * Runs whose faults are told, not drawn; which node plays which part, what clients do meanwhile and how long everything takes still come from
 * the seed. After the script all is put right, and all that holds for any run must hold.
 */
export const SCENARIOS = {
  /** What C had not synced of B's writes must not be missed when A, who was not there, votes with C. */
  'part-kill': {
    swarm: quiet,
    play(world) {
      const a = elected(world);
      const [b, c] = others(world, a);
      hide(world, a);
      elected(world, [b, c]);
      serves(world, 30_000);
      c.crash();
      heal(world);
      hide(world, b);
      world.run(500);
      c.start();
      elected(world, [a, c]);
      serves(world, 5000);
      heal(world);
      world.run(2000);
    },
  },

  'membership change, partition and kill in quick succession': {
    swarm: (swarm) => ({ ...quiet(swarm), nodes: 5, voters: 3, everyMs: { ...quiet(swarm).everyMs } }),
    play(world) {
      for (let round = 0; round < 6; round++) {
        const leader = elected(world);
        const voters = others(world, world.machines[(round + leader.id) % 5]).map(({ id }) => id);
        leader.group(world.things[0].group)?.proposeConfiguration({ voters, learners: [] }, () => undefined);
        world.run(round * 2);
        hide(world, leader);
        world.run(1 + round * 3);
        const victim = world.machines[(leader.id + round) % 5];
        if (victim.isUp) victim.crash();
        world.run(2500);
        heal(world);
        if (!victim.isUp) victim.start();
        world.run(1500);
      }
    },
  },

  'full restart while partitioned': {
    swarm: quiet,
    play(world) {
      const leader = elected(world);
      world.run(3000);
      hide(world, leader);
      world.run(700);
      for (const machine of world.machines) machine.crash();
      world.run(1000);
      for (const machine of world.machines) machine.start();
      elected(world, others(world, leader));
      serves(world, 5000);
      heal(world);
      world.run(2000);
    },
  },

  'two snapshots in a row': {
    swarm: (swarm) => ({ ...quiet(swarm), segmentBytes: 8192, valueBytesMax: 3000, thinkMs: 20 }),
    play(world) {
      const leader = elected(world);
      const [behind] = others(world, leader);
      for (let round = 0; round < 2; round++) {
        hide(world, behind);
        // Until what it has next is gone everywhere else.
        const end = behind.group(world.events.group)!.status().lastOffset;
        const isGone = (): boolean =>
          others(world, behind).every((machine) => (machine.group(world.events.group)?.logStartOffset ?? 0) > end + 1);
        for (let i = 0; i < 60 && !isGone(); i++) {
          world.run(1000);
          trimAll(world);
        }
        heal(world);
        // The second one comes as soon as the first has been installed.
        world.runUntil(() => world.keptSuffix.installs > round, 5000);
      }
      must(world.keptSuffix.installs >= 2, 13, 'two snapshots were to be installed');
      serves(world, 3000);
    },
  },

  'lagging follower across a trim': {
    swarm: (swarm) => ({ ...quiet(swarm), segmentBytes: 8192, valueBytesMax: 3000, thinkMs: 20 }),
    play(world) {
      const leader = elected(world);
      const [behind] = others(world, leader);
      behind.crash();
      world.run(10_000);
      trimAll(world);
      world.run(500);
      behind.start();
      // The trim goes on while it catches up.
      for (let i = 0; i < 5; i++) {
        world.run(400);
        trimAll(world);
      }
      must(
        world.runUntil(() => world.keptSuffix.installs > 0, 10_000),
        27,
        'a follower behind the log start gets a snapshot',
      );
      serves(world, 3000);
    },
  },

  'leader with a stuck disk and live heartbeats': {
    swarm: (swarm) => ({ ...quiet(swarm), loopWrites: false }),
    play(world) {
      const leader = elected(world);
      world.run(2000);
      world.trace.note(`the disk of node ${leader.id} is stuck`);
      leader.disk.faults.stallRate = 1;
      leader.disk.faults.stallMs = 20_000;
      // The others' disks make the quorum; nothing that is acknowledged may depend on the stuck one.
      serves(world, 10_000);
      leader.crash();
      leader.disk.faults.stallRate = 0;
      world.run(200);
      leader.start();
      elected(world);
      serves(world, 8000);
    },
  },

  'leader whose event loop waits for a stuck disk': {
    // One client: seldom have two logs of a node something to write at once.
    swarm: (swarm) => ({ ...quiet(swarm), clients: 1, thinkMs: 5, loopWrites: true, directWrites: 'done' }),
    play(world) {
      const stuck = elected(world);
      must(
        world.runUntil(() => stuck.heldUpMs > 0, 20_000),
        27,
        'a loop whose disk is quick writes itself',
      );
      world.trace.note(`the disk of node ${stuck.id} is stuck`);
      stuck.disk.faults.stallRate = 1;
      stuck.disk.faults.stallMs = 15_000;
      must(
        world.runUntil(() => stuck.heldUpMs > 14_000, 5000),
        27,
        'the loop waits for the stuck disk',
      );
      // It hears and says nothing while it waits: the others go on without it.
      elected(world, others(world, stuck), 5000);
      serves(world, 6000);
      // Once it has found out, the pool waits for the disk, and the node hears again who leads.
      must(
        world.runUntil(() => stuck.heldUpMs === 0, 20_000),
        27,
        'the write ends',
      );
      must(!world.runUntil(() => stuck.heldUpMs > 0, 5000), 27, 'the loop does not wait for a slow disk again');
      stuck.disk.faults.stallRate = 0;
      serves(world, 5000);
    },
  },

  'clock jump during TTL traffic': {
    swarm: (swarm) => ({ ...quiet(swarm), archive: 'shared' }),
    play(world) {
      for (const [round, jump] of [3000, -8000, 3_600_000, -500].entries()) {
        const leader = elected(world);
        leader.wallOffsetMs += jump;
        for (const database of world.archives) database.isAway = round % 2 === 0;
        world.trace.note(`the clock of node ${leader.id} jumps by ${jump} ms`);
        world.run(3000);
        if (round % 2 === 1) {
          leader.crash();
          world.run(2500);
          leader.start();
        }
      }
      must(world.expiry.absences > 0, 24, 'entries were to expire');
      must(world.departedEntries.waiting > 0, 29, 'entries were to be found on their way to the archive');
    },
  },

  'promotion of a lagging learner': {
    swarm: (swarm) => ({ ...quiet(swarm), nodes: 4, voters: 3, thinkMs: 20 }),
    play(world) {
      elected(world);
      const [first, second, third, learner] = world.machines;
      const voters = [first, second, third].map(({ id }) => id);
      everyGroup(world, { voters, learners: [learner.id] });
      world.run(2000);
      learner.crash();
      serves(world, 5000);
      // Cut off or down, it is behind: as a voter it would be missed in the next majority.
      for (const group of world.groups) {
        const refusal = change(world, group, { voters: [...voters, learner.id], learners: [] });
        world.runUntil(() => refusal.code !== null, 2000);
        must(refusal.code === 'learner-lagging', 15, `a learner that is down is promoted: ${refusal.code}`);
      }
      learner.start();
      world.run(3000);
      everyGroup(world, { voters: [...voters, learner.id], learners: [] });
      serves(world, 3000);
    },
  },

  'replacement of a member under partition': {
    swarm: (swarm) => ({ ...quiet(swarm), nodes: 4, voters: 3 }),
    play(world) {
      elected(world);
      const [first, second, gone, spare] = world.machines;
      const old = [first, second, gone].map(({ id }) => id);
      everyGroup(world, { voters: old, learners: [spare.id] });
      world.run(2000);
      hide(world, gone);
      elected(world, [first, second]);
      everyGroup(world, { voters: [first.id, second.id, spare.id], learners: [] });
      serves(world, 3000);
      // The one that was replaced does not know it yet: it must not disturb.
      const terms = world.groups.map((group) => world.leader(group)?.group(group)?.term);
      heal(world);
      serves(world, 5000);
      must(
        world.groups.every((group, i) => world.leader(group)?.group(group)?.term === terms[i]),
        27,
        'a node that was replaced disturbs its successors',
      );
    },
  },

  /** What it acknowledged is gone, and it does not know: its peers do. It is replaced by a node with an id of its own. */
  'lost disk under the old id': {
    swarm: (swarm) => ({ ...quiet(swarm), nodes: 4, voters: 3 }),
    play(world) {
      elected(world);
      const [first, second, lost, spare] = world.machines;
      everyGroup(world, { voters: [first, second, lost].map(({ id }) => id), learners: [spare.id] });
      world.run(3000);
      // Simulated nodes meet when one has something to say to the other, which followers do not: it leads for a while, and all know it.
      const { group } = world.things[0];
      const isKnown = (): boolean => others(world, lost).every(({ id }) => lost.knownTo.has(id));
      for (let i = 0; i < 5 && !isKnown(); i++) {
        world
          .leader(group)
          ?.group(group)
          ?.transferLeadership(lost.id, () => undefined);
        world.runUntil(isKnown, 3000);
      }
      must(isKnown(), 27, 'a node that is to lead is not heard by all');
      // What is under way to the old disk, and what is said while the node is down, must not reach the new one.
      for (const { id } of [first, second, spare]) world.network.clog(id, lost.id, 1500);
      world.run(300);
      lost.replaceDisk();
      world.run(300);
      lost.start();
      serves(world, 3000);
      // With the only other voter down it would be asked for its vote, and must not give it.
      const leader = elected(world);
      const other = leader === first ? second : first;
      other.crash();
      world.run(5000);
      must(
        lost.replicas.every(({ group }) => group.lastOffset === 0 && group.term === 0),
        8,
        'a node that lost its disk votes under its old id',
      );
      other.start();
      elected(world);
      everyGroup(world, { voters: [first.id, second.id, spare.id], learners: [] });
      other.crash();
      serves(world, 5000);
      other.start();
    },
  },

  'retry storm after failover': {
    swarm: (swarm) => ({ ...quiet(swarm), clients: 12, thinkMs: 10, sessionsMax: 64 }),
    play(world) {
      for (let round = 0; round < 2; round++) {
        const leader = elected(world);
        world.run(1000);
        leader.crash();
        world.run(1500);
        leader.start();
        serves(world, 2000);
      }
    },
  },
} as const satisfies Record<string, Script>;

/** Asks the leader for a change of members; the code of the error when it is refused. */
const change = (
  world: World,
  group: GroupId,
  target: { readonly voters: readonly NodeId[]; readonly learners: readonly NodeId[] },
): { done: boolean; code: string | null } => {
  const outcome: { done: boolean; code: string | null } = { done: false, code: null };
  world
    .leader(group)
    ?.group(group)
    ?.proposeConfiguration(target, (error) => {
      outcome.done = error === null;
      outcome.code = error?.code ?? null;
    });
  return outcome;
};

/** An operator who does not give up. */
const everyGroup = (
  world: World,
  target: { readonly voters: readonly NodeId[]; readonly learners: readonly NodeId[] },
): void => {
  for (const group of world.groups) {
    let outcome = change(world, group, target);
    for (let i = 0; i < 20 && !outcome.done; i++) {
      world.run(500);
      if (!outcome.done) outcome = change(world, group, target);
    }
    must(
      world.runUntil(() => outcome.done, 5000),
      27,
      () => `the members of group ${group} cannot be changed: ${outcome.code}`,
    );
  }
};

const trimAll = (world: Parameters<Script['play']>[0]): void => {
  for (const { group } of world.machines.flatMap((machine) => machine.replicas)) {
    if (group.id === world.events.group) group.trimBefore(asOffset(group.readableOffset + 1));
  }
};

export type ScenarioName = keyof typeof SCENARIOS;

export const isScenarioName = (name: string): name is ScenarioName => Object.hasOwn(SCENARIOS, name);
