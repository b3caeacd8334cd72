import type { Archive, ArchivedEntry, ArchiveEntry, ArchivePage, ArchiveQuery } from '#catalog';
import { TidelineError, randomChance, type Rng, type Scheduler } from '#kernel';
import { InMemoryArchive } from '../../libs/catalog/src/testing/index.js';

/** Which archive the hosts of views have: none, one database together, or each its own. */
export const ARCHIVES = ['none', 'shared', 'own'] as const;

const TRIP_MS_MAX = 20;
/** Share of requests that take seconds. */
const SLOW_RATE = 0.05;
const SLOW_MS_MAX = 2000;
/** Share of answers that are lost when the database has done what it was asked. */
const LOST_RATE = 0.05;

/** A database that outlives the processes that write to it. */
export class ArchiveDatabase {
  isAway = false;
  readonly rows: InMemoryArchive;

  constructor(wallMs: () => number) {
    this.rows = new InMemoryArchive({ wallMs, monotonicMs: wallMs });
  }
}

/** How one process reaches it: that takes time, and may fail before and after the database has done something. */
export class SimulatedArchive implements Archive {
  constructor(
    private readonly database: ArchiveDatabase,
    private readonly scheduler: Scheduler,
    private readonly rng: Rng,
  ) {}

  write(entries: readonly ArchiveEntry[]): Promise<number> {
    return this.ask((rows) => rows.write(entries));
  }

  query(query: ArchiveQuery): Promise<ArchivePage> {
    return this.ask((rows) => rows.query(query));
  }

  latest(view: string, key: Uint8Array): Promise<ArchivedEntry | undefined> {
    return this.ask((rows) => rows.latest(view, key));
  }

  private async ask<T>(run: (rows: InMemoryArchive) => Promise<T>): Promise<T> {
    await this.trip();
    if (this.database.isAway) throw new TidelineError('not-ready', 'the database of the archive is away');
    const answer = await run(this.database.rows);
    await this.trip();
    if (randomChance(this.rng, LOST_RATE)) throw new TidelineError('connection-lost', 'the answer of the archive');
    return answer;
  }

  private trip(): Promise<void> {
    const msMax = randomChance(this.rng, SLOW_RATE) ? SLOW_MS_MAX : TRIP_MS_MAX;
    const ms = (this.rng.nextU32() / 2 ** 32) * msMax;
    return new Promise((resolve) => {
      this.scheduler.after(ms, resolve);
    });
  }
}
