import {
  NO_NODE,
  TidelineError,
  toTidelineError,
  type Clock,
  type NodeId,
  type Rng,
  type Scheduler,
  type Term,
} from '#kernel';
import type { Connection, Payload } from '#net';
import {
  batchSessionHigh,
  batchSessionLow,
  gatewayServiceV1,
  type ClusterDescriptionMessage,
  type GatewayAppendResponse,
  type RequestCall,
  type TopicDescriptionMessage,
} from '#wire';
import type { AppendPort, AppendTarget, BatchOptions, ProducerAcks } from './append-port.js';
import { backoffMs } from './backoff.js';
import type { Gateway, GatewayPool } from './gateway-pool.js';

/** One try of a request that may be repeated, ms; then another gateway is asked. */
export const ATTEMPT_TIMEOUT_MS = 4_000;
/** The gateway is given a little less than this side waits, so that its answer, and not a timeout, ends the request. */
const answerWithinMs = (waitMs: number): number => Math.max(1, Math.floor(waitMs - Math.min(100, waitMs / 10)));

export interface RouterOptions {
  readonly pool: GatewayPool;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly rng: Rng;
  readonly timeoutMs: number;
  readonly pollMs: number;
}

interface Call<Request, Response> {
  readonly call: RequestCall<Request, Response, never>;
  /** Given what the gateway may take, ms. */
  readonly request: (timeoutMs: number) => Request;
  /** Node to prefer; asked before each attempt. */
  readonly prefer: () => NodeId;
  /** An attempt whose outcome is unknown may be repeated. */
  readonly repeatable: boolean;
  readonly timeoutMs: number;
  /** Longest one attempt may take. */
  readonly attemptTimeoutMs?: number;
}

/**
 * Sends each request to the gateway that is nearest to the answer (the leader's for a partition) and, when that fails, to another one.
 * Gateways forward among themselves, so any of them will do: a wrong guess costs a hop, never an answer.
 */
export class GatewayRouter implements AppendPort<ProducerAcks, GatewayAppendResponse> {
  private known: ClusterDescriptionMessage | null = null;
  private readonly topics = new Map<string, TopicDescriptionMessage>();
  /** Leaders by topic and partition, as described, hinted at, or told by receipts. */
  private readonly leaders = new Map<string, { leader: NodeId; term: Term }[]>();
  private asking: Promise<void> | null = null;
  private stopPolling: (() => void) | null = null;
  private readonly sleepers = new Set<() => void>();
  private closed = false;
  readonly releasesBatches = true;

  constructor(private readonly options: RouterOptions) {}

  get description(): ClusterDescriptionMessage | null {
    return this.known;
  }

  /* ---- the cluster ---- */

  /** The description, asked for now. Rejects when nobody answers in time. */
  async describe(timeoutMs = this.options.timeoutMs): Promise<ClusterDescriptionMessage> {
    const { describe } = gatewayServiceV1;
    let from: Gateway | null = null;
    const description = await this.send(
      { call: describe, request: () => undefined, prefer: () => NO_NODE, repeatable: true, timeoutMs },
      (gateway) => {
        from = gateway;
      },
    );
    this.learn(description, from!);
    return description;
  }

  private learn(description: ClusterDescriptionMessage, from: Gateway): void {
    if (this.closed) return;
    this.known = description;
    this.options.pool.learn(description, from);
    this.topics.clear();
    for (const topic of description.topics) {
      this.topics.set(topic.name, topic);
      for (const { partition, leader, term } of topic.partitions) {
        this.learnLeader({ topic: topic.name, partition }, leader, term);
      }
    }
  }

  /** Looks at the cluster every so often; failures are for the requests to notice. */
  startPolling(): void {
    this.stopPolling = this.options.scheduler.after(this.options.pollMs, () => {
      void this.refresh();
      this.startPolling();
    });
  }

  /** Asks once more, all callers sharing the question. Never rejects. */
  refresh(): Promise<void> {
    if (this.closed) return Promise.resolve();
    this.asking ??= this.describe(ATTEMPT_TIMEOUT_MS)
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        this.asking = null;
      });
    return this.asking;
  }

  /** As last heard; no I/O. */
  topicIfKnown(name: string): TopicDescriptionMessage | undefined {
    return this.topics.get(name);
  }

  /** Asks once more before it rejects `unknown-topic`. */
  async topic(name: string): Promise<TopicDescriptionMessage> {
    const known = this.topics.get(name);
    if (known) return known;
    await this.describe();
    const found = this.topics.get(name);
    if (found) return found;
    throw new TidelineError('unknown-topic', `no topic ${name}`);
  }

  leaderOf(target: AppendTarget): NodeId {
    return this.leaders.get(target.topic)?.[target.partition]?.leader ?? NO_NODE;
  }

  private learnLeader(target: AppendTarget, leader: NodeId, term: Term): void {
    let leaders = this.leaders.get(target.topic);
    if (leaders === undefined) this.leaders.set(target.topic, (leaders = []));
    const known = leaders[target.partition];
    if (known === undefined) leaders[target.partition] = { leader, term };
    else if (term >= known.term && (leader !== NO_NODE || term > known.term)) {
      known.leader = leader;
      known.term = term;
    }
  }

  /* ---- requests ---- */

  append(target: AppendTarget, batch: Buffer, options: BatchOptions<ProducerAcks>): Promise<GatewayAppendResponse> {
    const { acks } = options;
    return this.send(
      {
        call: gatewayServiceV1.append,
        request: (timeoutMs) => ({ ...target, acks, timeoutMs, batch }),
        prefer: () => this.leaderOf(target),
        repeatable: batchSessionLow(batch) !== 0 || batchSessionHigh(batch) !== 0,
        timeoutMs: options.timeoutMs,
      },
      (_gateway, attempt) => {
        // Who answers has received all of it. What an earlier attempt left unsent may still be on its way to another gateway.
        if (attempt === 0) options.released?.();
      },
    ).then((response) => {
      if (!response.duplicate) this.learnLeader(target, response.node, response.term);
      return response;
    });
  }

  openSession(target: AppendTarget): Promise<number> {
    return this.ask(gatewayServiceV1.openSession, { topic: target.topic, partition: target.partition }, target);
  }

  /** A request that changes nothing, or nothing that matters twice: repeated until it is answered or `timeoutMs` are over. */
  ask<Request, Response>(
    call: RequestCall<Request, Response, never>,
    request: Request | ((timeoutMs: number) => Request),
    near: AppendTarget | null,
    options: { readonly timeoutMs?: number; readonly attemptTimeoutMs?: number } = {},
  ): Promise<Response> {
    return this.send({
      call,
      request: typeof request === 'function' ? (request as (timeoutMs: number) => Request) : () => request,
      prefer: () => (near ? this.leaderOf(near) : NO_NODE),
      repeatable: true,
      timeoutMs: options.timeoutMs ?? this.options.timeoutMs,
      ...(options.attemptTimeoutMs !== undefined && { attemptTimeoutMs: options.attemptTimeoutMs }),
    });
  }

  private async send<Request, Response>(
    call: Call<Request, Response>,
    answeredBy?: (gateway: Gateway, attempt: number) => void,
  ): Promise<Response> {
    const { clock, rng, pool } = this.options;
    const deadline = clock.monotonicMs() + call.timeoutMs;
    const avoided = new Set<Gateway>();
    let inDoubt = false;
    for (let attempt = 0; ; attempt++) {
      const remainingMs = deadline - clock.monotonicMs();
      const waitMs = call.repeatable ? Math.min(remainingMs, call.attemptTimeoutMs ?? ATTEMPT_TIMEOUT_MS) : remainingMs;
      const gateway = pool.choose(call.prefer(), avoided);
      let error: TidelineError;
      try {
        const connection = gateway.isOpen ? gateway.connection! : await gateway.connect();
        const response = await this.request(connection, call, waitMs);
        answeredBy?.(gateway, attempt);
        return response;
      } catch (thrown) {
        error = toTidelineError(thrown);
      }
      if (error.outcome === 'unknown') inDoubt = true;
      // Another gateway may be of the right cluster, or know the session's leader better; what is wrong with the request stays wrong.
      const mayRepeat =
        error.retriable && error.code !== 'storage-full' && (call.repeatable || error.outcome === 'rejected');
      if (!mayRepeat) throw finalError(error, inDoubt, false);
      if (clock.monotonicMs() >= deadline) throw finalError(error, inDoubt, true);
      this.takeIn(error, gateway, avoided);
      await this.sleep(Math.min(backoffMs(rng, attempt), Math.max(0, deadline - clock.monotonicMs())));
      if (this.closed) throw finalError(new TidelineError('shutting-down', 'the client is closed'), inDoubt, false);
      if (clock.monotonicMs() >= deadline) throw finalError(error, inDoubt, true);
    }
  }

  /** What an error says about where to ask next. */
  private takeIn(error: TidelineError, gateway: Gateway, avoided: Set<Gateway>): void {
    if (error.code === 'connection-lost' || error.code === 'timeout' || error.code === 'shutting-down') {
      gateway.avoid();
      avoided.add(gateway);
      // The one that describes the cluster may be the one that went: asking is a request of its own and finds its way.
      if (error.code !== 'timeout') void this.refresh();
      return;
    }
    avoided.clear();
    if (error.code === 'overloaded' || error.code === 'sequence-gap') return;
    avoided.add(gateway);
    void this.refresh();
  }

  private request<Request, Response>(
    connection: Connection,
    { call, request }: Call<Request, Response>,
    waitMs: number,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const payload: Payload = call.encodeRequest(request(answerWithinMs(waitMs)));
      connection.request(call.method, payload, { timeoutMs: Math.max(1, waitMs) }, (error, answer) => {
        if (error) {
          reject(error);
          return;
        }
        try {
          resolve(call.decodeResponse(answer));
        } catch (thrown) {
          reject(new TidelineError('internal', 'the answer does not parse', { cause: thrown, outcome: 'unknown' }));
        }
      });
    });
  }

  /** A connection for a stream, of a gateway not in `avoided` if there is one. */
  async streamFrom(
    avoided: ReadonlySet<Gateway>,
  ): Promise<{ readonly gateway: Gateway; readonly connection: Connection }> {
    const gateway = this.options.pool.choose(NO_NODE, avoided);
    try {
      return { gateway, connection: await gateway.connect() };
    } catch (thrown) {
      void this.refresh();
      throw thrown;
    }
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel();
        this.sleepers.delete(wake);
        resolve();
      };
      const cancel = this.options.scheduler.after(ms, wake);
      this.sleepers.add(wake);
    });
  }

  get isClosed(): boolean {
    return this.closed;
  }

  close(): void {
    this.closed = true;
    this.stopPolling?.();
    for (const wake of this.sleepers) wake();
    this.options.pool.close();
  }
}

/** An error of the last attempt, as an error of the request. A rejection after an attempt in doubt speaks of the last attempt only. */
const finalError = (error: TidelineError, inDoubt: boolean, outOfTime: boolean): TidelineError => {
  if (!inDoubt || error.outcome === 'unknown') return error;
  if (outOfTime) {
    return new TidelineError('timeout', `no answer in time; at last: ${error.message}`, {
      cause: error,
      details: { last: error.code },
    });
  }
  return new TidelineError(error.code, error.message, { outcome: 'unknown', cause: error, details: error.details });
};
