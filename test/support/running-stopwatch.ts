import { AwakeClock } from '../chaos/awake-clock.js';

const LOOK_EVERY_MS = 50;
/** What lies between two looks counts so much at most: a machine that is busy is late by less, one that stands still by more. */
const STEP_MS_MAX = 250;

/** Time in which this machine ran, for what is to be done within a time: what nobody could have done while it stood still is not asked of anybody. */
export class RunningStopwatch {
  private readonly clock = new AwakeClock({ stepMsMax: STEP_MS_MAX });
  private startMs = 0;
  // Keeps no process alive.
  private readonly timer = setInterval(() => void this.clock.ms, LOOK_EVERY_MS).unref();

  /** Since `restart`, or since it was made. */
  get ms(): number {
    return this.clock.ms - this.startMs;
  }

  restart(): void {
    this.startMs = this.clock.ms;
  }

  close(): void {
    clearInterval(this.timer);
  }
}
