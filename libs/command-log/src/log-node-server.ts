import { TidelineError, toTidelineError } from '#kernel';
import type { ConnectionHandler, Responder, StreamProducer } from '#net';
import { logServiceV1, type RequestCall } from '#wire';
import type { LogNode, TailChunk } from './command-log.js';

/** Chunks of one tail read ahead while its reader has no credit, bytes. */
export const TAIL_READ_AHEAD_BYTES = 256 * 1024;

/** Serves a log node to RemoteLogNodes (service `log`, methods in libs/wire log-service-v1.ts). */
export const serveLogNode = (node: LogNode): ConnectionHandler => {
  const { describe, append, fetch, barrier, openSession, offsetAtTime, transferLeadership, tail } = logServiceV1;
  return {
    request(method, payload, responder) {
      switch (method) {
        case describe.method:
          return answer(describe, payload, responder, () => node.describe());
        case append.method:
          return answer(append, payload, responder, ({ group, acks, batch }) =>
            node.append(group, batch, { acks, awaitedElsewhere: true }),
          );
        case fetch.method:
          return answer(fetch, payload, responder, ({ group, from, maxBytes, maxWaitMs }) =>
            node.fetch(group, from, { maxBytes, maxWaitMs }),
          );
        case barrier.method:
          return answer(barrier, payload, responder, ({ group }) => node.barrier(group));
        case openSession.method:
          return answer(openSession, payload, responder, ({ group }) => node.openSession(group));
        case offsetAtTime.method:
          return answer(offsetAtTime, payload, responder, ({ group, time }) => node.offsetAtTime(group, time));
        case transferLeadership.method:
          return answer(transferLeadership, payload, responder, ({ group, to }) => node.transferLeadership(group, to));
        default:
          return responder.fail(unknownMethod(method));
      }
    },
    stream(method, payload, producer) {
      if (method === tail.method) serveTail(node, payload, producer);
      else producer.end(unknownMethod(method));
    },
    post() {
      // The service has no one-way messages: a newer peer's are not for us.
    },
  };
};

const unknownMethod = (method: number): TidelineError =>
  new TidelineError('unsupported-version', `the log service has no method 0x${method.toString(16)}`);

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

/**
 * Two credits meet here: the reader's, over the network, and the one this side gives the log. A chunk that the reader has no credit
 * for waits here unreleased, so the log stops after TAIL_READ_AHEAD_BYTES.
 */
const serveTail = (node: LogNode, payload: Buffer, producer: StreamProducer): void => {
  const { tail } = logServiceV1;
  const waiting: TailChunk[] = [];
  let ending: { readonly error: TidelineError | null } | null = null;

  const send = (): void => {
    while (waiting.length > 0 && producer.credit > 0) {
      const chunk = waiting.shift()!;
      producer.item(tail.encodeItem(chunk));
      chunk.release();
    }
    if (ending !== null && waiting.length === 0) {
      producer.end(ending.error);
      ending = null;
    }
  };
  const end = (error: TidelineError | null): void => {
    ending = { error };
    send();
  };

  try {
    const { group, from } = tail.decodeRequest(payload);
    const subscription = node.tail(group, from, { creditBytes: TAIL_READ_AHEAD_BYTES }).subscribe({
      next: (chunk) => {
        waiting.push(chunk);
        send();
      },
      error: (thrown: unknown) => end(toTidelineError(thrown)),
      complete: () => end(null),
    });
    producer.onCredit(send);
    producer.onCancel(() => {
      subscription.unsubscribe();
      waiting.length = 0;
      ending = null;
    });
  } catch (thrown) {
    end(toTidelineError(thrown));
  }
};
