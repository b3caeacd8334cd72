import {
  SNAPSHOTS_LISTED_MAX,
  superseded,
  type SnapshotCatalog,
  type SnapshotEntry,
  type SnapshotFilter,
  type SnapshotId,
  type SnapshotSlot,
} from '../snapshot-catalog.js';
import { wholeNumber } from '../whole-number.js';

const idOf = ({ view, partition, slot, host, offset }: SnapshotId): string =>
  JSON.stringify([view, partition, slot, host, offset]);

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** The snapshot catalog as a map; passes the same suite as the real ones. */
export class InMemorySnapshotCatalog implements SnapshotCatalog {
  readonly #entries = new Map<string, SnapshotEntry>();

  async add(entry: SnapshotEntry): Promise<void> {
    for (const number of [entry.offset, entry.term, entry.logTime, entry.bytes, entry.createdAt]) wholeNumber(number);
    this.#entries.set(idOf(entry), { ...entry });
  }

  async newest(slot: SnapshotSlot & { readonly host?: string }): Promise<SnapshotEntry | undefined> {
    return (await this.list(slot)).find((entry) => entry.verified);
  }

  async list(filter: SnapshotFilter = {}): Promise<SnapshotEntry[]> {
    const { view, partition, slot, host } = filter;
    return [...this.#entries.values()]
      .filter(
        (entry) =>
          (view === undefined || entry.view === view) &&
          (partition === undefined || entry.partition === partition) &&
          (slot === undefined || entry.slot === slot) &&
          (host === undefined || entry.host === host),
      )
      .sort(
        (a, b) =>
          compareText(a.view, b.view) ||
          a.partition - b.partition ||
          a.slot - b.slot ||
          b.offset - a.offset ||
          compareText(a.host, b.host),
      )
      .slice(0, SNAPSHOTS_LISTED_MAX);
  }

  async mark(id: SnapshotId, verified: boolean): Promise<boolean> {
    const entry = this.#entries.get(idOf(id));
    if (entry) this.#entries.set(idOf(id), { ...entry, verified });
    return entry !== undefined;
  }

  async remove(id: SnapshotId): Promise<boolean> {
    return this.#entries.delete(idOf(id));
  }

  async keepNewest(slot: SnapshotSlot & { readonly host: string }, count: number): Promise<SnapshotEntry[]> {
    const gone = superseded(await this.list(slot), count);
    for (const entry of gone) this.#entries.delete(idOf(entry));
    return gone;
  }
}
