import type { Clock, Scheduler } from '#kernel';

/** While its view is given records, a snapshot takes one part in so many of the time: to make its blocks, to write them and to read them back. */
export const PACE_PARTS = 8;
/** A view that was given nothing for so long is given nothing: between two records of a client that waits for each there is less. */
export const QUIET_MS = 100;

export interface SnapshotPaceOptions {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Changes when the view is given something. */
  readonly applied: () => number;
  /** Asked for again and again: from then on there are no pauses. */
  readonly hurries: () => boolean;
}

/**
 * Pauses in the writing of a snapshot that nobody waits for. The thread that makes its blocks is the one that answers and applies, and the disk is the
 * one that the log is synced to: without pauses puts of a large view would be slow for as long as it is written. Where nothing is applied there is
 * nobody to make room for.
 */
export class SnapshotPace {
  private began: number;
  private seen: number;
  private seenMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: SnapshotPaceOptions) {
    this.seen = options.applied();
    this.began = options.clock.monotonicMs();
  }

  /** A step is done. Resolves when the next may begin. */
  async rest(): Promise<void> {
    const { clock, scheduler, applied, hurries } = this.options;
    const now = clock.monotonicMs();
    const at = applied();
    if (at !== this.seen) {
      this.seen = at;
      this.seenMs = now;
    }
    const spentMs = now - this.began;
    if (now - this.seenMs < QUIET_MS && spentMs > 0 && !hurries()) {
      await new Promise<void>((resolve) => {
        scheduler.after((PACE_PARTS - 1) * spentMs, resolve);
      });
    }
    this.began = clock.monotonicMs();
  }
}
