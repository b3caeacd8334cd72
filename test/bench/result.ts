import { median, type Benchmark, type Contender, type PeerName, type Sample } from './bench.js';

/** What one side of a benchmark gave: medians over its runs. */
export interface Side {
  /** With what it syncs. */
  readonly description: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  /** CPU µs per operation, by process. */
  readonly cpuUs: Readonly<Record<string, number>>;
  readonly also: Readonly<Record<string, number>>;
}

/** One case of one benchmark, as it stands in the JSON. */
export interface CaseResult {
  readonly name: string;
  readonly case: string;
  readonly unit: string;
  readonly higherIsBetter: boolean;
  /** Medians of the runs. */
  readonly ours: number;
  readonly peer: number | null;
  readonly peerName: PeerName | null;
  /** ours / peer, pair by pair, the median; for latencies below 1 is better. */
  readonly ratio: number | null;
  readonly runs: readonly { readonly ours: Sample; readonly peer: Sample | null }[];
  readonly details: { readonly ours: Side; readonly peer: Side | null };
}

type Run = CaseResult['runs'][number];

const sideOf = (contender: Contender, samples: readonly Sample[]): Side => {
  const values = samples.map((sample) => sample.value);
  const of = (pick: (sample: Sample) => number | undefined): number | null => {
    const picked = samples.map(pick).filter((value): value is number => value !== undefined);
    return picked.length > 0 ? median(picked) : null;
  };
  const each = (record: 'cpuUs' | 'also'): Record<string, number> =>
    Object.fromEntries(
      Object.keys(samples[0]?.[record] ?? {}).map((name) => [name, of((sample) => sample[record]?.[name]) ?? 0]),
    );
  return {
    description: contender.description,
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    p50Ms: of((sample) => sample.p50Ms),
    p99Ms: of((sample) => sample.p99Ms),
    cpuUs: each('cpuUs'),
    also: each('also'),
  };
};

/** What a run of `runs` pairs says. */
export const resultOf = (
  benchmark: Benchmark,
  which: string,
  sides: { readonly ours: Contender; readonly peer: Contender | null; readonly peerName: PeerName | null },
  runs: readonly Run[],
): CaseResult => {
  const ours = sideOf(
    sides.ours,
    runs.map((run) => run.ours),
  );
  const peer =
    sides.peer &&
    sideOf(
      sides.peer,
      runs.map((run) => run.peer!),
    );
  return {
    name: benchmark.name,
    case: which,
    unit: benchmark.unit,
    higherIsBetter: benchmark.higherIsBetter,
    ours: ours.median,
    peer: peer?.median ?? null,
    peerName: peer ? sides.peerName : null,
    ratio: peer ? median(runs.map((run) => run.ours.value / run.peer!.value)) : null,
    runs,
    details: { ours, peer },
  };
};

const figure = (value: number): string =>
  Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);

const lineOf = (side: Side, unit: string): string => {
  const parts = [
    `  ${side.description.padEnd(40)} ${figure(side.median).padStart(12)} ${unit}  (${figure(side.min)} … ${figure(side.max)})`,
  ];
  if (side.p50Ms !== null)
    parts.push(`p50 ${figure(side.p50Ms)} ms  p99 ${side.p99Ms === null ? '–' : figure(side.p99Ms)} ms`);
  const cpu = Object.entries(side.cpuUs).map(
    ([process, us]) => `${process} ${us < 10 ? us.toFixed(2) : us.toFixed(1)}`,
  );
  if (cpu.length > 0) parts.push(`CPU µs/op: ${cpu.join(', ')}`);
  const also = Object.entries(side.also).map(([name, value]) => `${name} ${figure(value)}`);
  if (also.length > 0) parts.push(also.join(', '));
  return parts.join('  ');
};

/** A case as lines for people. */
export const tableOf = (result: CaseResult): string => {
  const { ours, peer } = result.details;
  const lines = [`${result.name}${result.case ? ` ${result.case}` : ''}`, lineOf(ours, result.unit)];
  if (peer) lines.push(lineOf(peer, result.unit));
  if (result.ratio !== null)
    lines.push(`  ratio ours / peer, median of ${result.runs.length} pairs: ${result.ratio.toFixed(2)}`);
  return lines.join('\n');
};

/** Of one benchmark: its first case's fields, and all its cases if it has several. Of several benchmarks: a list of them. */
export const jsonOf = (results: readonly CaseResult[], about: Readonly<Record<string, unknown>>): string => {
  const names = [...new Set(results.map((result) => result.name))];
  const objects = names.map((name) => {
    const cases = results.filter((result) => result.name === name);
    return cases.length === 1 ? cases[0] : { ...cases[0], cases };
  });
  return JSON.stringify(objects.length === 1 ? { ...objects[0], ...about } : { results: objects, ...about }, null, 2);
};
