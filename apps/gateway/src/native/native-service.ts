import { TidelineError, toTidelineError } from '#kernel';
import type { TailChunk } from '#command-log';
import type { ConnectionHandler, Responder, StreamProducer } from '#net';
import { gatewayServiceV1, type GatewayRead, type RequestCall, type WatchEventMessage } from '#wire';
import type { GatewayServices } from '../gateway-services.js';
import { consistencyOf, type Consistency } from '../read-path.js';
import { partitionOfTopic } from '../topic-directory.js';

/** Chunks of a tail read ahead while its reader has no credit. */
const TAIL_READ_AHEAD_BYTES = 256 * 1024;
/** Events in one item of a watch. */
const WATCH_ITEM_EVENTS_MAX = 256;
/** The same in bytes: with so many waiting the reader is behind. */
const WATCH_ITEM_BYTES_MAX = 256 * 1024;

const readOf = ({ consistency, minOffset, maxLagMs }: GatewayRead): Consistency =>
  consistencyOf({
    consistency,
    minOffset: consistency === 'session' ? (minOffset as never) : null,
    maxLagMs: consistency === 'bounded' ? maxLagMs : null,
  });

/** What native clients ask a gateway (libs/wire gateway-service-v1.ts). Batches pass through as they were encoded. */
export const serveGateway = (services: GatewayServices): ConnectionHandler => {
  const v1 = gatewayServiceV1;
  const { log, limits, reads, writes, topics } = services;

  /** @throws (rejects) for what users may not see, and for what is not there */
  const userTarget = async <Target extends { readonly topic: string; readonly partition: number }>(
    target: Target,
  ): Promise<Target> => {
    partitionOfTopic(await topics.topic(target.topic), target.partition);
    return target;
  };

  return {
    request(method, payload, responder) {
      switch (method) {
        case v1.append.method:
          return answer(v1.append, payload, responder, ({ topic, partition, batch, acks, timeoutMs }) =>
            writes.appendBatch({ topic, partition }, batch, { acks, timeoutMs }),
          );
        case v1.get.method:
          return answer(v1.get, payload, responder, (request) =>
            reads.get(request.view, request.key, readOf(request), request.timeoutMs || undefined),
          );
        case v1.getMany.method:
          return answer(v1.getMany, payload, responder, (request) => {
            const bytesMax = Math.min(request.bytesMax, limits.scanBytesMax);
            return reads.getMany({ ...request, bytesMax }, readOf(request), request.timeoutMs || undefined);
          });
        case v1.scan.method:
          return answer(v1.scan, payload, responder, async (request) => {
            const limit = Math.min(request.limit, limits.scanEntriesMax);
            const bytesMax = Math.min(request.bytesMax, limits.scanBytesMax);
            const asked = { ...request, limit, bytesMax };
            const page = await reads.scan(request.view, asked, readOf(request), request.timeoutMs || undefined);
            const positions = page.foundations.map(({ partition, position }) => ({ partition, ...position }));
            return { entries: page.entries, more: page.more, positions };
          });
        case v1.results.method:
          return answer(v1.results, payload, responder, async (request) => {
            partitionOfTopic(await topics.view(request.view), request.partition);
            return reads.results(request);
          });
        case v1.views.method:
          return answer(v1.views, payload, responder, () => reads.stats());
        case v1.projections.method:
          return answer(v1.projections, payload, responder, () => services.views.projections());
        case v1.archive.method:
          return answer(v1.archive, payload, responder, (request) => reads.archive(request));
        case v1.barrier.method:
          return answer(v1.barrier, payload, responder, async (target) => log.barrier(await userTarget(target)));
        case v1.openSession.method:
          return answer(v1.openSession, payload, responder, async (target) =>
            log.openSession(await userTarget(target)),
          );
        case v1.fetch.method:
          return answer(v1.fetch, payload, responder, async (request) => {
            const maxBytes = Math.min(Math.max(1, request.maxBytes), limits.fetchBytesMax);
            const maxWaitMs = Math.min(request.maxWaitMs, limits.fetchWaitMsMax);
            return log.fetch(await userTarget(request), request.from, { maxBytes, maxWaitMs });
          });
        case v1.offsetAtTime.method:
          return answer(v1.offsetAtTime, payload, responder, async (request) =>
            log.offsetAtTime(await userTarget(request), request.time),
          );
        case v1.describe.method:
          return answer(v1.describe, payload, responder, () => topics.describe());
        default:
          return responder.fail(unknownMethod(method));
      }
    },
    stream(method, payload, producer) {
      try {
        if (method === v1.tail.method) serveTail(services, payload, producer);
        else if (method === v1.watch.method) serveWatch(services, payload, producer);
        else producer.end(unknownMethod(method));
      } catch (thrown) {
        producer.end(toTidelineError(thrown));
      }
    },
    post() {
      // This version of the service has no one-way messages; one of a later version asks for no answer.
    },
  };
};

const unknownMethod = (method: number): TidelineError =>
  new TidelineError('unsupported-version', `the gateway service has no method 0x${method.toString(16)}`, {
    outcome: 'rejected',
  });

const answer = <Request, Response, Input>(
  call: RequestCall<Request, Response, Input>,
  payload: Buffer,
  responder: Responder,
  run: (request: Request) => Promise<Input>,
): void => {
  let answered: Promise<Input>;
  try {
    answered = run(call.decodeRequest(payload));
  } catch (thrown) {
    responder.fail(toTidelineError(thrown));
    return;
  }
  answered.then(
    (value) => responder.ok(call.encodeResponse(value)),
    (thrown: unknown) => responder.fail(toTidelineError(thrown)),
  );
};

/** Chunks of the log as they are. Two credits meet here: a chunk is released to the log when the reader's credit has let it go. */
const serveTail = (services: GatewayServices, payload: Buffer, producer: StreamProducer): void => {
  const { tail } = gatewayServiceV1;
  const { topic, partition, from } = tail.decodeRequest(payload);
  const waiting: TailChunk[] = [];
  let ending: { readonly error: TidelineError | null } | null = null;
  let over = false;
  let unsubscribe: () => void = () => undefined;

  const stop = (): void => {
    over = true;
    release();
    unsubscribe();
    waiting.length = 0;
  };
  const send = (): void => {
    while (waiting.length > 0 && producer.credit > 0) {
      const chunk = waiting.shift()!;
      producer.item(tail.encodeItem(chunk));
      chunk.release();
    }
    if (over || ending === null || waiting.length > 0) return;
    const { error } = ending;
    stop();
    producer.end(error);
  };
  const end = (error: TidelineError | null): void => {
    ending ??= { error };
    send();
  };
  const release = services.streams.add((error) => {
    if (over) return;
    stop();
    producer.end(error);
  });
  producer.onCredit(send);
  producer.onCancel(stop);

  services.topics.topic(topic).then(
    (description) => {
      if (over) return;
      try {
        partitionOfTopic(description, partition);
      } catch (thrown) {
        end(toTidelineError(thrown));
        return;
      }
      const options = { creditBytes: TAIL_READ_AHEAD_BYTES };
      const subscription = services.log.tail({ topic, partition }, from, options).subscribe({
        next: (chunk) => {
          waiting.push(chunk);
          send();
        },
        error: (thrown: unknown) => end(toTidelineError(thrown)),
        complete: () => end(null),
      });
      unsubscribe = () => subscription.unsubscribe();
      if (over) subscription.unsubscribe();
    },
    (thrown: unknown) => end(toTidelineError(thrown)),
  );
};

const serveWatch = (services: GatewayServices, payload: Buffer, producer: StreamProducer): void => {
  const { watch } = gatewayServiceV1;
  const request = watch.decodeRequest(payload);
  let batch: WatchEventMessage[] = [];
  let bytes = 0;
  let flushing = false;
  let over = false;

  const full = (): boolean => batch.length >= WATCH_ITEM_EVENTS_MAX || bytes >= WATCH_ITEM_BYTES_MAX;
  const flush = (): void => {
    flushing = false;
    if (over || batch.length === 0 || producer.credit <= 0) return;
    producer.item(watch.encodeItem(batch));
    batch = [];
    bytes = 0;
  };
  const add = (event: WatchEventMessage): boolean => {
    batch.push(event);
    if (event.type === 'put') bytes += event.entry.key.length + event.entry.value.length;
    if (full()) flush();
    else if (!flushing) {
      flushing = true;
      services.time.scheduler.defer(flush);
    }
    return !full();
  };
  const stop = (): void => {
    over = true;
    release();
    stream.stop();
  };
  const end = (error: TidelineError | null): void => {
    if (over) return;
    flush();
    stop();
    producer.end(error);
  };
  const stream = services.watch(request, {
    change: add,
    live: (positions) => {
      for (const [partition, offset] of positions) add({ type: 'live', partition, offset });
    },
    end,
  });
  const release = services.streams.add(end);
  producer.onCredit(() => {
    flush();
    if (!full()) stream.resume();
  });
  producer.onCancel(stop);
  stream.start().catch((thrown: unknown) => end(toTidelineError(thrown)));
};
