import type { AwakeClock } from './awake-clock.js';

const LOOK_EVERY_MS = 100;
const STALL_MS_MIN = 2000;

/** Tells when this process itself stood still: what looks like a long pause of the cluster then is none, or not all of it. */
export class StallWatch {
  private last = performance.now();
  private cpu = process.cpuUsage();
  private readonly timer: NodeJS.Timeout;

  constructor(clock: AwakeClock, say: (text: string) => void) {
    this.timer = setInterval(() => {
      const now = performance.now();
      const stalledMs = now - this.last;
      const { user, system } = process.cpuUsage(this.cpu);
      // Somebody has to look.
      void clock.ms;
      if (stalledMs >= STALL_MS_MIN)
        say(
          `this process stood still for ${Math.round(stalledMs)} ms, ${Math.round((user + system) / 1000)} ms of them busy`,
        );
      this.last = now;
      this.cpu = process.cpuUsage();
    }, LOOK_EVERY_MS);
  }

  close(): void {
    clearInterval(this.timer);
  }
}
