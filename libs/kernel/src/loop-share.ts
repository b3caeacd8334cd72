import type { Clock, Scheduler } from './clock.js';

/** Of what a step may take in this turn; 0 or below: it leaves the rest to a later one. */
export type MsLeft = () => number;

/**
 * A part of each turn of the event loop, for work that can be done in steps: those of all who ask share it, so that a turn takes no longer for many of them
 * than for one. First come, first served, each at most once a turn; those for whom nothing is left come first in the next. A step looks after itself: it
 * is given what is left, and is begun as long as that is anything.
 */
export class LoopShare {
  private waiting: ((left: MsLeft) => void)[] = [];
  private scheduled = false;

  constructor(
    private readonly time: { readonly clock: Clock; readonly scheduler: Scheduler },
    private readonly ms: number,
  ) {}

  /** In the turn that a deferred task would be run in, or a later one; once. */
  run(step: (left: MsLeft) => void): void {
    this.waiting.push(step);
    this.schedule();
  }

  /** A whole share that begins now, for what is not to wait. */
  begin(): MsLeft {
    const { clock } = this.time;
    const until = clock.monotonicMs() + this.ms;
    return () => until - clock.monotonicMs();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.time.scheduler.defer(this.turn);
  }

  private readonly turn = (): void => {
    this.scheduled = false;
    const steps = this.waiting;
    // What a step asks for comes in a turn after this.
    this.waiting = [];
    const left = this.begin();
    let done = 0;
    try {
      do steps[done++](left);
      while (done < steps.length && left() > 0);
    } finally {
      // A step that throws takes none of the others with it.
      if (done < steps.length) {
        this.waiting = [...steps.slice(done), ...this.waiting];
        this.schedule();
      }
    }
  };
}

/**
 * Repeats a part of a step until it says that there is no more, or another like it would take longer than what is left: at least once. Returns whether
 * there may be more.
 */
export const repeatWithin = (left: MsLeft, part: () => boolean): boolean => {
  for (let before = left(); ;) {
    if (!part()) return false;
    const now = left();
    if (now <= 0 || now < before - now) return true;
    before = now;
  }
};
