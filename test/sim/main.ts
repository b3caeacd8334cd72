/**
 * The simulator: whole clusters, clients and faults in one process and in virtual time. See docs/correctness.md.
 *
 *     npm run sim -- --seeds 300 [--from 1] [--minutes 10]    many seeds
 *     npm run sim -- --seed 42                                 one, exactly as it was
 *     npm run sim -- --seeds 200 --mutant ack-before-sync      with a defect: it must be found
 *     npm run sim -- --scenario part-kill [--seeds 10]         a scenario
 *     npm run sim -- --seeds 300 --nodes 3                     clusters of that size only
 */
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { differenceOfTraces } from './checkers/same-trace.js';
import { MUTANTS, isMutantName } from './mutants.js';
import { runSeed, type RunResult } from './run.js';
import { SCENARIOS, isScenarioName } from './scenarios/index.js';
import { NODES_MAX } from './swarm.js';

/** Every so many seeds one is run again: it must do the same (28). */
const TWICE_EVERY = 50;

const { values: options } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    from: { type: 'string' },
    minutes: { type: 'string' },
    mutant: { type: 'string' },
    scenario: { type: 'string' },
    nodes: { type: 'string' },
    quiet: { type: 'boolean', default: false },
    /** Go on after a failure; the exit code still says that there was one. */
    'keep-going': { type: 'boolean', default: false },
  },
});

const refuse = (message: string): never => {
  process.stderr.write(`${message}\n`);
  process.exit(2);
};

const whole = (name: 'seed' | 'seeds' | 'from' | 'minutes' | 'nodes'): number | null => {
  const text = options[name];
  if (text === undefined) return null;
  return /^\d{1,10}$/.test(text) ? Number(text) : refuse(`--${name} is a whole number`);
};

const { mutant, scenario } = options;
const nodes = whole('nodes');
if (nodes !== null && (nodes < 1 || nodes > NODES_MAX)) refuse(`--nodes is 1 to ${NODES_MAX}`);
if (mutant !== undefined && !isMutantName(mutant)) refuse(`mutants: ${Object.keys(MUTANTS).join(', ')}`);
if (scenario !== undefined && !isScenarioName(scenario)) refuse(`scenarios: ${Object.keys(SCENARIOS).join(', ')}`);

const commit = (): string => {
  try {
    const head = execFileSync('git', ['rev-parse', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
    const dirty = execFileSync('git', ['status', '--porcelain', '-uno'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return dirty === '' ? head : `${head} with changes`;
  } catch {
    return 'unknown';
  }
};

const replay = (seed: number): string =>
  `npm run sim -- --seed ${seed}${nodes === null ? '' : ` --nodes ${nodes}`}${mutant === undefined ? '' : ` --mutant ${mutant}`}${scenario === undefined ? '' : ` --scenario ${/^[\w-]+$/.test(scenario) ? scenario : JSON.stringify(scenario)}`}`;

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const report = (result: RunResult): void => {
  const { failure, seed } = result;
  if (failure === null) return;
  print('');
  for (const line of failure.last) print(line);
  print('');
  print(`seed ${seed}, commit ${commit()}${mutant === undefined ? '' : `, mutant ${mutant}`}`);
  print(failure.invariant === 0 ? `failed: ${failure.message}` : `invariant ${failure.invariant}: ${failure.message}`);
  print(`again: ${replay(seed)}`);
};

const main = (): void => {
  const only = whole('seed');
  // Errors are answers here, thousands of them; where they come from is of interest in a replay only.
  if (only === null) Error.stackTraceLimit = 0;
  const from = only ?? whole('from') ?? 1;
  const minutes = whole('minutes');
  const count = only === null ? (whole('seeds') ?? (minutes === null ? 1 : Number.MAX_SAFE_INTEGER)) : 1;
  const startedMs = performance.now();
  let runs = 0;
  let twice = 0;
  let failures = 0;
  let events = 0;
  let simulatedMs = 0;
  let operations = 0;
  let commits = 0;
  const faults: Record<string, number> = {};
  const coverage: Record<string, number> = {};
  const hashes: string[] = [];
  let last: RunResult | null = null;
  for (let seed = from; seed < from + count; seed++) {
    if (minutes !== null && performance.now() - startedMs > minutes * 60_000) break;
    const run = (): RunResult =>
      runSeed(seed, {
        ...(nodes === null ? {} : { nodes }),
        ...(mutant === undefined ? {} : { mutant: mutant as keyof typeof MUTANTS }),
        ...(scenario === undefined ? {} : { script: SCENARIOS[scenario as keyof typeof SCENARIOS] }),
      });
    let result = run();
    if (result.failure === null && seed % TWICE_EVERY === 0) {
      const message = differenceOfTraces(result, run());
      if (message !== null) result = { ...result, failure: { invariant: 28, message, last: [] } };
      twice++;
    }
    last = result;
    runs++;
    events += result.events;
    simulatedMs += result.simulatedMs;
    operations += result.operations;
    commits += result.commits;
    hashes.push(result.hash);
    for (const [kind, times] of Object.entries(result.faults)) faults[kind] = (faults[kind] ?? 0) + times;
    for (const [what, times] of Object.entries(result.coverage)) coverage[what] = (coverage[what] ?? 0) + times;
    if (result.failure !== null) {
      failures++;
      report(result);
      if (!options['keep-going']) break;
    }
    if (!options.quiet && runs % 50 === 0) {
      print(
        `${runs} seeds, ${(simulatedMs / 1000).toFixed(0)} simulated s, ${((performance.now() - startedMs) / 1000).toFixed(0)} s`,
      );
    }
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const list = (counts: Record<string, number>): string =>
    Object.entries(counts)
      .map(([name, times]) => `${name} ${times}`)
      .join(' · ');
  print('');
  print(
    `${runs} seeds from ${from}: ${failures} failed · ${(simulatedMs / 1000).toFixed(0)} simulated s in ${seconds.toFixed(1)} s (${(simulatedMs / 1000 / seconds).toFixed(0)} × real time, ${(simulatedMs / 1000 / cpuSeconds()).toFixed(0)} × processor time) · ${twice} run twice · ${events} events (${(events / seconds / 1000).toFixed(0)} k/s) · ${operations} operations · ${commits} commits`,
  );
  print(`faults: ${list(faults)}`);
  print(`seen: ${list(coverage)}`);
  if (only !== null && last !== null) print(`trace hash ${last.hash}`);
  else print(`trace hash ${hashes.reduce(combine, '0')}`);
  process.exitCode = failures > 0 ? 1 : 0;
};

/** Seconds of processor time so far: on a machine with other things to do they tell more than a clock. */
const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** One hash of many, in their order. */
const combine = (all: string, one: string): string =>
  (BigInt.asUintN(64, BigInt(`0x${all}`) * 0x100000001b3n) ^ BigInt(`0x${one === '' ? '0' : one}`))
    .toString(16)
    .padStart(16, '0');

// Outside of any promise reaction: see microtasks.ts.
setTimeout(main, 0);
