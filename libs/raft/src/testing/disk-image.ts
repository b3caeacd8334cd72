import { NO_NODE, NO_OFFSET, NO_TERM, asOffset, assert, type Offset, type Term } from '#kernel';
import type { Configuration, Entry, HardState, LogSummary, Ready, SnapshotInfo, TermStart } from '../types.js';

export const EMPTY_CONFIGURATION: Configuration = { voters: [], outgoing: [], learners: [] };

/** What one node has on disk, or would have when all its writes were done: the log, the hard state and a commit watermark. */
export class DiskImage {
  hardState: HardState = { term: NO_TERM, vote: NO_NODE };
  baseOffset: Offset = NO_OFFSET;
  baseTerm: Term = NO_TERM;
  /** In force at base, and since where. */
  baseConfiguration: Configuration = EMPTY_CONFIGURATION;
  baseConfigurationOffset: Offset = NO_OFFSET;
  entries: Entry[] = [];
  commit: Offset = NO_OFFSET;

  get lastOffset(): Offset {
    return this.entries.length > 0 ? this.entries[this.entries.length - 1].lastOffset : this.baseOffset;
  }

  entryAt(offset: Offset): Entry | undefined {
    const entry = this.entries[this.indexOf(offset)];
    return entry !== undefined && entry.firstOffset <= offset && offset <= entry.lastOffset ? entry : undefined;
  }

  /** Index of the last entry that begins at or below `offset`; 0 if there is none. */
  indexOf(offset: Offset): number {
    let low = 0;
    let high = this.entries.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.entries[middle].firstOffset <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Term of an offset in the log; undefined outside. */
  termAt(offset: Offset): Term | undefined {
    return offset === this.baseOffset ? this.baseTerm : this.entryAt(offset)?.term;
  }

  configurationAt(offset: Offset): { configuration: Configuration; offset: Offset } {
    let found = { configuration: this.baseConfiguration, offset: this.baseConfigurationOffset };
    for (const entry of this.entries) {
      if (entry.firstOffset > offset) break;
      if (entry.configuration !== undefined) found = { configuration: entry.configuration, offset: entry.firstOffset };
    }
    return found;
  }

  /** Writes a unit, or only the first `entriesMax` entries of it. */
  write(unit: Ready, entriesMax = Infinity): void {
    if (unit.snapshot !== null) this.install(unit.snapshot, unit.keepSuffix);
    if (unit.hardState !== null) {
      assert(unit.hardState.term >= this.hardState.term, 'the durable term does not go back');
      this.hardState = unit.hardState;
    }
    if (unit.truncateAfter !== null) this.truncateAfter(unit.truncateAfter);
    for (const entry of unit.entries.slice(0, entriesMax)) {
      assert(entry.firstOffset === this.lastOffset + 1, 'the written log has no gap');
      this.entries.push(entry);
    }
  }

  private install(snapshot: SnapshotInfo, keepSuffix: boolean): void {
    const { configuration, offset } = keepSuffix
      ? this.configurationAt(this.lastOffset)
      : { configuration: snapshot.configuration, offset: snapshot.offset };
    this.entries = keepSuffix ? this.entries.filter((entry) => entry.firstOffset > snapshot.offset) : [];
    this.baseOffset = snapshot.offset;
    this.baseTerm = snapshot.term;
    const isInSuffix = offset > snapshot.offset;
    this.baseConfiguration = isInSuffix ? snapshot.configuration : configuration;
    this.baseConfigurationOffset = isInSuffix ? snapshot.offset : offset;
    if (this.commit < snapshot.offset) this.commit = snapshot.offset;
  }

  private truncateAfter(offset: Offset): void {
    assert(offset >= this.commit, 'the written log is not cut below the commit watermark');
    this.entries = this.entries.filter((entry) => entry.lastOffset <= offset);
    assert(this.lastOffset === offset, 'the written log is cut between entries');
  }

  /** `offset` ends an entry. */
  trimTo(offset: Offset): void {
    const term = this.termAt(offset);
    assert(term !== undefined, 'the log is trimmed within its bounds');
    const { configuration, offset: since } = this.configurationAt(offset);
    this.baseConfiguration = configuration;
    this.baseConfigurationOffset = since;
    this.entries = this.entries.filter((entry) => entry.firstOffset > offset);
    this.baseOffset = offset;
    this.baseTerm = term;
  }

  read(from: Offset, bytesMax: number): Entry[] {
    const found: Entry[] = [];
    let bytes = 0;
    for (let i = this.indexOf(from); i < this.entries.length; i++) {
      const entry = this.entries[i];
      if (entry.lastOffset < from) continue;
      bytes += entry.bytes.length;
      if (found.length > 0 && bytes > bytesMax) break;
      found.push(entry);
    }
    // Trimmed above `from`: nothing that begins where it was asked to.
    return found.length > 0 && found[0].firstOffset <= from ? found : [];
  }

  summary(): LogSummary {
    const termStarts: TermStart[] = [];
    for (const { term, firstOffset } of this.entries) {
      if (termStarts.length === 0 || termStarts[termStarts.length - 1].term !== term) {
        termStarts.push({ term, firstOffset });
      }
    }
    const current = this.configurationAt(this.lastOffset);
    const previous =
      current.offset > this.baseConfigurationOffset ? this.configurationAt(asOffset(current.offset - 1)) : undefined;
    return {
      baseOffset: this.baseOffset,
      baseTerm: this.baseTerm,
      termStarts,
      lastOffset: this.lastOffset,
      commit: this.commit,
      configuration: current.configuration,
      configurationOffset: current.offset,
      ...(previous === undefined ? {} : { previousConfiguration: previous }),
    };
  }

  copy(): DiskImage {
    const copy = new DiskImage();
    Object.assign(copy, this);
    copy.entries = [...this.entries];
    return copy;
  }
}
