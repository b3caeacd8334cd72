import type { Clock, Rng, Scheduler } from '#kernel';
import type { Transport } from '#net';
import type { ProducerOptions } from './batching-producer.js';

export interface TidelineClientOptions {
  /** host:port of the native service of one or more nodes (normally port 7401); the others are found from there. */
  readonly addresses: readonly string[];
  /** Refuse a cluster of another id. Default: any. */
  readonly clusterId?: string;
  /** Whole time of a request, ms, retries included. Default 10,000. */
  readonly timeoutMs?: number;
  /** Time to reach one gateway, ms. Default 2,000. */
  readonly connectTimeoutMs?: number;
  /** How often the cluster is looked at without a reason, ms. Default 5,000. */
  readonly pollMs?: number;
  /** Named in the server's logs. */
  readonly name?: string;
  /** Batching, pipelining and the limits of what waits. */
  readonly producer?: Omit<ProducerOptions, 'timeoutMs' | 'clock' | 'scheduler'>;
  /** Ports, for tests. */
  readonly transport?: Transport;
  readonly clock?: Clock;
  readonly scheduler?: Scheduler;
  readonly rng?: Rng;
}
