import { SeededRng } from '#kernel';
import { LivenessChecker } from './checkers/liveness.js';
import { Client, ExpiringKeys } from './client.js';
import { MUTANTS, type Mutant, type MutantName } from './mutants.js';
import { Nemesis } from './nemesis.js';
import { drawSwarm, type FaultKind, type Swarm } from './swarm.js';
import { Tailer } from './tailer.js';
import { Violation, forgetViolations } from './violation.js';
import { WallTimeTrap } from './wall-time-trap.js';
import { World } from './world.js';

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
  options: { readonly mutant?: MutantName; readonly script?: Script; readonly nodes?: number } = {},
): RunResult => {
  forgetViolations();
  const root = new SeededRng(seed);
  const drawn = drawSwarm(root.fork(), options.mutant ?? null, options.nodes ?? null);
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
    for (const place of [...world.things, world.events]) tailers.push(new Tailer(world, place, root.fork()));
    nemesis = new Nemesis(world, root.fork());
    if (options.script === undefined) world.run(swarm.safetyMs);
    else options.script.play(world);
    nemesis.stop();
    new LivenessChecker(world).check(clients);
    for (const client of clients) client.end();
    world.end();
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
      installs: world?.keptSuffix.installs ?? 0,
      membershipEntries: world?.oneChange.changes ?? 0,
      barriers: world?.readIndex.answered ?? 0,
      digests: world?.equalDigests.compared ?? 0,
      restores: world?.viewIsFold.restored ?? 0,
      expiries: world?.expiry.absences ?? 0,
      evictions: world?.limited?.evicted ?? 0,
      departedWaiting: world?.departedEntries.waiting ?? 0,
      departedArchived: world?.departedEntries.archived ?? 0,
      commands:
        world === null ? 0 : [...world.references.values()].reduce((total, { types }) => total + types.commands, 0),
      tailed: tailers.reduce((total, tailer) => total + tailer.checker.batches, 0),
      registerOperations: world?.linearizability.operations.length ?? 0,
      evictedSessions: clients.reduce((total, client) => total + client.evicted, 0),
      unusable: world?.machines.filter((machine) => machine.unusable !== null).length ?? 0,
    },
    failure,
  };
};
