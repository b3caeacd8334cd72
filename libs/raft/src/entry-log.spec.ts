import { describe, expect, test } from '@jest/globals';
import { asOffset, asTerm } from '#kernel';
import fc from 'fast-check';
import { EntryLog } from './entry-log.js';
import type { Entry, LogSummary } from './types.js';

const EMPTY: LogSummary = {
  baseOffset: asOffset(0),
  baseTerm: asTerm(0),
  termStarts: [],
  lastOffset: asOffset(0),
  commit: asOffset(0),
  configuration: { voters: [], outgoing: [], learners: [] },
  configurationOffset: asOffset(0),
};

const entry = (first: number, last: number, term: number, size = 10): Entry => ({
  firstOffset: asOffset(first),
  lastOffset: asOffset(last),
  term: asTerm(term),
  kind: 'data',
  bytes: new Uint8Array(size),
});

const filled = (): EntryLog => {
  const log = new EntryLog(EMPTY);
  for (const e of [entry(1, 1, 1), entry(2, 4, 1), entry(5, 5, 3), entry(6, 9, 3), entry(10, 10, 6)]) log.append(e);
  return log;
};

describe('terms', () => {
  test('an offset has the term of the entry around it', () => {
    const log = filled();
    expect([0, 1, 4, 5, 9, 10].map((offset) => log.termAt(asOffset(offset)))).toEqual([0, 1, 1, 3, 3, 6]);
    expect(log.termStartOf(asOffset(8))).toBe(5);
    expect(() => log.termAt(asOffset(11))).toThrow();
  });

  test('the last offset with a term at most so high is found', () => {
    const log = filled();
    const find = (term: number, upTo: number): number => log.lastWithTermAtMost(asTerm(term), asOffset(upTo));
    expect(find(3, 10)).toBe(9);
    expect(find(2, 10)).toBe(4);
    expect(find(2, 3)).toBe(3);
    expect(find(0, 10)).toBe(0);
    log.trimTo(asOffset(5), asTerm(3));
    expect(find(2, 10)).toBe(4);
    expect(find(3, 7)).toBe(7);
  });

  test('a log started from a summary knows the terms without the entries', () => {
    const log = new EntryLog({
      ...EMPTY,
      baseOffset: asOffset(4),
      baseTerm: asTerm(2),
      lastOffset: asOffset(9),
      termStarts: [{ term: asTerm(3), firstOffset: asOffset(7) }],
    });
    expect([4, 5, 6, 7, 9].map((offset) => log.termAt(asOffset(offset)))).toEqual([2, 2, 2, 3, 3]);
    expect(log.cachedFrom).toBe(10);
  });
});

describe('trimming and cutting', () => {
  test('whatever is done, the terms are those of a plain list', () => {
    const action = fc.oneof(
      fc.record({ append: fc.integer({ min: 1, max: 3 }), rise: fc.boolean() }),
      fc.record({ cut: fc.nat(30) }),
      fc.record({ trim: fc.nat(30) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const log = new EntryLog(EMPTY);
        // Terms by offset, and which offsets end an entry.
        const terms = [0];
        let ends = [0];
        let base = 0;
        let term = 1;
        for (const step of actions) {
          const last = terms.length - 1;
          if ('append' in step) {
            if (step.rise) term++;
            log.append(entry(last + 1, last + step.append, term));
            for (let i = 0; i < step.append; i++) terms.push(term);
            ends.push(last + step.append);
          } else {
            const places = ends.filter((end) => end >= base);
            const place = places[('cut' in step ? step.cut : step.trim) % places.length];
            if ('cut' in step) {
              log.truncateAfter(asOffset(place));
              terms.length = place + 1;
              ends = ends.filter((end) => end <= place);
            } else {
              log.trimTo(asOffset(place), asTerm(terms[place]));
              base = place;
            }
          }
          expect([log.baseOffset, log.lastOffset]).toEqual([base, terms.length - 1]);
          expect(log.lastTerm).toBe(terms[terms.length - 1]);
          for (let offset = base; offset < terms.length; offset++) {
            expect(log.termAt(asOffset(offset))).toBe(terms[offset]);
          }
          if (log.lastOffset >= log.cachedFrom) {
            const slice = log.slice(log.cachedFrom, Infinity);
            expect(slice[0].firstOffset).toBe(base + 1);
            expect(slice[slice.length - 1].lastOffset).toBe(log.lastOffset);
            expect(log.cachedBytes).toBe(slice.length * 10);
          }
        }
      }),
    );
  });

  test('a cut within an entry is a defect', () => {
    expect(() => filled().truncateAfter(asOffset(3))).toThrow(/between entries/);
  });
});

describe('memory', () => {
  test('a slice holds whole entries, as many as the bytes allow and at least one', () => {
    const log = filled();
    const ends = (from: number, bytes: number): number[] =>
      log.slice(asOffset(from), bytes).map((slice) => slice.lastOffset);
    expect(ends(3, 25)).toEqual([4, 5]);
    expect(log.sliceBytes).toBe(20);
    expect(ends(6, 1)).toEqual([9]);
    expect(ends(1, 1000)).toEqual([1, 4, 5, 9, 10]);
    expect(log.slice(asOffset(1), 1000)).toBe(log.slice(asOffset(1), 500));
  });

  test('settled entries are let go of beyond the limit, oldest first, others never', () => {
    const log = filled();
    log.settle(asOffset(9), 25);
    expect(log.cachedFrom).toBe(5);
    expect(log.unsettledBytes).toBe(10);
    log.settle(asOffset(9), 0);
    expect(log.cachedFrom).toBe(10);
    expect(log.cachedBytes).toBe(10);
    expect(log.termAt(asOffset(2))).toBe(1);
  });

  test('places of entries let go are taken back', () => {
    const log = new EntryLog(EMPTY);
    for (let i = 1; i <= 20_000; i++) {
      log.append(entry(i, i, 1));
      log.settle(asOffset(i - 1), 100);
    }
    expect(log.cachedBytes).toBeLessThanOrEqual(110);
    expect(log.slice(asOffset(19_995), 30).map((e) => e.firstOffset)).toEqual([19_995, 19_996, 19_997]);
  });
});
