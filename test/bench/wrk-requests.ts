import { KEYS, VALUE, keyOf } from './workload.js';

/**
 * Lua for wrk: requests over DISTINCT keys of the workload, made before the load begins and then sent in turn, so that what the load costs is the
 * same for everybody.
 */
export const DISTINCT = 1000;

/** The n-th of the keys asked for, spread over all of them. */
export const requestKey = (n: number): string => keyOf((n % DISTINCT) * (KEYS / DISTINCT));

const quoted = (text: string): string => JSON.stringify(text);

const sentInTurn = (requests: readonly string[]): string => `
local n = 0
local requests = {
${requests.join(',\n')}
}
request = function()
  n = n % ${DISTINCT} + 1
  return requests[n]
end`;

const all = (request: (key: string) => string): string =>
  sentInTurn(Array.from({ length: DISTINCT }, (_, n) => request(requestKey(n))));

const CRLF = '\\r\\n';

const raw = (head: readonly string[], body: string): string =>
  `"${[...head, 'Host: 127.0.0.1', ...(body ? [`Content-Length: ${body.length}`] : [])].join(CRLF)}${CRLF}${CRLF}" .. ${quoted(body)}`;

const entryPath = (key: string): string => `/v1/views/default/entries/${key}`;

export const tidelinePuts = (): string =>
  all((key) => raw([`PUT ${entryPath(key)} HTTP/1.1`, 'Content-Type: application/octet-stream'], VALUE.toString()));

export const tidelineGets = (query: string): string =>
  all((key) => raw([`GET ${entryPath(key)}${query} HTTP/1.1`], ''));

const base64 = (text: string): string => Buffer.from(text).toString('base64');

const etcdCall = (path: string, body: object): string =>
  raw([`POST ${path} HTTP/1.1`, 'Content-Type: application/json'], JSON.stringify(body));

export const etcdPuts = (): string =>
  all((key) => etcdCall('/v3/kv/put', { key: base64(key), value: VALUE.toString('base64') }));

/** `serializable`: from the member asked, without asking the others. */
export const etcdGets = (serializable: boolean): string =>
  all((key) => etcdCall('/v3/kv/range', { key: base64(key), ...(serializable && { serializable }) }));
