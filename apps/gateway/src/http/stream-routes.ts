import { toTidelineError } from '#kernel';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { changeToJson } from '../answers.js';
import type { GatewayServices } from '../gateway-services.js';
import { recordToJson } from '../record-json.js';
import { RequestParameters } from '../request-parameters.js';
import { TAIL_PARAMETERS, WATCH_PARAMETERS, tailRequestOf, watchRequestOf } from '../requests.js';
import { formatPosition } from '../stream-position.js';
import { EventStream } from './event-stream.js';

const lastEventIdOf = (request: FastifyRequest): string | undefined => {
  const header = request.headers['last-event-id'];
  return Array.isArray(header) ? header[0] : header;
};

/** Server-Sent Events: tails of topics and watches of views. */
export const registerStreamRoutes = (fastify: FastifyInstance, services: GatewayServices): void => {
  const { limits, time } = services;

  fastify.get<{ Params: { topic: string }; Querystring: Record<string, unknown> }>(
    '/v1/topics/:topic/tail',
    { exposeHeadRoute: false },
    async (request, reply) => {
      const parameters = new RequestParameters(request.query, TAIL_PARAMETERS);
      const asked = tailRequestOf(request.params.topic, parameters, lastEventIdOf(request));
      let events: EventStream | null = null;
      let said = '';
      const tail = services.tail(asked, {
        record: ({ partition, record }) => {
          said = tail.positionText;
          return events!.event('record', said, recordToJson(record, partition, services.isJson));
        },
        end: (error) => {
          release();
          events!.end(error);
        },
      });
      const release = services.streams.add((error) => {
        release();
        tail.stop();
        events?.end(error);
      });
      try {
        await tail.start();
      } catch (error) {
        release();
        throw toTidelineError(error);
      }
      reply.hijack();
      events = new EventStream(
        reply.raw,
        limits,
        time,
        streamHeaders(services, request.params.topic, tail.positionText),
      );
      events.onRoom = () => tail.resume();
      events.onClose = () => {
        release();
        tail.stop();
      };
      // A filter lets nothing through for long: the reader still learns how far it is.
      events.heartbeat = () => {
        if (tail.positionText === said) return '';
        said = tail.positionText;
        return `id: ${said}\n`;
      };
      if (reply.raw.destroyed) events.onClose();
      return reply;
    },
  );

  fastify.get<{ Params: { view: string }; Querystring: Record<string, unknown> }>(
    '/v1/views/:view/watch',
    { exposeHeadRoute: false },
    async (request, reply) => {
      const parameters = new RequestParameters(request.query, WATCH_PARAMETERS);
      const asked = watchRequestOf(request.params.view, parameters);
      let events: EventStream | null = null;
      const watch = services.watch(asked, {
        change: (change) => {
          const offset = change.type === 'put' ? change.entry.offset : change.offset;
          return events!.event(change.type, `${change.partition}:${offset}`, changeToJson(change, services));
        },
        live: (positions) => {
          const position = formatPosition(positions);
          events!.event('live', null, `{"position":"${position}"}`);
        },
        end: (error) => {
          release();
          events!.end(error);
        },
      });
      const release = services.streams.add((error) => {
        release();
        watch.stop();
        events?.end(error);
      });
      try {
        await watch.start();
      } catch (error) {
        release();
        throw toTidelineError(error);
      }
      reply.hijack();
      events = new EventStream(reply.raw, limits, time, streamHeaders(services, request.params.view, null));
      events.onRoom = () => watch.resume();
      events.onClose = () => {
        release();
        watch.stop();
      };
      if (reply.raw.destroyed) events.onClose();
      return reply;
    },
  );
};

/** Where the stream begins, by the same names as other answers about data. */
export const streamHeaders = (
  services: GatewayServices,
  topic: string,
  position: string | null,
): Record<string, string> => {
  const partition = (services.topics.known(topic) ?? services.topics.knownView(topic)?.topic)?.partitions[0];
  return {
    ...(position === null ? {} : { 'tideline-offset': position }),
    'tideline-term': String(partition?.term ?? 0),
    'tideline-node': String(partition?.leader ?? 0),
  };
};
