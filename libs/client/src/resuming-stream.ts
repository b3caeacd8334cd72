import { TidelineError, toTidelineError, type Rng } from '#kernel';
import type { StreamSubscription } from '#net';
import type { Pieces, StreamCall } from '#wire';
import { backoffMs } from './backoff.js';
import type { Gateway } from './gateway-pool.js';
import type { GatewayRouter } from './gateway-router.js';

export interface ResumingStreamOptions<Item> {
  readonly router: GatewayRouter;
  readonly rng: Rng;
  readonly call: Pick<StreamCall<unknown, Item>, 'method' | 'decodeItem'>;
  /** The request that goes on where the last item left off; asked each time the stream is opened. */
  readonly request: () => Pieces;
  readonly creditBytes: number;
  /** `release` gives the item's bytes back as credit; calling it again does nothing. */
  readonly item: (item: Item, release: () => void) => void;
  /** The stream has been opened again; what comes next answers a new request. */
  readonly reopened?: () => void;
  /** It will not go on: what is wrong stays wrong at every gateway. */
  readonly failed: (error: TidelineError) => void;
  /** It will not go on: the client is closed. */
  readonly closed: () => void;
}

/**
 * A stream from whichever gateway there is. When one breaks off the next is asked, with a request that says where to go on.
 *
 * Credit: a new stream is opened while less than creditBytes of items are unreleased; at most twice creditBytes and an item are held
 * however often it moves. Returns a function that stops it.
 */
export const openResumingStream = <Item>(options: ResumingStreamOptions<Item>): (() => void) => {
  const { router, rng, call, creditBytes } = options;
  const avoided = new Set<Gateway>();
  let subscription: StreamSubscription | null = null;
  let heldBytes = 0;
  let attempt = 0;
  let opened = 0;
  let stopped = false;
  let waitsForRelease = false;

  const fail = (error: TidelineError): void => {
    if (stopped) return;
    stopped = true;
    options.failed(error);
  };

  const brokenOff = (error: TidelineError): void => {
    subscription = null;
    if (stopped) return;
    if (router.isClosed) {
      stopped = true;
      options.closed();
    } else if (error.retriable) {
      void again();
    } else {
      fail(error);
    }
  };

  const again = async (): Promise<void> => {
    await router.sleep(backoffMs(rng, attempt++));
    await open();
  };

  const open = async (): Promise<void> => {
    if (stopped) return;
    if (heldBytes >= creditBytes) {
      waitsForRelease = true;
      return;
    }
    try {
      const { gateway, connection } = await router.streamFrom(avoided);
      if (stopped) return;
      if (opened++ > 0) options.reopened?.();
      subscription = connection.openStream(
        call.method,
        options.request(),
        { creditBytes },
        {
          item: (payload) => received(payload),
          end: (error) => {
            // A gateway that ends a live stream without an error is going away as well.
            avoided.add(gateway);
            brokenOff(error ?? new TidelineError('shutting-down', 'the gateway ended the stream'));
          },
        },
      );
    } catch (thrown) {
      brokenOff(toTidelineError(thrown));
    }
  };

  const received = (payload: Buffer): void => {
    if (stopped) return;
    let item: Item;
    try {
      item = call.decodeItem(payload);
    } catch (thrown) {
      subscription?.cancel();
      fail(new TidelineError('internal', 'a stream item does not parse', { cause: thrown }));
      return;
    }
    attempt = 0;
    avoided.clear();
    const bytes = payload.length;
    const from = subscription;
    heldBytes += bytes;
    let released = false;
    options.item(item, () => {
      if (released) return;
      released = true;
      heldBytes -= bytes;
      // Credit of a stream that has ended is nobody's: its grant does nothing.
      from?.grant(bytes);
      if (!waitsForRelease || heldBytes >= creditBytes) return;
      waitsForRelease = false;
      void open();
    });
  };

  void open();
  return () => {
    stopped = true;
    subscription?.cancel();
  };
};
