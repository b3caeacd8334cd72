import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TidelineError } from '#kernel';
import { parseJson } from '#platform';
import { decodeRecords, encodeBatch } from '#wire';
import { DEFAULT_LIMITS } from './gateway-options.js';
import { recordOfJson, recordToJson } from './record-json.js';
import { recordsOfLines } from './records-body.js';

const isJson = (text: string): boolean => {
  try {
    parseJson(text);
    return true;
  } catch {
    return false;
  }
};

const roundTrip = (json: unknown): Record<string, unknown> => {
  const [record] = decodeRecords(encodeBatch([recordOfJson(json, DEFAULT_LIMITS)], { createTime: 1 }));
  return JSON.parse(recordToJson(record, 0, isJson)) as Record<string, unknown>;
};

/** Names the parser refuses are left to the tests that are about them. */
const safeJson = fc
  .jsonValue({ maxDepth: 4 })
  .map((value) => JSON.parse(JSON.stringify(value)) as unknown)
  .filter((value) => isJson(JSON.stringify(value)));

describe('a record', () => {
  test('comes back with the value it was given', () => {
    fc.assert(
      fc.property(safeJson, fc.string({ minLength: 1, unit: 'grapheme' }), (value, key) => {
        const back = roundTrip({ key, value });
        expect(back['key']).toBe(key);
        expect(back['value']).toEqual(value);
      }),
    );
  });

  test('of any bytes comes back with those bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), fc.uint8Array(), (key, value) => {
        const back = roundTrip({
          keyBase64: Buffer.from(key).toString('base64'),
          valueBase64: Buffer.from(value).toString('base64url'),
        });
        const bytes = (name: string): Buffer =>
          name in back ? Buffer.from(back[name] as string) : Buffer.from(back[`${name}Base64`] as string, 'base64');
        expect(bytes('key').equals(key)).toBe(true);
        expect(bytes('value').equals(value)).toBe(true);
      }),
    );
  });

  test('is one line of text, whatever is in it', () => {
    const [record] = decodeRecords(
      encodeBatch(
        [
          {
            value: Buffer.from('{\r\n"a":\n"b\\n"}'),
            headers: [{ name: 'content-type', value: Buffer.from('application/json') }],
          },
        ],
        { createTime: 1 },
      ),
    );
    const text = recordToJson(record, 0, isJson);
    expect(text).not.toMatch(/[\r\n]/);
    expect((JSON.parse(text) as { value: unknown }).value).toEqual({ a: 'b\n' });
  });

  test('that calls itself JSON and is none is given as text', () => {
    expect(roundTrip({ value: '{', headers: { 'content-type': 'application/json' } })['value']).toBe('{');
    expect(
      roundTrip({ value: `${'['.repeat(100)}${']'.repeat(100)}`, headers: { 'Content-Type': 'application/json' } })[
        'value'
      ],
    ).toMatch(/^\[\[/);
  });

  test('nothing a client sends makes the parser throw anything but a rejection', () => {
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.object()), (json) => {
        try {
          recordOfJson(json, DEFAULT_LIMITS);
        } catch (error) {
          expect(error).toBeInstanceOf(TidelineError);
          expect(error).toMatchObject({ outcome: 'rejected' });
        }
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          recordsOfLines(Buffer.from(bytes), DEFAULT_LIMITS);
        } catch (error) {
          expect(error).toMatchObject({ outcome: 'rejected' });
        }
      }),
    );
  });
});
