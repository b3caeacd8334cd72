import { TidelineError, toTidelineError, type Offset, type Scheduler } from '#kernel';
import { Observable, Subscription } from 'rxjs';
import type { LogNode, TailChunk } from './command-log.js';

/** Reads from `node`; whoever follows knows nothing of groups and topics. */
export interface TailSource {
  /** Replicas to read from, best first, as known now. Throws what ends the tail for good; what is retriable is asked again. */
  replicas(): readonly LogNode[];
  /** Once, before the first question. Rejects with what ends the tail for good. */
  prepare(): Promise<void>;
  /** Called when everything closes. Returns a function that takes the listener back. */
  onClose(listener: () => void): () => void;
  open(node: LogNode, from: Offset, creditBytes: number): Observable<TailChunk>;
  /** Something broke: a good moment to look at the cluster again. */
  broken(): void;
  readonly backoffMs: (attempt: number) => number;
  readonly scheduler: Scheduler;
}

/**
 * A tail that outlives the replica it reads from. Position is the next offset of the last chunk handed on, so a new replica goes on
 * exactly there: batches are the same on all of them. It ends with an error only if no replica can ever go on: the topic is gone, or
 * each replica in turn says `offset-out-of-range`.
 *
 * Credit: a new replica is asked only while less than creditBytes of chunks are unreleased, so that at most twice creditBytes and a
 * chunk are held however often it moves.
 */
export const followTail = (source: TailSource, from: Offset, creditBytes: number): Observable<TailChunk> =>
  new Observable((subscriber) => {
    let position = from;
    let heldBytes = 0;
    let attempt = 0;
    let inner: Subscription | null = null;
    let cancelWait: (() => void) | null = null;
    let waitsForRelease = false;
    let ended = false;
    let forgetClose = (): void => undefined;
    /** Replicas that no longer have the position, since the last chunk. */
    const refusedBy = new Set<LogNode>();
    /** Replicas that broke off since the last chunk: the others first. */
    const avoided = new Set<LogNode>();

    const stop = (): void => {
      ended = true;
      cancelWait?.();
      inner?.unsubscribe();
      forgetClose();
    };

    const retry = (): void => {
      if (ended) return;
      source.broken();
      cancelWait?.();
      cancelWait = source.scheduler.after(source.backoffMs(attempt++), () => {
        cancelWait = null;
        connect();
      });
    };

    const fail = (thrown: unknown): void => {
      if (ended) return;
      stop();
      subscriber.error(toTidelineError(thrown));
    };

    const connect = (): void => {
      if (ended) return;
      if (heldBytes >= creditBytes) {
        waitsForRelease = true;
        return;
      }
      let replicas: readonly LogNode[];
      try {
        replicas = source.replicas();
      } catch (thrown) {
        if (toTidelineError(thrown).retriable) retry();
        else fail(thrown);
        return;
      }
      if (replicas.length === 0) {
        retry();
        return;
      }
      let node = replicas.find((replica) => !avoided.has(replica));
      if (node === undefined) {
        avoided.clear();
        node = replicas[0];
      }
      read(node, replicas);
    };

    const read = (node: LogNode, replicas: readonly LogNode[]): void => {
      const brokeOff = (thrown: unknown): void => {
        inner = null;
        const error = toTidelineError(thrown);
        avoided.add(node);
        if (error.code === 'offset-out-of-range') {
          refusedBy.add(node);
          if (replicas.every((replica) => refusedBy.has(replica))) fail(error);
          else retry();
        } else if (error.retriable || error.code === 'storage-damaged') {
          retry();
        } else {
          fail(error);
        }
      };
      // The source may answer while subscribe() runs: what comes then must find `inner` set.
      const reading = new Subscription();
      inner = reading;
      reading.add(
        source.open(node, position, creditBytes).subscribe({
          next: (chunk) => {
            if (ended) return;
            position = chunk.nextOffset;
            attempt = 0;
            avoided.clear();
            refusedBy.clear();
            subscriber.next(hold(chunk));
          },
          error: brokeOff,
          complete: () => {
            inner = null;
            avoided.add(node);
            retry();
          },
        }),
      );
    };

    const hold = (chunk: TailChunk): TailChunk => {
      const { batches, nextOffset, commitOffset } = chunk;
      const bytes = batches.length;
      heldBytes += bytes;
      let released = false;
      return {
        batches,
        nextOffset,
        commitOffset,
        release: () => {
          if (released) return;
          released = true;
          heldBytes -= bytes;
          chunk.release();
          if (waitsForRelease && heldBytes < creditBytes) {
            waitsForRelease = false;
            connect();
          }
        },
      };
    };

    forgetClose = source.onClose(() => fail(new TidelineError('shutting-down', 'the command log is closed')));
    if (ended) forgetClose();
    source.prepare().then(connect, fail);
    return stop;
  });
