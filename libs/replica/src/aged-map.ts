/** What an AgedMap holds: extended by its users. The links belong to the map. */
export interface Aged {
  readonly key: number | string;
  older: Aged | null;
  newer: Aged | null;
}

/**
 * A map whose entries are ordered by last use. Each change can be taken back exactly, last change first, which is what a table derived from
 * a log needs when the log is truncated.
 */
export class AgedMap<E extends Aged> {
  private readonly entries = new Map<number | string, E>();
  private oldestEntry: E | null = null;
  private newestEntry: E | null = null;

  get size(): number {
    return this.entries.size;
  }

  get oldest(): E | null {
    return this.oldestEntry;
  }

  get(key: number | string): E | undefined {
    return this.entries.get(key);
  }

  /** Adds an entry whose key is not there, as the newest. Undone by `delete`. */
  add(entry: E): void {
    this.entries.set(entry.key, entry);
    this.linkAfter(entry, this.newestEntry);
  }

  delete(entry: E): void {
    this.entries.delete(entry.key);
    this.unlink(entry);
  }

  /** Makes it the newest; returns its former neighbour, for `restore`. */
  touch(entry: E): E | null {
    const before = entry.older as E | null;
    if (this.newestEntry !== entry) {
      this.unlink(entry);
      this.linkAfter(entry, this.newestEntry);
    }
    return before;
  }

  /** Undoes `touch`. */
  restore(entry: E, before: E | null): void {
    this.unlink(entry);
    this.linkAfter(entry, before);
  }

  /** Undoes the removal of what was the oldest. */
  addOldest(entry: E): void {
    this.entries.set(entry.key, entry);
    this.linkAfter(entry, null);
  }

  /** From the oldest to the newest. */
  *[Symbol.iterator](): Generator<E> {
    for (let entry = this.oldestEntry; entry !== null; entry = entry.newer as E | null) yield entry;
  }

  private linkAfter(entry: E, before: E | null): void {
    const after = before === null ? this.oldestEntry : (before.newer as E | null);
    entry.older = before;
    entry.newer = after;
    if (before === null) this.oldestEntry = entry;
    else before.newer = entry;
    if (after === null) this.newestEntry = entry;
    else after.older = entry;
  }

  private unlink(entry: E): void {
    const before = entry.older as E | null;
    const after = entry.newer as E | null;
    if (before === null) this.oldestEntry = after;
    else before.newer = after;
    if (after === null) this.newestEntry = before;
    else after.older = before;
  }
}
