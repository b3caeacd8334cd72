/** A benchmark: one measurement of ours and, with a peer, the same work done by the peer, in turn. */
export const PEER_NAMES = ['etcd', 'nats', 'bare'] as const;
/** `bare` is the least the runtime must do for the same work: the loop of peers/bare-node.ts, or what a benchmark says it is. */
export type PeerName = (typeof PEER_NAMES)[number];

/** A peer's three processes, started for one run. */
export interface PeerCluster {
  readonly name: PeerName;
  /** As it stands in the result, with what it syncs. */
  readonly description: string;
  readonly httpPort: number;
  /** The leader's first. */
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

/** One run's outcome. */
export interface Sample {
  /** In the benchmark's unit. */
  readonly value: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  /** What the CPU time is divided by; default: value × the time the run took. */
  readonly operations?: number;
  /** CPU microseconds per operation, by process: `servers` is the sum of leader and followers, `load` the process that measures. */
  readonly cpuUs?: Readonly<Record<string, number>>;
  /** Other figures of the run, by name and unit, e.g. `recovery s`. */
  readonly also?: Readonly<Record<string, number>>;
}

export interface BenchmarkSettings {
  /** How long each run measures. Benchmarks of a fixed amount of work do less of it when this is below FULL_SIZE_SECONDS. */
  readonly seconds: number;
  readonly directory: string;
}

/** Something measured: ours or a peer's. Started once, run several times, stopped. */
export interface Contender {
  readonly description: string;
  run(seconds: number): Promise<Sample>;
  /** What goes before the first run that counts; a short run by default. */
  warmUp?(seconds: number): Promise<unknown>;
  stop(): Promise<void>;
}

export interface Benchmark {
  readonly name: string;
  readonly unit: string;
  /** Whether a larger value is better. */
  readonly higherIsBetter: boolean;
  readonly summary: string;
  /** Settings of the same benchmark, each measured on its own, e.g. 1 or 64 in flight. */
  readonly cases: readonly string[];
  readonly peers: readonly PeerName[];
  ours(settings: BenchmarkSettings, which: string): Promise<Contender>;
  /** Null: the peer is not installed. */
  peer?(settings: BenchmarkSettings, which: string, peer: PeerName): Promise<Contender | null>;
}

/** Below it a run is to see that a benchmark works, not what it gives. */
export const FULL_SIZE_SECONDS = 3;

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** Value at quantile q (0 … 1) of latencies in ms; sorts in place. */
export const quantile = (values: number[], q: number): number => {
  if (values.length === 0) return Number.NaN;
  values.sort((a, b) => a - b);
  return values[Math.min(values.length - 1, Math.floor(values.length * q))];
};
