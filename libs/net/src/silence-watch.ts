import type { Clock, Scheduler } from '#kernel';

/** The time that the other side has to answer is looked at in so many steps. */
const SILENCE_STEPS = 4;

export interface SilenceWatchOptions {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly idlePingMs: number;
  /** Asks the other side to say something. */
  readonly ask: () => void;
  /** Nothing was heard; the watch has ended. */
  readonly silent: (silentMs: number) => void;
}

/**
 * Whether the other side of a connection still says something.
 *
 *     heard ──── idlePingMs ────► asked ── step ── step ── step ── step ──► sockets are read once more ──► silent
 *                                       └────────── idlePingMs ──────────┘
 *
 * What counts is time in which this process ran. One that stood still (a virtual machine without its processor, SIGSTOP, a long turn of the
 * event loop) wakes to timers that are due, and only then reads what has arrived meanwhile; and if the whole machine stood still, the other
 * side had no time to answer. A standstill, however long, passes for one step at most, and sockets have been read between any two.
 */
export class SilenceWatch {
  private heardAtMs: number;
  private asked = false;
  private steps = 0;
  private stopped = true;
  private cancelTimer: () => void = () => undefined;

  constructor(private readonly options: SilenceWatchOptions) {
    this.heardAtMs = options.clock.monotonicMs();
  }

  start(): void {
    this.stopped = false;
    this.checkAfter(this.options.idlePingMs);
  }

  stop(): void {
    this.stopped = true;
    this.cancelTimer();
  }

  heard(): void {
    this.heardAtMs = this.options.clock.monotonicMs();
    this.asked = false;
  }

  private get silentMs(): number {
    return this.options.clock.monotonicMs() - this.heardAtMs;
  }

  private checkAfter(delayMs: number): void {
    this.cancelTimer = this.options.scheduler.after(delayMs, this.check);
  }

  private readonly check = (): void => {
    const { idlePingMs, ask, scheduler } = this.options;
    const { silentMs } = this;
    if (silentMs < idlePingMs) return this.checkAfter(idlePingMs - silentMs);
    if (!this.asked) {
      ask();
      this.asked = true;
      this.steps = 0;
    } else if (++this.steps === SILENCE_STEPS) {
      return scheduler.defer(this.judge);
    }
    this.checkAfter(idlePingMs / SILENCE_STEPS);
  };

  /** Deferred, so after the sockets have been read. */
  private readonly judge = (): void => {
    if (this.stopped) return;
    if (!this.asked) return this.check();
    this.stopped = true;
    this.options.silent(this.silentMs);
  };
}
