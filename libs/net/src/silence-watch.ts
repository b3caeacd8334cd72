import { afterRunning, type Clock, type Scheduler } from '#kernel';

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
 *     heard ── idlePingMs ──► asked ── idlePingMs in which this process ran ──► silent
 */
export class SilenceWatch {
  private heardAtMs: number;
  private asked = false;
  private cancelTimer: () => void = () => undefined;

  constructor(private readonly options: SilenceWatchOptions) {
    this.heardAtMs = options.clock.monotonicMs();
  }

  start(): void {
    this.checkAfter(this.options.idlePingMs);
  }

  stop(): void {
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
    ask();
    this.asked = true;
    this.cancelTimer = afterRunning(scheduler, idlePingMs, this.judge);
  };

  private readonly judge = (): void => {
    if (this.asked) this.options.silent(this.silentMs);
    else this.check();
  };
}
