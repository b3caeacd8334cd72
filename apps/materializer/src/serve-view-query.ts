import { TidelineError, toTidelineError } from '#kernel';
import type { ConnectionHandler, Responder, StreamProducer } from '#net';
import type { ViewQuery, WatchChunk } from '#views';
import { archiveServiceV1, projectionServiceV1, snapshotServiceV1, viewServiceV1, type Pieces } from '#wire';
import type { Subscription } from 'rxjs';
import type { HostUpkeep } from './host-upkeep.js';

/** The materializer service (libs/wire view-service-v1.ts, snapshot-service-v1.ts, archive-service-v1.ts) over a ViewQuery and what its host does besides. */
export const serveViewQuery = (query: ViewQuery & { readonly upkeep?: HostUpkeep }): ConnectionHandler => ({
  request(method, payload, responder) {
    try {
      if (query.upkeep && upkeep(query.upkeep, method, payload, responder)) return;
      answer(query, method, payload, responder);
    } catch (error) {
      responder.fail(toTidelineError(error));
    }
  },
  stream(method, payload, producer) {
    try {
      if (method !== viewServiceV1.watch.method)
        throw new TidelineError('not-found', `no stream ${method} at the materializer service`);
      watch(query, viewServiceV1.watch.decodeRequest(payload), producer);
    } catch (error) {
      producer.end(toTidelineError(error));
    }
  },
  post() {
    // The view service has no posts; one that arrives is for a service of a later version and asks for no answer.
  },
});

const replyTo =
  (responder: Responder) =>
  <T>(promise: Promise<T>, encode: (value: T) => Pieces): void => {
    promise.then(
      (value) => responder.ok(encode(value)),
      (error: unknown) => responder.fail(toTidelineError(error)),
    );
  };

/** False: it is none of these methods. */
const upkeep = (host: HostUpkeep, method: number, payload: Buffer, responder: Responder): boolean => {
  const { snapshots, create, restore, piece, marks, digests, dispute, health } = snapshotServiceV1;
  const { departed, kept } = archiveServiceV1;
  const reply = replyTo(responder);
  if (method === snapshots.method) reply(host.snapshots(snapshots.decodeRequest(payload)), snapshots.encodeResponse);
  else if (method === create.method) reply(host.createSnapshots(create.decodeRequest(payload)), create.encodeResponse);
  else if (method === restore.method)
    reply(host.restoreSnapshots(restore.decodeRequest(payload)), restore.encodeResponse);
  else if (method === piece.method) reply(host.piece(piece.decodeRequest(payload)), piece.encodeResponse);
  else if (method === marks.method) responder.ok(marks.encodeResponse(host.marks()));
  else if (method === digests.method)
    responder.ok(digests.encodeResponse(host.digests(digests.decodeRequest(payload))));
  else if (method === dispute.method) {
    host.dispute(dispute.decodeRequest(payload));
    responder.ok(dispute.encodeResponse());
  } else if (method === health.method) reply(host.health(health.decodeRequest(payload)), health.encodeResponse);
  else if (method === departed.method) reply(host.departed(departed.decodeRequest(payload)), departed.encodeResponse);
  else if (method === kept.method) reply(host.kept(kept.decodeRequest(payload)), kept.encodeResponse);
  else return false;
  return true;
};

const answer = (query: ViewQuery, method: number, payload: Buffer, responder: Responder): void => {
  const reply = replyTo(responder);
  switch (method) {
    case viewServiceV1.get.method:
      return reply(query.get(viewServiceV1.get.decodeRequest(payload)), viewServiceV1.get.encodeResponse);
    case viewServiceV1.getOrDeparted.method:
      return reply(
        query.getOrDeparted(viewServiceV1.getOrDeparted.decodeRequest(payload)),
        viewServiceV1.getOrDeparted.encodeResponse,
      );
    case viewServiceV1.getMany.method:
      return reply(query.getMany(viewServiceV1.getMany.decodeRequest(payload)), viewServiceV1.getMany.encodeResponse);
    case viewServiceV1.scan.method:
      return reply(query.scan(viewServiceV1.scan.decodeRequest(payload)), viewServiceV1.scan.encodeResponse);
    case viewServiceV1.results.method:
      return reply(query.results(viewServiceV1.results.decodeRequest(payload)), viewServiceV1.results.encodeResponse);
    case viewServiceV1.stats.method:
      return reply(query.stats(), viewServiceV1.stats.encodeResponse);
    case viewServiceV1.archive.method:
      return reply(query.archive(viewServiceV1.archive.decodeRequest(payload)), viewServiceV1.archive.encodeResponse);
    case projectionServiceV1.lookup.method:
      return reply(
        query.lookup(projectionServiceV1.lookup.decodeRequest(payload)),
        projectionServiceV1.lookup.encodeResponse,
      );
    case projectionServiceV1.parked.method:
      return reply(
        query.parked(projectionServiceV1.parked.decodeRequest(payload)),
        projectionServiceV1.parked.encodeResponse,
      );
    case projectionServiceV1.projections.method:
      return reply(query.projections(), projectionServiceV1.projections.encodeResponse);
    default:
      responder.fail(new TidelineError('not-found', `no method ${method} at the materializer service`));
  }
};

const watch = (
  query: ViewQuery,
  request: { view: string; partition: number; prefix: Buffer },
  producer: StreamProducer,
): void => {
  /** What the reader has no credit for yet; the host sends no more before these are released. */
  const waiting: WatchChunk[] = [];
  let ended: { error: TidelineError | null } | null = null;
  let subscription: Subscription | null = null;
  const drain = (): void => {
    while (waiting.length > 0 && producer.credit > 0) {
      const chunk = waiting.shift()!;
      producer.item(viewServiceV1.watch.encodeItem(chunk.events));
      chunk.release();
    }
    if (ended && waiting.length === 0) producer.end(ended.error);
  };
  const finish = (error: TidelineError | null): void => {
    if (ended) return;
    ended = { error };
    drain();
  };
  producer.onCancel(() => {
    waiting.length = 0;
    subscription?.unsubscribe();
  });
  producer.onCredit(drain);
  subscription = query.watch(request).subscribe({
    next: (chunk) => {
      if (ended) return;
      waiting.push(chunk);
      drain();
    },
    error: (error: unknown) => finish(toTidelineError(error)),
    complete: () => finish(null),
  });
};
