import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { TidelineClient } from '#client';
import { SeededRng } from '#kernel';
import { ChaosCluster } from './chaos-cluster.js';
import { IMPATIENT, NativeChaosClient, RestChaosClient, type ChaosClient } from './clients.js';
import { FAULTS, READY_MS_MAX } from './faults.js';
import { checkDisks, checkHistory, checkRecords, convergedViews, readAllKeys, type Findings } from './final-checks.js';
import { History } from './history.js';
import { KeyLoad } from './key-load.js';
import { Pace } from './pace.js';
import { RECORD_PARTITIONS, RECORD_TOPIC, RecordLoad, RecordTailer } from './record-load.js';
import { Schedule } from './schedule.js';
import { StallWatch } from './stall-watch.js';
import { Statistics } from './statistics.js';

const USAGE = `npm run chaos -- [--minutes M] [--seed S] [--nodes 3] [--rate OPERATIONS-PER-SECOND] [--only WORDS] [--quick] [--keep]

Runs that many operating system processes as one cluster, does bad things to them under load for M minutes (default 5), and
checks what clients saw, the logs and the views. --quick: short faults, half a minute. --only: faults whose names contain the words.
Exits 1 if anything is wrong.

Faults: ${FAULTS.map(({ kind }) => kind).join(' · ')}`;

const MINUTES_MAX = 120;
const RATE_MAX = 2000;
const NODES_MAX = 7;
/** Of all operations, the share of appended records. */
const APPENDS_SHARE = 0.35;
/** The share of reads by those who do nothing else. */
const READERS_SHARE = 0.2;
const CLIENTS_PER_GATEWAY = 2;
const READERS_PER_GATEWAY = 3;
/** With all faults gone the load goes on for a while: it must get through. */
const CALM_MS = 3000;
const MIB = 1024 * 1024;
/** Log reserve, room for data, and more for longer runs. */
const smallDiskBytes = (minutes: number): number => (320 + Math.min(700, Math.ceil(minutes * 15))) * MIB;
const FINDINGS_SHOWN = 40;

const began = performance.now();
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

const readOptions = (): ChaosOptions | string => {
  const { values } = parseArgs({
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
  const { only, quick, keep } = values;
  const minutes = Number(values.minutes ?? (quick ? 0.5 : 5));
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
  private readonly statistics = new Statistics();
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
    const native: NativeChaosClient[] = [];
    const rest: RestChaosClient[] = [];
    for (const [i, { id }] of cluster.nodes.entries()) {
      const order = [...cluster.nodes.slice(i), ...cluster.nodes.slice(0, i)];
      native.push(
        await NativeChaosClient.connect(
          `native-${id}`,
          order.map((node) => node.nativeAddress),
        ),
      );
      for (let c = 0; c < CLIENTS_PER_GATEWAY; c++) {
        const addresses = order.map(({ process }) => process.httpAddress);
        rest.push(new RestChaosClient(`rest-${id}-${c}`, addresses, this.rng.fork()));
      }
    }
    const tailer = new RecordTailer(
      await TidelineClient.connect({ addresses: cluster.nodes.map((node) => node.nativeAddress), name: 'tail' }),
    );
    const readers = cluster.nodes.flatMap(({ id, process }) =>
      Array.from(
        { length: READERS_PER_GATEWAY },
        (_, i) => new RestChaosClient(`reader-${id}-${i}`, [process.httpAddress], this.rng.fork(), IMPATIENT),
      ),
    );
    const keyClients: ChaosClient[] = [...rest, ...native.flatMap((client) => [client, client])];
    const keyLoad = new KeyLoad({
      clients: keyClients,
      readers,
      history: this.history,
      statistics: this.statistics,
      pace: new Pace(options.rate * (1 - APPENDS_SHARE - READERS_SHARE)),
      readersPace: new Pace(options.rate * READERS_SHARE),
      rng: this.rng.fork(),
    });
    const recordLoad = new RecordLoad({
      pipelined: native,
      sequential: rest.filter((_, i) => i % CLIENTS_PER_GATEWAY === 0),
      statistics: this.statistics,
      pace: new Pace(options.rate * APPENDS_SHARE),
    });
    await this.faults();
    await this.makeGood();
    say('all faults are over');
    await sleeper.sleep(CALM_MS);
    await Promise.all([keyLoad.stop(), recordLoad.stop()]);
    say('the load is over');
    try {
      await this.check({ clients: [...rest, ...native], recordLoad, tailer });
    } finally {
      await tailer.close();
      await Promise.all(native.map((client) => client.close()));
    }
    return this.verdicts.problems;
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
    readonly tailer: RecordTailer;
  }): Promise<void> {
    const { cluster, history, verdicts, statistics } = this;
    const unread = await readAllKeys(history, parts.clients);
    const views = await convergedViews(cluster);
    const records = await checkRecords(cluster, views.partitions, parts.recordLoad.producers, parts.tailer);
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
    verdicts.report('a tail saw every record once and in order', records.tail);
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
    topics: `default,${RECORD_TOPIC}:${RECORD_PARTITIONS}`,
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
  const stallWatch = new StallWatch(say);
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
