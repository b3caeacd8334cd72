import { AwakeClock } from './awake-clock.js';

/** A limit on waiting that is looked at again and again. Time in which nobody could have done anything does not count. */
export class Countdown {
  private readonly clock = new AwakeClock();

  constructor(private readonly limitMs: number) {}

  get isOver(): boolean {
    return this.clock.ms > this.limitMs;
  }
}
