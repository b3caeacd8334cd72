import { RecordCursor, decodeOp } from '#wire';
import { readElements } from '../../libs/views/src/testing/index.js';
import type { Entry } from '#views';

/** Keys whose values are changed by commands of data types, and by nothing else. */
export const TYPED_PREFIX = 'd.';

type Value = number | Map<string, string> | Set<string> | string[];

/**
 * What commands of data types make of a log, written as plainly as can be: a counter is a number, a hash a Map, a set a Set, a list an array. Knows the
 * commands that the simulator's clients use.
 */
export class ModelOfTypes {
  commands = 0;
  private readonly values = new Map<string, Value>();
  /** What each command was answered, by its offset. */
  readonly results = new Map<number, string>();
  private readonly cursor = new RecordCursor();

  applyBatch(batch: Uint8Array): void {
    for (this.cursor.reset(batch, 0); this.cursor.next();) {
      const { key, op, offset } = this.cursor;
      if (key === null || op === undefined) continue;
      const name = key.toString('latin1');
      if (!name.startsWith(TYPED_PREFIX)) continue;
      const command = decodeOp(op);
      this.commands++;
      this.results.set(
        offset,
        this.apply(
          name,
          command.name,
          command.args.map((arg) => arg.toString('latin1')),
        ),
      );
    }
  }

  private apply(key: string, command: string, args: readonly string[]): string {
    switch (command) {
      case 'incrby': {
        const sum = ((this.values.get(key) as number | undefined) ?? 0) + Number(args[0]);
        this.values.set(key, sum);
        return String(sum);
      }
      case 'hset': {
        const fields = (this.values.get(key) as Map<string, string> | undefined) ?? new Map<string, string>();
        const isNew = !fields.has(args[0]);
        this.values.set(key, fields.set(args[0], args[1]));
        return isNew ? '1' : '0';
      }
      case 'hdel': {
        const fields = this.values.get(key) as Map<string, string> | undefined;
        const removed = fields?.delete(args[0]) ?? false;
        if (fields?.size === 0) this.values.delete(key);
        return removed ? '1' : '0';
      }
      case 'sadd': {
        const members = (this.values.get(key) as Set<string> | undefined) ?? new Set<string>();
        const isNew = !members.has(args[0]);
        this.values.set(key, members.add(args[0]));
        return isNew ? '1' : '0';
      }
      case 'rpush': {
        const list = (this.values.get(key) as string[] | undefined) ?? [];
        list.push(args[0]);
        this.values.set(key, list);
        return String(list.length);
      }
      case 'lpop': {
        const list = this.values.get(key) as string[] | undefined;
        if (list === undefined) return 'null';
        const first = list.shift()!;
        if (list.length === 0) this.values.delete(key);
        return JSON.stringify(first);
      }
      default:
        throw new Error(`the model does not know ${command}`);
    }
  }

  /** What an entry must hold, in the words of `textOf`. */
  texts(): Map<string, string> {
    const texts = new Map<string, string>();
    for (const [key, value] of this.values) {
      if (typeof value === 'number') texts.set(key, String(value));
      else if (value instanceof Map)
        texts.set(
          key,
          [...value]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .flat()
            .join(' '),
        );
      else texts.set(key, (value instanceof Set ? [...value].sort() : value).join(' '));
    }
    return texts;
  }

  static textOf(entry: Entry): string {
    const isCounter = entry.contentType === null;
    return isCounter ? entry.value.toString('latin1') : readElements(entry.value).join(' ');
  }
}
