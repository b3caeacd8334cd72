import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PEER_NAMES, median, type Benchmark, type Contender, type PeerName, type Sample } from './bench.js';
import { benchmarks } from './benchmarks/index.js';

/**
 * `npm run bench` lists the benchmarks; `npm run bench -- NAME [--vs etcd|nats|bare] [--case C] [--seconds S] [--runs R] [--json]` runs one.
 * Ours and the peer run in turn, in one run of this program; what was started is stopped by its process id.
 */
interface CaseResult {
  readonly name: string;
  readonly case: string;
  readonly unit: string;
  readonly ours: Summary;
  readonly peer: Summary | null;
  /** ours / peer, pair by pair, the median; for latencies below 1 is better. */
  readonly ratio: number | null;
  readonly runs: readonly { readonly ours: Sample; readonly peer: Sample | null }[];
}

interface Summary {
  readonly description: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly cpuUs: Readonly<Record<string, number>>;
}

const summarise = (contender: Contender, samples: readonly Sample[]): Summary => {
  const values = samples.map((sample) => sample.value);
  const of = (pick: (sample: Sample) => number | undefined): number | null => {
    const picked = samples.map(pick).filter((value): value is number => value !== undefined);
    return picked.length > 0 ? median(picked) : null;
  };
  const cpu: Record<string, number> = {};
  for (const process of Object.keys(samples[0]?.cpuUs ?? {}))
    cpu[process] = of((sample) => sample.cpuUs?.[process]) ?? 0;
  return {
    description: contender.description,
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    p50Ms: of((sample) => sample.p50Ms),
    p99Ms: of((sample) => sample.p99Ms),
    cpuUs: cpu,
  };
};

const WARM_UP_SECONDS = 3;

const runCase = async (
  benchmark: Benchmark,
  which: string,
  options: { vs: PeerName | null; seconds: number; runs: number },
): Promise<CaseResult> => {
  const directory = mkdtempSync(join(tmpdir(), 'tideline-bench-'));
  const settings = { seconds: options.seconds, directory };
  const started: Contender[] = [];
  try {
    const ours = await benchmark.ours(settings, which);
    started.push(ours);
    let peer: Contender | null = null;
    if (options.vs) {
      if (!benchmark.peers.includes(options.vs) || !benchmark.peer)
        throw new Error(`${benchmark.name} is not measured against ${options.vs}`);
      peer = await benchmark.peer(settings, which, options.vs);
      if (!peer) console.error(`${options.vs} is not installed here: measured without it`);
      else started.push(peer);
    }
    const warmUp = Math.min(WARM_UP_SECONDS, options.seconds);
    for (const contender of started) await (contender.warmUp?.(warmUp) ?? contender.run(warmUp));
    const runs: { ours: Sample; peer: Sample | null }[] = [];
    for (let i = 0; i < options.runs; i++)
      runs.push({ ours: await ours.run(options.seconds), peer: peer ? await peer.run(options.seconds) : null });
    return {
      name: benchmark.name,
      case: which,
      unit: benchmark.unit,
      ours: summarise(
        ours,
        runs.map((run) => run.ours),
      ),
      peer: peer
        ? summarise(
            peer,
            runs.map((run) => run.peer!),
          )
        : null,
      ratio: peer ? median(runs.map((run) => run.ours.value / run.peer!.value)) : null,
      runs,
    };
  } finally {
    for (const contender of started) await contender.stop();
    rmSync(directory, { recursive: true, force: true });
  }
};

const figure = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);

const line = (label: string, summary: Summary, unit: string): string => {
  const latency =
    summary.p50Ms === null ? '' : `  p50 ${figure(summary.p50Ms)} ms  p99 ${figure(summary.p99Ms ?? Number.NaN)} ms`;
  const cpu = Object.entries(summary.cpuUs).map(([process, us]) => `${process} ${us.toFixed(1)}`);
  return `  ${label.padEnd(40)} ${figure(summary.median).padStart(12)} ${unit}  (${figure(summary.min)} … ${figure(summary.max)})${latency}${cpu.length > 0 ? `  CPU µs/op: ${cpu.join(', ')}` : ''}`;
};

const print = (result: CaseResult): void => {
  console.log(`${result.name}${result.case ? ` ${result.case}` : ''}`);
  console.log(line(result.ours.description, result.ours, result.unit));
  if (result.peer) console.log(line(result.peer.description, result.peer, result.unit));
  if (result.ratio !== null)
    console.log(`  ratio ours / peer, median of ${result.runs.length} pairs: ${result.ratio.toFixed(2)}`);
};

const list = (): void => {
  console.log('npm run bench -- NAME|all [--vs etcd|nats|bare] [--case CASE] [--seconds 5] [--runs 3] [--json]\n');
  for (const benchmark of benchmarks) {
    console.log(`  ${benchmark.name.padEnd(16)} ${benchmark.summary}`);
    const details = [
      benchmark.cases.length > 1 ? `cases: ${benchmark.cases.join(', ')}` : '',
      benchmark.peers.length > 0 ? `peers: ${benchmark.peers.join(', ')}` : '',
    ].filter(Boolean);
    if (details.length > 0) console.log(`  ${''.padEnd(16)} ${details.join(' · ')}`);
  }
};

const main = async (): Promise<number> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      vs: { type: 'string' },
      case: { type: 'string' },
      seconds: { type: 'string', default: '5' },
      runs: { type: 'string', default: '3' },
      json: { type: 'boolean', default: false },
    },
  });
  if (positionals.length === 0) {
    list();
    return 0;
  }
  const seconds = Number(values.seconds);
  const runs = Number(values.runs);
  if (!(seconds > 0 && seconds <= 600) || !(Number.isInteger(runs) && runs >= 1 && runs <= 100)) {
    console.error('--seconds takes 0 … 600, --runs 1 … 100');
    return 2;
  }
  if (values.vs !== undefined && !PEER_NAMES.some((peer) => peer === values.vs)) {
    console.error(`--vs ${values.vs}: one of ${PEER_NAMES.join(', ')}`);
    return 2;
  }
  const chosen = positionals.includes('all')
    ? benchmarks
    : benchmarks.filter((benchmark) => positionals.includes(benchmark.name));
  const strange = positionals.find(
    (name) => name !== 'all' && !benchmarks.some((benchmark) => benchmark.name === name),
  );
  if (strange !== undefined) {
    console.error(
      `${strange}: no such benchmark; there are ${benchmarks.map((benchmark) => benchmark.name).join(', ')}`,
    );
    return 2;
  }
  const results: CaseResult[] = [];
  for (const benchmark of chosen) {
    const cases =
      values.case === undefined ? benchmark.cases : benchmark.cases.filter((which) => which === values.case);
    if (cases.length === 0) {
      console.error(`${benchmark.name} has no case ${String(values.case)}; there are ${benchmark.cases.join(', ')}`);
      return 2;
    }
    const vs = (values.vs as PeerName | undefined) ?? null;
    for (const which of cases) {
      const usable = vs && benchmark.peers.includes(vs) ? vs : null;
      if (vs && !usable && chosen.length === 1) console.error(`${benchmark.name} is not measured against ${vs}`);
      const result = await runCase(benchmark, which, { vs: usable, seconds, runs });
      results.push(result);
      if (!values.json) print(result);
    }
  }
  if (values.json) {
    const machine = {
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 1024 ** 3),
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
    };
    const flat = results.map(({ name, case: which, unit, ours, peer, ratio, runs: samples }) => ({
      name,
      case: which,
      unit,
      ours,
      peer,
      ratio,
      runs: samples,
    }));
    console.log(
      JSON.stringify(
        flat.length === 1 ? { ...flat[0], machine, seconds } : { machine, seconds, results: flat },
        null,
        2,
      ),
    );
  }
  return 0;
};

process.exitCode = await main();
