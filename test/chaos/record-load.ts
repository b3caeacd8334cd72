import type { TidelineClient } from '#client';
import type { Subscription } from 'rxjs';
import type { ChaosClient } from './chaos-client.js';
import type { Pace } from './pace.js';
import type { Statistics } from './statistics.js';

export const RECORD_TOPIC = 'events';
export const RECORD_PARTITIONS = 3;
/** Makes segments fill. */
export const PADDING = 'x'.repeat(400);
const INFLIGHT_PER_PRODUCER = 6;
const KEYS_PER_PRODUCER = 5;

export type RecordFate =
  | { readonly kind: 'acknowledged'; readonly partition: number; readonly offset: number }
  | { readonly kind: 'rejected' }
  | { readonly kind: 'unknown' };

/** Records that one client appended, in the order in which it called. */
export class Producer {
  readonly fates: RecordFate[] = [];

  constructor(
    readonly id: number,
    readonly client: ChaosClient,
    /** Calls are made before the ones before them have been answered; the order must hold all the same. */
    readonly pipelined: boolean,
  ) {}

  record(n: number): { key: string; value: string } {
    return {
      key: `producer-${this.id}-${n % KEYS_PER_PRODUCER}`,
      value: JSON.stringify({ producer: this.id, n, padding: PADDING }),
    };
  }
}

/** Appends numbered records to a topic of several partitions. */
export class RecordLoad {
  readonly producers: readonly Producer[];
  private running = true;
  private readonly workers: Promise<void>[];

  constructor(
    private readonly parts: {
      readonly pipelined: readonly ChaosClient[];
      readonly sequential: readonly ChaosClient[];
      readonly statistics: Statistics;
      readonly pace: Pace;
    },
  ) {
    const { pipelined, sequential } = parts;
    this.producers = [
      ...pipelined.map((client, i) => new Producer(i, client, true)),
      ...sequential.map((client, i) => new Producer(pipelined.length + i, client, false)),
    ];
    this.workers = this.producers.map((producer) => this.work(producer));
  }

  private async work(producer: Producer): Promise<void> {
    const limit = producer.pipelined ? INFLIGHT_PER_PRODUCER : 1;
    const inflight = new Set<Promise<void>>();
    for (let n = 0; ; n++) {
      await this.parts.pace.turn();
      while (inflight.size >= limit) await Promise.race(inflight);
      if (!this.running) break;
      const sent: Promise<void> = this.append(producer, n).finally(() => inflight.delete(sent));
      inflight.add(sent);
    }
    await Promise.all(inflight);
  }

  private async append(producer: Producer, n: number): Promise<void> {
    const { statistics } = this.parts;
    producer.fates[n] = { kind: 'unknown' };
    const result = await producer.client.append(RECORD_TOPIC, producer.record(n));
    if (result.kind === 'ok') {
      producer.fates[n] = { kind: 'acknowledged', ...result.value };
      statistics.count('append', 'done');
      statistics.acknowledged();
      return;
    }
    producer.fates[n] = { kind: result.kind };
    statistics.count('append', result.kind, result.code);
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.workers);
  }
}

export interface SeenRecord {
  readonly offset: number;
  readonly value: string;
}

/** A record as REST gives it, as far as it is looked at. */
export interface RecordJson {
  readonly partition: number;
  readonly offset: number;
  /** Text, as every record was appended; damaged ones may come as anything. */
  readonly value?: unknown;
  readonly valueBase64?: string;
}

export const textOf = ({ value, valueBase64 }: RecordJson): string =>
  typeof value === 'string' ? value : (valueBase64 ?? JSON.stringify(value ?? null));

/** Follows the topic through everything that happens. */
export interface TopicReader {
  readonly name: string;
  /** By partition, what it was given, in the order in which it came. */
  readonly seen: readonly (readonly SeenRecord[])[];
  readonly problems: readonly string[];
  close(): Promise<void>;
}

/** The SDK's tail: one call, however often it has to begin anew below. */
export class NativeTail implements TopicReader {
  readonly name = 'a tail by the SDK';
  readonly seen: SeenRecord[][] = Array.from({ length: RECORD_PARTITIONS }, () => []);
  readonly problems: string[] = [];
  private readonly subscription: Subscription;

  constructor(private readonly client: TidelineClient) {
    this.subscription = client.tail(RECORD_TOPIC, { from: 'earliest' }).subscribe({
      next: ({ partition, offset, value }) => {
        this.seen[partition].push({ offset, value: value?.toString() ?? '' });
      },
      error: (error: Error) => this.problems.push(`the tail ended: ${error.message}`),
    });
  }

  async close(): Promise<void> {
    this.subscription.unsubscribe();
    await this.client.close();
  }
}
