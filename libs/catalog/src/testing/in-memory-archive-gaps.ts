import type { ArchiveGap, ArchiveGapId, ArchiveGaps } from '../archive-gaps.js';
import { wholeNumber } from '../whole-number.js';

const nameOf = ({ host, clusterId, view, partition, group }: ArchiveGapId): string =>
  JSON.stringify([host, clusterId, view, partition, group]);

/** The gaps of archives as a map; passes the same suite as the real ones. */
export class InMemoryArchiveGaps implements ArchiveGaps {
  readonly #gaps = new Map<string, ArchiveGap>();

  async list(host: string): Promise<ArchiveGap[]> {
    return [...this.#gaps.values()].filter((gap) => gap.host === host);
  }

  async put(gap: ArchiveGap): Promise<void> {
    for (const number of [gap.from ?? 0, gap.to, gap.offset]) wholeNumber(number);
    this.#gaps.set(nameOf(gap), { ...gap });
  }

  async remove(id: ArchiveGapId): Promise<boolean> {
    return this.#gaps.delete(nameOf(id));
  }

  async hasMark(mark: string): Promise<boolean> {
    return [...this.#gaps.values()].some((gap) => gap.mark === mark);
  }
}
