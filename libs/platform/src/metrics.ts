/**
 * The metrics of a process, in a registry of its own (two nodes in one test do not share counters). The names
 * are a contract; the table below is all of them. Count per batch, and bind labels once:
 *
 *   const committed = metrics.counter('tideline_raft_proposals_committed').labels({ topic, partition });
 *   committed.inc(batch.count);
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

interface MetricSpec {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
  /** Upper bounds, in the unit of the name. */
  readonly buckets?: readonly number[];
}

const PARTITION = ['topic', 'partition'] as const;
const VIEW = ['view', 'partition'] as const;

/** From a fifth of a synced write on a fast disk to a disk that is stuck. */
const SYNC_SECONDS = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5] as const;
const REQUEST_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10] as const;

export const METRICS = {
  tideline_raft_has_leader: {
    type: 'gauge',
    help: '1 if this node knows a leader of the partition',
    labels: PARTITION,
  },
  tideline_raft_leader_changes_total: { type: 'counter', help: 'leaders seen, one after another', labels: PARTITION },
  tideline_raft_term: { type: 'gauge', help: 'current term', labels: PARTITION },
  tideline_raft_proposals_committed: { type: 'counter', help: 'records this leader committed', labels: PARTITION },
  tideline_raft_proposals_failed: {
    type: 'counter',
    help: 'records refused or lost with leadership',
    labels: PARTITION,
  },
  tideline_raft_proposals_pending: { type: 'gauge', help: 'records not committed yet', labels: PARTITION },
  tideline_raft_commit_offset: { type: 'gauge', help: 'last offset known committed', labels: PARTITION },
  tideline_raft_peer_rtt_seconds: {
    type: 'histogram',
    help: 'from a message to a peer to its answer',
    labels: ['peer'],
    buckets: SYNC_SECONDS,
  },
  tideline_storage_sync_seconds: {
    type: 'histogram',
    help: 'one synced write',
    labels: PARTITION,
    buckets: SYNC_SECONDS,
  },
  tideline_storage_bytes_written_total: { type: 'counter', help: 'bytes written to the log', labels: PARTITION },
  tideline_storage_segments: { type: 'gauge', help: 'segments kept', labels: PARTITION },
  tideline_view_applied_offset: { type: 'gauge', help: 'last offset applied', labels: VIEW },
  tideline_view_lag_records: { type: 'gauge', help: 'committed records not applied yet', labels: VIEW },
  tideline_view_lag_seconds: {
    type: 'gauge',
    help: 'age of the oldest committed record not applied yet',
    labels: VIEW,
  },
  tideline_view_entries: { type: 'gauge', help: 'entries in memory', labels: VIEW },
  tideline_view_bytes: { type: 'gauge', help: 'bytes of memory', labels: VIEW },
  tideline_view_parked: { type: 'gauge', help: 'events that a projection set aside', labels: VIEW },
  tideline_view_expired_total: { type: 'counter', help: 'entries removed after they expired', labels: VIEW },
  tideline_view_evicted_total: { type: 'counter', help: 'live entries removed to make room', labels: VIEW },
  tideline_view_defects_total: {
    type: 'counter',
    help: 'commands on which a data type failed; they had no effect',
    labels: VIEW,
  },
  tideline_view_digest_mismatches_total: {
    type: 'counter',
    help: 'slots found to differ from other hosts or from their own digest',
    labels: VIEW,
  },
  tideline_view_archive_incomplete: {
    type: 'gauge',
    help: '1 while the archive lacks entries that other hosts have',
    labels: VIEW,
  },
  tideline_view_archive_copied_total: {
    type: 'counter',
    help: "entries copied from other hosts' archives",
    labels: VIEW,
  },
  tideline_view_archive_failures_total: { type: 'counter', help: 'archive writes that failed', labels: VIEW },
  tideline_gateway_request_seconds: {
    type: 'histogram',
    help: 'requests by route and outcome',
    labels: ['route', 'outcome'],
    buckets: REQUEST_SECONDS,
  },
  tideline_consumergroup_lag: {
    type: 'gauge',
    help: 'records committed but not consumed',
    labels: ['group', 'topic', 'partition'],
  },
  tideline_tail_subscribers: { type: 'gauge', help: 'live tails and watches', labels: ['kind'] },
} as const satisfies Record<string, MetricSpec>;

type Table = typeof METRICS;
type NamesOf<Type extends MetricSpec['type']> = {
  [N in keyof Table]: Table[N]['type'] extends Type ? N : never;
}[keyof Table];

export type MetricName = keyof Table;
export type CounterName = NamesOf<'counter'>;
export type GaugeName = NamesOf<'gauge'>;
export type HistogramName = NamesOf<'histogram'>;
export type LabelsOf<N extends MetricName> = Table[N]['labels'][number];

export interface MetricsOptions {
  /** Adds the process's own figures: memory, CPU, event loop delay, garbage collection. Not wanted in tests. */
  readonly process?: boolean;
  /** Labels on every series, e.g. node and region. */
  readonly labels?: Readonly<Record<string, string>>;
}

export class Metrics {
  readonly registry = new Registry();
  readonly #collectors = new Map<GaugeName, Array<(gauge: Gauge) => void>>();

  constructor(options: MetricsOptions = {}) {
    if (options.labels) this.registry.setDefaultLabels({ ...options.labels });
    if (options.process) collectDefaultMetrics({ register: this.registry });
  }

  counter<N extends CounterName>(name: N): Counter<LabelsOf<N>> {
    const { help, labels } = METRICS[name];
    return this.#get(name) ?? new Counter({ name, help, labelNames: [...labels], registers: [this.registry] });
  }

  gauge<N extends GaugeName>(name: N): Gauge<LabelsOf<N>> {
    const { help, labels } = METRICS[name];
    const existing = this.#get<Gauge<LabelsOf<N>>>(name);
    if (existing) return existing;
    const collectors: Array<(gauge: Gauge) => void> = [];
    this.#collectors.set(name, collectors);
    return new Gauge<LabelsOf<N>>({
      name,
      help,
      labelNames: [...labels] as Array<LabelsOf<N>>,
      registers: [this.registry],
      collect() {
        for (const collector of collectors) collector(this as unknown as Gauge);
      },
    });
  }

  /**
   * Sets a gauge only when someone asks: costs nothing between two scrapes. Returns a function that ends it;
   * series of what no longer exists are for the caller to `remove`.
   */
  collect<N extends GaugeName>(name: N, collector: (gauge: Gauge<LabelsOf<N>>) => void): () => void {
    this.gauge(name);
    const collectors = this.#collectors.get(name) as Array<(gauge: Gauge<LabelsOf<N>>) => void>;
    collectors.push(collector);
    return () => {
      const index = collectors.indexOf(collector);
      if (index >= 0) collectors.splice(index, 1);
    };
  }

  histogram<N extends HistogramName>(name: N): Histogram<LabelsOf<N>> {
    const { help, labels, buckets } = METRICS[name];
    return (
      this.#get(name) ??
      new Histogram({ name, help, labelNames: [...labels], buckets: [...buckets], registers: [this.registry] })
    );
  }

  /** The Prometheus text format. */
  render(): Promise<string> {
    return this.registry.metrics();
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  #get<M>(name: MetricName): M | undefined {
    return this.registry.getSingleMetric(name) as M | undefined;
  }
}
