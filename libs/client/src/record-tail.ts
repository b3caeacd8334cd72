import {
  TidelineError,
  asLogTime,
  asOffset,
  isTidelineError,
  toTidelineError,
  type LogTime,
  type Offset,
  type Rng,
} from '#kernel';
import { decodeRecords, forEachBatch, gatewayServiceV1, type LogRecord, type TopicDescriptionMessage } from '#wire';
import { Observable, type Subscriber } from 'rxjs';
import type { GatewayRouter } from './gateway-router.js';
import { openResumingStream } from './resuming-stream.js';

export const TAIL_CREDIT_BYTES = 1024 * 1024;

/**
 * Where a tail begins: the oldest record kept · after the newest · an offset (of one partition) · a time (log time) · an offset for each
 * partition, by its number (the others from the earliest).
 */
export type TailFrom = 'earliest' | 'latest' | number | Date | ReadonlyMap<number, number>;

export interface TailOptions {
  /** Default `latest`. */
  readonly from?: TailFrom;
  /** Default: all of them, merged; order holds within a partition. */
  readonly partition?: number;
  /** Bytes on their way or not yet taken, per partition. Default 1 MiB. */
  readonly creditBytes?: number;
}

/** A record as a tail gives it. Bytes are views into the received batch: copy what is kept for long. */
export interface TailRecord extends LogRecord {
  readonly partition: number;
}

/** `partition:offset`: what to remember of a record to go on after it (from offset + 1). */
export const positionOf = (record: TailRecord): string => `${record.partition}:${record.offset}`;

/** Whole batches as they are in the log, control batches included. */
export interface TailBatches {
  readonly partition: number;
  /** The first may begin before the offset asked for. */
  readonly batches: Buffer;
  /** Where to go on after it. */
  readonly nextOffset: number;
  readonly commitOffset: number;
  /** Call once when done: gives its bytes back as credit. */
  release(): void;
}

/** Tails of a topic's partitions, merged as they come. Each goes on by itself at another gateway, exactly where it was. */
export const tailBatches = (
  context: { readonly router: GatewayRouter; readonly rng: Rng },
  topicName: string,
  options: TailOptions,
): Observable<TailBatches> =>
  new Observable((subscriber) => {
    const stops: (() => void)[] = [];
    const start = async (): Promise<void> => {
      const topic = await context.router.topic(topicName);
      for (const { partition, from } of await startsOf(context.router, topic, options)) {
        if (subscriber.closed) return;
        stops.push(tailPartition(context, { topic: topicName, partition }, from, options, subscriber));
      }
    };
    start().catch((thrown: unknown) => subscriber.error(toTidelineError(thrown)));
    return () => {
      for (const stop of stops) stop();
    };
  });

const tailPartition = (
  context: { readonly router: GatewayRouter; readonly rng: Rng },
  target: { readonly topic: string; readonly partition: number },
  from: Offset,
  options: TailOptions,
  subscriber: Subscriber<TailBatches>,
): (() => void) => {
  const { tail } = gatewayServiceV1;
  const { partition } = target;
  let position = from;
  let stop = (): void => undefined;
  const run = (): void => {
    stop = openResumingStream({
      ...context,
      call: tail,
      creditBytes: options.creditBytes ?? TAIL_CREDIT_BYTES,
      request: () => tail.encodeRequest({ ...target, from: position }),
      item: ({ batches, nextOffset, commitOffset }, release) => {
        position = nextOffset;
        subscriber.next({ partition, batches, nextOffset, commitOffset, release });
      },
      // Closing the client ends all partitions' streams: the first that hears of it speaks for the rest.
      closed: () => subscriber.complete(),
      failed: (error) => {
        // Between the question where the log starts and the tail the log may have been trimmed: the earliest is then a later one.
        const start = error.details['logStartOffset'];
        const asked = options.from === 'earliest' || (options.from instanceof Map && !options.from.has(partition));
        if (
          asked &&
          position === from &&
          isTidelineError(error, 'offset-out-of-range') &&
          typeof start === 'number' &&
          start > position
        ) {
          position = from = asOffset(start);
          run();
        } else {
          subscriber.error(error);
        }
      },
    });
  };
  run();
  return () => stop();
};

const startsOf = async (
  router: GatewayRouter,
  topic: TopicDescriptionMessage,
  { from = 'latest', partition: only }: TailOptions,
): Promise<{ readonly partition: number; readonly from: Offset }[]> => {
  const partitions = topic.partitions.filter((each) => only === undefined || each.partition === only);
  if (partitions.length === 0) {
    throw new TidelineError('unknown-partition', `topic ${topic.name} has no partition ${only}`, {
      details: { partitions: topic.partitions.length },
    });
  }
  if (typeof from === 'number' && partitions.length > 1) {
    throw new TidelineError('bad-request', `an offset needs a partition: topic ${topic.name} has ${partitions.length}`);
  }
  return Promise.all(
    partitions.map(async ({ partition, logStartOffset }) => {
      const target = { topic: topic.name, partition };
      const earliest = asOffset(Math.max(1, logStartOffset));
      return { partition, from: await startOf(router, target, from, earliest) };
    }),
  );
};

const startOf = async (
  router: GatewayRouter,
  target: { readonly topic: string; readonly partition: number },
  from: TailFrom,
  earliest: Offset,
): Promise<Offset> => {
  if (from === 'earliest') return earliest;
  if (from === 'latest') {
    const { offset } = await router.ask(gatewayServiceV1.barrier, target, target);
    return asOffset(offset + 1);
  }
  if (from instanceof Date) {
    const time: LogTime = asLogTime(Math.max(0, from.getTime()));
    return router.ask(gatewayServiceV1.offsetAtTime, { ...target, time }, target);
  }
  const offset = typeof from === 'number' ? from : (from.get(target.partition) ?? earliest);
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new TidelineError('bad-request', `${offset} is not an offset`);
  }
  return asOffset(Math.max(1, offset));
};

/**
 * Records of a topic: an Observable, which is fed as fast as its observers return, and an AsyncIterable, which asks for more only when
 * the loop has taken what there was. Both go on at another gateway after any disconnect, without loss or repetition.
 * They end when the client is closed. Errors for good only: `unknown-topic` · `unknown-partition` · `offset-out-of-range`
 */
export class RecordTail extends Observable<TailRecord> implements AsyncIterable<TailRecord> {
  constructor(
    private readonly batches: (options: TailOptions) => Observable<TailBatches>,
    private readonly options: TailOptions,
  ) {
    super((subscriber) => {
      const begin = beginOf(options);
      return batches(options).subscribe({
        next: (chunk) => {
          try {
            forEachBatch(chunk.batches, (at) => {
              for (const record of decodeRecords(chunk.batches, at)) {
                if (record.offset >= begin(chunk.partition)) subscriber.next(withPartition(record, chunk.partition));
              }
            });
          } catch (thrown) {
            subscriber.error(toTidelineError(thrown));
          }
          chunk.release();
        },
        error: (error: unknown) => subscriber.error(error),
        complete: () => subscriber.complete(),
      });
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TailRecord, void, undefined> {
    const begin = beginOf(this.options);
    const waiting: TailBatches[] = [];
    let ending: { readonly error: unknown } | null = null;
    let wake: (() => void) | null = null;
    const subscription = this.batches(this.options).subscribe({
      next: (chunk) => {
        waiting.push(chunk);
        wake?.();
      },
      error: (error: unknown) => {
        ending = { error };
        wake?.();
      },
      complete: () => {
        ending = { error: null };
        wake?.();
      },
    });
    try {
      for (;;) {
        const chunk = waiting.shift();
        if (chunk === undefined) {
          if (ending !== null) {
            const { error } = ending as { readonly error: unknown };
            if (error === null) return;
            throw error;
          }
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          continue;
        }
        const starts: number[] = [];
        forEachBatch(chunk.batches, (at) => starts.push(at));
        for (const at of starts) {
          for (const record of decodeRecords(chunk.batches, at)) {
            if (record.offset >= begin(chunk.partition)) yield withPartition(record, chunk.partition);
          }
        }
        chunk.release();
      }
    } finally {
      subscription.unsubscribe();
    }
  }
}

/** The first batch may begin before the offset asked for: its earlier records are not part of the answer. */
const beginOf = ({ from }: TailOptions): ((partition: number) => number) => {
  if (typeof from === 'number') return () => from;
  if (from instanceof Map) return (partition) => (from as ReadonlyMap<number, number>).get(partition) ?? 0;
  return () => 0;
};

const withPartition = (record: LogRecord, partition: number): TailRecord => Object.assign(record, { partition });
