import { AssertionFailure } from '#kernel';

/**
 * A BIGINT column holds more than a JS number does: better-sqlite3 rounds silently above 2^53 − 1, and pg answers
 * with text. Whatever goes in or comes out passes here, and what does not fit is a defect, not a nearby number.
 */
export function wholeNumber(value: unknown): number {
  const number = typeof value === 'string' ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0) {
    throw new AssertionFailure(`${String(value)} is no whole number from 0 to 2^53 − 1`);
  }
  return number;
}

/** For columns of type bigint. */
export const bigintColumn = { type: 'bigint', transformer: { to: wholeNumber, from: wholeNumber } } as const;

const wholeNumberOrNull = (value: unknown): number | null => (value === null ? null : wholeNumber(value));

/** The same where there may be none. */
export const optionalBigintColumn = {
  type: 'bigint',
  nullable: true,
  transformer: { to: wholeNumberOrNull, from: wholeNumberOrNull },
} as const;
