import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asLogTime, asOffset } from '#kernel';
import type { Entry } from '#views';
import { consistencyOf, mergePages } from './read-path.js';

const entryOf = (key: string): Entry => ({
  key: Buffer.from(key),
  value: Buffer.alloc(0),
  contentType: null,
  offset: asOffset(1),
  logTime: asLogTime(1),
  expiresAt: null,
});

test('pages merged and asked for again from where they ended give every key once, in order', () => {
  const keys = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 3 }), { maxLength: 60 });
  fc.assert(
    fc.property(
      keys,
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 1, max: 9 }),
      (all, partitions, pageMax, limit) => {
        const sorted = all.map((key) => entryOf(key)).sort((a, b) => a.key.compare(b.key));
        const seen: string[] = [];
        let after: Buffer | null = null;
        for (let more = true; more;) {
          // A host may end a page before the limit, when it has become too large.
          const pages = Array.from({ length: partitions }, (_, partition) => {
            const mine = sorted.filter(
              (entry, i) => i % partitions === partition && (after === null || entry.key.compare(after) > 0),
            );
            const size = Math.min(limit, pageMax);
            return { entries: mine.slice(0, size), more: mine.length > size };
          });
          const merged = mergePages(pages, limit);
          expect(merged.entries.length).toBeLessThanOrEqual(limit);
          if (merged.more) expect(merged.entries.length).toBeGreaterThan(0);
          seen.push(...merged.entries.map((entry) => entry.key.toString()));
          after = merged.entries.at(-1)?.key ?? after;
          ({ more } = merged);
        }
        expect(seen).toEqual(sorted.map((entry) => entry.key.toString()));
      },
    ),
  );
});

describe('a consistency', () => {
  const none = { minOffset: null, maxLagMs: null };
  test('has the fields that belong to it', () => {
    expect(consistencyOf({ consistency: 'linearizable', ...none })).toEqual({ kind: 'linearizable' });
    expect(consistencyOf({ consistency: 'session', minOffset: asOffset(5), maxLagMs: null })).toEqual({
      kind: 'session',
      after: 5,
    });
    expect(consistencyOf({ consistency: 'bounded', minOffset: null, maxLagMs: 10 })).toEqual({
      kind: 'bounded',
      maxLagMs: 10,
    });
  });

  test('refuses those of another', () => {
    expect(() => consistencyOf({ consistency: 'bounded', ...none })).toThrow('maxLagMs');
    expect(() => consistencyOf({ consistency: 'stale', minOffset: asOffset(1), maxLagMs: null })).toThrow('minOffset');
    expect(() => consistencyOf({ consistency: 'session', minOffset: null, maxLagMs: 1 })).toThrow('maxLagMs');
  });
});
