import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { PEER_NAMES, type Benchmark, type Contender, type PeerName, type Sample } from './bench.js';
import { benchmarks } from './benchmarks/index.js';
import { machine } from './machine.js';
import { jsonOf, resultOf, tableOf, type CaseResult } from './result.js';

/**
 * `npm run bench` lists the benchmarks; `npm run bench -- NAME [--vs etcd|nats|bare] [--case C | --first] [--seconds S] [--runs R] [--json]
 * [--profile DIR]` runs one, or several, or `all`. Ours and the peer run in turn, in one run of this program; what was started is stopped by its
 * process id, also when the program is interrupted.
 *
 * Everybody is warmed up for as long, ours and the peer: V8 compiles what is hot in the first 15 to 20 s (ours, the bare loop, every client), and
 * the first run would measure that.
 */
const WARM_UP_SECONDS = 15;
/** Runs below this many seconds are to see that a benchmark works, not to measure: they warm up no longer than they run. */
const MEASURING_SECONDS_MIN = 3;

/** Servers that are started meanwhile write profiles. */
const profiled = async <T>(directory: string | null, start: () => Promise<T>): Promise<T> => {
  if (directory === null) return start();
  const profiler = new URL('profiler.js', import.meta.url).href;
  const { NODE_OPTIONS } = process.env;
  process.env['BENCH_PROFILE_DIR'] = resolve(directory);
  process.env['NODE_OPTIONS'] = `${NODE_OPTIONS ?? ''} --import=${profiler}`;
  try {
    return await start();
  } finally {
    process.env['NODE_OPTIONS'] = NODE_OPTIONS ?? '';
  }
};

const runCase = async (
  benchmark: Benchmark,
  which: string,
  options: { vs: PeerName | null; seconds: number; runs: number; profileTo: string | null },
): Promise<CaseResult> => {
  const directory = mkdtempSync(join(tmpdir(), 'tideline-bench-'));
  const settings = { seconds: options.seconds, directory };
  const started: Contender[] = [];
  const stop = async (): Promise<void> => {
    for (const contender of started.splice(0)) await contender.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  stopNow = stop;
  try {
    const ours = await profiled(options.profileTo, () => benchmark.ours(settings, which));
    started.push(ours);
    let peer: Contender | null = null;
    if (options.vs) {
      if (!benchmark.peers.includes(options.vs) || !benchmark.peer)
        throw new Error(`${benchmark.name} is not measured against ${options.vs}`);
      peer = await benchmark.peer(settings, which, options.vs);
      if (peer) started.push(peer);
      else
        console.error(
          `${options.vs} is not installed here or does not do this: ${benchmark.name} ${which} is measured without it`,
        );
    }
    const warmUp = options.seconds < MEASURING_SECONDS_MIN ? options.seconds : WARM_UP_SECONDS;
    for (const contender of started) await (contender.warmUp?.(warmUp) ?? contender.run(warmUp));
    const runs: { ours: Sample; peer: Sample | null }[] = [];
    for (let i = 0; i < options.runs; i++)
      runs.push({ ours: await ours.run(options.seconds), peer: peer ? await peer.run(options.seconds) : null });
    return resultOf(benchmark, which, { ours, peer, peerName: options.vs }, runs);
  } finally {
    await stop();
  }
};

let stopNow: () => Promise<void> = () => Promise.resolve();

const INTERRUPTED = 130;

const interrupted = (): void => {
  void stopNow().finally(() => process.exit(INTERRUPTED));
};

const list = (): void => {
  console.log(
    'npm run bench -- NAME|all [--vs etcd|nats|bare] [--case CASE | --first] [--seconds 5] [--runs 3] [--json] [--profile DIR]\n',
  );
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
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      vs: { type: 'string' },
      case: { type: 'string' },
      seconds: { type: 'string', default: '5' },
      runs: { type: 'string', default: '3' },
      json: { type: 'boolean', default: false },
      first: { type: 'boolean', default: false },
      profile: { type: 'string' },
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
    const cases = benchmark.cases.filter((which, i) =>
      values.case === undefined ? i === 0 || !values.first : which === values.case,
    );
    if (cases.length === 0) {
      console.error(`${benchmark.name} has no case ${String(values.case)}; there are ${benchmark.cases.join(', ')}`);
      return 2;
    }
    const vs = (values.vs as PeerName | undefined) ?? null;
    for (const which of cases) {
      const usable = vs && benchmark.peers.includes(vs) ? vs : null;
      if (vs && !usable && chosen.length === 1) console.error(`${benchmark.name} is not measured against ${vs}`);
      const result = await runCase(benchmark, which, {
        vs: usable,
        seconds,
        runs,
        profileTo: values.profile ?? null,
      });
      results.push(result);
      if (!values.json) console.log(tableOf(result));
    }
  }
  if (values.json) console.log(jsonOf(results, { machine: machine(), seconds, at: new Date().toISOString() }));
  return 0;
};

const failed = (error: unknown): number => {
  const wrongOption = String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS');
  console.error(wrongOption ? (error as Error).message : error);
  return wrongOption ? 2 : 1;
};

process.exitCode = await main().catch(failed);
