import { TidelineError, asOffset } from '#kernel';
import { parseJson } from '#platform';
import type { RecordInput } from '#wire';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { appendedOf, isSentOnly, pageToJson } from '../answers.js';
import type { GatewayServices } from '../gateway-services.js';
import { recordsOfJson, recordsOfLines } from '../records-body.js';
import { RequestParameters } from '../request-parameters.js';
import { FETCH_PARAMETERS, fetchRequestOf } from '../requests.js';
import { WRITE_ACKS, checkIdempotencyKey, type AppendAnswer } from '../write-path.js';
import { JSON_CONTENT_TYPE, setDataHeaders } from './data-headers.js';

interface TopicRoute {
  Params: { topic: string };
  Querystring: Record<string, unknown>;
}

export const registerRecordRoutes = (fastify: FastifyInstance, services: GatewayServices): void => {
  const { limits, writes, records } = services;
  const depthMax = limits.jsonDepthMax;

  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, recordsOfJson(parseJson(body as Buffer, { depthMax }), limits));
    } catch (error) {
      done(error as Error, undefined);
    }
  });
  fastify.addContentTypeParser(
    ['application/x-ndjson', 'application/ndjson', 'application/jsonl'],
    { parseAs: 'buffer' },
    (_request, body, done) => {
      try {
        done(null, recordsOfLines(body as Buffer, limits));
      } catch (error) {
        done(error as Error, undefined);
      }
    },
  );

  fastify.post<TopicRoute>('/v1/topics/:topic/records', async (request, reply) => {
    if (request.body === undefined || request.body === null) {
      throw new TidelineError(
        'bad-request',
        'the body has records: {"records": […]}, or one a line as application/x-ndjson',
      );
    }
    const parameters = new RequestParameters(request.query, ['acks']);
    const answer = await writes.append(request.params.topic, request.body as readonly RecordInput[], {
      acks: parameters.choice('acks', WRITE_ACKS, 'quorum'),
      idempotencyKey: checkIdempotencyKey(request.headers['idempotency-key'], 'Idempotency-Key'),
    });
    return answerAppend(reply, answer);
  });

  fastify.get<TopicRoute>('/v1/topics/:topic/records', async (request, reply) => {
    const parameters = new RequestParameters(request.query, FETCH_PARAMETERS);
    const { partition, start, ...options } = fetchRequestOf(parameters, limits);
    const page = await records.read({ topic: request.params.topic, partition }, start, options);
    const described = services.topics.known(request.params.topic)?.partitions[partition];
    setDataHeaders(reply, {
      offset: asOffset(page.nextOffset - 1),
      term: described?.term ?? 0,
      node: described?.leader ?? 0,
    });
    return reply.type(JSON_CONTENT_TYPE).send(pageToJson(page, partition, services));
  });
};

const answerAppend = (reply: FastifyReply, answer: AppendAnswer): FastifyReply => {
  if (isSentOnly(answer)) return reply.code(202).send(appendedOf(answer));
  const [{ lastOffset, term, node }] = answer.partitions;
  return setDataHeaders(reply, { offset: lastOffset, term, node }).send(appendedOf(answer));
};
