import { isUtf8 } from 'node:buffer';
import { isObject, isSafeMember, type Json } from './json-text.js';

/** A JSON Pointer (RFC 6901) as its tokens: '' is the whole document, '/a/0' the first element of member a. Null: it is none. */
export const pointerOf = (bytes: Buffer): string[] | null => {
  if (!isUtf8(bytes)) return null;
  const text = bytes.toString();
  if (text === '') return [];
  if (text[0] !== '/' || /~(?![01])/.test(text)) return null;
  const tokens = text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
  return tokens.every(isSafeMember) ? tokens : null;
};

const INDEX = /^(0|[1-9]\d{0,9})$/;

/** The index that a token means in an array; null: none. */
export const indexOf = (token: string): number | null => (INDEX.test(token) ? Number(token) : null);

const child = (value: Json | undefined, token: string): Json | undefined => {
  if (Array.isArray(value)) {
    const index = indexOf(token);
    return index === null ? undefined : value[index];
  }
  return isObject(value) && Object.hasOwn(value, token) ? value[token] : undefined;
};

/** What is there; undefined: nothing. */
export const valueAt = (document: Json | undefined, tokens: readonly string[]): Json | undefined => {
  let value = document;
  for (const token of tokens) value = child(value, token);
  return value;
};
