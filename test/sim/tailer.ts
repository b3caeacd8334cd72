import { isTidelineError, randomBelow, randomChance, type Rng } from '#kernel';
import type { TailChunk } from '#command-log';
import type { Subscription } from 'rxjs';
import { ExactTailChecker } from './checkers/exact-tails.js';
import type { Machine } from './machine.js';
import { Violation } from './violation.js';
import type { Place } from './place.js';
import type { World } from './world.js';

/** Small enough that credit matters. */
const CREDIT_BYTES = 8192;
const RESUME_MS_MAX = 6000;
const SLOW_MS_MAX = 500;

/** A reader of a log that is slow at times, leaves, and comes back through another gateway where it was. */
export class Tailer {
  readonly checker: ExactTailChecker;
  private subscription: Subscription | null = null;
  private machine: Machine | null = null;
  private life = 0;
  private generation = 0;
  private readonly owner: number;

  constructor(
    private readonly world: World,
    private readonly target: Place,
    private readonly rng: Rng,
  ) {
    this.owner = 200 + target.group;
    this.checker = new ExactTailChecker(
      world.record(target.group),
      `the reader of ${target.topic} ${target.partition}`,
    );
    this.resume();
  }

  private later(ms: number, task: () => void): void {
    this.world.queue.after(ms, this.owner, task);
  }

  private resume(): void {
    const { world, rng } = this;
    const generation = ++this.generation;
    const current = (): boolean => this.generation === generation;
    if (this.machine?.life === this.life) this.subscription?.unsubscribe();
    this.subscription = null;
    const machine = world.machines[randomBelow(rng, world.machines.length)];
    this.machine = machine;
    this.life = machine.life;
    this.later(200 + randomBelow(rng, RESUME_MS_MAX), () => current() && this.resume());
    const log = machine.gateway?.log;
    if (log === undefined) return;
    this.subscription = log.tail(this.target, this.checker.next, { creditBytes: CREDIT_BYTES }).subscribe({
      next: (chunk) => {
        if (current() && machine.life === this.life) this.take(chunk, machine);
      },
      error: (error: unknown) => {
        if (!current() || !isTidelineError(error, 'offset-out-of-range')) return;
        const start = error.details['logStart'];
        if (typeof start === 'number' && start > this.checker.next) this.checker.skipTo(start - 1);
      },
    });
  }

  private take(chunk: TailChunk, machine: Machine): void {
    const { life } = machine;
    // In the event that commits: the others are looked at first.
    this.world.lookAtAll();
    try {
      this.checker.chunk(chunk);
      this.world.durableReads.shown(this.checker.record, this.checker.offset, this.checker.name);
    } catch (error) {
      // The run ends with it all the same, see rethrowViolation.
      if (!(error instanceof Violation)) throw error;
    }
    if (randomChance(this.rng, 0.7)) chunk.release();
    else {
      this.later(randomBelow(this.rng, SLOW_MS_MAX), () => {
        if (machine.life === life) chunk.release();
      });
    }
  }
}
