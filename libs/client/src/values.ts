import { TidelineError } from '#kernel';
import type { ArchivedEntryMessage, FoundEntryMessage } from '#wire';

/** Text is stored as UTF-8, bytes as they are; `json(x)` as JSON with its content type. */
export type ValueInput = string | Uint8Array | TypedValue;
export type KeyInput = string | Uint8Array;

/** Header of a record in which a value's content type travels. */
export const CONTENT_TYPE_HEADER = 'content-type';

/** Bytes with a content type. */
export class TypedValue {
  constructor(
    readonly bytes: Uint8Array,
    readonly contentType: string,
  ) {}
}

/** The value as JSON, content type application/json. @throws TidelineError `bad-request` for what has no JSON (undefined, functions, cycles) */
export const json = (value: unknown): TypedValue => {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    throw new TidelineError('bad-request', 'the value has no JSON', { cause });
  }
  if (text === undefined) throw new TidelineError('bad-request', 'the value has no JSON');
  return new TypedValue(Buffer.from(text), 'application/json');
};

export const keyBytes = (key: KeyInput): Uint8Array => (typeof key === 'string' ? Buffer.from(key) : key);

/** Text up to this length is a key's most of the time. */
const PASSING_CHARS_MAX = 64;
const passing = Buffer.alloc(PASSING_CHARS_MAX);
const passingOfLength = Array.from({ length: PASSING_CHARS_MAX + 1 }, (_, length) => passing.subarray(0, length));

/** As `keyBytes`, for bytes that are copied before anything else asks for some: short ASCII is written over what was asked for last. */
export const passingKeyBytes = (key: KeyInput): Uint8Array => {
  if (typeof key !== 'string') return key;
  const { length } = key;
  if (length > PASSING_CHARS_MAX) return Buffer.from(key);
  for (let i = 0; i < length; i++) {
    const code = key.charCodeAt(i);
    if (code > 0x7f) return Buffer.from(key);
    passing[i] = code;
  }
  return passingOfLength[length];
};

export const valueBytes = (value: ValueInput): Uint8Array =>
  typeof value === 'string' ? Buffer.from(value) : value instanceof TypedValue ? value.bytes : value;

/** An entry of a view. */
export class ViewEntry {
  readonly key: Buffer;
  /** The value as it was stored. */
  readonly value: Buffer;
  readonly contentType: string | null;
  /** Offset of the record that last wrote it: what `ifOffset` compares with. */
  readonly offset: number;
  /** Log time of that record, ms since the epoch. */
  readonly logTime: number;
  /** Log time from which on it is gone, ms since the epoch; null: never. */
  readonly expiresAt: number | null;

  constructor(entry: FoundEntryMessage, key: Buffer) {
    this.key = key;
    this.value = entry.value;
    this.contentType = entry.contentType;
    this.offset = entry.offset;
    this.logTime = entry.logTime;
    this.expiresAt = entry.expiresAt;
  }

  keyText(): string {
    return this.key.toString();
  }

  text(): string {
    return this.value.toString();
  }

  /** @throws TidelineError `malformed-json` */
  json<T = unknown>(): T {
    try {
      return JSON.parse(this.value.toString()) as T;
    } catch (cause) {
      throw new TidelineError('malformed-json', 'the value is not JSON', { cause });
    }
  }
}

/** An entry that is in the archive of a view. `expiresAt` is when it went. */
export class ArchivedViewEntry extends ViewEntry {
  readonly partition: number;
  /** When it was archived, ms since the epoch. */
  readonly archivedAt: number;
  /** It had to make room while it was alive. */
  readonly evicted: boolean;

  constructor(entry: ArchivedEntryMessage) {
    super(entry, entry.key);
    this.partition = entry.partition;
    this.archivedAt = entry.archivedAt;
    this.evicted = entry.evicted;
  }
}
