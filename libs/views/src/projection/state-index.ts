/**
 * Secondary lookups of a projection: for each declared index the keys of its states by value, in order. Not part of the replicated state:
 * a function of the states, kept beside them and built anew from them after a restart.
 *
 *     item     value, NUL as NUL SOH, then NUL NUL, then the key; a byte is one UTF-16 unit (latin1), so that order of text is order of bytes
 *     blocks   sorted items, up to BLOCK_ITEMS_MAX a block, blocks in order and never empty
 *
 * Costs about 100 bytes an item beside its text. What a key is indexed by is remembered, so that a state can leave without being read.
 */
const BLOCK_ITEMS_MAX = 512;
const END = '\0\0';

/** Text in the order of its units; a set. */
class SortedTexts {
  size = 0;
  private readonly blocks: string[][] = [];

  add(text: string): void {
    const { blocks } = this;
    if (blocks.length === 0) blocks.push([]);
    const number = this.blockOf(text);
    const block = blocks[number];
    const at = lowerBound(block, text);
    if (block[at] === text) return;
    block.splice(at, 0, text);
    this.size++;
    if (block.length <= BLOCK_ITEMS_MAX) return;
    blocks.splice(
      number + 1,
      0,
      block.splice(number === blocks.length - 1 && at === block.length - 1 ? at : block.length >>> 1),
    );
  }

  remove(text: string): void {
    if (this.blocks.length === 0) return;
    const number = this.blockOf(text);
    const block = this.blocks[number];
    const at = lowerBound(block, text);
    if (block[at] !== text) return;
    block.splice(at, 1);
    this.size--;
    if (block.length === 0) this.blocks.splice(number, 1);
  }

  /** From the first text that is not below `from` until `visit` returns false. */
  walk(from: string, visit: (text: string) => boolean): void {
    if (this.blocks.length === 0) return;
    let number = this.blockOf(from);
    let at = lowerBound(this.blocks[number], from);
    for (; number < this.blocks.length; number++, at = 0) {
      const block = this.blocks[number];
      for (; at < block.length; at++) if (!visit(block[at])) return;
    }
  }

  /** The last block that begins at or below the text, or the first. */
  private blockOf(text: string): number {
    let low = 0;
    let high = this.blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.blocks[middle][0] <= text) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}

const lowerBound = (block: readonly string[], text: string): number => {
  let low = 0;
  let high = block.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (block[middle] < text) low = middle + 1;
    else high = middle;
  }
  return low;
};

const prefixOf = (value: string): string => {
  const text = Buffer.from(value).toString('latin1');
  return (text.includes('\0') ? text.replaceAll('\0', '\0\u0001') : text) + END;
};

/** All indexes of one partition of a projection. */
export class StateIndexes {
  private readonly byName = new Map<string, SortedTexts>();
  private readonly sets: SortedTexts[];
  /** Item prefixes of each key, of all indexes: number of the index, prefix, and so on. */
  private readonly indexed = new Map<string, readonly (number | string)[]>();

  constructor(readonly names: readonly string[]) {
    this.sets = names.map((name) => {
      const set = new SortedTexts();
      this.byName.set(name, set);
      return set;
    });
  }

  /** Values as `ProjectionDefinition.indexedBy` gives them. */
  set(key: Buffer, values: readonly (readonly string[])[]): void {
    if (this.sets.length === 0) return;
    this.remove(key);
    const text = key.toString('latin1');
    const kept: (number | string)[] = [];
    for (const [number, ofIndex] of values.entries()) {
      for (const value of ofIndex) {
        const prefix = prefixOf(value);
        this.sets[number].add(prefix + text);
        kept.push(number, prefix);
      }
    }
    if (kept.length > 0) this.indexed.set(text, kept);
  }

  remove(key: Buffer): void {
    if (this.sets.length === 0) return;
    const text = key.toString('latin1');
    const kept = this.indexed.get(text);
    if (kept === undefined) return;
    for (let i = 0; i < kept.length; i += 2) this.sets[kept[i] as number].remove((kept[i + 1] as string) + text);
    this.indexed.delete(text);
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  /** Keys with this value, ascending, after `after`, until `visit` returns false. */
  walk(name: string, value: string, after: Buffer | null, visit: (key: Buffer) => boolean): void {
    const prefix = prefixOf(value);
    const last = after === null ? '' : after.toString('latin1');
    this.byName.get(name)!.walk(prefix + last, (item) => {
      if (!item.startsWith(prefix)) return false;
      const key = item.slice(prefix.length);
      return after !== null && key === last ? true : visit(Buffer.from(key, 'latin1'));
    });
  }
}
