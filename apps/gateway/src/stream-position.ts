import { TidelineError, asOffset, type Offset } from '#kernel';

/**
 * Where a reader is: for each partition the last offset it has seen, written `partition:offset`, several with commas (`0:12,1:7`).
 * It is what a stream gives as id of an event and takes back to go on after it.
 */
export type StreamPosition = ReadonlyMap<number, Offset>;

export const formatPosition = (position: StreamPosition): string => {
  let text = '';
  for (const [partition, offset] of position)
    text += text === '' ? `${partition}:${offset}` : `,${partition}:${offset}`;
  return text;
};

const ONE = /^(\d{1,3}):(\d{1,16})$/;

/** @throws TidelineError `bad-request`, naming where the text came from */
export const parsePosition = (text: string, name: string): StreamPosition => {
  const position = new Map<number, Offset>();
  for (const part of text.split(',')) {
    const match = ONE.exec(part.trim());
    const offset = match ? Number(match[2]) : Number.NaN;
    if (!match || !Number.isSafeInteger(offset) || position.has(Number(match[1]))) {
      throw new TidelineError(
        'bad-request',
        `${name} is a position such as 0:12 or 0:12,1:7, not ${text.slice(0, 80)}`,
        {
          details: { parameter: name },
        },
      );
    }
    position.set(Number(match[1]), asOffset(offset));
  }
  return position;
};

/** Where a reader without a position begins. */
export type StreamStart =
  | { readonly kind: 'earliest' }
  | { readonly kind: 'latest' }
  /** First offset wanted. */
  | { readonly kind: 'offset'; readonly offset: Offset }
  /** First record at or after this time, ms since the epoch. */
  | { readonly kind: 'time'; readonly time: number };

const ISO_TIME = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/;

/** An ISO 8601 time, or milliseconds since the epoch; null if it is neither. */
export const parseTime = (text: string): number | null => {
  const time = /^\d{1,16}$/.test(text) ? Number(text) : ISO_TIME.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isSafeInteger(time) && time >= 0 ? time : null;
};

/** @throws TidelineError `bad-request` */
export const parseStart = (text: string): StreamStart => {
  if (text === 'earliest' || text === 'latest') return { kind: text };
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text))) {
    return { kind: 'offset', offset: asOffset(Number(text)) };
  }
  const time = ISO_TIME.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time) || time < 0) {
    throw new TidelineError(
      'bad-request',
      `from is earliest, latest, an offset or an ISO 8601 time, not ${text.slice(0, 80)}`,
      {
        details: { parameter: 'from' },
      },
    );
  }
  return { kind: 'time', time };
};
