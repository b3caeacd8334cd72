/**
 * The head of an HTTP/1.1 request (RFC 9112 §2 … §5), as long as it is plain:
 *
 *     (GET | PUT) SP /target SP HTTP/1.1 CRLF
 *     (name ":" *SP value CRLF)*  CRLF
 *
 * Plain is what every parser reads in one way only. Whatever else there is in HTTP, or what looks wrong, is not refused here and not understood here:
 * it is `not-plain`, and Node's parser gets the same bytes. So two parsers never disagree about where a request ends (request smuggling).
 */

/** A longer head is left to Node's parser. */
export const PLAIN_HEAD_BYTES_MAX = 4096;
const HEADERS_MAX = 64;
/** Longer numbers are beyond every limit. */
const LENGTH_DIGITS_MAX = 9;

/** The headers a direct answer may look at. A request that has one of them twice is not plain. */
export interface PlainHeaders {
  'content-type'?: string;
  'if-match'?: string;
  'if-none-match'?: string;
  'idempotency-key'?: string;
}

export interface PlainHead {
  readonly method: 'GET' | 'PUT';
  readonly url: string;
  readonly headers: Readonly<PlainHeaders>;
  /** null: no Content-Length. */
  readonly contentLength: number | null;
  /** Where in the bytes the body begins. */
  readonly bodyStart: number;
}

const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
const COLON = 0x3a;
const LOWER = 0x20;

const membership = (characters: string): Uint8Array => {
  const member = new Uint8Array(256);
  for (const character of characters) member[character.charCodeAt(0)] = 1;
  return member;
};

const ALPHANUMERIC = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
/** RFC 9110 §5.6.2. */
const TOKEN = membership(`${ALPHANUMERIC}!#$%&'*+-.^_\`|~`);
/** RFC 3986 §3.3 and §3.4; a fragment, a backslash and what must be escaped are not plain. */
const TARGET = membership(`${ALPHANUMERIC}-._~!$&'()*+,;=:@/?%`);
/** Visible ASCII and spaces. Tabs and bytes above are allowed in HTTP, and rare. */
const VALUE = membership(Array.from({ length: 95 }, (_, i) => String.fromCharCode(SPACE + i)).join(''));

const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));

const METHODS = { GET: bytesOf('GET /'), PUT: bytesOf('PUT /') };
const VERSION = bytesOf(' HTTP/1.1\r\n');

/** What is done about a header; all others say nothing about where a request ends or who answers it. */
type Meaning = 'not-plain' | 'host' | 'connection' | 'content-length' | keyof PlainHeaders;

const MEANINGS: Readonly<Record<string, Meaning>> = {
  host: 'host',
  connection: 'connection',
  'content-length': 'content-length',
  'content-type': 'content-type',
  'if-match': 'if-match',
  'if-none-match': 'if-none-match',
  'idempotency-key': 'idempotency-key',
  'transfer-encoding': 'not-plain',
  'proxy-connection': 'not-plain',
  upgrade: 'not-plain',
  expect: 'not-plain',
};

interface NamedHeader {
  readonly bytes: Uint8Array;
  readonly meaning: Meaning;
}

/** By length; no two of them have the same. */
const BY_LENGTH: readonly (NamedHeader | null)[] = (() => {
  const byLength: (NamedHeader | null)[] = Array.from({ length: 32 }, () => null);
  for (const [name, meaning] of Object.entries(MEANINGS)) {
    if (byLength[name.length] !== null) throw new Error(`two headers of ${name.length} characters`);
    byLength[name.length] = { bytes: bytesOf(name), meaning };
  }
  return byLength;
})();

const NO_HEADERS: Readonly<PlainHeaders> = Object.freeze({});

/** `ran-out`: the bytes there are agree. */
const compare = (bytes: Buffer, at: number, expected: Uint8Array): 'same' | 'ran-out' | 'different' => {
  for (let i = 0; i < expected.length; i++) {
    if (at + i >= bytes.length) return 'ran-out';
    if (bytes[at + i] !== expected[i]) return 'different';
  }
  return 'same';
};

const meaningOf = (bytes: Buffer, from: number, to: number): Meaning | null => {
  const length = to - from;
  const named = length < BY_LENGTH.length ? BY_LENGTH[length] : null;
  if (named === null) return null;
  for (let i = 0; i < length; i++) {
    // Of the characters a name may have, only a letter in upper case becomes one of these by that bit.
    if ((bytes[from + i] | LOWER) !== named.bytes[i]) return null;
  }
  return named.meaning;
};

/** -1: not a plain number. */
const lengthOf = (bytes: Buffer, from: number, to: number): number => {
  const digits = to - from;
  if (digits < 1 || digits > LENGTH_DIGITS_MAX || (digits > 1 && bytes[from] === 0x30)) return -1;
  let length = 0;
  for (let at = from; at < to; at++) {
    const digit = bytes[at] - 0x30;
    if (digit < 0 || digit > 9) return -1;
    length = length * 10 + digit;
  }
  return length;
};

/** Reads the head of the request that begins at `from`. `incomplete`: plain so far. */
export const readPlainHead = (bytes: Buffer, from: number): PlainHead | 'incomplete' | 'not-plain' => {
  const available = bytes.length;
  const ranOut = available - from >= PLAIN_HEAD_BYTES_MAX ? 'not-plain' : 'incomplete';
  const method = bytes[from] === 0x47 ? 'GET' : 'PUT';
  const begins = compare(bytes, from, METHODS[method]);
  if (begins !== 'same') return begins === 'ran-out' ? ranOut : 'not-plain';
  const targetStart = from + 4;
  let at = targetStart;
  while (at < available && TARGET[bytes[at]] === 1) at++;
  const targetEnd = at;
  const version = compare(bytes, at, VERSION);
  if (version !== 'same') return version === 'ran-out' ? ranOut : 'not-plain';
  at += VERSION.length;

  let headers: PlainHeaders | null = null;
  let contentLength: number | null = null;
  let hasHost = false;
  for (let count = 0; count <= HEADERS_MAX; count++) {
    if (at + 1 >= available) return at < available && bytes[at] !== CR && TOKEN[bytes[at]] !== 1 ? 'not-plain' : ranOut;
    if (bytes[at] === CR) {
      if (bytes[at + 1] !== LF) return 'not-plain';
      // HTTP/1.1 wants a Host (RFC 9112 §3.2).
      if (!hasHost || at + 2 - from > PLAIN_HEAD_BYTES_MAX) return 'not-plain';
      const url = bytes.toString('latin1', targetStart, targetEnd);
      return { method, url, headers: headers ?? NO_HEADERS, contentLength, bodyStart: at + 2 };
    }
    const nameStart = at;
    while (at < available && TOKEN[bytes[at]] === 1) at++;
    if (at >= available) return ranOut;
    const nameEnd = at;
    // A line that begins with a space goes on from the one before; a space before the colon is forbidden.
    if (bytes[at] !== COLON || nameEnd === nameStart) return 'not-plain';
    at++;
    while (at < available && bytes[at] === SPACE) at++;
    const valueStart = at;
    while (at < available && VALUE[bytes[at]] === 1) at++;
    if (at >= available) return ranOut;
    if (bytes[at] !== CR) return 'not-plain';
    if (at + 1 >= available) return ranOut;
    if (bytes[at + 1] !== LF || bytes[at - 1] === SPACE) return 'not-plain';
    const valueEnd = at;
    at += 2;
    const meaning = meaningOf(bytes, nameStart, nameEnd);
    if (meaning === null) continue;
    if (valueEnd === valueStart) return 'not-plain';
    switch (meaning) {
      case 'not-plain':
        return 'not-plain';
      case 'host':
        if (hasHost) return 'not-plain';
        hasHost = true;
        break;
      case 'connection':
        if (!isKeepAlive(bytes, valueStart, valueEnd)) return 'not-plain';
        break;
      case 'content-length':
        if (contentLength !== null) return 'not-plain';
        contentLength = lengthOf(bytes, valueStart, valueEnd);
        if (contentLength < 0) return 'not-plain';
        break;
      default:
        headers ??= {};
        if (headers[meaning] !== undefined) return 'not-plain';
        headers[meaning] = bytes.toString('latin1', valueStart, valueEnd);
    }
  }
  return 'not-plain';
};

const KEEP_ALIVE = bytesOf('keep-alive');

const isKeepAlive = (bytes: Buffer, from: number, to: number): boolean => {
  if (to - from !== KEEP_ALIVE.length) return false;
  for (let i = 0; i < KEEP_ALIVE.length; i++) if ((bytes[from + i] | LOWER) !== KEEP_ALIVE[i]) return false;
  return true;
};
