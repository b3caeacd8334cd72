import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { asOffset } from '#kernel';
import { formatPosition, parsePosition, parseStart } from './stream-position.js';

describe('a position', () => {
  test('that was written is read back', () => {
    const offsets = fc.dictionary(fc.nat(255).map(String), fc.nat(), { minKeys: 1 });
    fc.assert(
      fc.property(offsets, (byPartition) => {
        const position = new Map(Object.entries(byPartition).map(([p, o]) => [Number(p), asOffset(o)]));
        expect(parsePosition(formatPosition(position), 'x')).toEqual(position);
      }),
    );
  });

  test.each(['', '5', '1:', ':1', '1:2,', '1:2,1:3', '1:-2', '0:99999999999999999', '1:2;3:4', 'a:b'])(
    '%j is refused',
    (text) => {
      expect(() => parsePosition(text, 'lastEventId')).toThrow(expect.objectContaining({ code: 'bad-request' }));
    },
  );

  test('no text makes it throw anything else', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const parse of [parseStart, (t: string) => parsePosition(t, 'x')]) {
          try {
            parse(text);
          } catch (error) {
            expect(error).toMatchObject({ code: 'bad-request' });
          }
        }
      }),
    );
  });
});

describe('a start', () => {
  test('is a word, an offset or a time', () => {
    expect(parseStart('earliest')).toEqual({ kind: 'earliest' });
    expect(parseStart('latest')).toEqual({ kind: 'latest' });
    expect(parseStart('17')).toEqual({ kind: 'offset', offset: 17 });
    expect(parseStart('2026-11-21T07:00:00Z')).toEqual({ kind: 'time', time: Date.UTC(2026, 10, 21, 7) });
    expect(parseStart('2026-11-21')).toEqual({ kind: 'time', time: Date.UTC(2026, 10, 21) });
  });

  test.each(['now', '-1', '1.5', '2026-13-01', '1960-01-01', '1e3'])('%j is refused', (text) => {
    expect(() => parseStart(text)).toThrow(expect.objectContaining({ code: 'bad-request' }));
  });
});
