import { randomBelow, randomChance, type Rng } from '#kernel';
import type { EventQueue, Owner } from './event-queue.js';
import type { Swarm } from './swarm.js';

/** A stray message is this much later than others at most. */
const STRAY_MS = 1000;
/** A connection whose other end does not answer breaks after this. */
const BREAK_MS = 1500;

/**
 * Every way from one place to another: nodes (1 … 7), clients (100 …). Peer frames may be lost, doubled, delayed and overtaken; calls are those
 * of a connection: they arrive once or the connection breaks. Links are cut one way at a time.
 */
export class Network {
  private readonly cut = new Set<number>();
  private readonly clogged = new Map<number, number>();
  lossRate: number;
  duplicationRate: number;
  strayRate: number;
  framesDropped = 0;

  constructor(
    private readonly queue: EventQueue,
    private readonly rng: Rng,
    private readonly limits: Swarm['network'],
  ) {
    this.lossRate = limits.lossRate;
    this.duplicationRate = limits.duplicationRate;
    this.strayRate = limits.strayRate;
  }

  block(from: Owner, to: Owner): void {
    this.cut.add(from * 1024 + to);
  }

  isCut(from: Owner, to: Owner): boolean {
    return this.cut.has(from * 1024 + to);
  }

  clog(from: Owner, to: Owner, ms: number): void {
    this.clogged.set(from * 1024 + to, this.queue.now + ms);
  }

  heal(): void {
    this.cut.clear();
    this.clogged.clear();
  }

  /** No faults from now on. */
  calm(): void {
    this.heal();
    this.lossRate = this.duplicationRate = this.strayRate = 0;
  }

  private delay(from: Owner, to: Owner): number {
    const { delayMsMin, delayMsMax } = this.limits;
    let delay = delayMsMin + (this.rng.nextU32() / 2 ** 32) * (delayMsMax - delayMsMin);
    if (this.strayRate > 0 && randomChance(this.rng, this.strayRate)) delay += randomBelow(this.rng, STRAY_MS);
    const until = this.clogged.get(from * 1024 + to);
    if (until !== undefined) {
      if (until > this.queue.now) delay += until - this.queue.now;
      else this.clogged.delete(from * 1024 + to);
    }
    return delay;
  }

  /** One datagram. */
  frame(from: Owner, to: Owner, arrive: () => void): void {
    if (this.isCut(from, to) || (this.lossRate > 0 && randomChance(this.rng, this.lossRate))) {
      this.framesDropped++;
      return;
    }
    const copies = this.duplicationRate > 0 && randomChance(this.rng, this.duplicationRate) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      this.queue.after(this.delay(from, to), to, () => {
        // What is under way when a cut begins is lost with it.
        if (!this.isCut(from, to)) arrive();
      });
    }
  }

  /** One message of a connection: `arrive` at the other end, or `lost` at this one some time later. */
  message(from: Owner, to: Owner, arrive: () => void, lost: () => void): void {
    if (from === to) {
      this.queue.after(0, to, arrive);
      return;
    }
    if (this.isCut(from, to) || (this.lossRate > 0 && randomChance(this.rng, this.lossRate / 4))) {
      this.queue.after(BREAK_MS, from, lost);
      return;
    }
    this.queue.after(this.delay(from, to), to, () => {
      if (this.isCut(from, to)) this.queue.after(BREAK_MS, from, lost);
      else arrive();
    });
  }
}
