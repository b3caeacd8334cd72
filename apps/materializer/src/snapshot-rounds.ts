import { toTidelineError, type Clock, type Scheduler, type TidelineError } from '#kernel';
import { isOpen, type HostedView } from './hosted-partition.js';
import type { SnapshotStore } from './snapshot-store.js';

export interface SnapshotRoundsOptions {
  readonly store: SnapshotStore;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly views: () => Iterable<HostedView>;
  readonly failed: (view: string, partition: number, error: TidelineError) => void;
}

/** When a host takes snapshots: of every partition that has moved on since its last, at an interval and before a stop. */
export class SnapshotRounds {
  private round: Promise<void> | null = null;
  private untilMs = Number.POSITIVE_INFINITY;
  private cancelNext: (() => void) | null = null;
  private closed = false;

  constructor(private readonly options: SnapshotRoundsOptions) {
    this.schedule();
  }

  private schedule(): void {
    const { scheduler, intervalMs } = this.options;
    if (this.closed) return;
    this.cancelNext = scheduler.after(intervalMs, () => {
      void this.run().then(() => this.schedule());
    });
  }

  /** Joins a round that is under way. Never rejects. */
  private run(): Promise<void> {
    this.round ??= this.write().finally(() => {
      this.round = null;
    });
    return this.round;
  }

  private async write(): Promise<void> {
    const { store, clock, views, failed } = this.options;
    const cancelled = (): boolean => this.closed || clock.monotonicMs() >= this.untilMs;
    for (const { partitions } of views()) {
      for (const hosted of partitions.filter(isOpen)) {
        const { view, source } = hosted;
        // What waits for the archive besides the entries is in no snapshot: the log is still needed for it.
        if (cancelled() || view.offset <= hosted.snapshotOffset || view.archiveQueueBytes > 0) continue;
        const { offset } = view;
        try {
          if (await store.write(source, view, cancelled)) hosted.snapshotOffset = offset;
        } catch (error) {
          failed(source.view, source.partition, toTidelineError(error));
        }
      }
    }
  }

  /** Before a stop: what has changed, as far as that goes within the time. */
  async finish(withinMs: number): Promise<void> {
    this.untilMs = this.options.clock.monotonicMs() + withinMs;
    if (this.round) await this.round;
    await this.run();
  }

  close(): void {
    this.closed = true;
    this.cancelNext?.();
  }
}
