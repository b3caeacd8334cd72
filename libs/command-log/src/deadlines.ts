import type { Clock, Scheduler } from '#kernel';

/** A deadline may fire this much late, in ms: the price of one timer for all of them. */
export const DEADLINE_RESOLUTION_MS = 20;

interface Deadline {
  readonly atMs: number;
  readonly expired: () => void;
}

/** Any number of deadlines on one timer, which runs only while there is one. */
export class Deadlines {
  private readonly pending = new Set<Deadline>();
  private running = false;

  constructor(
    private readonly clock: Clock,
    private readonly scheduler: Scheduler,
  ) {}

  /** Calls `expired` once, not before `delayMs`. Returns a function that takes it back. */
  add(delayMs: number, expired: () => void): () => void {
    const deadline: Deadline = { atMs: this.clock.monotonicMs() + delayMs, expired };
    this.pending.add(deadline);
    this.start();
    return () => {
      this.pending.delete(deadline);
    };
  }

  private start(): void {
    if (this.running) return;
    this.running = true;
    this.scheduler.after(DEADLINE_RESOLUTION_MS, this.sweep);
  }

  private readonly sweep = (): void => {
    this.running = false;
    const now = this.clock.monotonicMs();
    for (const deadline of this.pending) {
      if (deadline.atMs > now) continue;
      this.pending.delete(deadline);
      deadline.expired();
    }
    if (this.pending.size > 0) this.start();
  };
}
