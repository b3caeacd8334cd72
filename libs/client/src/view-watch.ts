import { TidelineError, type Rng } from '#kernel';
import { gatewayServiceV1 } from '#wire';
import { Observable } from 'rxjs';
import type { GatewayRouter } from './gateway-router.js';
import { openResumingStream } from './resuming-stream.js';
import { ViewEntry, keyBytes, type KeyInput } from './values.js';

const WATCH_CREDIT_BYTES = 1024 * 1024;

export interface WatchOptions {
  readonly prefix?: KeyInput;
  /** Default: all of them. */
  readonly partition?: number;
  /** Bytes on their way. Default 1 MiB. */
  readonly creditBytes?: number;
}

export type ViewWatchEvent =
  | { readonly type: 'put'; readonly partition: number; readonly entry: ViewEntry }
  | { readonly type: 'delete' | 'expire'; readonly partition: number; readonly key: Buffer; readonly offset: number }
  /** The partition's entries have been sent; from here on changes. */
  | { readonly type: 'live'; readonly partition: number; readonly offset: number }
  /** The connection was lost: forget what was known, the entries follow again. */
  | { readonly type: 'restart' };

export const watchView = (
  context: { readonly router: GatewayRouter; readonly rng: Rng },
  view: string,
  options: WatchOptions,
): Observable<ViewWatchEvent> =>
  new Observable((subscriber) => {
    const { watch } = gatewayServiceV1;
    const prefix = Buffer.from(keyBytes(options.prefix ?? ''));
    const partition = options.partition ?? null;
    return openResumingStream({
      ...context,
      call: watch,
      creditBytes: options.creditBytes ?? WATCH_CREDIT_BYTES,
      request: () => watch.encodeRequest({ view, partition, prefix }),
      item: (events, release) => {
        for (const event of events) {
          subscriber.next(
            event.type === 'put' ? { ...event, entry: new ViewEntry(event.entry, event.entry.key) } : event,
          );
        }
        release();
      },
      reopened: () => subscriber.next({ type: 'restart' }),
      failed: (error: TidelineError) => subscriber.error(error),
      closed: () => subscriber.complete(),
    });
  });
