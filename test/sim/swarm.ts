import { randomBelow, randomChance, type Rng } from '#kernel';
import type { DiskFaults } from '../../libs/storage/src/testing/index.js';
import type { MutantName } from './mutants.js';
import { ARCHIVES } from './simulated-archive.js';

/** What one run does: drawn from the seed, so that each run has its own subset of faults and its own rates. */
export interface Swarm {
  readonly nodes: number;
  /** First voters; the other nodes join by membership changes. */
  readonly voters: number;
  /** Of `things`. */
  readonly partitions: number;
  readonly safetyMs: number;
  readonly clients: number;
  readonly thinkMs: number;
  readonly valueBytesMax: number;

  readonly network: {
    readonly lossRate: number;
    readonly duplicationRate: number;
    readonly delayMsMin: number;
    readonly delayMsMax: number;
    /** Chance that a message takes up to a second: it is overtaken by others. */
    readonly strayRate: number;
  };
  readonly disk: Readonly<Pick<DiskFaults, 'latencyMsMin' | 'latencyMsMax' | 'tearBytes'>>;
  /** Whether the logs are written past the page cache. */
  readonly directWrites: DiskFaults['directWrites'];
  /** Whether the event loop may write the logs itself. */
  readonly loopWrites: boolean;
  /** Mean time between two faults of the kind in ms; 0: none in this run. */
  readonly everyMs: { readonly [K in FaultKind]: number };

  readonly driftMax: number;
  readonly checkpointBytes: number;
  readonly segmentBytes: number;
  readonly messageBytesMax: number;
  readonly sessionsMax: number;
  readonly electionTimeoutMs: number;
  /** Linearizable reads are answered by lease. */
  readonly readLease: boolean;
  /** Of `things`. */
  readonly archive: (typeof ARCHIVES)[number];
  /** Where there is an archive, `events` has a view that may hold a few entries only. */
  readonly evictions: boolean;
}

export const FAULT_KINDS = [
  'crash',
  'crashAtOperation',
  'crashAll',
  'kill',
  'pause',
  'partition',
  'clog',
  'diskError',
  'diskStall',
  'diskFull',
  'corruption',
  'clockJump',
  'leaderClockStep',
  'secondProcess',
  'newerVersion',
  'blankDisk',
  'rudeClient',
  'membership',
  'transfer',
  'trim',
  'disconnect',
  'archiveAway',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

const between = (rng: Rng, min: number, max: number): number => min + (rng.nextU32() / 2 ** 32) * (max - min);
const oneOf = <T>(rng: Rng, values: readonly T[]): T => values[randomBelow(rng, values.length)];

export const NODES_MAX = 7;

/** `size`: of the cluster; null: that is drawn, too. */
export const drawSwarm = (rng: Rng, mutant: MutantName | null, size: number | null = null): Swarm => {
  const drawn = oneOf(rng, [1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 6, NODES_MAX]);
  const nodes = size ?? drawn;
  const sometimes = (chance: number, min: number, max: number): number =>
    randomChance(rng, chance) ? between(rng, min, max) : (rng.nextU32(), 0);
  const everyMs = {
    crash: sometimes(0.6, 2000, 15_000),
    crashAtOperation: sometimes(0.5, 2000, 15_000),
    crashAll: sometimes(0.25, 8000, 25_000),
    kill: sometimes(0.3, 3000, 15_000),
    pause: sometimes(0.4, 3000, 15_000),
    partition: sometimes(0.6, 2000, 12_000),
    clog: sometimes(0.3, 2000, 10_000),
    diskError: sometimes(0.25, 5000, 25_000),
    diskStall: sometimes(0.3, 3000, 15_000),
    diskFull: sometimes(0.15, 8000, 25_000),
    corruption: sometimes(0.25, 5000, 25_000),
    clockJump: sometimes(0.4, 2000, 15_000),
    leaderClockStep: sometimes(0.3, 1000, 8000),
    secondProcess: sometimes(0.3, 3000, 15_000),
    newerVersion: sometimes(0.2, 5000, 20_000),
    blankDisk: sometimes(0.15, 4000, 10_000),
    rudeClient: sometimes(0.4, 500, 4000),
    membership: sometimes(0.35, 2000, 12_000),
    transfer: sometimes(0.35, 2000, 12_000),
    trim: sometimes(0.5, 1000, 8000),
    disconnect: sometimes(0.3, 2000, 12_000),
    archiveAway: 0,
  };
  const slow = randomChance(rng, 0.3);
  const swarm: Swarm = {
    nodes,
    voters: randomChance(rng, 0.7) ? nodes : 1 + randomBelow(rng, nodes),
    partitions: oneOf(rng, [1, 1, 1, 1, 2, 2, 3]),
    safetyMs: between(rng, 8000, 25_000),
    clients: 2 + randomBelow(rng, 4),
    thinkMs: between(rng, 20, 300),
    valueBytesMax: oneOf(rng, [16, 64, 400, 3000]),
    network: {
      lossRate: randomChance(rng, 0.5) ? 0 : between(rng, 0, randomChance(rng, 0.2) ? 0.3 : 0.05),
      duplicationRate: randomChance(rng, 0.5) ? 0 : between(rng, 0, 0.1),
      delayMsMin: 0.1,
      delayMsMax: slow ? between(rng, 5, 60) : between(rng, 0.2, 3),
      strayRate: randomChance(rng, 0.5) ? 0 : between(rng, 0, 0.02),
    },
    disk: {
      latencyMsMin: 0.05,
      latencyMsMax: randomChance(rng, 0.3) ? between(rng, 2, 30) : between(rng, 0.1, 1),
      tearBytes: randomChance(rng, 0.5) ? 512 : 4096,
    },
    everyMs,
    driftMax: randomChance(rng, 0.5) ? 0 : between(rng, 0, 0.05),
    checkpointBytes: oneOf(rng, [4096, 16_384, 65_536]),
    segmentBytes: oneOf(rng, [4096, 8192, 65_536]),
    messageBytesMax: oneOf(rng, [2048, 16_384, 1024 * 1024]),
    sessionsMax: oneOf(rng, [4, 64, 10_000]),
    electionTimeoutMs: oneOf(rng, [500, 1000]),
    readLease: randomChance(rng, 0.4),
    directWrites: oneOf(rng, ['done', 'done', 'refused-at-open', 'refused-at-write'] as const),
    loopWrites: randomChance(rng, 0.7),
    archive: 'none',
    evictions: false,
  };
  return mutant === null ? withArchive(swarm, rng) : forMutant(swarm, mutant, rng);
};

/** An archive in two runs of three; its database goes away in most of them. */
const withArchive = (swarm: Swarm, rng: Rng): Swarm => ({
  ...swarm,
  archive: oneOf(rng, ARCHIVES),
  everyMs: { ...swarm.everyMs, archiveAway: randomChance(rng, 0.7) ? between(rng, 1000, 8000) : 0 },
  evictions: randomChance(rng, 0.5),
});

/** A defect that only a certain fault brings to light gets that fault. */
const forMutant = (swarm: Swarm, mutant: MutantName, rng: Rng): Swarm => {
  const nodes = swarm.nodes < 3 ? 3 : swarm.nodes;
  const base = { ...swarm, nodes, voters: nodes };
  const more = (...kinds: readonly FaultKind[]): Swarm => {
    const everyMs = { ...base.everyMs };
    for (const kind of kinds) if (everyMs[kind] === 0) everyMs[kind] = between(rng, 2000, 6000);
    return { ...base, everyMs };
  };
  switch (mutant) {
    case 'truncate-on-any-checksum-error':
      return { ...more('corruption', 'crash'), everyMs: { ...more('corruption', 'crash').everyMs, membership: 0 } };
    case 'retry-after-failed-sync':
      return more('diskError', 'crash');
    case 'no-directory-sync':
    case 'ack-before-sync':
      return more('crash');
    case 'sessions-left-out-of-snapshots': {
      // Many retries, checkpoints behind them, and leaders that were started since.
      const { everyMs, network, ...rest } = more('transfer');
      return {
        ...rest,
        network: { ...network, lossRate: 0.2 },
        everyMs: { ...everyMs, kill: 1200, transfer: 1200, trim: 1500 },
        checkpointBytes: 4096,
        segmentBytes: 4096,
        sessionsMax: 64,
        clients: 5,
        thinkMs: 40,
      };
    }
    case 'expiry-on-local-clock':
      return more('clockJump');
    case 'looks-back-in-the-archive-alone':
      return { ...more('archiveAway'), archive: 'shared' };
    case 'read-without-round':
      // A leader that stood still answers before it hears of its successor.
      return { ...more('pause'), everyMs: { ...base.everyMs, membership: 0, pause: between(rng, 1500, 3000) } };
    case 'promises-broken':
    case 'clocks-beyond-the-bound':
      return forLeases(base, mutant, rng);
    default:
      return more('partition', 'crash');
  }
};

/** Leaders are cut off, the others know at once, and both are asked. */
const forLeases = (base: Swarm, mutant: MutantName, rng: Rng): Swarm => ({
  ...base,
  readLease: true,
  partitions: 1,
  clients: 5,
  thinkMs: between(rng, 5, 20),
  network: { ...base.network, lossRate: 0, strayRate: 0 },
  everyMs: {
    ...(Object.fromEntries(FAULT_KINDS.map((kind) => [kind, 0])) as Swarm['everyMs']),
    disconnect: between(rng, 2000, 4000),
    // Left to themselves the fastest clocks lead, whose leases are short.
    transfer: mutant === 'clocks-beyond-the-bound' ? 1500 : 0,
  },
  driftMax: mutant === 'clocks-beyond-the-bound' ? 0.6 : 0.05,
});
