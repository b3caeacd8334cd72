import type { Clock, Scheduler } from '#kernel';

/** While its view is given records, making the blocks of a snapshot takes one part in so many of the time. */
export const PACE_PARTS = 4;

export interface SnapshotPaceOptions {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Changes when the view is given something. */
  readonly applied: () => number;
  /** Asked for again and again: from then on there are no pauses. */
  readonly hurries: () => boolean;
}

/**
 * Pauses between the blocks of a snapshot that nobody waits for. The thread that makes them is the one that answers and applies: without pauses puts of
 * a large view would be slow for as long as it is written. Where nothing is applied there is nobody to make room for.
 */
export class SnapshotPace {
  private began: number;
  private seen: number;

  constructor(private readonly options: SnapshotPaceOptions) {
    this.seen = options.applied();
    this.began = options.clock.monotonicMs();
  }

  /** A block is made, and to be written, which is not counted. Resolves when the next may be made. */
  async made(write: () => Promise<void>): Promise<void> {
    const { clock, scheduler, applied, hurries } = this.options;
    const spentMs = clock.monotonicMs() - this.began;
    await write();
    const now = applied();
    if (now !== this.seen && spentMs > 0 && !hurries()) {
      await new Promise<void>((resolve) => {
        scheduler.after((PACE_PARTS - 1) * spentMs, resolve);
      });
    }
    this.seen = now;
    this.began = clock.monotonicMs();
  }
}
