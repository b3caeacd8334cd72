import type { Clock, Scheduler } from '#kernel';

/** Something that is given up at a moment. Linked into its wheel slot: adding and removing make no object and search nothing. */
export abstract class Deadline {
  next: Deadline | null = null;
  previous: Deadline | null = null;
  dueTick = 0;
  slot = -1;
  /** Called once by the wheel, after it has let go of this. */
  abstract expire(): void;
}

const SLOTS = 512;
const TICK_MS = 20;
const DELAY_MS_MAX = 2 ** 31 - 1;
/** A turn that comes so late means that the process stood still, and that what arrived meanwhile has not been read yet. */
const STANDSTILL_TICKS = 5;

/**
 * Timeouts of many requests on one timer: a hashed wheel (Varghese and Lauck, 1987). A deadline is never early and at most about
 * one tick late. The timer runs only while there is something to wait for.
 *
 * After a standstill of the process nothing expires before sockets have been read: an answer that came in time is not given up for having been
 * read late.
 */
export class DeadlineWheel {
  private readonly slots: (Deadline | null)[] = Array.from({ length: SLOTS }, () => null);
  private tick = 0;
  private count = 0;
  private running = false;
  private catchingUp = false;

  constructor(
    private readonly clock: Clock,
    private readonly scheduler: Scheduler,
  ) {}

  get size(): number {
    return this.count;
  }

  add(deadline: Deadline, delayMs: number): void {
    const now = this.clock.monotonicMs();
    if (!this.running) {
      this.tick = Math.floor(now / TICK_MS);
      this.running = true;
      this.scheduler.after(TICK_MS, this.turn);
    }
    const due = Math.ceil((now + Math.min(Math.max(0, delayMs), DELAY_MS_MAX)) / TICK_MS);
    deadline.dueTick = Math.max(due, this.tick + 1);
    const slot = deadline.dueTick % SLOTS;
    const head = this.slots[slot];
    deadline.slot = slot;
    deadline.next = head;
    deadline.previous = null;
    if (head !== null) head.previous = deadline;
    this.slots[slot] = deadline;
    this.count++;
  }

  /** Does nothing if it is not in the wheel. */
  remove(deadline: Deadline): void {
    if (deadline.slot < 0) return;
    const { next, previous } = deadline;
    if (previous === null) this.slots[deadline.slot] = next;
    else previous.next = next;
    if (next !== null) next.previous = previous;
    deadline.next = null;
    deadline.previous = null;
    deadline.slot = -1;
    this.count--;
  }

  private readonly turn = (): void => {
    const now = Math.floor(this.clock.monotonicMs() / TICK_MS);
    this.catchingUp = !this.catchingUp && now - this.tick > STANDSTILL_TICKS;
    if (this.catchingUp) {
      this.scheduler.after(TICK_MS, this.turn);
      return;
    }
    // After a long pause of the process one round over all slots sees everything.
    const steps = Math.min(now - this.tick, SLOTS);
    const expired: Deadline[] = [];
    for (let i = 0; i < steps; i++) {
      for (let at = this.slots[(now - i) % SLOTS]; at !== null;) {
        const { next } = at;
        if (at.dueTick <= now) {
          this.remove(at);
          expired.push(at);
        }
        at = next;
      }
    }
    this.tick = Math.max(this.tick, now);
    if (this.count > 0) this.scheduler.after(TICK_MS, this.turn);
    else this.running = false;
    expired.sort((a, b) => a.dueTick - b.dueTick);
    for (const deadline of expired) deadline.expire();
  };
}
