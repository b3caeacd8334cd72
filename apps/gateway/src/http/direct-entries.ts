import type { IncomingMessage, ServerResponse } from 'node:http';
import { parse as parseQuery } from 'node:querystring';
import type { DirectAnswer, ProblemFilter } from '#platform';
import { writtenToJson } from '../answers.js';
import { entityTag } from '../entry-precondition.js';
import type { GatewayServices } from '../gateway-services.js';
import { LINEARIZABLE, type Consistency, type EntryRead } from '../read-path.js';
import { RequestParameters } from '../request-parameters.js';
import type { EntryWrite } from '../write-path.js';
import { JSON_CONTENT_TYPE } from './data-headers.js';
import { entryAnswer } from './entry-answer.js';
import { GET_PARAMETERS, PUT_PARAMETERS, askedPut, keyOf } from './entry-routes.js';

const VIEWS = '/v1/views/';
const ENTRIES = 'entries/';
/** A longer target is no hot one. */
const TARGET_CHARS_MAX = 2048;
/** A body up to this size goes out with its head as one string: one system call, one copy. */
const JOINED_BODY_BYTES_MAX = 8 * 1024;

/** View, key and query of an entry's path; null: not one, or not a plain one. */
export interface EntryTarget {
  readonly view: string;
  readonly key: string;
  readonly query: string;
}

export const entryTargetOf = (target: string): EntryTarget | null => {
  if (!target.startsWith(VIEWS) || target.length > TARGET_CHARS_MAX) return null;
  const mark = target.indexOf('?');
  const end = mark < 0 ? target.length : mark;
  const viewEnd = target.indexOf('/', VIEWS.length);
  if (viewEnd <= VIEWS.length || viewEnd >= end || !target.startsWith(ENTRIES, viewEnd + 1)) return null;
  const keyStart = viewEnd + 1 + ENTRIES.length;
  const key = target.slice(keyStart, end);
  // What is escaped, and what has further parts, is told apart by the router.
  if (key === '' || !PLAIN.test(key)) return null;
  const view = target.slice(VIEWS.length, viewEnd);
  return PLAIN.test(view) ? { view, key, query: mark < 0 ? '' : target.slice(mark + 1) } : null;
};

/** Characters that stand for themselves in a path (RFC 3986 §3.3), without `;`, which routers may treat in their own way. */
const PLAIN = /^[A-Za-z0-9\-._~!$&'()*+,=:@]+$/;

const NO_QUERY = Object.freeze({});

/** What came of a request: how long it took, in seconds, and its status. */
export type Observe = (seconds: number, status: number) => void;

export interface DirectEntriesParts {
  readonly services: GatewayServices;
  readonly problems: ProblemFilter;
}

const parametersOf = ({ query }: EntryTarget, known: readonly string[]): RequestParameters =>
  new RequestParameters(query === '' ? NO_QUERY : parseQuery(query), known);

/** What a mapping says of a request; null when it throws: then Fastify's route does, and says what is wrong. */
const orFastify = <T>(map: () => T | null): T | null => {
  try {
    return map();
  } catch {
    return null;
  }
};

interface AskedGet {
  readonly view: string;
  readonly key: Buffer;
  readonly consistency: Consistency;
  readonly timeoutMs: number | undefined;
}

const askedGet = (services: GatewayServices, { headers, url }: IncomingMessage): AskedGet | null => {
  if (headers['transfer-encoding'] !== undefined || headers['content-length'] !== undefined) return null;
  const target = entryTargetOf(url ?? '');
  if (target === null) return null;
  return orFastify(() => {
    const parameters = parametersOf(target, GET_PARAMETERS);
    if (parameters.flag('archived', false)) return null;
    const consistency = target.query === '' ? LINEARIZABLE : parameters.consistency();
    const key = keyOf(services, target.key, parameters);
    return { view: target.view, key, consistency, timeoutMs: parameters.timeoutMs() };
  });
};

/** GET of an entry, on Node's own request and response. */
export const getEntriesDirectly = ({ services, problems }: DirectEntriesParts, observe: Observe): DirectAnswer => {
  const { clock, scheduler } = services.time;
  return (request, response) => {
    if (request.method !== 'GET') return false;
    const asked = askedGet(services, request);
    if (asked === null) return false;
    const { view, key, consistency, timeoutMs } = asked;
    const began = clock.monotonicMs();
    const answer = (read: EntryRead): void => {
      const status = writeEntry(response, view, read, request.headers['if-none-match']);
      observe((clock.monotonicMs() - began) / 1000, status);
    };
    const refuse = (error: unknown): void => {
      const status = problems.answerDirectly(error, request, response);
      observe((clock.monotonicMs() - began) / 1000, status);
    };
    try {
      const read = services.reads.getNow(view, key, consistency);
      if (read === null) services.reads.get(view, key, consistency, timeoutMs).then(answer, refuse);
      // All that came in one turn is answered together: a write to a socket wakes who waits there, and takes the core from who would write the next.
      else {
        scheduler.defer(() => {
          try {
            answer(read);
          } catch (error) {
            refuse(error);
          }
        });
      }
    } catch (error) {
      refuse(error);
    }
    return true;
  };
};

const writeEntry = (
  response: ServerResponse,
  view: string,
  read: EntryRead,
  ifNoneMatch: string | undefined,
): number => {
  const { status, headers, body } = entryAnswer(view, read, null, ifNoneMatch);
  if (body === null) {
    response.writeHead(status, headers).end();
    return status;
  }
  headers.push('content-length', String(typeof body === 'string' ? Buffer.byteLength(body) : body.length));
  response.writeHead(status, headers);
  if (typeof body === 'string' || body.length > JOINED_BODY_BYTES_MAX) response.end(body);
  else response.end(body.toString('latin1'), 'latin1');
  return status;
};

/** PUT of an entry, on Node's own request and response. The body's length must be told. */
export const putEntriesDirectly = ({ services, problems }: DirectEntriesParts, observe: Observe): DirectAnswer => {
  const { clock } = services.time;
  return (request, response) => {
    if (request.method !== 'PUT') return false;
    const { headers } = request;
    const length = Number(headers['content-length']);
    if (headers['transfer-encoding'] !== undefined || !(length <= services.limits.recordBytesMax)) return false;
    const target = entryTargetOf(request.url ?? '');
    if (target === null) return false;
    const asked = orFastify(() =>
      askedPut(services, { key: target.key, parameters: parametersOf(target, PUT_PARAMETERS) }, headers),
    );
    if (asked === null) return false;
    const began = clock.monotonicMs();
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    // A client that goes away before has not asked for anything.
    request.on('end', () => {
      const { key, entry, options } = asked;
      const value = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      services.writes.put(target.view, key, { ...entry, value }, options).then(
        (write) => observe((clock.monotonicMs() - began) / 1000, answerWritten(response, write)),
        (error: unknown) => {
          const status = problems.answerDirectly(error, request, response);
          observe((clock.monotonicMs() - began) / 1000, status);
        },
      );
    });
    return true;
  };
};

const answerWritten = (response: ServerResponse, write: EntryWrite): number => {
  const { offset, term, node } = write;
  const text = writtenToJson(write);
  const headers = ['content-type', JSON_CONTENT_TYPE, 'content-length', String(text.length)];
  if (offset > 0) {
    headers.push('etag', entityTag(offset), 'tideline-offset', String(offset));
    headers.push('tideline-term', String(term), 'tideline-node', String(node));
  }
  const status = offset > 0 ? 200 : 202;
  response.writeHead(status, headers).end(text);
  return status;
};
