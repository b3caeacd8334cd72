import { Readable } from 'node:stream';
import { TidelineError, asOffset } from '#kernel';
import type { ViewUpkeep } from '#views';
import type { FastifyInstance } from 'fastify';
import type { GatewayServices } from '../gateway-services.js';
import { RequestParameters } from '../request-parameters.js';
import { exportView } from '../view-export.js';
import { JSON_CONTENT_TYPE } from './data-headers.js';

interface ViewRoute {
  Params: { view: string };
  Querystring: Record<string, unknown>;
}

const PARTITIONS = { min: 0, max: 65_535 };
const OFFSETS = { min: 1, max: Number.MAX_SAFE_INTEGER };

/** @throws TidelineError `not-found` */
export const upkeepOf = ({ views }: GatewayServices): ViewUpkeep => {
  if (views.upkeep) return views.upkeep;
  throw new TidelineError('not-found', 'the host of the views keeps no snapshots');
};

/** Snapshots of a view: which there are, one more, a view built from one, a view in one file. */
export const registerSnapshotRoutes = (fastify: FastifyInstance, services: GatewayServices): void => {
  fastify.get<ViewRoute>('/v1/views/:view/snapshots', async (request, reply) => {
    const parameters = new RequestParameters(request.query, ['host']);
    const host = parameters.text('host');
    const { view } = request.params;
    await services.topics.readable(view);
    const all = await upkeepOf(services).snapshots({ view, everywhere: true });
    const snapshots = all.filter((info) => host === null || info.host === host);
    return reply.type(JSON_CONTENT_TYPE).send({ snapshots: snapshots.map(snapshotToJson) });
  });

  fastify.get<ViewRoute>('/v1/views/:view/export', { exposeHeadRoute: false }, async (request, reply) => {
    const [name] = Object.keys(request.query);
    if (name !== undefined) throw new TidelineError('bad-request', `${name.slice(0, 80)} is not a parameter here`);
    const pieces = await exportView(services, upkeepOf(services), request.params.view);
    // What goes wrong on the way breaks the connection off: the file then has no end.
    return reply.type('application/vnd.tideline.view-export').send(Readable.from(pieces, { objectMode: false }));
  });

  fastify.post<ViewRoute>('/v1/views/:view/snapshots', async (request, reply) => {
    const parameters = new RequestParameters(request.query, ['partition']);
    const partition = parameters.integer('partition', PARTITIONS, null);
    const { view } = request.params;
    await services.topics.readable(view);
    const snapshots = await upkeepOf(services).createSnapshots({ view, partition });
    return reply
      .code(201)
      .type(JSON_CONTENT_TYPE)
      .send({ snapshots: snapshots.map(snapshotToJson) });
  });

  fastify.post<ViewRoute>('/v1/views/:view/snapshots/restore', async (request, reply) => {
    const parameters = new RequestParameters(request.query, ['partition', 'offset']);
    const partition = parameters.integer('partition', PARTITIONS, null);
    const offset = parameters.integer('offset', OFFSETS, null);
    if (offset !== null && partition === null)
      parameters.refuse('partition', "says which, as an offset is one partition's");
    const { view } = request.params;
    await services.topics.readable(view);
    const wanted = { view, partition, offset: offset === null ? null : asOffset(offset) };
    const restored = await upkeepOf(services).restoreSnapshots(wanted);
    return reply.code(202).type(JSON_CONTENT_TYPE).send({ restored });
  });
};

const snapshotToJson = <T extends { readonly createdAt: number }>(info: T): object => ({
  ...info,
  createdAt: new Date(info.createdAt).toISOString(),
});
