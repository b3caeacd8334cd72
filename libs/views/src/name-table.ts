import { TidelineError, assert } from '#kernel';

/**
 * Names that many entries share – content types, data types – by number, 0 …, in order of first use. Bounded: a name that is too
 * long or comes too late is stored in the entry itself. Only grows; filled from the log alone and kept in snapshots.
 */
export const NAMES_MAX = 1024;
export const NAME_BYTES_MAX = 128;

export class NameTable {
  readonly names: string[] = [];
  private readonly bytes: Buffer[] = [];
  private readonly numbers = new Map<string, number>();
  private last = -1;

  /** Number of the name at `start` … `end`; −1: it must be stored in place. */
  intern(bytes: Buffer, start: number, end: number): number {
    if (this.last >= 0) {
      const known = this.bytes[this.last];
      if (known.length === end - start) {
        let i = 0;
        while (i < known.length && known[i] === bytes[start + i]) i++;
        if (i === known.length) return this.last;
      }
    }
    if (end - start > NAME_BYTES_MAX) return -1;
    // Bytes that are no UTF-8 would not come back from a string as they were.
    const name = bytes.toString('utf8', start, end);
    const number = this.numbers.get(name) ?? (Buffer.byteLength(name) === end - start ? this.add(name) : -1);
    if (number >= 0) this.last = number;
    return number;
  }

  numberOf(name: string): number {
    return this.numbers.get(name) ?? this.add(name);
  }

  /** This table's numbers of another one's names, those it lacked included; null: they are the same. */
  numbersOf(other: NameTable): readonly number[] | null {
    const numbers = other.names.map((name) => this.numberOf(name));
    assert(!numbers.includes(-1), 'there are too many names');
    return numbers.every((number, i) => number === i) ? null : numbers;
  }

  private add(name: string): number {
    if (this.names.length >= NAMES_MAX) return -1;
    const number = this.names.length;
    this.names.push(name);
    this.bytes.push(Buffer.from(name));
    this.numbers.set(name, number);
    return number;
  }

  /** The next name of a stored table. @throws TidelineError `malformed-frame` */
  load(name: string): void {
    if (this.numbers.has(name) || this.add(name) < 0)
      throw new TidelineError('malformed-frame', 'a bad table of names');
  }
}
