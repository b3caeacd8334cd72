import { TidelineError, asOffset, type GroupId, type Offset } from '#kernel';
import type { RecoveryFinding } from './partition-log.js';
import type { DamagedRange } from './recovery.js';

/** What is known to be damaged of a log: ranges in ascending order, and everything ever found, for the record. */
export class Damage {
  constructor(
    private readonly group: GroupId,
    readonly findings: RecoveryFinding[],
    public ranges: readonly DamagedRange[],
  ) {}

  /** It is not known where the log ends: nothing may be appended. */
  get isOpenEnded(): boolean {
    return this.ranges.length > 0 && this.ranges[this.ranges.length - 1].toOffset === null;
  }

  has(offset: Offset): boolean {
    return this.ranges.some(
      ({ fromOffset, toOffset }) => fromOffset <= offset && (toOffset === null || offset < toOffset),
    );
  }

  /** `to`, or what lies before the first damage after `from`. */
  goodUntil(from: Offset, to: Offset): Offset {
    const next = this.ranges.find(({ fromOffset }) => fromOffset > from);
    return next ? asOffset(Math.min(to, next.fromOffset - 1)) : to;
  }

  note(found: Extract<RecoveryFinding, { kind: 'corruption' }>): void {
    const { fromOffset, toOffset } = found;
    if (this.ranges.some((range) => range.fromOffset === fromOffset)) return;
    this.findings.push(found);
    this.ranges = [...this.ranges, { fromOffset, toOffset }].sort((a, b) => a.fromOffset - b.fromOffset);
  }

  /** The log now starts at `first`: damage below it is none. */
  startAt(first: Offset): void {
    this.ranges = this.ranges
      .filter(({ toOffset }) => toOffset === null || toOffset > first)
      .map(({ fromOffset, toOffset }) => ({ fromOffset: asOffset(Math.max(fromOffset, first)), toOffset }));
  }

  cutAfter(offset: Offset): void {
    this.ranges = this.ranges.filter(({ fromOffset }) => fromOffset <= offset);
  }

  replace(range: DamagedRange, remaining: readonly DamagedRange[]): void {
    this.ranges = this.ranges.flatMap((each) => (each === range ? remaining : [each]));
  }

  /** Damage that a repair came across; of what is known already there is nothing to add. */
  met(missing: DamagedRange): void {
    const end = missing.toOffset ?? Infinity;
    const isKnown = this.ranges.some(
      ({ fromOffset, toOffset }) => fromOffset <= missing.fromOffset && end <= (toOffset ?? Infinity),
    );
    if (isKnown) return;
    const apart = this.ranges.filter(
      ({ fromOffset, toOffset }) => fromOffset >= end || (toOffset ?? Infinity) <= missing.fromOffset,
    );
    this.ranges = [...apart, missing].sort((a, b) => a.fromOffset - b.fromOffset);
  }

  clear(): void {
    this.ranges = [];
  }

  errorAt(offset: Offset): TidelineError {
    const { group } = this;
    return new TidelineError('storage-damaged', `group ${group}: offset ${offset} is damaged on this node`, {
      details: { group, offset },
    });
  }
}
