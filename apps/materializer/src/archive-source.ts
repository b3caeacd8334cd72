import { ARCHIVE_QUERY_ENTRIES_MAX, decodeCursor, type Archive, type ArchiveGaps } from '#catalog';
import { TidelineError, asLogTime, type LogTime } from '#kernel';
import type { DepartedPage, DepartedRequest } from '#wire';
import type { HostedPartition } from './hosted-partition.js';
import type { SnapshotSource } from './snapshot-store.js';

/** Of a page that another host asks for, whatever it asks for. */
const PAGE_BYTES_MAX = 1024 * 1024;

const SAME_GAP = { gap: 'the same' } as const;

/** Whether a host refused what was asked for since its own archive lacks that, too. */
export const hasSameGap = (error: TidelineError): boolean => error.details['gap'] === SAME_GAP.gap;

/** What this host's archive has for other hosts whose archives lack it. */
export class ArchiveSource {
  constructor(
    private readonly archive: Archive,
    private readonly gaps: ArchiveGaps,
  ) {}

  /**
   * Entries that left a partition in the times that were asked for, if the archive has all of them: those that this host has skipped itself are in
   * others, those that wait in memory will be there later. Rejects `not-ready`.
   */
  departed(hosted: HostedPartition, request: DepartedRequest): Promise<DepartedPage> {
    return this.page(hosted.source, request, reach(hosted, request));
  }

  /** The same of what the archive has, be it all or not. */
  kept({ source }: HostedPartition, request: DepartedRequest): Promise<DepartedPage> {
    return this.page(source, request, request.until);
  }

  private async page(
    { view, partition }: SnapshotSource,
    { from, cursor, limit, bytesMax, mark }: DepartedRequest,
    until: LogTime,
  ): Promise<DepartedPage> {
    // In one database everything is there already.
    if (await this.gaps.hasMark(mark)) return { entries: [], cursor: null, until };
    const page = await this.archive.query({
      view,
      partition,
      to: until,
      limit: Math.max(1, Math.min(limit, ARCHIVE_QUERY_ENTRIES_MAX)),
      bytesMax: Math.min(bytesMax, PAGE_BYTES_MAX),
      ...(from !== null && { from }),
      ...(cursor !== null && { cursor }),
    });
    return {
      entries: page.entries.map(({ key, value, contentType, ...entry }) => ({
        ...entry,
        key: Buffer.from(key),
        value: Buffer.from(value),
        contentType: contentType ?? null,
      })),
      cursor: page.cursor ?? null,
      until,
    };
  }
}

/** Before which log time the archive has all that departed, of what was asked for. Throws `not-ready` when that is nothing. */
const reach = (
  { source, view, archiver, gap }: HostedPartition,
  { applied, from, until, cursor }: DepartedRequest,
): LogTime => {
  const name = `view ${source.view}, partition ${source.partition}`;
  if (archiver === null) throw new TidelineError('not-found', `${name} has no archive`);
  if (view.offset < applied) throw new TidelineError('not-ready', `${name} is at offset ${view.offset} of ${applied}`);
  if (view.stoppedSlots.length > 0) throw new TidelineError('not-ready', `slots of ${name} are being rebuilt`);
  const begin = cursor === null ? (from ?? 0) : decodeCursor(cursor).expiresAt;
  const missing = gap?.missing ?? null;
  const ends: number[] = [until, archiver.archivedBefore ?? Infinity];
  if (missing !== null && begin < missing.to) ends.push(missing.from ?? 0);
  const end = Math.min(...ends);
  if (end > begin) return asLogTime(end);
  if (end === ends[1]) throw new TidelineError('not-ready', `${name} has entries on their way to its archive`);
  throw new TidelineError('not-ready', `${name} has the same gap in its archive`, { details: SAME_GAP });
};
