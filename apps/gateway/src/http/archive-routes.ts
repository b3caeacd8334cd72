import { asLogTime, type LogTime } from '#kernel';
import type { FastifyInstance } from 'fastify';
import { archiveToJson } from '../answers.js';
import type { GatewayServices } from '../gateway-services.js';
import { bytesOfBase64, checkKey } from '../record-json.js';
import { RequestParameters } from '../request-parameters.js';
import { parseTime } from '../stream-position.js';
import { JSON_CONTENT_TYPE } from './data-headers.js';
import { KEY_ENCODINGS } from './entry-routes.js';

const PARAMETERS = ['key', 'keyEncoding', 'from', 'to', 'limit', 'cursor'];
const LIMIT_DEFAULT = 100;
/** As many as an archive gives at once. */
const LIMIT_MAX = 1000;
/** Longer than any archive gives out. */
const CURSOR_CHARS_MAX = 256;

const keyOf = (services: GatewayServices, parameters: RequestParameters): Buffer | null => {
  const encoding = parameters.choice('keyEncoding', KEY_ENCODINGS, 'utf8');
  const text = parameters.text('key');
  if (text === null) return null;
  return checkKey(encoding === 'utf8' ? Buffer.from(text) : bytesOfBase64(text, 'key'), services.limits);
};

const timeOf = (parameters: RequestParameters, name: string): LogTime | null => {
  const text = parameters.text(name);
  if (text === null) return null;
  const time = parseTime(text);
  return time === null ? parameters.refuse(name, 'is an ISO 8601 time or milliseconds since 1970') : asLogTime(time);
};

const cursorOf = (parameters: RequestParameters): string | null => {
  const cursor = parameters.text('cursor');
  if (cursor === null || cursor === '') return null;
  if (cursor.length > CURSOR_CHARS_MAX) parameters.refuse('cursor', 'is the cursor of an answer before');
  return cursor;
};

/** What has expired and was archived. */
export const registerArchiveRoutes = (fastify: FastifyInstance, services: GatewayServices): void => {
  fastify.get<{ Params: { view: string }; Querystring: Record<string, unknown> }>(
    '/v1/views/:view/archive',
    async (request, reply) => {
      const parameters = new RequestParameters(request.query, PARAMETERS);
      const asked = {
        key: keyOf(services, parameters),
        from: timeOf(parameters, 'from'),
        to: timeOf(parameters, 'to'),
        limit: parameters.integer('limit', { min: 1, max: LIMIT_MAX }, LIMIT_DEFAULT),
        cursor: cursorOf(parameters),
      };
      const page = await services.reads.archive({ view: request.params.view, ...asked });
      return reply.type(JSON_CONTENT_TYPE).send(archiveToJson(page, services));
    },
  );
};
