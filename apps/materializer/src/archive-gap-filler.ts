import { randomUUID } from 'node:crypto';
import { decodeCursor, type Archive, type ArchiveEntry, type ArchiveGap, type ArchiveGaps } from '#catalog';
import {
  Turns,
  asLogTime,
  asOffset,
  toTidelineError,
  type Clock,
  type LogTime,
  type Offset,
  type Scheduler,
  type TidelineError,
} from '#kernel';
import { hasSameGap } from './archive-source.js';
import { archiveServiceV1, type DepartedEntryOfPart, type DepartedPage, type DepartedRequest } from '#wire';
import type { PeerHosts } from './peer-hosts.js';
import type { SnapshotSource } from './snapshot-store.js';

/** Of a page: few, since the host that is asked answers nobody while SQLite reads them, some 5 ms. */
export const ARCHIVE_GAP_PAGE_ENTRIES_MAX = 200;
const PAGE_BYTES_MAX = 256 * 1024;
/** The catalog of the host that is asked may be a database elsewhere. */
const PAGE_TIMEOUT_MS = 10_000;
/** After a page, for as long as it took: whoever gives it has at least half of its time for others. */
const REST_MS_MAX = 1_000;
/** How far it has come is written down this often; what was copied since is copied again after a crash. */
const SAVE_MS = 10_000;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;

/** Log times, the second exclusive, between which entries departed that the archive may lack; `from` null: the beginning. */
export interface MissingTimes {
  readonly from: LogTime | null;
  readonly to: LogTime;
}

/** How far the filling of a gap is. */
export interface ArchiveGapStatus extends MissingTimes {
  readonly view: string;
  readonly partition: number;
  /** Entries that came from other hosts, since this host started. */
  readonly copied: number;
  /** Why it does not go on; it is tried again. Null: it does. */
  readonly problem: string | null;
}

/** A stretch of log that was skipped: a snapshot of another host was taken instead. */
export interface SkippedStretch {
  /** What departed before is in the archive; null: that is not known of anything. */
  readonly archivedUntil: LogTime | null;
  /** Where the snapshot is. */
  readonly offset: Offset;
  readonly logTime: LogTime;
  readonly host: string;
}

export interface ArchiveGapFillerOptions {
  readonly gaps: ArchiveGaps;
  readonly archive: Archive;
  readonly peers: PeerHosts | null;
  /** This host, as it is known to the catalog. */
  readonly host: string;
  readonly source: SnapshotSource;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** One page of this host's at a time, whichever partition it is of. */
  readonly pages: Turns;
  /** There is a gap, or there is one still. */
  readonly opened: (status: ArchiveGapStatus) => void;
  readonly copied: (entries: number) => void;
  /** The archive lacks nothing any more. */
  readonly filled: (status: ArchiveGapStatus) => void;
}

/**
 * Sees to it that the archive of one view partition gets what departed in a stretch of log that this host has skipped: all that had departed before
 * another host's snapshot was taken is in that host's archive, or still in the snapshot. It is copied page by page, in the order in which it
 * departed, from that host, or another that has all of it. Rows are told by view, partition, offset and key, so it does no harm to copy one twice.
 */
export class ArchiveGapFiller {
  private gap: ArchiveGap | null = null;
  private copiedCount = 0;
  private problem: string | null = null;
  /** Whom to ask first. */
  private preferred = '';
  private savedMs = 0;
  /** Where no host has all of it: how far each has given what it has; null: it has given it all. */
  private readonly pooled = new Map<string, string | null>();
  private filling = false;
  /** Of changes to the gap, in memory and in the catalog. */
  private readonly changes = new Turns(1);
  private closed = false;

  constructor(private readonly options: ArchiveGapFillerOptions) {}

  /** What an earlier life of this host has left to do. Rejects when the catalog does not say. */
  async load(): Promise<void> {
    if (this.gap !== null) return;
    const { gaps, host, source } = this.options;
    for (const gap of await gaps.list(host)) {
      if (gap.view !== source.view || gap.partition !== source.partition) continue;
      if (gap.group === source.group && gap.clusterId === source.clusterId) {
        // Another mark: a copy of this catalog may have been given to another host.
        await this.changes.take(() => this.begin({ ...gap, mark: randomUUID() }));
      } else {
        // Of a topic of the same name that is gone, or of another cluster.
        await gaps.remove(gap);
      }
    }
  }

  /** Before the snapshot that skips it is taken into service. Durable when it resolves; rejects when the catalog does not take it. */
  async skip({ archivedUntil, offset, logTime, host }: SkippedStretch): Promise<void> {
    // At that log time something may have departed before the snapshot, too.
    const to = asLogTime(logTime + 1);
    if (archivedUntil !== null && archivedUntil >= to) return;
    const { clusterId, view, partition, group } = this.options.source;
    await this.changes.take(() => {
      const { gap: before } = this;
      return this.begin({
        host: this.options.host,
        clusterId,
        view,
        partition,
        group,
        // All that departed before a gap there is already, or what of it is copied, is in the archive.
        from: before === null ? archivedUntil : before.from,
        to: asLogTime(Math.max(to, before?.to ?? 0)),
        offset: asOffset(Math.max(offset, before?.offset ?? 0)),
        source: host,
        cursor: before?.cursor ?? null,
        mark: before?.mark ?? randomUUID(),
      });
    });
  }

  private async begin(gap: ArchiveGap): Promise<void> {
    await this.options.gaps.put(gap);
    if (this.closed) return;
    this.gap = gap;
    this.pooled.clear();
    this.preferred = gap.source;
    this.savedMs = this.options.clock.monotonicMs();
    this.options.opened(this.status!);
    if (!this.filling) void this.fill();
  }

  /** Null: the archive has everything that has departed, or that waits in memory. */
  get missing(): MissingTimes | null {
    return this.gap === null ? null : { from: startOf(this.gap), to: this.gap.to };
  }

  get status(): ArchiveGapStatus | null {
    const { missing, copiedCount: copied, problem } = this;
    if (missing === null) return null;
    const { view, partition } = this.options.source;
    return { view, partition, ...missing, copied, problem };
  }

  private async fill(): Promise<void> {
    const { clock, pages } = this.options;
    this.filling = true;
    let retryMs = RETRY_MS_MIN;
    while (this.gap !== null && !this.closed) {
      let tookMs = 0;
      this.problem = await pages.take(async () => {
        const beganMs = clock.monotonicMs();
        const problem = await this.copyPage();
        tookMs = clock.monotonicMs() - beganMs;
        return problem;
      });
      if (this.problem === null) {
        retryMs = RETRY_MS_MIN;
        if (this.gap !== null) await this.pause(Math.min(REST_MS_MAX, tookMs));
      } else {
        await this.pause(retryMs);
        retryMs = Math.min(RETRY_MS_MAX, retryMs * 2);
      }
    }
    this.filling = false;
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.options.scheduler.after(ms, resolve);
    });
  }

  /** The next page, from the first host that has it. Null: it is in the archive; else why not. */
  private async copyPage(): Promise<string | null> {
    const { gap } = this;
    if (gap === null || this.closed) return null;
    try {
      const refusals = new Map<string, TidelineError>();
      for (const address of this.addresses()) {
        const page = await this.ask(address, archiveServiceV1.departed, gap).catch((error: unknown) => {
          refusals.set(address, toTidelineError(error));
        });
        if (page === undefined) continue;
        this.preferred = address;
        this.pooled.clear();
        await this.archive(page);
        return await this.changes.take(() => this.goOn(gap, page));
      }
      if (this.nobodyHasIt(refusals)) return await this.pool(gap, [...refusals.keys()]);
      const texts = [...refusals].map(([address, { message }]) => `${address}: ${message}`);
      return texts.length === 0 ? 'no other host can be reached' : texts.join('; ');
    } catch (error) {
      return toTidelineError(error).message;
    }
  }

  /** Of hosts that can be reached. */
  private addresses(): string[] {
    const reachable = this.options.peers?.reachable ?? [];
    return reachable.toSorted((a, b) => Number(b === this.preferred) - Number(a === this.preferred));
  }

  private ask(address: string, call: typeof archiveServiceV1.departed, gap: ArchiveGap): Promise<DepartedPage> {
    const { clusterId, view, partition, group, mark, from, cursor } = gap;
    const request: DepartedRequest = {
      clusterId,
      view,
      partition,
      group,
      mark,
      applied: gap.offset,
      from,
      until: gap.to,
      cursor,
      limit: ARCHIVE_GAP_PAGE_ENTRIES_MAX,
      bytesMax: PAGE_BYTES_MAX,
    };
    return this.options.peers!.ask(address, call, request, PAGE_TIMEOUT_MS);
  }

  private async archive({ entries }: DepartedPage): Promise<void> {
    const { archive, copied } = this.options;
    if (entries.length === 0) return;
    const added = await archive.write(entries.map((entry) => this.archiveEntry(entry)));
    this.copiedCount += added;
    if (added > 0) copied(added);
  }

  /** Null: it does go on. */
  private async goOn(gap: ArchiveGap, { cursor, until }: DepartedPage): Promise<string | null> {
    const { gaps, clock } = this.options;
    // Another stretch was skipped meanwhile: the page that was asked for is not the last any more.
    if (this.gap !== gap || this.closed) return null;
    if (cursor === null && until >= gap.to) {
      await this.end(gap);
      return null;
    }
    // A host that has only some of it gives that: the rest comes from another.
    const next = cursor === null ? { ...gap, from: until, cursor } : { ...gap, cursor };
    if (next.cursor === gap.cursor && next.from === gap.from) return `${this.preferred} gives nothing`;
    if (clock.monotonicMs() - this.savedMs >= SAVE_MS) {
      await gaps.put(next);
      this.savedMs = clock.monotonicMs();
    }
    this.gap = next;
    return null;
  }

  private async end(gap: ArchiveGap): Promise<void> {
    const status = this.status!;
    await this.options.gaps.remove(gap);
    this.gap = null;
    this.options.filled(status);
  }

  /* ---- where no host has all of it ---- */

  /** All hosts that there are have the same gap: they have gone on from one another's snapshots. */
  private nobodyHasIt(refusals: ReadonlyMap<string, TidelineError>): boolean {
    return refusals.size > 0 && refusals.size === this.options.peers!.count && [...refusals.values()].every(hasSameGap);
  }

  /**
   * Whatever has departed was put into some host's archive first, so all archives together have all of it: each gives what it has.
   * Null: it does go on.
   */
  private async pool(gap: ArchiveGap, addresses: readonly string[]): Promise<string | null> {
    const address = addresses.find((one) => this.pooled.get(one) !== null);
    if (address !== undefined) {
      const cursor = this.pooled.get(address) ?? gap.cursor;
      const page = await this.ask(address, archiveServiceV1.kept, { ...gap, cursor });
      await this.archive(page);
      if (this.gap === gap) this.pooled.set(address, page.cursor);
      return null;
    }
    this.pooled.clear();
    await this.changes.take(async () => {
      if (this.gap === gap && !this.closed) await this.end(gap);
    });
    return null;
  }

  private archiveEntry({ contentType, expiresAt, ...entry }: DepartedEntryOfPart): ArchiveEntry {
    const { view, partition } = this.options.source;
    return { ...entry, view, partition, expiresAt: expiresAt!, ...(contentType !== null && { contentType }) };
  }

  close(): void {
    this.closed = true;
  }
}

/** Log time from which on entries are missing: those that departed before are copied. */
const startOf = ({ from, cursor }: ArchiveGap): LogTime | null =>
  cursor === null ? from : asLogTime(decodeCursor(cursor).expiresAt);
