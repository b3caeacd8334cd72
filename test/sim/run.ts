import { SeededRng } from '#kernel';
import { Client, ExpiringKeys } from './client.js';
import { EVENTS, THINGS } from './machine.js';
import { MUTANTS, type Mutant, type MutantName } from './mutants.js';
import { Nemesis } from './nemesis.js';
import { drawSwarm, type FaultKind, type Swarm } from './swarm.js';
import { Tailer } from './tailer.js';
import { Violation, forgetViolations, must } from './violation.js';
import { WallTimeTrap } from './wall-time-trap.js';
import { World } from './world.js';

/** Once a majority can talk, clients are served again within this time, and everything has converged within twice that. */
const LIVENESS_MS = 30_000;
const NOTES_SHOWN = 60;

export interface RunResult {
  readonly seed: number;
  readonly hash: string;
  readonly events: number;
  readonly simulatedMs: number;
  readonly operations: number;
  readonly commits: number;
  readonly faults: { readonly [K in FaultKind]?: number };
  readonly coverage: { readonly [what: string]: number };
  readonly failure: { readonly invariant: number; readonly message: string; readonly last: readonly string[] } | null;
}

/** What a run does besides what the swarm draws; scenarios bring their own. */
export interface Script {
  swarm(swarm: Swarm): Swarm;
  /** Instead of the nemesis: the safety phase. */
  play(world: World): void;
}

/** One seed, from the first start of the nodes to the last comparison. Synchronous; must not be called within a promise reaction. */
export const runSeed = (
  seed: number,
  options: { readonly mutant?: MutantName; readonly script?: Script } = {},
): RunResult => {
  forgetViolations();
  const root = new SeededRng(seed);
  const drawn = drawSwarm(root.fork(), options.mutant ?? null);
  const swarm = options.script?.swarm(drawn) ?? drawn;
  const mutant: Mutant = options.mutant === undefined ? {} : MUTANTS[options.mutant];
  let world: World | null = null;
  let nemesis: Nemesis | null = null;
  const clients: Client[] = [];
  const tailers: Tailer[] = [];
  let failure: RunResult['failure'] = null;
  const trap = new WallTimeTrap((task) => world?.queue.defer(task));
  try {
    world = new World(swarm, mutant, root.fork());
    const expiring = new ExpiringKeys();
    for (let i = 0; i < swarm.clients; i++) clients.push(new Client(world, i + 1, root.fork(), expiring));
    tailers.push(new Tailer(world, 1, THINGS, root.fork()), new Tailer(world, 2, EVENTS, root.fork()));
    nemesis = new Nemesis(world, root.fork());
    if (options.script === undefined) world.run(swarm.safetyMs);
    else options.script.play(world);
    nemesis.stop();
    converge(world, clients);
    for (const client of clients) client.end();
    world.histories.end();
    world.exactlyOnce.end();
  } catch (error) {
    failure = {
      invariant: error instanceof Violation ? error.invariant : 0,
      message: error instanceof Violation ? error.message : ((error as Error).stack ?? String(error)),
      last: world?.trace.last(NOTES_SHOWN) ?? [],
    };
  } finally {
    trap.release();
  }
  const sum = (pick: (record: NonNullable<ReturnType<World['record']>>) => number): number =>
    world === null ? 0 : [...world.records.values()].reduce((total, record) => total + pick(record), 0);
  return {
    seed,
    hash: world?.trace.hash ?? '',
    events: world?.queue.events ?? 0,
    simulatedMs: world?.queue.now ?? 0,
    operations: clients.reduce((total, client) => total + client.completed, 0),
    commits: sum((record) => record.committed.length),
    faults: nemesis?.done ?? {},
    coverage: {
      installs: world?.snapshots.installs ?? 0,
      membershipEntries: world?.configurations.changes ?? 0,
      barriers: world?.readIndex.answered ?? 0,
      digests: world?.views.compared ?? 0,
      restores: world?.views.restored ?? 0,
      expiries: world?.expiry.absences ?? 0,
      tailed: tailers.reduce((total, tailer) => total + tailer.checker.batches, 0),
      registerOperations: world?.histories.operations.length ?? 0,
      unusable: world?.machines.filter((machine) => machine.unusable !== null).length ?? 0,
    },
    failure,
  };
};

/** 27: with a majority that can talk, every client is served and all replicas and views come to the same end. */
const converge = (world: World, clients: readonly Client[]): void => {
  const usable = world.machines.filter((machine) => machine.unusable === null);
  const groups = [THINGS.group, EVENTS.group];
  // A gateway on a node that is no member reads from members it has heard of once: see docs/correctness.md, limits.
  const { swarm } = world;
  const everybodyHosts = swarm.voters === swarm.nodes && swarm.everyMs.membership === 0;
  const count = (client: Client): number => (everybodyHosts ? client.served : client.completed);
  const before = clients.map(count);
  const ok = world.runUntil(() => clients.every((client, i) => count(client) > before[i] + 1), LIVENESS_MS);
  must(ok, 27, () => `not every client is served ${LIVENESS_MS} ms after the last fault\n${describe(world)}`);
  for (const client of clients) client.stop();
  world.run(6000);
  const converged = (): boolean =>
    groups.every((id) => {
      const leader = world.leader(id)?.group(id);
      if (leader === undefined) return false;
      const end = leader.status().lastOffset;
      const { voters, outgoing, learners } = leader.configuration;
      if (leader.readableOffset !== end || outgoing.length > 0) return false;
      const members = [...voters, ...learners];
      return usable.every((machine) => !members.includes(machine.id) || machine.group(id)?.readableOffset === end);
    }) &&
    (!everybodyHosts ||
      usable.every((machine) => viewOffset(world, machine.id) === world.record(THINGS.group).commitMax));
  must(world.runUntil(converged, LIVENESS_MS), 27, () => `no convergence within ${LIVENESS_MS} ms\n${describe(world)}`);
  for (const machine of usable) {
    void machine.views
      ?.scan({
        view: THINGS.topic,
        partition: 0,
        prefix: Buffer.alloc(0),
        after: null,
        limit: 1_000_000,
        bytesMax: Number.MAX_SAFE_INTEGER,
        values: true,
        at: { offset: 0 as never, time: null },
        timeoutMs: 1000,
      })
      .then(({ entries, position }) => {
        if (position.offset === world.views.offset) world.views.entries(machine.id, entries);
      });
    world.queue.settle();
  }
  world.run(1);
};

const viewOffset = (world: World, node: number): number =>
  world.machine(node)?.views?.partitionStats()[0]?.offset ?? -1;

const describe = (world: World): string =>
  world.machines
    .flatMap((machine) => [
      `  node ${machine.id} ${machine.isUp ? 'up' : (machine.unusable ?? 'down')}, view at ${viewOffset(world, machine.id)}`,
      ...machine.replicas.map(({ group }) => {
        const status = group.status();
        return `    group ${group.id}: ${status.role} term ${status.term} leader ${status.leader} log ${status.logStartOffset}…${status.lastOffset} durable ${status.durableOffset} commit ${status.commitOffset} voters ${status.configuration.voters.join(' ')} / ${status.configuration.outgoing.join(' ')} / ${status.configuration.learners.join(' ')}${status.damaged ? ' damaged' : ''}`;
      }),
    ])
    .join('\n');
