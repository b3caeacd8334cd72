import { TidelineError } from '#kernel';
import { toProblem } from '#platform';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { commandToJson, scanToJson, writtenToJson } from '../answers.js';
import { entityTag, matchesNoneOf, writeCondition } from '../entry-precondition.js';
import type { GatewayServices } from '../gateway-services.js';
import { bytesOfBase64, checkKey, isoTime, opOfJson } from '../record-json.js';
import { WRITE_ACKS, checkIdempotencyKey, type EntryWrite, type WriteOptions } from '../write-path.js';
import { JSON_CONTENT_TYPE, setDataHeaders } from './data-headers.js';
import { CONSISTENCY_PARAMETERS, RequestParameters, objectOf } from '../request-parameters.js';
import { SCAN_PARAMETERS, scanRequestOf } from '../requests.js';

const CONTENT_TYPE_BYTES_MAX = 256;
const DEFAULT_CONTENT_TYPE = 'application/octet-stream';
const HEADER_TEXT = /^[\t\x20-\x7e]+$/;

interface EntryRoute {
  Params: { view: string; key: string };
  Querystring: Record<string, unknown>;
}

export const KEY_ENCODINGS = ['utf8', 'base64url'] as const;
const PUT_PARAMETERS = ['ttl', 'acks', 'keyEncoding'];
const DELETE_PARAMETERS = ['acks', 'keyEncoding'];
const COMMAND_PARAMETERS = ['keyEncoding'];
const GET_PARAMETERS = [...CONSISTENCY_PARAMETERS, 'keyEncoding', 'archived'];

/** Keys are text in a path; other bytes come as `?keyEncoding=base64url`. */
const keyOf = (services: GatewayServices, text: string, parameters: RequestParameters): Buffer => {
  const encoding = parameters.choice('keyEncoding', KEY_ENCODINGS, 'utf8');
  return checkKey(encoding === 'utf8' ? Buffer.from(text) : bytesOfBase64(text, 'key'), services.limits);
};

const headerOf = (request: FastifyRequest, name: string): string | undefined => {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
};

const writeOptions = (request: FastifyRequest, parameters: RequestParameters): WriteOptions => ({
  acks: parameters.choice('acks', WRITE_ACKS, 'quorum'),
  idempotencyKey: checkIdempotencyKey(headerOf(request, 'idempotency-key'), 'Idempotency-Key'),
});

const answerWrite = (reply: FastifyReply, write: EntryWrite): FastifyReply => {
  void reply.type(JSON_CONTENT_TYPE);
  // Acks none: sent, and nobody knows the offset.
  if (write.offset === 0) return reply.code(202).send(writtenToJson(write));
  return setDataHeaders(reply, write).send(writtenToJson(write));
};

const NO_BODY = Buffer.alloc(0);

/**
 * Entries of views: the hot routes, on Fastify itself. A value is bytes: its body is kept as it was sent, with its content type, and given back so.
 */
export const registerEntryRoutes = (fastify: FastifyInstance, services: GatewayServices): void => {
  const { reads, writes, limits } = services;

  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: limits.recordBytesMax }, (_request, body, done) => {
    done(null, body);
  });

  fastify.put<EntryRoute>('/v1/views/:view/entries/:key', async (request, reply) => {
    const parameters = new RequestParameters(request.query, PUT_PARAMETERS);
    const contentType = headerOf(request, 'content-type') ?? null;
    if (contentType !== null && contentType.length > CONTENT_TYPE_BYTES_MAX) {
      throw new TidelineError('bad-request', `Content-Type has at most ${CONTENT_TYPE_BYTES_MAX} bytes`);
    }
    const write = await writes.put(
      request.params.view,
      keyOf(services, request.params.key, parameters),
      {
        value: (request.body as Buffer | undefined) ?? NO_BODY,
        contentType,
        ttlMs: parameters.ttlMs('ttl'),
        condition: writeCondition(headerOf(request, 'if-match'), headerOf(request, 'if-none-match')),
      },
      writeOptions(request, parameters),
    );
    if (write.offset > 0) void reply.header('etag', entityTag(write.offset));
    return answerWrite(reply, write);
  });

  fastify.delete<EntryRoute>('/v1/views/:view/entries/:key', async (request, reply) => {
    const parameters = new RequestParameters(request.query, DELETE_PARAMETERS);
    const write = await writes.delete(
      request.params.view,
      keyOf(services, request.params.key, parameters),
      writeCondition(headerOf(request, 'if-match'), headerOf(request, 'if-none-match')),
      writeOptions(request, parameters),
    );
    return answerWrite(reply, write);
  });

  // HEAD too: Fastify answers it with the same headers and no body.
  fastify.get<EntryRoute>('/v1/views/:view/entries/:key', async (request, reply) => {
    const parameters = new RequestParameters(request.query, GET_PARAMETERS);
    const key = keyOf(services, request.params.key, parameters);
    const orArchived = parameters.flag('archived', false);
    const read = await reads.get(request.params.view, key, parameters.consistency(), parameters.timeoutMs());
    const { position, term, node } = read;
    const archived = read.entry === null && orArchived ? await reads.archived(request.params.view, key) : null;
    const entry = read.entry ?? archived;
    setDataHeaders(reply, { offset: position.offset, term, node });
    if (entry === null) {
      const error = new TidelineError('unknown-entry', `view ${request.params.view} has no entry under that key`);
      const problem = toProblem(error, { write: false });
      return reply.code(problem.status).headers(problem.headers).send(JSON.stringify(problem.body));
    }
    void reply
      .header('etag', entityTag(entry.offset))
      .header('cache-control', 'no-cache')
      .header('last-modified', new Date(Math.min(entry.logTime, 8.64e15)).toUTCString());
    if (entry.expiresAt !== null) void reply.header('tideline-expires-at', isoTime(entry.expiresAt));
    if (archived !== null) void reply.header('tideline-archived-at', isoTime(archived.archivedAt));
    const ifNoneMatch = headerOf(request, 'if-none-match');
    if (ifNoneMatch !== undefined && !matchesNoneOf(ifNoneMatch, entry.offset)) return reply.code(304).send();
    const { contentType } = entry;
    return (
      reply
        .type(contentType !== null && HEADER_TEXT.test(contentType) ? contentType : DEFAULT_CONTENT_TYPE)
        // What users store is shown by no browser as a page of this origin.
        .header('x-content-type-options', 'nosniff')
        .header('content-security-policy', "default-src 'none'; sandbox")
        .send(entry.value)
    );
  });

  fastify.get<{ Params: { view: string }; Querystring: Record<string, unknown> }>(
    '/v1/views/:view/entries',
    async (request, reply) => {
      const parameters = new RequestParameters(request.query, SCAN_PARAMETERS);
      const asked = scanRequestOf(parameters, limits);
      const page = await reads.scan(request.params.view, asked, parameters.consistency(), parameters.timeoutMs());
      const { foundations } = page;
      setDataHeaders(reply, {
        offset:
          foundations.length === 1
            ? foundations[0].position.offset
            : foundations.map(({ partition, position }) => `${partition}:${position.offset}`).join(','),
        term: foundations[0].term,
        node: foundations[0].node,
      });
      return reply.type(JSON_CONTENT_TYPE).send(scanToJson(page, asked.values, services));
    },
  );
};

interface CommandBody {
  readonly op?: unknown;
  readonly args?: unknown;
}

/** Commands of data types: JSON in, JSON out. */
export const registerCommandRoute = (fastify: FastifyInstance, services: GatewayServices): void => {
  fastify.post<EntryRoute & { Body: CommandBody }>('/v1/views/:view/entries/:key/commands', async (request, reply) => {
    const parameters = new RequestParameters(request.query, COMMAND_PARAMETERS);
    const key = keyOf(services, request.params.key, parameters);
    const body = new RequestParameters(objectOf(request.body), ['op', 'args']);
    const op = opOfJson(body.text('op'), request.body.args, 'op');
    const idempotencyKey = checkIdempotencyKey(headerOf(request, 'idempotency-key'), 'Idempotency-Key');
    const write = await services.writes.command(request.params.view, key, op, idempotencyKey);
    const entryOffset = write.result?.entryOffset ?? 0;
    if (entryOffset > 0) void reply.header('etag', entityTag(entryOffset));
    return setDataHeaders(reply, write).type(JSON_CONTENT_TYPE).send(commandToJson(write));
  });
};
