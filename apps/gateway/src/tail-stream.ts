import { TidelineError, afterRunning, asOffset, toTidelineError, type Offset } from '#kernel';
import { batchIsControl, batchLastOffset, batchLength, BATCH_HEADER_BYTES, decodeRecords, type LogRecord } from '#wire';
import type { CommandLog, TailChunk, TopicDescription } from '#command-log';
import type { Subscription } from 'rxjs';
import type { GatewayLimits, GatewayTime } from './gateway-options.js';
import { newLogStart, type RecordReader } from './record-reader.js';
import { formatPosition, type StreamPosition, type StreamStart } from './stream-position.js';
import { partitionOfTopic, type TopicDirectory } from './topic-directory.js';

export interface TailRequest {
  readonly topic: string;
  /** null: all of them, merged as they come. */
  readonly partition: number | null;
  readonly start: StreamStart;
  /** What the reader has seen; wins over `start` for the partitions it names. */
  readonly after: StreamPosition | null;
  readonly keyPrefix: Buffer | null;
  readonly type: string | null;
}

export interface TailedRecord {
  readonly partition: number;
  readonly record: LogRecord;
}

/** Who reads a tail. Calls come one after the other, never from within `resume()` or `stop()`. */
export interface TailReader {
  /** False: has enough for now and calls `resume()` later; this record it has taken. */
  record(record: TailedRecord): boolean;
  /** Where the reader would go on, also past records a filter left out. After a run of records. */
  moved?(): void;
  /** Once; nothing after it. null when the log said so, else why. */
  end(error: TidelineError | null): void;
}

/** One partition's part of a tail: chunks not yet read through, oldest first. */
interface Lane {
  readonly partition: number;
  subscription: Subscription | null;
  readonly chunks: TailChunk[];
  /** Byte position of the next batch in the oldest chunk. */
  at: number;
  /** Records of the batch before `at` that are still to be given, and the index of the next. */
  records: readonly LogRecord[];
  index: number;
  /** Last offset seen. */
  seen: Offset;
  /** `seen` at the start when the reader asked for the earliest record, else -1. */
  readonly earliest: number;
  error: TidelineError | null;
  ended: boolean;
}

/** Records read in one turn before others get theirs. */
const RECORDS_PER_TURN_MAX = 2_000;

/**
 * A live subscription to the records of a topic, one partition or all of them.
 *
 *     log.tail ─► chunks (bounded by credit) ─► batch by batch ─► filters ─► reader
 *                   released when read through      stops while the reader is full; dropped with `too-slow` after slowReaderMs
 */
export class TailStream {
  private readonly lanes: Lane[] = [];
  /** The same lanes, the one whose turn it is first. */
  private turns: Lane[] = [];
  private full = false;
  private pumping = false;
  private scheduled = false;
  private stopped = false;
  private cancelSlow: (() => void) | null = null;

  constructor(
    private readonly parts: {
      readonly log: CommandLog;
      readonly topics: TopicDirectory;
      readonly records: RecordReader;
      readonly limits: GatewayLimits;
      readonly time: GatewayTime;
    },
    private readonly request: TailRequest,
    private readonly reader: TailReader,
  ) {}

  /** Subscribes. @throws (rejects) `unknown-topic` · `unknown-partition` · `bad-request`; the reader hears nothing then */
  async start(): Promise<void> {
    const topic = await this.parts.topics.topic(this.request.topic);
    const partitions = partitionsOf(topic, this.request);
    const starts = await Promise.all(partitions.map((partition) => this.startOf(partition)));
    if (this.stopped) return;
    for (const [i, partition] of partitions.entries()) {
      const seen = asOffset(starts[i] - 1);
      const earliest = this.request.start.kind === 'earliest' && !this.request.after?.has(partition) ? seen : -1;
      const lane: Lane = {
        partition,
        subscription: null,
        chunks: [],
        at: 0,
        records: [],
        index: 0,
        seen,
        earliest,
        error: null,
        ended: false,
      };
      this.lanes.push(lane);
    }
    this.turns = [...this.lanes];
    for (const lane of this.lanes) this.subscribe(lane);
  }

  /** Where a reader that has everything given so far goes on. */
  get position(): StreamPosition {
    return new Map(this.lanes.map((lane) => [lane.partition, lane.seen]));
  }

  get positionText(): string {
    const { lanes } = this;
    return lanes.length === 1 ? `${lanes[0].partition}:${lanes[0].seen}` : formatPosition(this.position);
  }

  /** The reader takes more. */
  resume(): void {
    if (!this.full) return;
    this.full = false;
    this.cancelSlow?.();
    this.cancelSlow = null;
    this.schedule();
  }

  /** No call of the reader after this one; the log is told. */
  stop(): void {
    this.stopped = true;
    this.cancelSlow?.();
    this.cancelSlow = null;
    for (const lane of this.lanes) {
      lane.subscription?.unsubscribe();
      for (const chunk of lane.chunks.splice(0)) chunk.release();
    }
  }

  private startOf(partition: number): Promise<Offset> {
    const { after, start, topic } = this.request;
    const seen = after?.get(partition);
    if (seen !== undefined) return Promise.resolve(asOffset(seen + 1));
    return this.parts.records.startOffset({ topic, partition }, start);
  }

  private subscribe(lane: Lane): void {
    const target = { topic: this.request.topic, partition: lane.partition };
    const options = {
      creditBytes: Math.max(64 * 1024, Math.floor(this.parts.limits.tailCreditBytes / this.lanes.length)),
    };
    lane.subscription = this.parts.log.tail(target, asOffset(lane.seen + 1), options).subscribe({
      next: (chunk) => {
        if (this.stopped) {
          chunk.release();
          return;
        }
        lane.chunks.push(chunk);
        this.schedule();
      },
      error: (thrown: unknown) => {
        const error = toTidelineError(thrown);
        // The log was trimmed between the question where it starts and this subscription.
        const moved = lane.seen === lane.earliest ? newLogStart(error, asOffset(lane.seen + 1)) : null;
        if (moved !== null && !this.stopped) {
          lane.seen = asOffset(moved - 1);
          this.subscribe(lane);
          return;
        }
        lane.error = error;
        this.schedule();
      },
      complete: () => {
        lane.ended = true;
        this.schedule();
      },
    });
  }

  private schedule(): void {
    if (this.scheduled || this.full || this.stopped) return;
    this.scheduled = true;
    this.parts.time.scheduler.defer(() => {
      this.scheduled = false;
      this.pump();
    });
  }

  private pump(): void {
    if (this.pumping || this.stopped || this.full) return;
    this.pumping = true;
    let left = RECORDS_PER_TURN_MAX;
    try {
      for (const lane of this.turns) {
        left = this.pumpLane(lane, left);
        if (this.full || this.stopped || left <= 0) break;
      }
    } catch (error) {
      this.finish(toTidelineError(error));
      return;
    } finally {
      this.pumping = false;
    }
    if (this.stopped) return;
    this.reader.moved?.();
    if (this.full || this.stopped) return;
    if (this.lanes.some((lane) => lane.chunks.length > 0)) {
      this.turns.push(this.turns.shift()!);
      this.schedule();
      return;
    }
    const broken = this.lanes.find((lane) => lane.error !== null);
    if (broken) this.finish(broken.error);
    else if (this.lanes.every((lane) => lane.ended)) this.finish(null);
  }

  /** Returns how many of the turn's records are left. */
  private pumpLane(lane: Lane, budget: number): number {
    let left = budget;
    const { chunks } = lane;
    while (chunks.length > 0) {
      const [chunk] = chunks;
      while (lane.index < lane.records.length) {
        if (left <= 0) return left;
        const record = lane.records[lane.index++];
        left--;
        if (record.offset <= lane.seen) continue;
        lane.seen = record.offset;
        if (this.wanted(record) && !this.give(lane.partition, record)) return left;
      }
      const { batches } = chunk;
      if (batches.length - lane.at >= BATCH_HEADER_BYTES) {
        const last = batchLastOffset(batches, lane.at);
        // A batch without a record to give is stepped over by its header.
        lane.records = batchIsControl(batches, lane.at) || last <= lane.seen ? [] : decodeRecords(batches, lane.at);
        lane.index = 0;
        if (lane.records.length === 0 && last > lane.seen) lane.seen = last;
        lane.at += batchLength(batches, lane.at);
        left--;
        continue;
      }
      if (chunk.nextOffset - 1 > lane.seen) lane.seen = asOffset(chunk.nextOffset - 1);
      chunks.shift();
      lane.at = 0;
      lane.records = [];
      lane.index = 0;
      chunk.release();
    }
    return left;
  }

  private wanted(record: LogRecord): boolean {
    const { keyPrefix, type } = this.request;
    if (type !== null && record.type !== type) return false;
    if (keyPrefix === null) return true;
    const { key } = record;
    return (
      key !== null &&
      key.length >= keyPrefix.length &&
      key.compare(keyPrefix, 0, keyPrefix.length, 0, keyPrefix.length) === 0
    );
  }

  /** False when the reader is full or gone. */
  private give(partition: number, record: LogRecord): boolean {
    if (!this.reader.record({ partition, record })) this.pause();
    return !this.full && !this.stopped;
  }

  private pause(): void {
    if (this.stopped) return;
    this.full = true;
    const { slowReaderMs } = this.parts.limits;
    this.cancelSlow = afterRunning(this.parts.time.scheduler, slowReaderMs, () => {
      const position = this.positionText;
      this.finish(
        new TidelineError('too-slow', `the reader took nothing for ${slowReaderMs} ms; resume from ${position}`, {
          details: { position },
        }),
      );
    });
  }

  private finish(error: TidelineError | null): void {
    if (this.stopped) return;
    this.stop();
    this.reader.end(error);
  }
}

/** @throws TidelineError `unknown-partition` · `bad-request` */
const partitionsOf = (topic: TopicDescription, request: TailRequest): number[] => {
  const { partition, after, start } = request;
  for (const named of after?.keys() ?? []) partitionOfTopic(topic, named);
  if (partition !== null) {
    partitionOfTopic(topic, partition);
    return [partition];
  }
  if (topic.partitions.length > 1 && after === null && start.kind === 'offset' && start.offset > 0) {
    throw new TidelineError('bad-request', `topic ${topic.name} has several partitions: from=OFFSET needs partition`, {
      details: { parameter: 'from' },
    });
  }
  return topic.partitions.map((_, index) => index);
};
