import { TidelineError, toTidelineError, type Offset } from '#kernel';
import type { ViewQuery, WatchEvent } from '#views';
import type { Subscription } from 'rxjs';
import type { GatewayLimits, GatewayTime } from './gateway-options.js';
import { partitionOfTopic, type TopicDirectory } from './topic-directory.js';

export interface WatchRequest {
  readonly view: string;
  readonly partition: number | null;
  readonly prefix: Buffer;
}

export type WatchChange = Exclude<WatchEvent, { type: 'live' }>;

/** Who reads a watch. As TailReader: never called from within `resume()` or `stop()`. */
export interface WatchReader {
  /** False: has enough for now and calls `resume()` later; this one it has taken. */
  change(change: WatchChange): boolean;
  /** Once, when the current entries of all partitions have been given; by partition the offset they reflect. */
  live(positions: ReadonlyMap<number, Offset>): void;
  end(error: TidelineError | null): void;
}

const EVENTS_PER_TURN_MAX = 2_000;
const EVENT_OVERHEAD_BYTES = 64;

const bytesOf = (event: WatchEvent): number =>
  event.type === 'live'
    ? EVENT_OVERHEAD_BYTES
    : event.type === 'put'
      ? EVENT_OVERHEAD_BYTES + event.entry.key.length + event.entry.value.length
      : EVENT_OVERHEAD_BYTES + event.key.length;

/**
 * The entries of a view, then what changes. A view pushes; what a paused reader has not taken waits here, and when that is more than the limits
 * allow the reader is dropped with `too-slow`. It then starts over: a watch begins with the current entries.
 */
export class WatchStream {
  private readonly subscriptions: Subscription[] = [];
  private queue: WatchEvent[] = [];
  private head = 0;
  private queuedBytes = 0;
  private readonly lives = new Map<number, Offset>();
  private partitions = 0;
  private ended = 0;
  private failure: TidelineError | null = null;
  private full = false;
  private scheduled = false;
  private stopped = false;
  private cancelSlow: (() => void) | null = null;

  constructor(
    private readonly parts: {
      readonly views: ViewQuery;
      readonly topics: TopicDirectory;
      readonly limits: GatewayLimits;
      readonly time: GatewayTime;
    },
    private readonly request: WatchRequest,
    private readonly reader: WatchReader,
  ) {}

  /** @throws (rejects) `unknown-view` · `unknown-partition` */
  async start(): Promise<void> {
    const { view, partition, prefix } = this.request;
    const topic = await this.parts.topics.view(view);
    if (partition !== null) partitionOfTopic(topic, partition);
    if (this.stopped) return;
    const partitions = partition === null ? topic.partitions.map((_, index) => index) : [partition];
    this.partitions = partitions.length;
    for (const each of partitions) {
      this.subscriptions.push(
        this.parts.views.watch({ view: topic.name, partition: each, prefix }).subscribe({
          next: (event) => this.take(event),
          error: (thrown: unknown) => {
            this.failure ??= toTidelineError(thrown);
            this.schedule();
          },
          complete: () => {
            this.ended++;
            this.schedule();
          },
        }),
      );
    }
  }

  resume(): void {
    if (!this.full) return;
    this.full = false;
    this.cancelSlow?.();
    this.cancelSlow = null;
    this.schedule();
  }

  stop(): void {
    this.stopped = true;
    this.cancelSlow?.();
    this.cancelSlow = null;
    this.queue = [];
    this.head = 0;
    this.queuedBytes = 0;
    for (const subscription of this.subscriptions) subscription.unsubscribe();
  }

  private take(event: WatchEvent): void {
    if (this.stopped || this.failure) return;
    const { watchQueueBytesMax, watchQueueEventsMax } = this.parts.limits;
    this.queue.push(event);
    this.queuedBytes += bytesOf(event);
    if (this.queue.length - this.head > watchQueueEventsMax || this.queuedBytes > watchQueueBytesMax) {
      this.queue = [];
      this.head = 0;
      this.queuedBytes = 0;
      this.failure = new TidelineError('too-slow', 'more changes came than the reader took; watch again');
    }
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled || this.stopped || (this.full && this.failure === null)) return;
    this.scheduled = true;
    this.parts.time.scheduler.defer(() => {
      this.scheduled = false;
      this.pump();
    });
  }

  private pump(): void {
    for (let left = EVENTS_PER_TURN_MAX; left > 0 && this.head < this.queue.length; left--) {
      if (this.stopped || this.full) break;
      const event = this.queue[this.head++];
      this.queuedBytes -= bytesOf(event);
      this.give(event);
    }
    if (this.stopped) return;
    if (this.head === this.queue.length) {
      this.queue = [];
      this.head = 0;
      if (this.failure) this.finish(this.failure);
      else if (this.partitions > 0 && this.ended === this.partitions) this.finish(null);
    } else {
      // What has been given is let go of now and then, not for each event.
      if (this.head > EVENTS_PER_TURN_MAX && this.head * 2 > this.queue.length) {
        this.queue = this.queue.slice(this.head);
        this.head = 0;
      }
      this.schedule();
    }
  }

  private give(event: WatchEvent): void {
    if (event.type !== 'live') {
      if (!this.reader.change(event) && !this.stopped) this.pause();
      return;
    }
    this.lives.set(event.partition, event.offset);
    if (this.lives.size === this.partitions) this.reader.live(this.lives);
  }

  private pause(): void {
    this.full = true;
    const { slowReaderMs } = this.parts.limits;
    this.cancelSlow = this.parts.time.scheduler.after(slowReaderMs, () =>
      this.finish(new TidelineError('too-slow', `the reader took nothing for ${slowReaderMs} ms; watch again`)),
    );
  }

  private finish(error: TidelineError | null): void {
    if (this.stopped) return;
    this.stop();
    this.reader.end(error);
  }
}
