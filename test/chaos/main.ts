import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { TidelineClient } from '#client';
import { SeededRng } from '#kernel';
import { AwakeClock } from './awake-clock.js';
import { ChaosCluster } from './chaos-cluster.js';
import type { ChaosClient } from './chaos-client.js';
import { CommandLoad, checkCommands } from './command-load.js';
import { EventTail } from './event-tail.js';
import { FAULTS, READY_MS_MAX } from './faults.js';
import {
  checkDisks,
  checkHistory,
  checkRecords,
  convergedViews,
  leasesOf,
  readAllKeys,
  type Findings,
} from './final-checks.js';
import { History } from './history.js';
import { KeyLoad } from './key-load.js';
import { checkArchives, checkLeaseWrites, checkLooks } from './lease-checks.js';
import { LEASE_TOPIC, LeaseLoad } from './lease-load.js';
import { NativeChaosClient } from './native-client.js';
import { NestChaosClient } from './nest-client.js';
import { Pace } from './pace.js';
import { IMPATIENT } from './persistence.js';
import { NativeTail, RECORD_PARTITIONS, RECORD_TOPIC, RecordLoad, type TopicReader } from './record-load.js';
import { RestChaosClient } from './rest-client.js';
import { Schedule } from './schedule.js';
import { StallWatch } from './stall-watch.js';
import { Statistics } from './statistics.js';

const USAGE = `npm run chaos -- [--minutes M] [--seed S] [--nodes 3] [--rate OPERATIONS-PER-SECOND] [--only WORDS] [--quick] [--keep]

Runs that many operating system processes as one cluster, does bad things to them under load for M minutes (default 5), and
checks what clients saw, the logs and the views. --quick: short faults, one minute. --only: faults whose names contain the words.
Exits 1 if anything is wrong.

Faults: ${FAULTS.map(({ kind }) => kind).join(' · ')}`;

const MINUTES_MAX = 120;
const RATE_MAX = 2000;
const NODES_MAX = 7;
/** Of all operations, the share of appended records. */
const APPENDS_SHARE = 0.3;
/** The share of reads by those who do nothing else. */
const READERS_SHARE = 0.2;
/** The share of commands of data types. */
const COMMANDS_SHARE = 0.1;
/** The share of leases written; each is looked at several times besides. */
const LEASES_SHARE = 0.03;
const CLIENTS_PER_GATEWAY = 2;
const READERS_PER_GATEWAY = 3;
/** With all faults gone the load goes on for a while: it must get through. */
const CALM_MS = 3000;
const MIB = 1024 * 1024;
/** Log reserve, room for data, and more for longer runs. */
const smallDiskBytes = (minutes: number): number => (320 + Math.min(700, Math.ceil(minutes * 15))) * MIB;
const FINDINGS_SHOWN = 40;

const began = performance.now();
const clock = new AwakeClock();
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const say = (text: string): void =>
  console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} ${text}`);

interface ChaosOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly nodes: number;
  readonly rate: number;
  readonly only: string;
  readonly quick: boolean;
  readonly keep: boolean;
}

const parseOptions = () =>
  parseArgs({
    options: {
      minutes: { type: 'string' },
      seed: { type: 'string' },
      nodes: { type: 'string', default: '3' },
      rate: { type: 'string', default: '400' },
      only: { type: 'string', default: '' },
      quick: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
    },
  });

const readOptions = (): ChaosOptions | string => {
  let parsed: ReturnType<typeof parseOptions>;
  try {
    parsed = parseOptions();
  } catch (error) {
    return (error as Error).message;
  }
  const { values } = parsed;
  const { only, quick, keep } = values;
  const minutes = Number(values.minutes ?? (quick ? 1 : 5));
  const seed = values.seed === undefined ? randomInt(2 ** 32) : Number(values.seed);
  const nodes = Number(values.nodes);
  const rate = Number(values.rate);
  if (!(minutes > 0 && minutes <= MINUTES_MAX)) return `--minutes is more than 0 and at most ${MINUTES_MAX}`;
  if (!Number.isInteger(seed) || seed < 0) return '--seed is a whole number';
  if (!(Number.isInteger(nodes) && nodes >= 3 && nodes <= NODES_MAX)) return `--nodes is 3 to ${NODES_MAX}`;
  if (!(rate >= 1 && rate <= RATE_MAX)) return `--rate is 1 to ${RATE_MAX}`;
  if (!FAULTS.some(({ kind }) => kind.includes(only))) return `--only ${only}: no fault is called so`;
  return { minutes, seed, nodes, rate, only, quick, keep };
};

/** What was found wrong. */
class Verdicts {
  problems = 0;

  report(what: string, findings: Findings): void {
    this.problems += findings.length > 0 ? 1 : 0;
    console.log(`${findings.length === 0 ? 'ok  ' : 'FAIL'} ${what}`);
    for (const finding of findings.slice(0, FINDINGS_SHOWN)) console.log(`       ${finding}`);
    if (findings.length > FINDINGS_SHOWN) console.log(`       … and ${findings.length - FINDINGS_SHOWN} more`);
  }
}

const counts = (map: ReadonlyMap<string, number>): string =>
  [...map]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, n]) => `${name} ${n}`)
    .join(' · ') || 'none';

const durations = (map: ReadonlyMap<string, number>): string =>
  [...map]
    .sort(([, a], [, b]) => b - a)
    .map(([name, ms]) => `${name} ${seconds(ms)}`)
    .join(' · ') || 'none';

/** Pauses that end at once when the run is being stopped. */
class Sleeper {
  private readonly wakers = new Set<() => void>();
  stopped = false;

  readonly sleep = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      if (this.stopped) {
        resolve();
        return;
      }
      const wake = (): void => {
        clearTimeout(timer);
        this.wakers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.wakers.add(wake);
    });

  stop(): void {
    this.stopped = true;
    for (const wake of this.wakers) wake();
  }
}

class ChaosRun {
  private readonly during: string[] = [];
  private readonly verdicts = new Verdicts();
  private readonly history = new History();
  private readonly rng: SeededRng;
  private readonly statistics = new Statistics(clock, say);
  private schedule: Schedule | null = null;

  constructor(
    private readonly options: ChaosOptions,
    private readonly cluster: ChaosCluster,
    private readonly sleeper: Sleeper,
  ) {
    this.rng = new SeededRng(options.seed);
  }

  readonly problem = (text: string): void => {
    say(`PROBLEM ${text}`);
    this.during.push(text);
  };

  /** Number of things wrong. */
  async run(): Promise<number> {
    const { cluster, options, sleeper } = this;
    for (const { process } of cluster.nodes) process.start();
    await cluster.ready(READY_MS_MAX);
    say(`ready: ${cluster.nodes.map(({ name, process }) => `${name} pid ${process.pid}`).join(', ')}`);
    const { native, rest, nest } = await this.connect();
    const clients: ChaosClient[] = [...rest, ...nest, ...native];
    const tails = [
      new NativeTail(
        await TidelineClient.connect({ addresses: cluster.nodes.map((node) => node.nativeAddress), name: 'tail' }),
      ),
      new EventTail(
        cluster.nodes.map(({ process }) => process.httpAddress),
        this.rng.fork(),
      ),
    ];
    const readers = cluster.nodes.flatMap(({ id, process }) =>
      Array.from(
        { length: READERS_PER_GATEWAY },
        (_, i) => new RestChaosClient(`reader-${id}-${i}`, [process.httpAddress], this.rng.fork(), IMPATIENT),
      ),
    );
    const { statistics, rng } = this;
    const pace = (share: number): Pace => new Pace(options.rate * share);
    const keyLoad = new KeyLoad({
      clients: [...rest, ...nest, ...native, ...native],
      readers,
      history: this.history,
      statistics,
      pace: pace(1 - APPENDS_SHARE - READERS_SHARE - COMMANDS_SHARE - LEASES_SHARE),
      readersPace: pace(READERS_SHARE),
      rng: rng.fork(),
    });
    const sequential = [...rest.filter((_, i) => i % CLIENTS_PER_GATEWAY === 0), ...nest];
    const recordLoad = new RecordLoad({ pipelined: native, sequential, statistics, pace: pace(APPENDS_SHARE) });
    const commandLoad = new CommandLoad({ clients, statistics, pace: pace(COMMANDS_SHARE), rng: rng.fork() });
    const leaseLoad = new LeaseLoad({
      writers: clients,
      readers,
      statistics,
      pace: pace(LEASES_SHARE),
      rng: rng.fork(),
    });
    await this.faults();
    await this.makeGood();
    say('all faults are over');
    await sleeper.sleep(CALM_MS);
    await Promise.all([keyLoad.stop(), recordLoad.stop(), commandLoad.stop(), leaseLoad.stop()]);
    say('the load is over');
    try {
      await this.check({ clients, recordLoad, commandLoad, leaseLoad, tails });
    } finally {
      await Promise.all([...tails, ...clients].map((each) => each.close()));
    }
    return this.verdicts.problems;
  }

  /** Clients of each gateway by each protocol; each knows all gateways and asks another one first. */
  private async connect(): Promise<{
    readonly native: readonly NativeChaosClient[];
    readonly rest: readonly RestChaosClient[];
    readonly nest: readonly NestChaosClient[];
  }> {
    const { nodes } = this.cluster;
    const native: NativeChaosClient[] = [];
    const rest: RestChaosClient[] = [];
    const nest: NestChaosClient[] = [];
    for (const [i, { id }] of nodes.entries()) {
      const order = [...nodes.slice(i), ...nodes.slice(0, i)];
      const addresses = order.map(({ process }) => process.httpAddress);
      const nativeAddresses = order.map(({ nativeAddress }) => nativeAddress);
      native.push(await NativeChaosClient.connect(`native-${id}`, nativeAddresses));
      for (let c = 0; c < CLIENTS_PER_GATEWAY; c++)
        rest.push(new RestChaosClient(`rest-${id}-${c}`, addresses, this.rng.fork()));
      const ports = order.map((node) => node.nestPort);
      nest.push(new NestChaosClient(`nest-${id}`, ports, this.rng.fork()));
    }
    return { native, rest, nest };
  }

  private async faults(): Promise<void> {
    const { cluster, options, sleeper } = this;
    const faults = FAULTS.filter(
      ({ kind, needsSmallDisk }) => kind.includes(options.only) && (!needsSmallDisk || cluster.smallDiskRefusal === ''),
    );
    if (cluster.smallDiskRefusal !== '') say(`faults of a full disk are left out: ${cluster.smallDiskRefusal}`);
    if (cluster.advertisedRefusal !== '')
      say(`log service and native port are reached without proxies: ${cluster.advertisedRefusal}`);
    this.schedule = new Schedule(faults, {
      cluster,
      rng: this.rng.fork(),
      statistics: this.statistics,
      quick: options.quick,
      sleep: sleeper.sleep,
      say,
      problem: this.problem,
    });
    const until = performance.now() + options.minutes * 60_000;
    await sleeper.sleep(options.quick ? 1500 : 3000);
    await this.schedule.run(() => !sleeper.stopped && performance.now() < until);
  }

  /** Whatever the faults left behind. */
  private async makeGood(): Promise<void> {
    const { cluster } = this;
    cluster.network.heal();
    for (const { process, disk } of cluster.nodes) {
      disk?.empty();
      process.kill('SIGCONT');
      if (!process.running) process.start();
    }
    await cluster.ready(READY_MS_MAX);
  }

  private async check(parts: {
    readonly clients: readonly ChaosClient[];
    readonly recordLoad: RecordLoad;
    readonly commandLoad: CommandLoad;
    readonly leaseLoad: LeaseLoad;
    readonly tails: readonly TopicReader[];
  }): Promise<void> {
    const { cluster, history, verdicts, statistics } = this;
    const { clients, commandLoad, leaseLoad } = parts;
    const unread = await readAllKeys(history, clients);
    const commands = await checkCommands(commandLoad, clients[0]);
    const views = await convergedViews(cluster);
    const records = await checkRecords(cluster, views.partitions, parts.recordLoad.producers, parts.tails);
    const leases = await leasesOf(cluster, views.partitions);
    const archives = await checkArchives(cluster, leases);
    const groups = await this.groups(views.partitions);
    await cluster.stop();
    const disks = await checkDisks(cluster, groups);
    console.log(`
operations  ${counts(statistics.outcomes)}
errors      ${counts(statistics.codes)}
faults      ${counts(this.schedule!.done)}
longest time without an acknowledged write: ${seconds(statistics.longestPauseMs)}
by faults   ${durations(statistics.pauses)}
`);
    verdicts.report('nothing unexpected while it ran', this.during);
    verdicts.report(`${history.operations} operations on ${history.keys.length} keys are linearizable`, [
      ...unread,
      ...checkHistory(history),
    ]);
    const { producers } = parts.recordLoad;
    const sent = producers.reduce((sum, { fates }) => sum + fates.length, 0);
    verdicts.report(
      `${sent} records appended by ${producers.length} producers, ${records.records} in the log: acknowledged ones once and in order, refused ones not`,
      records.producers,
    );
    for (const [i, { name }] of parts.tails.entries())
      verdicts.report(`${name} saw every record once and in order`, records.tails[i]);
    verdicts.report(
      `${commandLoad.counted.length} increments and ${commandLoad.pushed.length} pushes took effect once, ${commandLoad.repeated} were sent again and had the same result`,
      commands,
    );
    verdicts.report(`${leases.length} leases: ${leaseLoad.looks.length} looks at them agree with log and log time`, [
      ...checkLeaseWrites(leases, leaseLoad.writes),
      ...checkLooks(leases, leaseLoad.writes, leaseLoad.looks),
    ]);
    verdicts.report('the archive of every node holds what expired, once', archives);
    verdicts.report('every node reads the same records', records.logs);
    verdicts.report(`views of all nodes have the same digests at the same offsets`, views.findings);
    verdicts.report(`the logs of ${disks.groups} groups are the same on all disks, byte by byte`, disks.logs);
    verdicts.report('the offline check finds no damage on any disk', disks.verify);
  }

  /** The Raft groups of what has converged, for reading their logs on disk. */
  private async groups(
    converged: readonly { readonly view: string; readonly partition: number; readonly offset: number }[],
  ): Promise<{ group: number; offset: number }[]> {
    interface Described {
      readonly topics: readonly { readonly name: string; readonly partitions: readonly { readonly group: number }[] }[];
    }
    const { topics } = await this.cluster.nodes[0].getJson<Described>('/v1/cluster');
    return converged.flatMap(({ view, partition, offset }) => {
      const group = topics.find(({ name }) => name === view)?.partitions[partition]?.group;
      return group === undefined ? [] : [{ group, offset }];
    });
  }
}

const againWith = ({ minutes, seed, nodes, rate, only, quick }: ChaosOptions): string =>
  `npm run chaos -- --minutes ${minutes} --seed ${seed} --nodes ${nodes} --rate ${rate}` +
  `${only === '' ? '' : ` --only '${only}'`}${quick ? ' --quick' : ''}`;

const main = async (): Promise<number> => {
  const options = readOptions();
  if (typeof options === 'string') {
    console.error(`${options}\n\n${USAGE}`);
    return 2;
  }
  const { minutes, seed, nodes } = options;
  const again = againWith(options);
  const directory = mkdtempSync(join(tmpdir(), 'tideline-chaos-'));
  say(`seed ${seed}, ${nodes} nodes, ${minutes} minutes, data in ${directory}`);
  const sleeper = new Sleeper();
  let interrupted = false;
  let run: ChaosRun | null = null;
  const cluster = await ChaosCluster.create({
    nodes,
    directory,
    topics: `default,${RECORD_TOPIC}:${RECORD_PARTITIONS},${LEASE_TOPIC}:1+archive`,
    smallDiskBytes: smallDiskBytes(minutes),
    onUnexpectedExit: (node, why) =>
      run?.problem(`${node.name} ended by itself: ${why}; see ${directory}/${node.name}.log`),
  });
  process.once('exit', () => cluster.killNow());
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (interrupted) process.exit(130);
      interrupted = true;
      say(`${signal}: stopping; once more to stop at once`);
      sleeper.stop();
    });
  }
  const stallWatch = new StallWatch(clock, say);
  let problems = 1;
  try {
    run = new ChaosRun(options, cluster, sleeper);
    problems = await run.run();
  } catch (error) {
    console.error(error);
  } finally {
    stallWatch.close();
    await cluster.stop('SIGKILL');
    const keep = problems > 0 || options.keep;
    cluster.unmount({ keep });
    if (!keep) rmSync(directory, { recursive: true, force: true });
    else console.log(`data and logs are kept in ${directory}`);
  }
  const took = seconds(performance.now() - began);
  if (problems === 0) console.log(`\nchaos passed in ${took}, seed ${seed}`);
  else console.log(`\nchaos FAILED after ${took}, seed ${seed}; the same faults again: ${again}`);
  return problems > 0 ? 1 : interrupted ? 130 : 0;
};

process.exitCode = await main();
