import { crc32 } from 'node:zlib';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TidelineError, asLogTime, asOffset } from '#kernel';
import { ViewExportReader, ViewExportWriter, type ExportedEntry, type ExportHead } from './view-export-v1.js';

const head: ExportHead = {
  createdAt: 1_700_000_000_000,
  clusterId: 'c',
  view: 'sessions',
  entries: 0,
  partitions: [{ partition: 0, offset: asOffset(7), logTime: asLogTime(9) }],
};

const bytes = fc.uint8Array({ maxLength: 30 }).map((array) => Buffer.from(array));
const text = fc.option(fc.string({ maxLength: 10 }), { nil: null });
const anyEntry: fc.Arbitrary<ExportedEntry> = fc.record({
  key: bytes,
  value: bytes,
  expiresAt: fc.option(fc.nat().map(asLogTime), { nil: null }),
  contentType: text,
  dataType: text,
});
/** Entries, section by section. */
const anyContent = fc.array(fc.array(anyEntry, { maxLength: 5 }), { maxLength: 5 });

const sectionsOf = (content: readonly (readonly ExportedEntry[])[]): Buffer[] => {
  const writer = new ViewExportWriter();
  const entries = content.reduce((sum, { length }) => sum + length, 0);
  return [writer.head({ ...head, entries }), ...content.map((each) => writer.entries(each)), writer.end()];
};

/** All of it, as `tideline import` looks at a file before it appends anything. */
const check = (pieces: readonly Uint8Array[]): ExportedEntry[] => {
  const reader = new ViewExportReader();
  const found = pieces.flatMap((piece) => reader.push(piece));
  reader.finish();
  return found;
};

/** What comes of bytes that may be anything: entries, or an error of ours that says what and where. */
const outcomeOf = (pieces: readonly Uint8Array[]): ExportedEntry[] | TidelineError => {
  try {
    return check(pieces);
  } catch (error) {
    expect(error).toBeInstanceOf(TidelineError);
    const { code, message } = error as TidelineError;
    expect(['storage-damaged', 'unsupported-version']).toContain(code);
    if (code === 'storage-damaged') expect(message).toMatch(/^the export is damaged at byte \d+: ./);
    return error as TidelineError;
  }
};

const splitAt = (whole: Buffer, places: readonly number[]): Buffer[] => {
  const cuts = [0, ...places.map((place) => place % (whole.length + 1)).toSorted((a, b) => a - b), whole.length];
  return cuts.slice(1).map((cut, i) => whole.subarray(cuts[i], cut));
};

describe('an export of a view', () => {
  test('has what was put into it, in pieces of whatever size it comes', () => {
    fc.assert(
      fc.property(anyContent, fc.array(fc.nat(), { maxLength: 8 }), (content, places) => {
        expect(check(splitAt(Buffer.concat(sectionsOf(content)), places))).toEqual(content.flat());
      }),
    );
  });

  test('that is cut off anywhere is refused', () => {
    fc.assert(
      fc.property(anyContent, fc.nat(), (content, at) => {
        const whole = Buffer.concat(sectionsOf(content));
        expect(outcomeOf([whole.subarray(0, at % whole.length)])).toBeInstanceOf(TidelineError);
      }),
    );
  });

  test('with any bits flipped is refused', () => {
    const flip = fc.record({ at: fc.nat(), bits: fc.integer({ min: 1, max: 255 }) });
    fc.assert(
      fc.property(anyContent, fc.array(flip, { minLength: 1, maxLength: 4 }), (content, flips) => {
        const whole = Buffer.concat(sectionsOf(content));
        const flipped = Buffer.from(whole);
        for (const { at, bits } of flips) flipped[at % whole.length] ^= bits;
        if (!flipped.equals(whole)) expect(outcomeOf([flipped])).toBeInstanceOf(TidelineError);
      }),
      { numRuns: 500 },
    );
  });

  test('whose sections are left out, repeated, or in another order is refused', () => {
    fc.assert(
      fc.property(anyContent, fc.array(fc.nat(), { maxLength: 9 }), (content, order) => {
        const sections = sectionsOf(content);
        const other = order.map((place) => sections[place % sections.length]);
        if (!Buffer.concat(other).equals(Buffer.concat(sections)))
          expect(outcomeOf(other)).toBeInstanceOf(TidelineError);
      }),
      { numRuns: 300 },
    );
  });

  test('that is something else is refused: any bytes, and any bytes in sections whose checksums are good', () => {
    const anyBody = fc.record({ kind: fc.integer({ min: 0, max: 4 }), body: fc.uint8Array({ maxLength: 60 }) });
    const section = (kind: number, body: Uint8Array): Buffer => {
      const whole = Buffer.alloc(body.length + 9);
      whole.writeUInt32LE(body.length);
      whole[4] = kind;
      whole.set(body, 5);
      whole.writeUInt32LE(crc32(whole.subarray(4, -4)), whole.length - 4);
      return whole;
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => outcomeOf([noise]) instanceof TidelineError));
    fc.assert(
      fc.property(fc.boolean(), fc.array(anyBody, { minLength: 1, maxLength: 4 }), (withHead, bodies) => {
        const made = bodies.map(({ kind, body }) => section(kind, body));
        expect(outcomeOf([...(withHead ? [sectionsOf([])[0]] : []), ...made])).toBeInstanceOf(TidelineError);
      }),
      { numRuns: 2000 },
    );
  });

  test('of a newer version is refused as that', () => {
    const first = Buffer.from(sectionsOf([])[0]);
    first[9] = 2;
    first.writeUInt32LE(crc32(first.subarray(4, -4)), first.length - 4);
    expect(outcomeOf([first])).toMatchObject({ code: 'unsupported-version' });
  });
});
