import type { Archive, ArchivedEntry as StoredInArchive } from '#catalog';
import { TidelineError } from '#kernel';
import type { ArchivedEntry, ArchivePage, ArchiveRequest } from '#views';
import type { MissingTimes } from './archive-gap-filler.js';

/** What views ask the archive. Without one there is nothing in it. What it may lack it does not say that there is not: it is `not-ready`. */
export class ArchiveReader {
  constructor(private readonly archive: Archive | undefined) {}

  async page(view: string, request: ArchiveRequest, missing: readonly (MissingTimes | null)[]): Promise<ArchivePage> {
    if (this.archive === undefined) return { entries: [], cursor: null };
    if (missing.some((times) => times !== null && overlaps(times, request))) throw incomplete(view);
    const { key, from, to, limit, cursor } = request;
    const page = await this.archive.query({
      view,
      limit,
      ...(key !== null && { key }),
      ...(from !== null && { from }),
      ...(to !== null && { to }),
      ...(cursor !== null && { cursor }),
    });
    return { entries: page.entries.map(archivedOf), cursor: page.cursor ?? null };
  }

  /** What was written last of all there is of the key. `missing`: of its partition, as of when nothing was in memory. */
  async latest(view: string, key: Buffer, missing: MissingTimes | null): Promise<ArchivedEntry | null> {
    const entry = await this.archive?.latest(view, key);
    // Of one key, what departed later was written later.
    if (missing !== null && (entry === undefined || entry.expiresAt < missing.to)) throw incomplete(view);
    return entry === undefined ? null : archivedOf(entry);
  }
}

const overlaps = (missing: MissingTimes, { from, to }: ArchiveRequest): boolean =>
  (to === null || missing.from === null || to > missing.from) && (from === null || from < missing.to);

const incomplete = (view: string): TidelineError =>
  new TidelineError(
    'not-ready',
    `the archive of view ${view} on this host lacks entries that are being copied from others`,
  );

const archivedOf = ({ key, value, contentType, ...entry }: StoredInArchive): ArchivedEntry => ({
  ...entry,
  key: Buffer.from(key),
  value: Buffer.from(value),
  contentType: contentType ?? null,
});
