/**
 * JSON from outside. JSON.parse alone lets through what hurts later: 200,000 nested arrays parse well and then
 * overflow the stack of whoever writes them again, and a member `__proto__` turns into a prototype once it is
 * copied. One scan over the text finds both before anything is built; it does not recurse and allocates only
 * for member names that contain an escape.
 *
 * The scan assumes valid JSON: what it gets wrong in other text, JSON.parse refuses afterwards.
 */
import { JSON_DEPTH_MAX, TidelineError } from '#kernel';

/** Member names that mean something to the language. */
export const UNSAFE_NAMES: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);
const UNSAFE_NAME_CHARS_MAX = 11;
/** An escaped spelling (`\u005f`) is six times as long. */
const ESCAPED_NAME_CHARS_MAX = UNSAFE_NAME_CHARS_MAX * 6;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const SPACE = 0x20;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

export interface JsonLimits {
  /** Arrays and objects that may be open at once. */
  readonly depthMax?: number;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The value, or `malformed-json`, `too-deep` or `unsafe-key`. Bytes must be UTF-8. */
export function parseJson(source: string | Uint8Array, limits: JsonLimits = {}): unknown {
  const text = typeof source === 'string' ? source : decode(source);
  scan(text, limits.depthMax ?? JSON_DEPTH_MAX);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TidelineError('malformed-json', describe(text, error), { cause: error });
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw new TidelineError('malformed-json', 'the text is not UTF-8', { cause: error });
  }
}

const describe = (text: string, error: unknown): string =>
  text.trim() === '' ? 'empty; expected a JSON value' : error instanceof Error ? error.message : String(error);

function scan(text: string, depthMax: number): void {
  let depth = 0;
  let at = 0;
  while (at < text.length) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) {
      const end = endOfString(text, at);
      if (end < 0) return;
      if (isMemberName(text, end + 1)) checkName(text, at, end);
      at = end + 1;
      continue;
    }
    if (char === OPEN_BRACE || char === OPEN_BRACKET) {
      if (++depth > depthMax) {
        throw new TidelineError('too-deep', `nested deeper than ${depthMax} levels (at character ${at})`, {
          details: { limit: depthMax, position: at },
        });
      }
    } else if (char === CLOSE_BRACE || char === CLOSE_BRACKET) depth--;
    at++;
  }
}

/** Index of the quote that ends the string whose first quote is at `start`; −1 if it does not end. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (end >= 0 && text.charCodeAt(end - 1) === BACKSLASH) {
    let backslashes = 1;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) break;
    end = text.indexOf('"', end + 1);
  }
  return end;
}

/** Whether the next thing from `at` on is a colon: only then was the string before it a name. */
function isMemberName(text: string, at: number): boolean {
  let next = text.charCodeAt(at);
  while (next <= SPACE) next = text.charCodeAt(++at);
  return next === COLON;
}

function checkName(text: string, start: number, end: number): void {
  const length = end - start - 1;
  if (length > ESCAPED_NAME_CHARS_MAX) return;
  const first = text.charCodeAt(start + 1);
  // `_`, `c` and `p` begin the three names; anything else needs an escape to become one of them.
  if (first !== 0x5f && first !== 0x63 && first !== 0x70 && first !== BACKSLASH) return;
  let name = text.slice(start + 1, end);
  if (name.includes('\\')) name = unescaped(name);
  if (UNSAFE_NAMES.has(name)) {
    throw new TidelineError('unsafe-key', `the member name ${JSON.stringify(name)} is not accepted`, {
      details: { name, position: start },
    });
  }
}

/** A name without its escapes; as it is if they are not valid, which JSON.parse reports soon after. */
function unescaped(name: string): string {
  try {
    return JSON.parse(`"${name}"`) as string;
  } catch {
    return name;
  }
}
