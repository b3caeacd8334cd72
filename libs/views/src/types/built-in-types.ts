import { TidelineError } from '#kernel';
import { CommandTable, type CommandInput, type DataType } from '../data-type.js';
import { bitmapType } from './bitmap/bitmap.js';
import { counterType } from './counter/counter.js';
import { hashType } from './hash/hash.js';
import { jsonType } from './json/json.js';
import { listType } from './list/list.js';
import { setType } from './set/set.js';
import { sortedSetType } from './sorted-set/sorted-set.js';
import { stringType } from './string/string.js';

/** What every map view of this product knows. */
export const BUILT_IN_TYPES: readonly DataType[] = [
  stringType,
  counterType,
  bitmapType,
  hashType,
  listType,
  setType,
  sortedSetType,
  jsonType,
];

const builtIn = new CommandTable(BUILT_IN_TYPES);

const NO_RECORD: CommandInput = { key: Buffer.alloc(0), value: null };

/**
 * What is wrong with a command whatever the entry is, so that it is refused before it is appended. Null: nothing. Codes: `unknown-command`,
 * `bad-request`. `commands`: of a view with types of its own.
 */
export const validateCommand = (
  op: string,
  args: readonly Buffer[],
  record: CommandInput = NO_RECORD,
  commands: CommandTable = builtIn,
): TidelineError | null => commands.check(op, args, record);
