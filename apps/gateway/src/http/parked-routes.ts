import { TidelineError, asOffset, NO_OFFSET } from '#kernel';
import type { FastifyInstance } from 'fastify';
import { parkedToJson } from '../answers.js';
import type { GatewayServices } from '../gateway-services.js';
import { RequestParameters } from '../request-parameters.js';
import { formatPosition, parsePosition } from '../stream-position.js';
import { JSON_CONTENT_TYPE, setDataHeaders } from './data-headers.js';

interface ViewRoute {
  Params: { view: string };
  Querystring: Record<string, unknown>;
}

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 1000;

const positionOf = (
  text: string,
  name: string,
): { readonly partition: number; readonly offset: ReturnType<typeof asOffset> } => {
  const [[partition, offset], ...more] = [...parsePosition(text, name)];
  if (more.length > 0) throw new TidelineError('bad-request', `${name} is one position, such as 0:12`);
  return { partition, offset };
};

/** @throws TidelineError `bad-request` */
const checkNothingAsked = (query: Record<string, unknown>): void => {
  const [name] = Object.keys(query);
  if (name !== undefined) throw new TidelineError('bad-request', `${name.slice(0, 80)} is not a parameter here`);
};

/** Events that a projection could not apply: listed, and tried again. */
export const registerParkedRoutes = (fastify: FastifyInstance, services: GatewayServices): void => {
  const { reads, writes } = services;

  fastify.get<ViewRoute>('/v1/views/:view/parked', async (request, reply) => {
    const parameters = new RequestParameters(request.query, ['limit', 'cursor']);
    const limit = parameters.integer('limit', { min: 1, max: LIMIT_MAX }, LIMIT_DEFAULT);
    const cursor = parameters.text('cursor');
    const after = cursor ? positionOf(cursor, 'cursor') : { partition: 0, offset: NO_OFFSET };
    const { events, more } = await reads.parked(request.params.view, { after, limit });
    const last = events.at(-1);
    const next = more && last ? formatPosition(new Map([[last.partition, last.offset]])) : null;
    return reply.type(JSON_CONTENT_TYPE).send(parkedToJson(events, next, services));
  });

  fastify.post<ViewRoute>('/v1/views/:view/parked/replay', async (request, reply) => {
    checkNothingAsked(request.query);
    const { view } = request.params;
    const { topic } = await services.topics.readable(view);
    const replays = [];
    for (const { partition } of topic.partitions) {
      const { offset } = await writes.replay(view, { partition, offset: null });
      replays.push({ partition, offset });
    }
    const first = await reads.parked(view, { after: { partition: 0, offset: NO_OFFSET }, limit: LIMIT_MAX });
    return reply.type(JSON_CONTENT_TYPE).send({ replays, parked: first.events.length, more: first.more });
  });

  fastify.post<ViewRoute & { Params: { position: string } }>(
    '/v1/views/:view/parked/:position/replay',
    async (request, reply) => {
      checkNothingAsked(request.query);
      const { view, position } = request.params;
      const { partition, offset } = positionOf(position, 'the position');
      const before = { after: { partition, offset: asOffset(offset - 1) }, limit: 1 };
      const [event] = (await reads.parked(view, before)).events;
      if (event?.partition !== partition || event.offset !== offset)
        throw new TidelineError('unknown-entry', `no event is parked at ${position}`);
      const write = await writes.replay(view, { partition, offset });
      const [after] = (await reads.parked(view, before)).events;
      const applied = after?.partition !== partition || after.offset !== offset;
      const answer = { partition, offset: write.offset, applied, ...(!applied && { error: after.error }) };
      return setDataHeaders(reply, write).type(JSON_CONTENT_TYPE).send(answer);
    },
  );
};
