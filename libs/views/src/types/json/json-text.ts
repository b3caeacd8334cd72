import { isUtf8 } from 'node:buffer';
import { JSON_DEPTH_MAX } from '#kernel';

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [member: string]: Json;
}

const UNSAFE = new Set(['__proto__', 'constructor', 'prototype']);

export const isSafeMember = (name: string): boolean => !UNSAFE.has(name);

/**
 * A value of JSON text, or what is wrong with it. Depth is looked at before it is parsed: how deep an engine can go before its stack ends is
 * not the same on every host.
 */
export const parseJson = (bytes: Buffer): { readonly value: Json } | { readonly problem: string } => {
  if (!isUtf8(bytes)) return { problem: 'is not UTF-8' };
  if (depthOfText(bytes) > JSON_DEPTH_MAX) return { problem: `is nested deeper than ${JSON_DEPTH_MAX}` };
  let value: Json;
  try {
    value = JSON.parse(bytes.toString()) as Json;
  } catch {
    return { problem: 'is not JSON text (text is written with its quotes)' };
  }
  if (hasAny(value, (one) => isObject(one) && !Object.keys(one).every(isSafeMember)))
    return { problem: `has a member named one of ${[...UNSAFE].join(', ')}` };
  if (hasAny(value, (one) => one === Infinity || one === -Infinity)) return { problem: 'has a number beyond a double' };
  return { value };
};

/** How deep JSON text is nested. */
export const depthOfText = (bytes: Buffer): number => {
  let depth = 0;
  let deepest = 0;
  let inText = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (inText) {
      if (byte === 0x5c) i++;
      else if (byte === 0x22) inText = false;
    } else if (byte === 0x22) inText = true;
    else if (byte === 0x5b || byte === 0x7b) deepest = Math.max(deepest, ++depth);
    else if (byte === 0x5d || byte === 0x7d) depth--;
  }
  return deepest;
};

export const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const hasAny = (value: Json, test: (one: Json) => boolean): boolean =>
  test(value) || (typeof value === 'object' && value !== null && Object.values(value).some((one) => hasAny(one, test)));

export const depthOfValue = (value: Json): number =>
  typeof value !== 'object' || value === null
    ? 0
    : 1 + Object.values(value).reduce<number>((deepest, one) => Math.max(deepest, depthOfValue(one)), 0);
