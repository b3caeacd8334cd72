import { TidelineError, asOffset, type Offset } from '#kernel';
import { parseDurationMs, DURATION_SYNTAX } from '#platform';
import { CONSISTENCIES, consistencyOf, LINEARIZABLE, type Consistency } from './read-path.js';
import { checkTtlMs } from './record-json.js';
import { parsePosition, type StreamPosition } from './stream-position.js';

export const CONSISTENCY_PARAMETERS = ['consistency', 'minOffset', 'maxLagMs', 'timeoutMs'] as const;
/** Ten minutes: a bound looser than that says nothing. */
const MAX_LAG_MS_MAX = 600_000;
const TIMEOUT_MS_MAX = 600_000;
const SHOWN_CHARS_MAX = 80;

/** The query of a request, or the payload of a message, member by member. Every refusal names the parameter. */
export class RequestParameters {
  constructor(
    private readonly given: Readonly<Record<string, unknown>>,
    known: readonly string[],
  ) {
    for (const name of Object.keys(given)) {
      if (!known.includes(name)) this.refuse(name, `is not a parameter here; there are ${known.join(', ')}`);
    }
  }

  /** @throws TidelineError `bad-request` */
  refuse(name: string, why: string): never {
    throw new TidelineError('bad-request', `${name.slice(0, SHOWN_CHARS_MAX)} ${why}`, {
      details: { parameter: name },
    });
  }

  has(name: string): boolean {
    return this.given[name] !== undefined && this.given[name] !== null;
  }

  text(name: string): string | null {
    const value = this.given[name];
    if (value === undefined || value === null) return null;
    if (Array.isArray(value)) return this.refuse(name, 'is given twice');
    if (typeof value === 'number') return String(value);
    if (typeof value !== 'string') return this.refuse(name, 'is a text');
    return value;
  }

  /** `fallback` when it is not given. */
  integer<F extends number | null>(name: string, range: { min: number; max: number }, fallback: F): number | F {
    const text = this.text(name);
    if (text === null) return fallback;
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= range.min && value <= range.max) return value;
    return this.refuse(name, `is a whole number from ${range.min} to ${range.max}, not ${shown(text)}`);
  }

  choice<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const text = this.text(name);
    if (text === null) return fallback;
    return (
      values.find((value) => value === text) ?? this.refuse(name, `is one of ${values.join(', ')}, not ${shown(text)}`)
    );
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.given[name];
    if (typeof value === 'boolean') return value;
    const text = this.text(name);
    if (text === null) return fallback;
    if (text === 'true' || text === '1' || text === '') return true;
    if (text === 'false' || text === '0') return false;
    return this.refuse(name, `is true or false, not ${shown(text)}`);
  }

  /** A time to live: `30s`, `1500ms`; a number alone is milliseconds. */
  ttlMs(name: string): number | null {
    const text = this.text(name);
    if (text === null) return null;
    const ms = parseDurationMs(text, 'ms');
    if (ms === undefined) return this.refuse(name, `is ${DURATION_SYNTAX}, not ${shown(text)}`);
    return checkTtlMs(ms, name);
  }

  partition(): number | null {
    return this.integer('partition', { min: 0, max: 255 }, null);
  }

  consistency(): Consistency {
    if (!this.has('consistency') && !this.has('minOffset') && !this.has('maxLagMs')) return LINEARIZABLE;
    return consistencyOf({
      consistency: this.choice('consistency', CONSISTENCIES, 'linearizable'),
      minOffset: this.minOffset(),
      maxLagMs: this.integer('maxLagMs', { min: 0, max: MAX_LAG_MS_MAX }, null),
    });
  }

  timeoutMs(): number | undefined {
    return this.integer('timeoutMs', { min: 1, max: TIMEOUT_MS_MAX }, null) ?? undefined;
  }

  private minOffset(): StreamPosition | Offset | null {
    const text = this.text('minOffset');
    if (text === null) return null;
    if (text.includes(':')) return parsePosition(text, 'minOffset');
    return asOffset(this.integer('minOffset', { min: 0, max: Number.MAX_SAFE_INTEGER }, 0));
  }
}

const shown = (text: string): string => (text.length <= SHOWN_CHARS_MAX ? text : `${text.slice(0, SHOWN_CHARS_MAX)}…`);

/** @throws TidelineError `bad-request` */
export const objectOf = (body: unknown, what = 'the body'): Record<string, unknown> => {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  throw new TidelineError('bad-request', `${what} is a JSON object`);
};
