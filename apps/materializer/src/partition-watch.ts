import { TidelineError, type LogTime, type Offset, type Scheduler } from '#kernel';
import type { ScanPage, ViewChange, ViewChangeListener, WatchChunk, WatchEvent } from '#views';
import { Observable } from 'rxjs';

/** What is watched: one partition of a map view or of a projection. */
export interface WatchedPartition {
  readonly offset: Offset;
  readonly logTime: LogTime;
  /** Does part of what the next scan needs done; true when nothing is left. */
  prepareScan(keysMax: number): boolean;
  scan(request: {
    readonly prefix: Buffer;
    readonly after: Buffer | null;
    readonly limit: number;
    readonly bytesMax: number;
    readonly values: boolean;
    readonly time: LogTime;
  }): ScanPage;
  onChange(listener: ViewChangeListener, prefix: Buffer): () => void;
}

/** Changes that may wait for one reader, and their bytes; beyond it the watch ends with `too-slow`. */
export const WATCH_CHANGES_WAITING_MAX = 65_536;
export const WATCH_BYTES_WAITING_MAX = 32 * 1024 * 1024;
/** Entries or changes of one chunk, and their bytes. */
const CHUNK_EVENTS_MAX = 500;
const CHUNK_BYTES_MAX = 256 * 1024;
/** Chunks on their way to a reader. */
const CHUNKS_UNRELEASED_MAX = 2;
const EVENT_OVERHEAD_BYTES = 64;
/** Keys put in order in one turn, before the first page of a view that nobody has scanned yet. */
const PREPARED_KEYS = 2048;

/**
 * The entries of one partition, then what changes, at the reader's pace: a chunk goes out when one before it was released, and the entries are
 * read from the view only then, a page at a time, in the order of their keys. A change to a key that has been passed is kept for the reader; one
 * to a key that is still to come is not, since the page it is on will show it. So what is kept is bounded by what changes meanwhile and not by
 * the size of the view, a key is never seen to go back, and after `live` nothing is missing.
 */
export const watchPartition = (
  view: WatchedPartition,
  options: {
    readonly partition: number;
    readonly prefix: Buffer;
    readonly scheduler: Scheduler;
    /** Given how to end the watch from outside; returns what to call when it is over. */
    readonly opened: (end: (why: TidelineError) => void) => () => void;
    readonly changesMax?: number;
  },
): Observable<WatchChunk> =>
  new Observable((subscriber) => {
    const { partition, prefix, scheduler, changesMax = WATCH_CHANGES_WAITING_MAX } = options;
    let waiting: WatchEvent[] = [];
    let head = 0;
    let waitingBytes = 0;
    /** Last key of the pages so far; undefined: all have been read. */
    let passed: Buffer | null | undefined = null;
    let unreleased = 0;
    let scheduled = false;
    let failure: TidelineError | null = null;
    let over = false;

    const take = (change: ViewChange): void => {
      if (over || failure !== null) return;
      const key = change.type === 'put' ? change.entry.key : change.key;
      if (passed !== undefined && (passed === null || Buffer.compare(key, passed) > 0)) return;
      waiting.push(
        change.type === 'put'
          ? { type: 'put', partition, entry: change.entry }
          : { type: change.type, partition, key: change.key, offset: change.offset },
      );
      waitingBytes += bytesOf(waiting[waiting.length - 1]);
      if (waiting.length - head > changesMax || waitingBytes > WATCH_BYTES_WAITING_MAX) {
        failure = new TidelineError('too-slow', `${waiting.length - head} changes wait for this reader; watch again`);
        waiting = [];
        head = waitingBytes = 0;
      }
      schedule();
    };

    const schedule = (): void => {
      if (scheduled || over || (unreleased >= CHUNKS_UNRELEASED_MAX && failure === null)) return;
      scheduled = true;
      scheduler.defer(() => {
        scheduled = false;
        if (!over) send();
      });
    };

    /** One chunk a turn: a large view must not hold up everything else. */
    const send = (): void => {
      if (failure !== null) {
        stop();
        subscriber.error(failure);
        return;
      }
      if (unreleased >= CHUNKS_UNRELEASED_MAX) return;
      if (head === waiting.length && passed !== undefined && !view.prepareScan(PREPARED_KEYS)) {
        schedule();
        return;
      }
      const events = head < waiting.length ? changes() : passed === undefined ? [] : page(passed);
      if (events.length === 0) return;
      unreleased++;
      let released = false;
      subscriber.next({
        events,
        release: () => {
          if (released) return;
          released = true;
          unreleased--;
          schedule();
        },
      });
      schedule();
    };

    const changes = (): WatchEvent[] => {
      const from = head;
      let bytes = 0;
      while (head < waiting.length && head - from < CHUNK_EVENTS_MAX && bytes < CHUNK_BYTES_MAX) {
        bytes += bytesOf(waiting[head++]);
      }
      const events = waiting.slice(from, head);
      waitingBytes -= bytes;
      // What has been given is let go of now and then, not each time.
      if (head * 2 > waiting.length) {
        waiting = waiting.slice(head);
        head = 0;
      }
      return events;
    };

    const page = (after: Buffer | null): WatchEvent[] => {
      const { entries, more } = view.scan({
        prefix,
        after,
        limit: CHUNK_EVENTS_MAX,
        bytesMax: CHUNK_BYTES_MAX,
        values: true,
        time: view.logTime,
      });
      const events: WatchEvent[] = entries.map((entry) => ({ type: 'put', partition, entry }));
      passed = more ? entries[entries.length - 1].key : undefined;
      if (!more) events.push({ type: 'live', partition, offset: view.offset });
      return events;
    };

    const stopListening = view.onChange(take, prefix);
    const forget = options.opened((why) => {
      if (over) return;
      failure ??= why;
      stop();
      subscriber.error(failure);
    });
    const stop = (): void => {
      over = true;
      waiting = [];
      stopListening();
      forget();
    };
    schedule();
    return stop;
  });

const bytesOf = (event: WatchEvent): number =>
  event.type === 'live'
    ? EVENT_OVERHEAD_BYTES
    : event.type === 'put'
      ? EVENT_OVERHEAD_BYTES + event.entry.key.length + event.entry.value.length
      : EVENT_OVERHEAD_BYTES + event.key.length;
