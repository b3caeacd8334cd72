import { describe, expect, test } from '@jest/globals';
import { PLAIN_HEAD_BYTES_MAX, readPlainHead } from './plain-head.js';

const HOST = 'Host: a.example';
const lines = (...head: string[]): string => `${head.join('\r\n')}\r\n\r\n`;
const read = (text: string, from = 0) => readPlainHead(Buffer.from(text, 'latin1'), from);

describe('a plain head', () => {
  test('is read with what is needed to answer', () => {
    const text = lines(
      'PUT /v1/views/a/entries/k?ttl=5s&x=%20 HTTP/1.1',
      HOST,
      'content-TYPE:   text/plain; charset=utf-8',
      'Content-Length: 12',
      'If-None-Match: *',
      'IDEMPOTENCY-KEY: some key',
      'User-Agent: anything (at all)',
      'Accept: */*',
      'Accept: text/html',
      'X-Empty:',
      'Connection: Keep-Alive',
    );
    expect(read(text)).toEqual({
      method: 'PUT',
      url: '/v1/views/a/entries/k?ttl=5s&x=%20',
      headers: { 'content-type': 'text/plain; charset=utf-8', 'if-none-match': '*', 'idempotency-key': 'some key' },
      contentLength: 12,
      bodyStart: text.length,
    });
  });

  test('may begin anywhere in the bytes and be followed by others', () => {
    const text = lines('GET / HTTP/1.1', HOST);
    expect(read(`abc${text}def`, 3)).toEqual({
      method: 'GET',
      url: '/',
      headers: {},
      contentLength: null,
      bodyStart: 3 + text.length,
    });
  });

  test('is incomplete, and nothing else, after each of its bytes but the last', () => {
    const text = lines('PUT /a HTTP/1.1', 'content-length: 0', HOST, 'if-match: "7"', 'connection: keep-alive', 'x:y');
    for (let length = 1; length < text.length; length++) {
      expect([length, read(text.slice(0, length))]).toEqual([length, 'incomplete']);
    }
    expect(read(text)).toMatchObject({ contentLength: 0, bodyStart: text.length });
  });

  test('has a limit, complete or not', () => {
    const filled = (bytes: number): string => {
      const without = lines('GET / HTTP/1.1', HOST, 'x: ');
      return lines('GET / HTTP/1.1', HOST, `x: ${'y'.repeat(bytes - without.length)}`);
    };
    expect(read(filled(PLAIN_HEAD_BYTES_MAX))).toMatchObject({ bodyStart: PLAIN_HEAD_BYTES_MAX });
    expect(read(filled(PLAIN_HEAD_BYTES_MAX + 1))).toBe('not-plain');
    expect(read(filled(PLAIN_HEAD_BYTES_MAX).slice(0, -1))).toBe('incomplete');
    expect(read(`GET /${'a'.repeat(PLAIN_HEAD_BYTES_MAX)}`)).toBe('not-plain');
    const many = Array.from({ length: 65 }, (_, i) => `x${i}: y`);
    expect(read(lines('GET / HTTP/1.1', HOST, ...many.slice(0, 63)))).toMatchObject({ method: 'GET' });
    expect(read(lines('GET / HTTP/1.1', HOST, ...many))).toBe('not-plain');
  });
});

const GET = 'GET / HTTP/1.1';
const NOT_PLAIN: readonly (readonly [why: string, text: string])[] = [
  ['another method', lines('POST / HTTP/1.1', HOST)],
  ['a longer method', lines('PUTS / HTTP/1.1', HOST)],
  ['a method in lower case', lines('get / HTTP/1.1', HOST)],
  ['an empty line before it', `\r\n${lines(GET, HOST)}`],
  ['a space before it', lines(' GET / HTTP/1.1', HOST)],
  ['two spaces before the target', lines('GET  / HTTP/1.1', HOST)],
  ['two spaces after the target', lines('GET /  HTTP/1.1', HOST)],
  ['a tab after the target', lines('GET /\tHTTP/1.1', HOST)],
  ['no target', lines('GET HTTP/1.1', HOST)],
  ['an absolute target', lines('GET http://a.example/ HTTP/1.1', HOST)],
  ['an asterisk', lines('GET * HTTP/1.1', HOST)],
  ['a fragment', lines('GET /a#b HTTP/1.1', HOST)],
  ['a backslash', lines('GET /a\\b HTTP/1.1', HOST)],
  ['a byte beyond ASCII in the target', lines('GET /gr\xfcn HTTP/1.1', HOST)],
  ['a NUL in the target', lines('GET /a\0 HTTP/1.1', HOST)],
  ['HTTP/1.0', lines('GET / HTTP/1.0', HOST)],
  ['HTTP/1.10', lines('GET / HTTP/1.10', HOST)],
  ['HTTP/2.0', lines('GET / HTTP/2.0', HOST)],
  ['HTTP/0.9', 'GET /\r\n'],
  ['a line that ends with LF alone', `${GET}\n${HOST}\r\n\r\n`],
  ['a header that ends with LF alone', `${GET}\r\n${HOST}\n\r\n`],
  ['a head that ends with LF alone', `${GET}\r\n${HOST}\r\n\n`],
  ['a CR alone at the end', `${GET}\r\n${HOST}\r\n\rX`],
  ['a CR within a value', lines(GET, HOST, 'x: a\rb')],
  ['a NUL within a value', lines(GET, HOST, 'x: a\0b')],
  ['a tab within a value', lines(GET, HOST, 'x: a\tb')],
  ['a value beyond ASCII', lines(GET, HOST, 'x: \xe9')],
  ['a value with a space at its end', lines(GET, HOST, 'x: a ')],
  ['a space before the colon', lines(GET, HOST, 'content-length : 3')],
  ['a space within a name', lines(GET, HOST, 'x y: a')],
  ['a folded line', lines(GET, HOST, 'x: a', ' b')],
  ['a folded line first', lines(GET, ' x: a', HOST)],
  ['no colon', lines(GET, HOST, 'x')],
  ['no name', lines(GET, HOST, ': x')],
  ['no Host', lines(GET, 'x: y')],
  ['no headers at all', `${GET}\r\n\r\n`],
  ['an empty Host', lines(GET, 'Host:')],
  ['two Hosts', lines(GET, HOST, HOST)],
  ['a chunked body', lines('PUT / HTTP/1.1', HOST, 'Transfer-Encoding: chunked')],
  ['a chunked body and a length', lines('PUT / HTTP/1.1', HOST, 'Content-Length: 3', 'Transfer-Encoding: chunked')],
  ['a transfer encoding of identity', lines('PUT / HTTP/1.1', HOST, 'transfer-encoding: identity')],
  ['two lengths', lines('PUT / HTTP/1.1', HOST, 'Content-Length: 3', 'Content-Length: 3')],
  ['a list of lengths', lines('PUT / HTTP/1.1', HOST, 'Content-Length: 3, 3')],
  ['a length with a sign', lines('PUT / HTTP/1.1', HOST, 'Content-Length: +3')],
  ['a negative length', lines('PUT / HTTP/1.1', HOST, 'Content-Length: -3')],
  ['a length in hex', lines('PUT / HTTP/1.1', HOST, 'Content-Length: 0x3')],
  ['a length that begins with zero', lines('PUT / HTTP/1.1', HOST, 'Content-Length: 03')],
  ['no length where one is told', lines('PUT / HTTP/1.1', HOST, 'Content-Length:')],
  ['a length of ten digits', lines('PUT / HTTP/1.1', HOST, 'Content-Length: 1000000000')],
  ['Connection: close', lines(GET, HOST, 'Connection: close')],
  ['Connection with further names', lines(GET, HOST, 'Connection: keep-alive, x')],
  ['Connection: Upgrade', lines(GET, HOST, 'Connection: Upgrade', 'Upgrade: websocket')],
  ['Upgrade', lines(GET, HOST, 'Upgrade: websocket')],
  ['Proxy-Connection', lines(GET, HOST, 'Proxy-Connection: keep-alive')],
  ['Expect', lines('PUT / HTTP/1.1', HOST, 'Content-Length: 3', 'Expect: 100-continue')],
  ['a header twice that is looked at', lines(GET, HOST, 'If-Match: "1"', 'if-match: "2"')],
  ['an empty header that is looked at', lines(GET, HOST, 'If-Match: ')],
  ['another protocol', '\x16\x03\x01 hello'],
];

describe('a head is not plain with', () => {
  test.each(NOT_PLAIN)('%s', (_why, text) => {
    expect(read(text)).toBe('not-plain');
    // However it is cut: never something that is taken for a request.
    for (let length = 1; length < text.length; length++) {
      expect(['incomplete', 'not-plain']).toContain(read(text.slice(0, length)));
    }
  });
});
