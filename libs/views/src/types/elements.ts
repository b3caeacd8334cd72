import { ByteReader, ByteWriter, assert } from '#kernel';
import { textOf } from './effects.js';

/**
 * A row of byte strings, the state of lists, sets and hashes:
 *
 *     u8 version (1) · varint count · count × (varint length, bytes)
 *
 * In memory an element is a latin1 string, one character a byte: such strings compare as their bytes do and are keys of a Map.
 */
const VERSION = 1;

export const readElements = (value: Buffer): string[] => {
  const reader = new ByteReader(value);
  assert(reader.u8() === VERSION, 'elements of an unknown version');
  const elements: string[] = [];
  for (let count = reader.varint(); count > 0; count--) elements.push(reader.lengthPrefixed().toString('latin1'));
  return elements;
};

export const writeElements = (elements: readonly string[]): Buffer => {
  const writer = new ByteWriter(256).u8(VERSION).varint(elements.length);
  for (const element of elements) writeElement(writer, element);
  return writer.finish();
};

export const writeElement = (writer: ByteWriter, element: string): void => {
  writer.varint(element.length).ensure(element.length);
  writer.buffer.write(element, writer.position, 'latin1');
  writer.position += element.length;
};

export const elementOf = (bytes: Buffer): string => bytes.toString('latin1');
export const elementText = (element: string): string => textOf(Buffer.from(element, 'latin1'));
export const elementTexts = (elements: readonly string[]): string => `[${elements.map(elementText).join(',')}]`;

/** Where an element is in ascending elements, or where it would be. */
export const placeOf = (elements: readonly string[], element: string): number => {
  let low = 0;
  let high = elements.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (elements[middle] < element) low = middle + 1;
    else high = middle;
  }
  return low;
};
