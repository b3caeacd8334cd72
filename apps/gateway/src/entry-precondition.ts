import { TidelineError, type Offset } from '#kernel';
import type { EntryCondition } from '#wire';

/** The validator of an entry is the offset that wrote it (RFC 9110 §8.8.3, strong). */
export const entityTag = (offset: Offset | number): string => `"${offset}"`;

const TAG = /^"(\d{1,16})"$/;

/**
 * If-Match and If-None-Match of a write as a condition the view checks when it applies the record (RFC 9110 §13.1).
 * One tag or `*`: a log has no use for several.
 * @throws TidelineError `bad-request`
 */
export const writeCondition = (ifMatch: string | undefined, ifNoneMatch: string | undefined): EntryCondition | null => {
  if (ifMatch !== undefined && ifNoneMatch !== undefined) {
    throw new TidelineError('bad-request', 'If-Match and If-None-Match cannot both be given', {
      details: { parameter: 'If-None-Match' },
    });
  }
  if (ifMatch !== undefined) {
    if (ifMatch.trim() === '*') return { kind: 'present' };
    const tag = TAG.exec(ifMatch.trim());
    if (!tag || !Number.isSafeInteger(Number(tag[1]))) {
      throw new TidelineError('bad-request', 'If-Match is * or one "OFFSET" as an ETag gave it', {
        details: { parameter: 'If-Match' },
      });
    }
    return { kind: 'offset', offset: Number(tag[1]) };
  }
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() === '*') return { kind: 'absent' };
    throw new TidelineError('bad-request', 'If-None-Match of a write is *', {
      details: { parameter: 'If-None-Match' },
    });
  }
  return null;
};

/** Whether a reader that has these tags needs no body: 304. Weak tags compare as strong ones do here (RFC 9110 §13.1.2). */
export const matchesNoneOf = (ifNoneMatch: string, offset: Offset): boolean => {
  if (ifNoneMatch.trim() === '*') return false;
  const own = entityTag(offset);
  return !ifNoneMatch.split(',').some((tag) => tag.trim().replace(/^W\//, '') === own);
};
