import { asOffset, assert, type Offset } from '#kernel';

/**
 * Which part of the log is durable here, told from the numbers of the persist units that the driver has reported done.
 * What a unit stands for shrinks when the log is cut before the unit is done: its entries may no longer be the log's.
 */
export class Durability {
  /** Everything up to here is durable and still part of the log. */
  offset: Offset;
  /** Number of the last unit given out, and of the last one reported done. */
  given = 0;
  done = 0;
  /** End of the log as of each unit done + 1 … given. */
  private readonly ends: Offset[] = [];

  constructor(offset: Offset) {
    this.offset = offset;
  }

  begin(logEnd: Offset): number {
    this.given++;
    this.ends.push(logEnd);
    return this.given;
  }

  /** Units up to this number are durable. */
  complete(unit: number): void {
    assert(unit <= this.given, 'only a unit that was given out is reported durable');
    while (this.done < unit) {
      this.done++;
      const end = this.ends.shift();
      if (end !== undefined && end > this.offset) this.offset = end;
    }
  }

  /** The log was cut after `offset`. */
  cut(offset: Offset): void {
    if (this.offset > offset) this.offset = offset;
    for (let i = 0; i < this.ends.length; i++) this.ends[i] = asOffset(Math.min(this.ends[i], offset));
  }
}
