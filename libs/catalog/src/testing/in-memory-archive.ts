import { systemClock, type Clock } from '#kernel';
import {
  checkLimit,
  decodeCursor,
  encodeCursor,
  keyDigest,
  pageLength,
  type Archive,
  type ArchivedEntry,
  type ArchiveEntry,
  type ArchivePage,
  type ArchivePosition,
  type ArchiveQuery,
} from '../archive.js';
import { wholeNumber } from '../whole-number.js';

interface Stored extends ArchivePosition {
  readonly entry: ArchivedEntry;
}

/** The archive as a map; passes the same suite as the real ones. */
export class InMemoryArchive implements Archive {
  readonly #entries = new Map<string, Stored>();
  readonly #clock: Clock;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  async write(entries: readonly ArchiveEntry[]): Promise<number> {
    let written = 0;
    for (const entry of entries) {
      for (const number of [entry.offset, entry.partition, entry.logTime, entry.expiresAt]) wholeNumber(number);
      const digest = keyDigest(entry.key);
      const id = `${entry.view} ${digest.toString('hex')} ${entry.offset}`;
      if (this.#entries.has(id)) continue;
      // Copies: the caller may use its buffers again.
      const bytes = { key: Buffer.from(entry.key), value: Buffer.from(entry.value) };
      this.#entries.set(id, {
        entry: { ...entry, ...bytes, archivedAt: this.#clock.wallMs() },
        keyDigest: digest,
        expiresAt: entry.expiresAt,
        partition: entry.partition,
        offset: entry.offset,
      });
      written++;
    }
    return written;
  }

  async query({ view, partition, key, from, to, limit, bytesMax, cursor }: ArchiveQuery): Promise<ArchivePage> {
    checkLimit(limit);
    const after = cursor === undefined ? undefined : decodeCursor(cursor);
    const digest = key === undefined ? undefined : keyDigest(key);
    const matching = [...this.#entries.values()]
      .filter(
        (stored) =>
          stored.entry.view === view &&
          (partition === undefined || stored.partition === partition) &&
          (digest === undefined || stored.keyDigest.equals(digest)) &&
          (from === undefined || stored.expiresAt >= from) &&
          (to === undefined || stored.expiresAt < to) &&
          (after === undefined || inOrder(stored, after) > 0),
      )
      .sort(inOrder);
    const sizes = matching.slice(0, limit + 1).map(({ entry }) => entry.key.length + entry.value.length);
    const page = matching.slice(0, Math.min(limit, pageLength(sizes, bytesMax)));
    const last = page.at(-1);
    return {
      entries: page.map(({ entry }) => entry),
      ...(last !== undefined && page.length < matching.length && { cursor: encodeCursor(last) }),
    };
  }

  async latest(view: string, key: Uint8Array): Promise<ArchivedEntry | undefined> {
    const digest = keyDigest(key);
    let latest: Stored | undefined;
    for (const stored of this.#entries.values()) {
      if (stored.entry.view !== view || !stored.keyDigest.equals(digest)) continue;
      if (latest === undefined || stored.offset > latest.offset) latest = stored;
    }
    return latest?.entry;
  }
}

const inOrder = (a: ArchivePosition, b: ArchivePosition): number =>
  a.expiresAt - b.expiresAt ||
  a.partition - b.partition ||
  a.offset - b.offset ||
  Buffer.compare(a.keyDigest, b.keyDigest);
