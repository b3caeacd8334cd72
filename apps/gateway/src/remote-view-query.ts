import { TidelineError, isTidelineError, toTidelineError, type Clock, type Rng, type Scheduler } from '#kernel';
import { ReconnectingPeer, type Hello, type Transport } from '#net';
import type {
  ApplyResult,
  ArchivePage,
  ArchiveRequest,
  Entry,
  Position,
  ProjectionDescription,
  ScanPage,
  ViewQuery,
  ViewStats,
  ViewUpkeep,
  WatchChunk,
} from '#views';
import { projectionServiceV1, snapshotServiceV1, viewServiceV1, type RequestCall } from '#wire';
import { Observable } from 'rxjs';

export interface RemoteViewQueryOptions {
  readonly transport: Transport;
  /** View services of the materializers, host:port. */
  readonly addresses: readonly string[];
  readonly clusterId?: string;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly rng: Rng;
}

/** Longer than the wait that was asked for: the host should be the one to say that it did not get there in time. */
const ANSWER_SLACK_MS = 500;
const STATS_TIMEOUT_MS = 2_000;
/** The catalog may be a database elsewhere. */
const ARCHIVE_TIMEOUT_MS = 10_000;
/** All of a view is written, or read, meanwhile. */
const SNAPSHOT_TIMEOUT_MS = 120_000;
const RETRY_PAUSE_MS = 50;
/** A few chunks: what is beyond waits at the host, which reads no further ahead. */
const WATCH_CREDIT_BYTES = 1024 * 1024;

/** Another host may do better: this one is gone, starting, or full. */
const another = (error: TidelineError): boolean =>
  error.code === 'connection-lost' ||
  error.code === 'not-ready' ||
  error.code === 'overloaded' ||
  error.code === 'shutting-down';

/**
 * The views of materializers in other processes. Each hosts all of them, so one is preferred as long as it answers (its caches and its place in the
 * log are warm), and the next takes over when it does not. What is asked changes nothing, so it may be asked again.
 */
export class RemoteViewQuery implements ViewQuery {
  private readonly hosts: readonly ReconnectingPeer[];
  private preferred = 0;
  private closed = false;

  constructor(private readonly options: RemoteViewQueryOptions) {
    const { transport, scheduler, rng, clusterId = '' } = options;
    const hello: Hello = { nodeId: 0, clusterId, service: 'view', software: 'tideline', addresses: {} };
    this.hosts = options.addresses.map(
      (address) => new ReconnectingPeer({ transport, address, hello, scheduler, rng }),
    );
  }

  /** Hosts there is a connection to. */
  get connected(): number {
    return this.hosts.filter((host) => host.connection !== null).length;
  }

  get(request: Parameters<ViewQuery['get']>[0]): Promise<{ entry: Entry | null; position: Position }> {
    return this.ask(viewServiceV1.get, request, request.timeoutMs);
  }

  /** Within the same time: what has left memory is asked of the catalog, which may be a database elsewhere. */
  getOrDeparted(request: Parameters<ViewQuery['getOrDeparted']>[0]): ReturnType<ViewQuery['getOrDeparted']> {
    return this.ask(viewServiceV1.getOrDeparted, request, request.timeoutMs);
  }

  getMany(request: Parameters<ViewQuery['getMany']>[0]): ReturnType<ViewQuery['getMany']> {
    return this.ask(viewServiceV1.getMany, request, request.timeoutMs);
  }

  scan(request: Parameters<ViewQuery['scan']>[0]): Promise<ScanPage & { position: Position }> {
    return this.ask(viewServiceV1.scan, request, request.timeoutMs);
  }

  results(
    request: Parameters<ViewQuery['results']>[0],
  ): Promise<{ results: readonly ApplyResult[]; position: Position }> {
    return this.ask(viewServiceV1.results, request, request.timeoutMs);
  }

  stats(): Promise<readonly ViewStats[]> {
    return this.ask(viewServiceV1.stats, undefined, STATS_TIMEOUT_MS);
  }

  projections(): Promise<readonly ProjectionDescription[]> {
    return this.ask(projectionServiceV1.projections, undefined, STATS_TIMEOUT_MS);
  }

  lookup(request: Parameters<ViewQuery['lookup']>[0]): Promise<ScanPage & { position: Position }> {
    return this.ask(projectionServiceV1.lookup, request, request.timeoutMs);
  }

  parked(request: Parameters<ViewQuery['parked']>[0]): ReturnType<ViewQuery['parked']> {
    return this.ask(projectionServiceV1.parked, request, request.timeoutMs);
  }

  readonly upkeep: ViewUpkeep = {
    snapshots: (request) => this.ask(snapshotServiceV1.snapshots, request, STATS_TIMEOUT_MS),
    createSnapshots: (request) => this.ask(snapshotServiceV1.create, request, SNAPSHOT_TIMEOUT_MS),
    restoreSnapshots: (request) => this.ask(snapshotServiceV1.restore, request, SNAPSHOT_TIMEOUT_MS),
    piece: (request) => this.ask(snapshotServiceV1.piece, request, ARCHIVE_TIMEOUT_MS),
    health: (request) => this.ask(snapshotServiceV1.health, request, STATS_TIMEOUT_MS),
  };

  archive(request: ArchiveRequest): Promise<ArchivePage> {
    return this.ask(viewServiceV1.archive, request, ARCHIVE_TIMEOUT_MS);
  }

  /** From one host; when that goes it ends with `connection-lost` and is to be begun anew: entries and positions are that host's. */
  watch(request: Parameters<ViewQuery['watch']>[0]): Observable<WatchChunk> {
    const { watch } = viewServiceV1;
    return new Observable((subscriber) => {
      const host = this.pick();
      if (!host) {
        subscriber.error(this.unreachable());
        return undefined;
      }
      const payload = watch.encodeRequest(request);
      const stream = host.openStream(
        watch.method,
        payload,
        { creditBytes: WATCH_CREDIT_BYTES },
        {
          item: (item) => {
            let released = false;
            const release = (): void => {
              if (!released) stream.grant(item.length);
              released = true;
            };
            subscriber.next({ events: watch.decodeItem(item), release });
          },
          end: (error) => (error === null ? subscriber.complete() : subscriber.error(error)),
        },
      );
      return () => stream.cancel();
    });
  }

  close(): void {
    this.closed = true;
    for (const host of this.hosts) host.close();
  }

  private async ask<Request, Response>(
    call: RequestCall<Request, Response>,
    request: Request,
    timeoutMs: number,
  ): Promise<Response> {
    const { clock } = this.options;
    const deadline = clock.monotonicMs() + timeoutMs;
    const payload = call.encodeRequest(request);
    let failure = this.unreachable();
    for (let attempt = 0; !this.closed; attempt++) {
      const leftMs = deadline - clock.monotonicMs();
      if (attempt > 0 && leftMs <= 0) break;
      const host = this.pick();
      if (host) {
        try {
          return call.decodeResponse(await send(host, call.method, payload, leftMs + ANSWER_SLACK_MS));
        } catch (thrown) {
          failure = toTidelineError(thrown);
          if (!another(failure)) throw failure;
          this.preferred = (this.hosts.indexOf(host) + 1) % this.hosts.length;
        }
      }
      // Each has been asked, or none is there: let a moment pass.
      if (!host || attempt % this.hosts.length === this.hosts.length - 1) await this.pause(leftMs);
    }
    // A lost connection is an unknown outcome for a write; nothing was written here.
    throw isTidelineError(failure, 'connection-lost') ? this.unreachable(failure) : failure;
  }

  /** The preferred host if there is a connection to it, else the next that has one; that is preferred from now on. */
  private pick(): ReconnectingPeer | null {
    const { hosts } = this;
    for (let i = 0; i < hosts.length; i++) {
      const at = (this.preferred + i) % hosts.length;
      if (hosts[at].connection === null) continue;
      this.preferred = at;
      return hosts[at];
    }
    return null;
  }

  private pause(leftMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.options.scheduler.after(Math.max(0, Math.min(RETRY_PAUSE_MS, leftMs)), resolve);
    });
  }

  private unreachable(cause?: TidelineError): TidelineError {
    return new TidelineError('not-ready', 'no materializer can be reached', { cause });
  }
}

const send = (
  host: ReconnectingPeer,
  method: number,
  payload: Uint8Array | readonly Uint8Array[],
  timeoutMs: number,
): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    host.request(method, payload, { timeoutMs }, (error, answer) => (error === null ? resolve(answer) : reject(error)));
  });
