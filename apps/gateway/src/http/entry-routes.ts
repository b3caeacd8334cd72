import type { IncomingHttpHeaders } from 'node:http';
import { TidelineError } from '#kernel';
import type { DirectHead } from '#platform';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { commandToJson, scanToJson, writtenToJson } from '../answers.js';
import { entityTag, writeCondition } from '../entry-precondition.js';
import type { GatewayServices } from '../gateway-services.js';
import { bytesOfBase64, checkKey, opOfJson } from '../record-json.js';
import { WRITE_ACKS, checkIdempotencyKey, type EntryPut, type EntryWrite, type WriteOptions } from '../write-path.js';
import { JSON_CONTENT_TYPE, setDataHeaders } from './data-headers.js';
import { entryAnswer } from './entry-answer.js';
import { CONSISTENCY_PARAMETERS, RequestParameters, objectOf } from '../request-parameters.js';
import { SCAN_PARAMETERS, scanRequestOf } from '../requests.js';

const CONTENT_TYPE_BYTES_MAX = 256;

export const ENTRY_ROUTE = '/v1/views/:view/entries/:key';

interface EntryRoute {
  Params: { view: string; key: string };
  Querystring: Record<string, unknown>;
}

export const KEY_ENCODINGS = ['utf8', 'base64url'] as const;
export const PUT_PARAMETERS = ['ttl', 'acks', 'keyEncoding'];
const DELETE_PARAMETERS = ['acks', 'keyEncoding'];
const COMMAND_PARAMETERS = ['keyEncoding'];
export const GET_PARAMETERS = [...CONSISTENCY_PARAMETERS, 'keyEncoding', 'archived'];

/** Keys are text in a path; other bytes come as `?keyEncoding=base64url`. */
export const keyOf = (services: GatewayServices, text: string, parameters: RequestParameters): Buffer => {
  const encoding = parameters.choice('keyEncoding', KEY_ENCODINGS, 'utf8');
  return checkKey(encoding === 'utf8' ? Buffer.from(text) : bytesOfBase64(text, 'key'), services.limits);
};

const one = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value);

const headerOf = (request: FastifyRequest, name: string): string | undefined => one(request.headers[name]);

const writeOptions = (headers: EntryHeaders, parameters: RequestParameters): WriteOptions => ({
  acks: parameters.choice('acks', WRITE_ACKS, 'quorum'),
  idempotencyKey: checkIdempotencyKey(one(headers['idempotency-key']), 'Idempotency-Key'),
});

/** What a PUT asks for, but for its body. */
export interface AskedPut {
  readonly key: Buffer;
  readonly entry: Omit<EntryPut, 'value'>;
  readonly options: WriteOptions;
}

type EntryHeaders = DirectHead['headers'] | IncomingHttpHeaders;

/** @throws TidelineError `bad-request` · `key-too-large` */
export const askedPut = (
  services: GatewayServices,
  { key, parameters }: { readonly key: string; readonly parameters: RequestParameters },
  headers: EntryHeaders,
): AskedPut => {
  const contentType = headers['content-type'] ?? null;
  if (contentType !== null && contentType.length > CONTENT_TYPE_BYTES_MAX) {
    throw new TidelineError('bad-request', `Content-Type has at most ${CONTENT_TYPE_BYTES_MAX} bytes`);
  }
  return {
    key: keyOf(services, key, parameters),
    entry: {
      contentType,
      ttlMs: parameters.ttlMs('ttl'),
      condition: writeCondition(one(headers['if-match']), one(headers['if-none-match'])),
    },
    options: writeOptions(headers, parameters),
  };
};

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

  fastify.put<EntryRoute>(ENTRY_ROUTE, async (request, reply) => {
    const parameters = new RequestParameters(request.query, PUT_PARAMETERS);
    const { key, entry, options } = askedPut(services, { key: request.params.key, parameters }, request.headers);
    const value = (request.body as Buffer | undefined) ?? NO_BODY;
    const write = await writes.put(request.params.view, key, { ...entry, value }, options);
    if (write.offset > 0) void reply.header('etag', entityTag(write.offset));
    return answerWrite(reply, write);
  });

  fastify.delete<EntryRoute>(ENTRY_ROUTE, async (request, reply) => {
    const parameters = new RequestParameters(request.query, DELETE_PARAMETERS);
    const write = await writes.delete(
      request.params.view,
      keyOf(services, request.params.key, parameters),
      writeCondition(headerOf(request, 'if-match'), headerOf(request, 'if-none-match')),
      writeOptions(request.headers, parameters),
    );
    return answerWrite(reply, write);
  });

  // HEAD too: Fastify answers it with the same headers and no body.
  fastify.get<EntryRoute>(ENTRY_ROUTE, async (request, reply) => {
    const parameters = new RequestParameters(request.query, GET_PARAMETERS);
    const key = keyOf(services, request.params.key, parameters);
    const orArchived = parameters.flag('archived', false);
    const { view } = request.params;
    const asked = [view, key, parameters.consistency(), parameters.timeoutMs()] as const;
    const read = await (orArchived ? reads.getOrDeparted(...asked) : reads.get(...asked));
    const { status, headers, body } = entryAnswer(view, read, headerOf(request, 'if-none-match'));
    for (let i = 0; i < headers.length; i += 2) void reply.header(headers[i], headers[i + 1]);
    return body === null ? reply.code(status).send() : reply.code(status).send(body);
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
