import { TidelineError, asOffset, isTidelineError } from '#kernel';
import { parseJson } from '#platform';
import type { RecordInput } from '#wire';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { GatewayLimits } from '../gateway-options.js';
import type { GatewayServices } from '../gateway-services.js';
import { recordOfJson, recordToJson } from '../record-json.js';
import { parseStart } from '../stream-position.js';
import { WRITE_ACKS, checkIdempotencyKey, type AppendAnswer } from '../write-path.js';
import { JSON_CONTENT_TYPE, setDataHeaders } from './data-headers.js';
import { RequestParameters } from './request-parameters.js';

interface TopicRoute {
  Params: { topic: string };
  Querystring: Record<string, unknown>;
}

const FETCH_PARAMETERS = ['partition', 'from', 'limit', 'maxBytes', 'waitMs'];
const FETCH_LIMIT_DEFAULT = 100;
const FETCH_BYTES_DEFAULT = 1024 * 1024;
const NEWLINE = 0x0a;
const SHOWN_LINES_MAX = 60;

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
    const partition = parameters.partition() ?? 0;
    const page = await records.read(
      { topic: request.params.topic, partition },
      parseStart(parameters.text('from') ?? 'earliest'),
      {
        limit: parameters.integer('limit', { min: 1, max: limits.fetchRecordsMax }, FETCH_LIMIT_DEFAULT),
        maxBytes: parameters.integer('maxBytes', { min: 1, max: limits.fetchBytesMax }, FETCH_BYTES_DEFAULT),
        waitMs: parameters.integer('waitMs', { min: 0, max: limits.fetchWaitMsMax }, 0),
      },
    );
    const described = services.topics.known(request.params.topic)?.partitions[partition];
    setDataHeaders(reply, {
      offset: asOffset(page.nextOffset - 1),
      term: described?.term ?? 0,
      node: described?.leader ?? 0,
    });
    const texts = page.records.map((record) => recordToJson(record, partition, services.isJson));
    return reply
      .type(JSON_CONTENT_TYPE)
      .send(
        `{"partition":${partition},"records":[${texts.join(',')}],"nextOffset":${page.nextOffset},` +
          `"commitOffset":${page.commitOffset},"logStartOffset":${page.logStartOffset}}`,
      );
  });
};

const answerAppend = (reply: FastifyReply, { partitions, results }: AppendAnswer): FastifyReply => {
  const [first] = partitions;
  // Acks none: nobody knows the offsets.
  if (first.lastOffset === 0) {
    return reply.code(202).send(partitions.length === 1 ? { partition: first.partition } : {});
  }
  setDataHeaders(reply, { offset: first.lastOffset, term: first.term, node: first.node });
  const { partition, firstOffset, lastOffset } = first;
  return reply.send({
    partition,
    firstOffset,
    lastOffset,
    ...(partitions.length > 1 && {
      partitions: partitions.map(({ partition, firstOffset, lastOffset }) => ({ partition, firstOffset, lastOffset })),
    }),
    ...(results && {
      results: results.map(({ ok, code, message, value }) =>
        ok ? { ok, result: value === '' ? null : (JSON.parse(value) as unknown) } : { ok, code, message },
      ),
    }),
  });
};

const tooMany = (limits: GatewayLimits): TidelineError =>
  new TidelineError('request-too-large', `a request has at most ${limits.recordsPerRequestMax} records`, {
    details: { limit: limits.recordsPerRequestMax },
  });

/** The same error, saying where. */
const located = (error: unknown, where: Readonly<Record<string, number>>, label: string): unknown =>
  isTidelineError(error)
    ? new TidelineError(error.code, `${label}: ${error.message}`, {
        cause: error,
        details: { ...error.details, ...where },
      })
    : error;

/** `{"records": […]}`. @throws TidelineError; details.record is the index of a bad one */
export const recordsOfJson = (body: unknown, limits: GatewayLimits): RecordInput[] => {
  const records = typeof body === 'object' && body !== null ? (body as { records?: unknown }).records : undefined;
  if (!Array.isArray(records)) {
    throw new TidelineError('bad-request', 'the body is an object with an array "records"', {
      details: { member: 'records' },
    });
  }
  const stranger = Object.keys(body as object).find((name) => name !== 'records');
  if (stranger !== undefined) {
    throw new TidelineError('bad-request', `the body has no member ${stranger.slice(0, SHOWN_LINES_MAX)}`, {
      details: { member: stranger },
    });
  }
  if (records.length === 0)
    throw new TidelineError('bad-request', 'there are no records', { details: { member: 'records' } });
  if (records.length > limits.recordsPerRequestMax) throw tooMany(limits);
  return records.map((record, index) => {
    try {
      return recordOfJson(record, limits);
    } catch (error) {
      throw located(error, { record: index }, `record ${index}`);
    }
  });
};

/** One record a line; empty lines do not count as records. @throws TidelineError; details.line is the number of a bad one, from 1 */
export const recordsOfLines = (body: Buffer, limits: GatewayLimits): RecordInput[] => {
  const records: RecordInput[] = [];
  let line = 0;
  for (let start = 0; start < body.length;) {
    line++;
    const newline = body.indexOf(NEWLINE, start);
    const end = newline < 0 ? body.length : newline;
    const bytes = body.subarray(start, end);
    start = end + 1;
    if (bytes.every((byte) => byte <= 0x20)) continue;
    if (records.length === limits.recordsPerRequestMax) throw tooMany(limits);
    try {
      records.push(recordOfJson(parseJson(bytes, { depthMax: limits.jsonDepthMax }), limits));
    } catch (error) {
      throw located(error, { line }, `line ${line}`);
    }
  }
  if (records.length === 0) throw new TidelineError('bad-request', 'there are no records');
  return records;
};
