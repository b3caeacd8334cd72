import { randomBelow, randomChance, type Rng } from '#kernel';
import type { Fault, FaultContext } from './fault.js';
import { add } from './statistics.js';

const PUT_BACK_BEHIND = 2;

/** Every kind once, in a random order, then again: no run goes without one for long. */
class Deck {
  private left: Fault[] = [];

  constructor(
    private readonly faults: readonly Fault[],
    private readonly rng: Rng,
    /** The first round goes in the order given. */
    inOrder: boolean,
  ) {
    if (inOrder) this.left = [...faults].reverse();
  }

  deal(): Fault {
    if (this.left.length === 0) this.left = this.shuffled();
    return this.left.pop()!;
  }

  /** It could not be done now: it has its turn again after some others. */
  later(fault: Fault): void {
    this.left.splice(Math.max(0, this.left.length - PUT_BACK_BEHIND), 0, fault);
  }

  /** One that may run beside another. */
  dealSecond(): Fault | null {
    const candidates = this.faults.filter(({ alone }) => !alone);
    return candidates.length > 0 ? candidates[randomBelow(this.rng, candidates.length)] : null;
  }

  private shuffled(): Fault[] {
    const faults = [...this.faults];
    for (let i = faults.length - 1; i > 0; i--) {
      const j = randomBelow(this.rng, i + 1);
      [faults[i], faults[j]] = [faults[j], faults[i]];
    }
    return faults;
  }
}

const SECOND_CHANCE = 0.25;
/** Between faults, ms: time to recover, and time not to. */
const QUIET_MS_MAX = 3000;

/** Deals faults, one or two at a time, until time is over. */
export class Schedule {
  /** Faults done, by kind. */
  readonly done = new Map<string, number>();

  constructor(
    private readonly faults: readonly Fault[],
    private readonly context: FaultContext,
  ) {}

  async run(goOn: () => boolean): Promise<void> {
    const { rng, quick, sleep } = this.context;
    const deck = new Deck(this.faults, rng, quick);
    while (goOn()) {
      const first = deck.deal();
      const second = !first.alone && randomChance(rng, SECOND_CHANCE) ? deck.dealSecond() : null;
      const running = [
        this.one(first).then((done) => {
          if (!done) deck.later(first);
        }),
      ];
      if (second) {
        await sleep(randomBelow(rng, quick ? 500 : 2000));
        running.push(this.one(second).then(() => undefined));
      }
      await Promise.all(running);
      if (goOn()) await sleep(randomBelow(rng, QUIET_MS_MAX) / (quick ? 6 : 1));
    }
  }

  /** false: it cannot be done now. */
  private async one(fault: Fault): Promise<boolean> {
    const { statistics } = this.context;
    statistics.faultBegins(fault.kind);
    try {
      const done = await fault.run(this.context);
      if (done) add(this.done, fault.kind);
      return done;
    } catch (error) {
      this.context.problem(`${fault.kind}: ${(error as Error).message}`);
      return true;
    } finally {
      statistics.faultEnds(fault.kind);
    }
  }
}
