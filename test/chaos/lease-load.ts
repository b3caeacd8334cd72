import { randomBelow, randomChance, type Rng } from '#kernel';
import type { ChaosClient } from './chaos-client.js';
import type { Pace } from './pace.js';
import type { RestChaosClient } from './rest-client.js';
import type { Statistics } from './statistics.js';

/** A topic of one partition whose expired entries are archived. */
export const LEASE_TOPIC = 'leases';
export const LEASE_TTL_MS_MIN = 300;
export const LEASE_TTL_MS_MAX = 3_000;
/** Of the leases, the share that is renewed once: before it expires or after, as it comes. */
const RENEWED_SHARE = 0.3;
const READS_MAX = 30;
const PAUSE_MS_MAX = 400;
/** An expired lease is asked for so often again, at one gateway after the other. */
const READS_AFTER_MAX = 3;

export interface LeaseWrite {
  readonly key: string;
  readonly value: string;
  readonly outcome: 'ok' | 'rejected' | 'unknown';
  /** Of its record; 0 when not known. */
  readonly offset: number;
  readonly returnedAt: number;
}

export interface LeaseLook {
  readonly key: string;
  readonly value: string | null;
  /** What the answer said it reflects. */
  readonly offset: number;
  readonly invokedAt: number;
  readonly returnedAt: number;
}

/** Keys with a short time to live, written through one gateway and looked at through others until they have gone, and then again. */
export class LeaseLoad {
  readonly writes: LeaseWrite[] = [];
  readonly looks: LeaseLook[] = [];
  private next = 0;
  private running = true;
  private readonly workers: Promise<void>[];

  constructor(
    private readonly parts: {
      readonly writers: readonly ChaosClient[];
      readonly readers: readonly RestChaosClient[];
      readonly statistics: Statistics;
      readonly pace: Pace;
      readonly rng: Rng;
    },
  ) {
    this.workers = parts.writers.map((client) => this.work(client));
  }

  private async work(client: ChaosClient): Promise<void> {
    const { rng } = this.parts;
    for (;;) {
      await this.parts.pace.turn();
      if (!this.running) return;
      const key = `lease-${this.next++}`;
      await this.write(client, key, 1);
      if (randomChance(rng, RENEWED_SHARE)) {
        await this.look(key);
        await this.pause(LEASE_TTL_MS_MAX);
        await this.write(client, key, 2);
      }
      let missing = 0;
      for (let reads = 0; reads < READS_MAX && missing <= READS_AFTER_MAX && this.running; reads++) {
        await this.pause(PAUSE_MS_MAX);
        if (await this.look(key)) missing++;
      }
    }
  }

  private async pause(msMax: number): Promise<void> {
    const { rng } = this.parts;
    if (this.running) await new Promise((resolve) => setTimeout(resolve, randomBelow(rng, msMax)));
  }

  private async write(client: ChaosClient, key: string, generation: number): Promise<void> {
    const { rng, statistics } = this.parts;
    const ttlMs = LEASE_TTL_MS_MIN + randomBelow(rng, LEASE_TTL_MS_MAX - LEASE_TTL_MS_MIN);
    const value = `${key} generation ${generation} by ${client.name}`;
    const result = await client.putLease(LEASE_TOPIC, { key, value, ttlMs });
    const returnedAt = performance.now();
    const ok = result.kind === 'ok';
    statistics.count('lease', ok ? 'done' : result.kind, ok ? '' : result.code);
    if (ok) statistics.acknowledged();
    this.writes.push({ key, value, outcome: result.kind, offset: ok ? result.value : 0, returnedAt });
  }

  /** Whether it was not there. */
  private async look(key: string): Promise<boolean> {
    const { readers, rng, statistics } = this.parts;
    const invokedAt = performance.now();
    const result = await readers[randomBelow(rng, readers.length)].read(LEASE_TOPIC, key);
    const ok = result.kind === 'ok';
    statistics.count('get of a lease', ok ? 'done' : 'unknown', ok ? '' : result.code);
    if (!ok) return false;
    this.looks.push({ key, ...result.value, invokedAt, returnedAt: performance.now() });
    return result.value.value === null;
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.workers);
  }
}
