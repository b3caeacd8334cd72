import type { Archive, ArchivedEntry as StoredInArchive } from '#catalog';
import type { ArchivedEntry, ArchivePage, ArchiveRequest } from '#views';

/** What views ask the archive. Without one there is nothing in it. */
export class ArchiveReader {
  constructor(private readonly archive: Archive | undefined) {}

  async page(view: string, { key, from, to, limit, cursor }: ArchiveRequest): Promise<ArchivePage> {
    if (this.archive === undefined) return { entries: [], cursor: null };
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

  /** What was written last of all there is of the key. */
  async latest(view: string, key: Buffer): Promise<ArchivedEntry | null> {
    const entry = await this.archive?.latest(view, key);
    return entry === undefined ? null : archivedOf(entry);
  }
}

const archivedOf = ({ key, value, contentType, ...entry }: StoredInArchive): ArchivedEntry => ({
  ...entry,
  key: Buffer.from(key),
  value: Buffer.from(value),
  contentType: contentType ?? null,
});
