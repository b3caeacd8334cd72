import { afterEach, describe, expect, test } from '@jest/globals';
import { SeededRng, asOffset, isTidelineError, randomBelow, randomChance } from '#kernel';
import { InMemoryArchive } from '../../../libs/catalog/src/testing/index.js';
import {
  NAMES,
  VIEW,
  diskOf,
  put,
  startHosts,
  type Host,
  type Name,
  type World,
} from './testing/hosts-with-archives.js';
import { ViewHost } from './view-host.js';

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const SEEDS = 15;
const STEPS = 40;
const pick = <T>(rng: SeededRng, items: readonly T[]): T => items[randomBelow(rng, items.length)];

/** Hosts that crash, restart and lose their disks, archives that refuse, connections that break, a log that is trimmed: then all is well again. */
class Trouble {
  private readonly up = new Map<Name, Host>();
  private readonly newest = new Map<Name, number>();
  private lostDisk = false;
  private values = 0;
  /** Gaps that were opened, all hosts together. */
  gaps = 0;

  constructor(
    private readonly world: World,
    private readonly rng: SeededRng,
  ) {}

  async step(): Promise<void> {
    const { rng } = this;
    const { time, disks, network } = this.world;
    const name = pick(rng, NAMES);
    switch (randomBelow(rng, 12)) {
      case 0:
      case 1:
        return this.up.has(name) ? this.stop(name) : this.start(name);
      case 2:
      case 3:
        return this.snapshot(name);
      case 4:
        return this.trim();
      case 5:
        disks[name].archive.takesNothing = randomChance(rng, 0.5);
        return undefined;
      case 6:
        disks[name].archive.pages = randomChance(rng, 0.5) ? randomBelow(rng, 3) : Infinity;
        return undefined;
      case 7:
        if (randomChance(rng, 0.5)) network.cut(name, pick(rng, NAMES));
        else network.heal();
        return undefined;
      case 8:
        return randomChance(rng, 0.3) ? this.loseDisk(name) : this.restore(name);
      default:
        await this.append();
        return time.advance(randomBelow(rng, 3000));
    }
  }

  private async append(): Promise<void> {
    const { rng, world } = this;
    await world.append(
      ...Array.from({ length: 1 + randomBelow(rng, 20) }, () =>
        put(
          `k${randomBelow(rng, 60)}`,
          `${this.values++}`,
          randomChance(rng, 0.1) ? undefined : 1 + randomBelow(rng, 4000),
        ),
      ),
    );
  }

  async start(name: Name): Promise<void> {
    this.up.set(name, await this.world.host(name, { settleMs: randomBelow(this.rng, 1500) }));
  }

  private async stop(name: Name): Promise<void> {
    const host = this.up.get(name)!;
    this.up.delete(name);
    this.gaps += host.opened.length;
    await host.crash();
  }

  /** Or it cannot, at present. */
  private async snapshot(name: Name): Promise<void> {
    const host = this.up.get(name);
    if (host)
      await this.world.snapshot(host).then(
        (offset) => this.newest.set(name, offset),
        () => undefined,
      );
  }

  /** Two hosts can go on from there. */
  private async trim(): Promise<void> {
    const [, second] = [...this.newest.values()].sort((a, b) => b - a);
    if (second !== undefined) await this.world.trim(second);
  }

  private async restore(name: Name): Promise<void> {
    const request = { view: VIEW, partition: null, offset: asOffset(Math.max(0, ...this.newest.values())) };
    const { time } = this.world;
    await time
      .until(this.up.get(name)?.views.upkeep.restoreSnapshots(request) ?? Promise.resolve([]))
      .catch((error: unknown) => {
        // There may be no snapshot to go on from by now, or the view may not be there yet.
        if (!isTidelineError(error) || !['not-found', 'not-ready'].includes(error.code)) throw error;
      });
  }

  /** Once, and while the others have whole archives. */
  private async loseDisk(name: Name): Promise<void> {
    const others = NAMES.filter((other) => other !== name).map((other) => this.up.get(other));
    const isWhole = (host: Host | undefined): boolean =>
      host !== undefined && host.views.archiveGaps.length === 0 && host.views.lagRecords === 0;
    if (this.lostDisk || !others.every(isWhole)) return;
    this.lostDisk = true;
    if (this.up.has(name)) await this.stop(name);
    this.newest.delete(name);
    this.world.disks[name] = diskOf(this.world.time);
  }

  async allIsWell(): Promise<void> {
    const { world } = this;
    world.network.heal();
    for (const name of NAMES) {
      Object.assign(world.disks[name].archive, { takesNothing: false, pages: Infinity });
      if (!this.up.has(name)) await this.start(name);
    }
    await world.time.advance(60_000);
    for (const name of NAMES) {
      const { views, opened } = this.up.get(name)!;
      this.gaps += opened.length;
      expect({ name, gaps: views.archiveGaps, health: views.health }).toEqual({ name, gaps: [], health: [] });
    }
  }
}

describe('whatever happens to hosts, archives and connections', () => {
  let gaps = 0;

  test.each(Array.from({ length: SEEDS }, (_, n) => n + 1))(
    'all archives have in the end what has departed (seed %i)',
    async (seed) => {
      const world = await startHosts(closing);
      const { time, log, rows, archived } = world;
      // One that is always there, and skips nothing.
      const reference = new InMemoryArchive(time);
      const witness = new ViewHost({ log, archive: reference, clock: time, scheduler: time });
      closing.push(() => witness.close());
      const trouble = new Trouble(world, new SeededRng(seed));
      for (const name of NAMES) await trouble.start(name);
      for (let step = 0; step < STEPS; step++) await trouble.step();
      await trouble.allIsWell();
      const departed = await rows(reference);
      expect(departed.length).toBeGreaterThan(10);
      for (const name of NAMES) expect({ name, archived: await archived(name) }).toEqual({ name, archived: departed });
      gaps += trouble.gaps;
    },
  );

  test('and there were gaps to fill', () => {
    expect(gaps).toBeGreaterThan(SEEDS);
  });
});
