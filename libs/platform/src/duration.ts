/**
 * Durations as people write them: a number with a unit, e.g. `30s`, `1.5h`, `250ms`. A number without a unit
 * is in milliseconds for an option whose name says `-ms`; elsewhere the caller decides with `bareUnit`.
 * The result is a whole number of milliseconds.
 */
const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Longest duration that makes sense here: 100 years. Keeps now + duration far below 2^53. */
export const DURATION_MS_MAX = 100 * 365 * 86_400_000;

export const DURATION_SYNTAX = 'a number with ms, s, m, h or d, e.g. 250ms or 30s';

const SYNTAX = /^(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]*)$/;

/** Milliseconds, or undefined if the text is no duration. `bareUnit` is the unit of a number without one; without it such a number is refused. */
export function parseDurationMs(text: string, bareUnit?: 'ms' | 's'): number | undefined {
  const match = SYNTAX.exec(text.trim().toLowerCase());
  if (!match) return undefined;
  const unit = match[2] === '' ? bareUnit : match[2];
  if (unit === undefined || !Object.hasOwn(UNITS, unit)) return undefined;
  const ms = Math.round(Number(match[1]) * UNITS[unit]);
  return ms <= DURATION_MS_MAX ? ms : undefined;
}

/** The shortest exact spelling: 90000 → `90s`, 3600000 → `1h`. */
export function formatDurationMs(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    if (ms > 0 && ms % UNITS[unit] === 0) return `${ms / UNITS[unit]}${unit}`;
  }
  return `${ms}ms`;
}
