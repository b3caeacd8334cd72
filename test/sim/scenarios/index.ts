import { asOffset } from '#kernel';
import type { Script } from '../run.js';
import { must } from '../violation.js';
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
    swarm: quiet,
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

  'clock jump during TTL traffic': {
    swarm: quiet,
    play(world) {
      for (const [round, jump] of [3000, -8000, 3_600_000, -500].entries()) {
        const leader = elected(world);
        leader.wallOffsetMs += jump;
        world.trace.note(`the clock of node ${leader.id} jumps by ${jump} ms`);
        world.run(3000);
        if (round % 2 === 1) {
          leader.crash();
          world.run(2500);
          leader.start();
        }
      }
      must(world.expiry.absences > 0, 24, 'entries were to expire');
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

const trimAll = (world: Parameters<Script['play']>[0]): void => {
  for (const { group } of world.machines.flatMap((machine) => machine.replicas)) {
    if (group.id === world.events.group) group.trimBefore(asOffset(group.readableOffset + 1));
  }
};

export type ScenarioName = keyof typeof SCENARIOS;

export const isScenarioName = (name: string): name is ScenarioName => Object.hasOwn(SCENARIOS, name);
