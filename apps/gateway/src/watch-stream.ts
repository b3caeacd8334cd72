import { TidelineError, afterRunning, toTidelineError, type Offset } from '#kernel';
import type { ViewQuery, WatchChunk, WatchEvent } from '#views';
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

/**
 * The entries of a view, then what changes. A chunk is released, and so followed by another, when the reader has taken it: a paused reader
 * pauses the view's host, which reads no entries ahead. The host drops a reader for whom too many changes wait, this end one that takes nothing for
 * long; both with `too-slow`, after which it starts over: a watch begins with the current entries.
 */
export class WatchStream {
  private readonly subscriptions: Subscription[] = [];
  /** As few as the hosts send without release. */
  private readonly chunks: WatchChunk[] = [];
  /** Of the first chunk: what has been given. */
  private given = 0;
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
    const { view: name, topic } = await this.parts.topics.readable(view);
    if (partition !== null) partitionOfTopic(topic, partition);
    if (this.stopped) return;
    const partitions = partition === null ? topic.partitions.map((_, index) => index) : [partition];
    this.partitions = partitions.length;
    for (const each of partitions) {
      this.subscriptions.push(
        this.parts.views.watch({ view: name, partition: each, prefix }).subscribe({
          next: (chunk) => {
            if (this.stopped) return;
            this.chunks.push(chunk);
            this.schedule();
          },
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
    this.chunks.length = 0;
    for (const subscription of this.subscriptions) subscription.unsubscribe();
  }

  private schedule(): void {
    if (this.scheduled || this.stopped || this.full) return;
    this.scheduled = true;
    this.parts.time.scheduler.defer(() => {
      this.scheduled = false;
      this.pump();
    });
  }

  private pump(): void {
    for (let left = EVENTS_PER_TURN_MAX; left > 0 && this.chunks.length > 0;) {
      const [{ events, release }] = this.chunks;
      for (; left > 0 && this.given < events.length && !this.stopped && !this.full; left--)
        this.give(events[this.given++]);
      if (this.stopped) return;
      if (this.given < events.length) break;
      this.given = 0;
      this.chunks.shift();
      release();
    }
    if (this.chunks.length > 0) {
      this.schedule();
    } else if (this.failure) this.finish(this.failure);
    else if (this.partitions > 0 && this.ended === this.partitions) this.finish(null);
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
    this.cancelSlow = afterRunning(this.parts.time.scheduler, slowReaderMs, () =>
      this.finish(new TidelineError('too-slow', `the reader took nothing for ${slowReaderMs} ms; watch again`)),
    );
  }

  private finish(error: TidelineError | null): void {
    if (this.stopped) return;
    this.stop();
    this.reader.end(error);
  }
}
