/** Arguments of commands are bytes; numbers among them are decimal text. One grammar for all types, so that no two types read a number differently. */

const INTEGER = /^-?(0|[1-9]\d{0,15})$/;
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?$/i;
const NUMBER_LENGTH_MAX = 64;

/** A whole number of at most 2^53 − 1 either way; null: it is none. */
export const integerOf = (bytes: Buffer): number | null => {
  if (bytes.length === 0 || bytes.length > 17) return null;
  const text = bytes.toString('latin1');
  if (!INTEGER.test(text) || text === '-0') return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
};

/** A finite double; null: it is none. Never −0. */
export const decimalOf = (bytes: Buffer): number | null => {
  if (bytes.length === 0 || bytes.length > NUMBER_LENGTH_MAX) return null;
  const text = bytes.toString('latin1');
  if (!DECIMAL.test(text)) return null;
  const value = Number(text);
  return Number.isFinite(value) ? value + 0 : null;
};

/** As `decimalOf`, and `inf`, `+inf`, `-inf`. */
export const scoreOf = (bytes: Buffer): number | null => {
  const text = bytes.length <= 4 ? bytes.toString('latin1').toLowerCase() : '';
  if (text === 'inf' || text === '+inf') return Infinity;
  return text === '-inf' ? -Infinity : decimalOf(bytes);
};

export const isInteger = (bytes: Buffer): boolean => integerOf(bytes) !== null;

/** A word of the command's grammar, whatever its case. */
export const isWord = (bytes: Buffer, word: string): boolean =>
  bytes.length === word.length && bytes.toString('latin1').toLowerCase() === word;

export const nothingWrong = (): null => null;

/** Complaints about arguments that are to be whole numbers. */
export const integersAt =
  (...named: readonly (readonly [at: number, name: string])[]) =>
  (args: readonly Buffer[]): string | null => {
    for (const [at, name] of named)
      if (at < args.length && !isInteger(args[at])) return `${name} is a whole number of at most 2^53 − 1 either way`;
    return null;
  };

/** Positions start … stop, inclusive, from the end if negative, as positions `from` … `to`, exclusive, within the length. */
export const rangeOf = (startArg: Buffer, stopArg: Buffer, length: number): { from: number; to: number } => {
  const start = integerOf(startArg)!;
  const stop = integerOf(stopArg)!;
  const from = Math.max(0, start < 0 ? start + length : start);
  const to = Math.min(length, (stop < 0 ? stop + length : stop) + 1);
  return from < to ? { from, to } : { from: 0, to: 0 };
};
