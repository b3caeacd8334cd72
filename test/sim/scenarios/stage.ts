import type { Machine } from '../machine.js';
import { FAULT_KINDS, type Swarm } from '../swarm.js';
import { must } from '../violation.js';
import type { World } from '../world.js';

/** A run without faults of its own: three nodes that all vote, on a good network; the script does the rest. */
export const quiet = (swarm: Swarm): Swarm => ({
  ...swarm,
  nodes: 3,
  voters: 3,
  partitions: 1,
  clients: 4,
  thinkMs: 60,
  network: { ...swarm.network, lossRate: 0, duplicationRate: 0, strayRate: 0, delayMsMax: 2 },
  disk: { ...swarm.disk, latencyMsMin: 0.1, latencyMsMax: 0.5 },
  everyMs: Object.fromEntries(FAULT_KINDS.map((kind) => [kind, 0])) as Swarm['everyMs'],
  electionTimeoutMs: 1000,
});

/** Nobody hears from the node, and it hears from nobody. */
export const hide = (world: World, hidden: Machine): void => {
  world.trace.note(`node ${hidden.id} is hidden`);
  for (const { id } of world.machines) {
    if (id === hidden.id) continue;
    world.network.block(id, hidden.id);
    world.network.block(hidden.id, id);
  }
};

export const heal = (world: World): void => {
  world.trace.note('the network is whole');
  world.network.heal();
};

/** Lets time pass until both groups have a leader among these machines. */
export const elected = (world: World, among: readonly Machine[] = world.machines, ms = 15_000): Machine => {
  const leads = (): Machine | undefined => {
    const [things, events] = [world.leader(world.things[0].group), world.leader(world.events.group)];
    return things !== null && events !== null && among.includes(things) && among.includes(events) ? things : undefined;
  };
  must(
    world.runUntil(() => leads() !== undefined, ms),
    27,
    () => `no leader among nodes ${among.map(({ id }) => id).join(' ')} within ${ms} ms`,
  );
  return leads()!;
};

export const others = (world: World, ...not: readonly Machine[]): Machine[] =>
  world.machines.filter((machine) => !not.includes(machine));

/** What was committed must grow: somebody is served. */
export const serves = (world: World, ms: number): void => {
  const sum = (): number => [...world.records.values()].reduce((total, { committed }) => total + committed.length, 0);
  const before = sum();
  world.run(ms);
  must(sum() > before, 27, `nothing is committed in ${ms} ms though a majority can talk`);
};
