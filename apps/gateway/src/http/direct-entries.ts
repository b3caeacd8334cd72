import { parse as parseQuery } from 'node:querystring';
import type { DirectAnswer, DirectReply, ProblemFilter } from '#platform';
import { writtenToJson } from '../answers.js';
import { entityTag } from '../entry-precondition.js';
import type { GatewayServices } from '../gateway-services.js';
import { LINEARIZABLE, type Consistency, type EntryRead } from '../read-path.js';
import { RequestParameters } from '../request-parameters.js';
import type { EntryWrite } from '../write-path.js';
import { JSON_CONTENT_TYPE } from './data-headers.js';
import { entryAnswer } from './entry-answer.js';
import { GET_PARAMETERS, PUT_PARAMETERS, askedPut, keyOf, type AskedPut } from './entry-routes.js';

const VIEWS = '/v1/views/';
const ENTRIES = 'entries/';
/** A longer target is no hot one. */
const TARGET_CHARS_MAX = 2048;

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

/** GET of an entry. */
export const getEntriesDirectly = (
  { services, problems }: DirectEntriesParts,
  observe: Observe,
): DirectAnswer<AskedGet> => {
  const { clock } = services.time;
  return {
    method: 'GET',
    bodyBytesMax: null,
    asked: ({ url }) => {
      const target = entryTargetOf(url ?? '');
      if (target === null) return null;
      return orFastify(() => {
        const parameters = parametersOf(target, GET_PARAMETERS);
        if (parameters.flag('archived', false)) return null;
        const consistency = target.query === '' ? LINEARIZABLE : parameters.consistency();
        const key = keyOf(services, target.key, parameters);
        return { view: target.view, key, consistency, timeoutMs: parameters.timeoutMs() };
      });
    },
    answer: ({ view, key, consistency, timeoutMs }, head, _body, reply) => {
      const began = clock.monotonicMs();
      const answer = (read: EntryRead): void => {
        const { status, headers, body } = entryAnswer(view, read, head.headers['if-none-match']);
        reply.send(status, headers, body);
        observe((clock.monotonicMs() - began) / 1000, status);
      };
      const refuse = (error: unknown): void => {
        const status = problems.answerDirectly(error, head, reply);
        observe((clock.monotonicMs() - began) / 1000, status);
      };
      try {
        const read = services.reads.getNow(view, key, consistency);
        if (read === null) services.reads.get(view, key, consistency, timeoutMs).then(answer, refuse);
        else answer(read);
      } catch (error) {
        refuse(error);
      }
    },
  };
};

interface AskedWrite extends AskedPut {
  readonly view: string;
}

/** PUT of an entry. The body's length must be told. */
export const putEntriesDirectly = (
  { services, problems }: DirectEntriesParts,
  observe: Observe,
): DirectAnswer<AskedWrite> => {
  const { clock } = services.time;
  return {
    method: 'PUT',
    bodyBytesMax: services.limits.recordBytesMax,
    asked: ({ url, headers }) => {
      const target = entryTargetOf(url ?? '');
      if (target === null) return null;
      return orFastify(() => {
        const asked = askedPut(
          services,
          { key: target.key, parameters: parametersOf(target, PUT_PARAMETERS) },
          headers,
        );
        return { view: target.view, ...asked };
      });
    },
    answer: ({ view, key, entry, options }, head, value, reply) => {
      const began = clock.monotonicMs();
      services.writes.put(view, key, { ...entry, value }, options).then(
        (write) => observe((clock.monotonicMs() - began) / 1000, answerWritten(reply, write)),
        (error: unknown) => {
          const status = problems.answerDirectly(error, head, reply);
          observe((clock.monotonicMs() - began) / 1000, status);
        },
      );
    },
  };
};

const answerWritten = (reply: DirectReply, write: EntryWrite): number => {
  const { offset, term, node } = write;
  const headers = ['content-type', JSON_CONTENT_TYPE];
  if (offset > 0) {
    headers.push('etag', entityTag(offset), 'tideline-offset', String(offset));
    headers.push('tideline-term', String(term), 'tideline-node', String(node));
  }
  const status = offset > 0 ? 200 : 202;
  reply.send(status, headers, writtenToJson(write));
  return status;
};
