import type { Offset } from '#kernel';

/** How far the log is durable on this node, told from the numbers of the persist units that are done. */
export class DurableEnd {
  /** End of the log as of each unit that is not durable yet. */
  private units: { readonly number: number; end: Offset }[] = [];

  constructor(private current: Offset) {}

  /** Durable, and still part of the log. */
  get offset(): Offset {
    return this.current;
  }

  begin(number: number, end: Offset): void {
    this.units.push({ number, end });
  }

  /** Units up to this number are durable. */
  complete(number: number): void {
    while (this.units.length > 0 && this.units[0].number <= number) {
      const { end } = this.units.shift()!;
      if (end > this.current) this.current = end;
    }
  }

  /** The log ends here now: what was behind it counts no more, written or not. */
  cutAfter(offset: Offset): void {
    if (this.current > offset) this.current = offset;
    for (const unit of this.units) if (unit.end > offset) unit.end = offset;
  }
}
