import { Inject } from '@nestjs/common';
import { TidelineError, hashKey, partitionOf, type LogTime, type Offset } from '#kernel';
import type { CommandLog, TopicDescription } from '#command-log';
import type { Entry, ReadPoint } from '#views';
import { Observable, type Subscription } from 'rxjs';
import type { ViewHost } from './view-host.js';

/** A state as it is served. */
export interface ViewStateEntry<State> {
  readonly key: string;
  readonly state: State;
  /** Of the event that last changed it. */
  readonly offset: Offset;
  readonly expiresAt: LogTime | null;
}

export type ViewStateChange<State> =
  | ({ readonly type: 'put'; readonly partition: number } & ViewStateEntry<State>)
  | { readonly type: 'delete' | 'expire'; readonly partition: number; readonly key: string; readonly offset: Offset }
  /** The partition's states have been given; from here on changes. */
  | { readonly type: 'live'; readonly partition: number; readonly offset: Offset };

export interface ReadOptions {
  /** What the host has, without asking the log's leader. Default: all that was acknowledged before the read began. */
  readonly stale?: boolean;
  readonly timeoutMs?: number;
}

export interface StatePage<State> {
  readonly entries: readonly ViewStateEntry<State>[];
  /** Where the next page begins; null: this is the last. */
  readonly cursor: string | null;
}

export interface PageOptions extends ReadOptions {
  /** Default 100. */
  readonly limit?: number;
  readonly cursor?: string | null;
}

const TIMEOUT_MS = 5_000;
const PAGE_LIMIT = 100;
const PAGE_BYTES_MAX = 8 * 1024 * 1024;

/** Injection token of the handle of a view that is registered with `MaterializerModule.forRoot({ views })`. */
export const viewHandleToken = (name: string): string => `tideline view ${name}`;

/** Injects the `ViewHandle` of a projection of this process. */
export const InjectView = (name: string): PropertyDecorator & ParameterDecorator => Inject(viewHandleToken(name));

/**
 * A view of JSON states for code in the process that hosts it: a projection, or a map view whose values are JSON. Keys are text.
 */
export class ViewHandle<State = unknown> {
  constructor(
    readonly name: string,
    private readonly topic: string,
    private readonly host: ViewHost,
    private readonly log: CommandLog,
  ) {}

  async get(key: string, options: ReadOptions = {}): Promise<State | null> {
    return (await this.entry(key, options))?.state ?? null;
  }

  async entry(key: string, options: ReadOptions = {}): Promise<ViewStateEntry<State> | null> {
    const { partitions } = await this.log.topic(this.topic);
    const bytes = Buffer.from(key);
    const partition = partitionOf(hashKey(bytes), partitions.length);
    const at = await this.at(partition, options);
    const { timeoutMs = TIMEOUT_MS } = options;
    const { entry } = await this.host.get({ view: this.name, partition, key: bytes, at, timeoutMs });
    return entry === null ? null : stateOf<State>(entry);
  }

  /** States by a declared index, ascending by key. */
  lookup(index: string, value: string | number | boolean, options: PageOptions = {}): Promise<StatePage<State>> {
    return this.page(options, (asked) => this.host.lookup({ ...asked, index, value: String(value) }));
  }

  /** States whose keys begin so, ascending by key. */
  scan(prefix: string, options: PageOptions = {}): Promise<StatePage<State>> {
    return this.page(options, (asked) => this.host.scan({ ...asked, prefix: Buffer.from(prefix) }));
  }

  /**
   * The states whose keys begin so, then what changes. What is emitted is read from the view a page at a time, the next when the subscriber has
   * returned from the last item of the page before; `for await` reads a page when the one before was taken. Ends with an error that is
   * `retriable` when a new version takes over: subscribe again, and begin anew.
   */
  changes(prefix = ''): Observable<ViewStateChange<State>> & AsyncIterable<ViewStateChange<State>> {
    const observable = new Observable<ViewStateChange<State>>((subscriber) =>
      this.watch(prefix, {
        page: (changes, release) => {
          for (const change of changes) subscriber.next(change);
          release();
        },
        end: (error) => (error === null ? subscriber.complete() : subscriber.error(error)),
      }),
    );
    return Object.assign(observable, { [Symbol.asyncIterator]: () => this.iterate(prefix) });
  }

  private async *iterate(prefix: string): AsyncGenerator<ViewStateChange<State>, void, undefined> {
    const pages: { changes: readonly ViewStateChange<State>[]; release: () => void }[] = [];
    let ended: { error: unknown } | null = null;
    let wake: () => void = () => undefined;
    const stop = this.watch(prefix, {
      page: (changes, release) => {
        pages.push({ changes, release });
        wake();
      },
      end: (error) => {
        ended = { error };
        wake();
      },
    });
    const over = (): { error: unknown } | null => ended;
    try {
      for (;;) {
        const page = pages.shift();
        if (page !== undefined) {
          yield* page.changes;
          page.release();
          continue;
        }
        const end = over();
        if (end !== null) {
          if (end.error !== null) throw end.error as Error;
          return;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      stop();
    }
  }

  private watch(
    prefix: string,
    reader: {
      page(changes: readonly ViewStateChange<State>[], release: () => void): void;
      end(error: unknown): void;
    },
  ): () => void {
    const subscriptions: Subscription[] = [];
    let stopped = false;
    const stop = (): void => {
      stopped = true;
      for (const subscription of subscriptions) subscription.unsubscribe();
    };
    const end = (error: unknown): void => {
      if (stopped) return;
      stop();
      reader.end(error);
    };
    const open = ({ partitions }: TopicDescription): void => {
      for (const { partition } of partitions) {
        if (stopped) return;
        const watched = this.host.watch({ view: this.name, partition, prefix: Buffer.from(prefix) });
        subscriptions.push(
          watched.subscribe({
            next: ({ events, release }) => {
              try {
                const changes = events.map((event): ViewStateChange<State> => {
                  if (event.type === 'live') return event;
                  if (event.type === 'put') return { type: 'put', partition, ...stateOf<State>(event.entry) };
                  return { type: event.type, partition, key: event.key.toString(), offset: event.offset };
                });
                reader.page(changes, release);
              } catch (error) {
                end(error);
              }
            },
            error: end,
            complete: () => end(null),
          }),
        );
      }
    };
    this.log.topic(this.topic).then(open, end);
    return stop;
  }

  private async page(
    options: PageOptions,
    ask: (request: {
      view: string;
      partition: number;
      after: Buffer | null;
      limit: number;
      bytesMax: number;
      values: boolean;
      at: ReadPoint;
      timeoutMs: number;
    }) => Promise<{ readonly entries: readonly Entry[]; readonly more: boolean }>,
  ): Promise<StatePage<State>> {
    const { limit = PAGE_LIMIT, cursor = null, timeoutMs = TIMEOUT_MS } = options;
    const { partitions } = await this.log.topic(this.topic);
    const pages = await Promise.all(
      partitions.map(async ({ partition }) =>
        ask({
          view: this.name,
          partition,
          after: cursor === null ? null : Buffer.from(cursor, 'base64url'),
          limit,
          bytesMax: PAGE_BYTES_MAX,
          values: true,
          at: await this.at(partition, options),
          timeoutMs,
        }),
      ),
    );
    // What follows the end of a page that has more is not known.
    const known = pages.reduce<Buffer | null>((least, { entries, more }) => {
      const last = more ? entries[entries.length - 1].key : null;
      return last === null || (least !== null && Buffer.compare(least, last) <= 0) ? least : last;
    }, null);
    const all = pages
      .flatMap(({ entries }) => entries)
      .filter(({ key }) => known === null || Buffer.compare(key, known) <= 0)
      .sort((a, b) => Buffer.compare(a.key, b.key));
    const entries = all.slice(0, limit);
    const more = known !== null || all.length > limit;
    return {
      entries: entries.map((entry) => stateOf<State>(entry)),
      cursor: more ? entries[entries.length - 1].key.toString('base64url') : null,
    };
  }

  private async at(partition: number, { stale = false, timeoutMs = TIMEOUT_MS }: ReadOptions): Promise<ReadPoint> {
    if (stale) return { offset: 0 as Offset, time: null };
    const { offset, time } = await this.log.barrier({ topic: this.topic, partition }, { timeoutMs });
    return { offset, time };
  }
}

/** @throws TidelineError `wrong-type` for an entry of a map view that is not JSON */
const stateOf = <State>({ key, value, offset, expiresAt }: Entry): ViewStateEntry<State> => {
  try {
    return { key: key.toString(), state: JSON.parse(value.toString()) as State, offset, expiresAt };
  } catch (cause) {
    throw new TidelineError('wrong-type', `entry ${JSON.stringify(key.toString())} is no JSON`, { cause });
  }
};
