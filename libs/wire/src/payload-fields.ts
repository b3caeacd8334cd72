import { ByteReader, TidelineError, asLogTime, type ByteWriter, type LogTime } from '#kernel';

/**
 * Fields that several messages have.
 *
 *     enum      u8, an index into a fixed list
 *     optional  u8 0 (absent) | u8 1, then the value
 */

/** Runs `read` over the payload and insists that it took every byte. */
export const readAll = <T>(payload: Uint8Array, read: (reader: ByteReader) => T): T => {
  const reader = new ByteReader(payload);
  const value = read(reader);
  if (reader.remaining !== 0) throw new TidelineError('malformed-frame', `${reader.remaining} bytes left over`);
  return value;
};

export const readEnum = <T extends string>(reader: ByteReader, values: readonly T[]): T => {
  const index = reader.u8();
  if (index >= values.length) throw new TidelineError('malformed-frame', `${index} is none of ${values.join(', ')}`);
  return values[index];
};

export const writeEnum = <T extends string>(writer: ByteWriter, values: readonly T[], value: T): void => {
  const index = values.indexOf(value);
  if (index < 0) throw new TidelineError('bad-request', `${value} is none of ${values.join(', ')}`);
  writer.u8(index);
};

/** A count of things that take at least `bytesEach`: one that cannot fit is malformed before anything is allocated for it. */
export const readCount = (reader: ByteReader, bytesEach: number): number => {
  const count = reader.varint();
  if (count * bytesEach > reader.remaining) throw new TidelineError('malformed-frame', `${count} items do not fit`);
  return count;
};

export const readOptionalU64 = (reader: ByteReader): number | null => (reader.bool() ? reader.u64() : null);

export const writeOptionalU64 = (writer: ByteWriter, value: number | null): void => {
  writer.bool(value !== null);
  if (value !== null) writer.u64(value);
};

export const readOptionalBytes = (reader: ByteReader): Buffer | null =>
  reader.bool() ? reader.lengthPrefixed() : null;

export const writeOptionalBytes = (writer: ByteWriter, value: Uint8Array | null): void => {
  writer.bool(value !== null);
  if (value !== null) writer.lengthPrefixed(value);
};

export const readLogTime = (reader: ByteReader): LogTime => asLogTime(reader.u64());

export const readOptionalLogTime = (reader: ByteReader): LogTime | null => (reader.bool() ? readLogTime(reader) : null);

export const readOptionalText = (reader: ByteReader): string | null => (reader.bool() ? reader.string() : null);

export const writeOptionalText = (writer: ByteWriter, text: string | null): ByteWriter => {
  writer.bool(text !== null);
  return text === null ? writer : writer.string(text);
};
