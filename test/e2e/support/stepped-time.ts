import type { GatewayTime } from '#apps/gateway';
import { systemScheduler, type Clock, type Scheduler } from '#kernel';
import { VirtualTime } from '../../../libs/net/src/testing/index.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * A gateway's time that passes when a test says so, however slow the machine is: what has a limit in time meets it when it should and not before. What
 * is only deferred runs as ever.
 */
export class SteppedTime implements GatewayTime {
  private readonly time = new VirtualTime();
  readonly clock: Clock = this.time;
  readonly scheduler: Scheduler = {
    defer: (task) => systemScheduler.defer(task),
    after: (delayMs, task) => this.time.after(delayMs, task),
  };

  /** Lets time pass, step by step, until it is so. */
  async passUntil(condition: () => Promise<boolean>, stepMs: number): Promise<void> {
    while (!(await condition())) {
      this.time.advance(stepMs);
      await turn();
    }
  }
}
