import {
  NO_NODE,
  TidelineError,
  asNodeId,
  isTidelineError,
  systemClock,
  systemScheduler,
  toTidelineError,
  type Clock,
  type GroupId,
  type LogTime,
  type NodeId,
  type Offset,
  type Rng,
  type Scheduler,
} from '#kernel';
import { batchSessionHigh, batchSessionLow } from '#wire';
import type { Observable } from 'rxjs';
import { backoffMs } from './backoff.js';
import { BarrierGate } from './barrier-gate.js';
import { ClusterMap } from './cluster-map.js';
import type {
  Acks,
  AppendResult,
  Barrier,
  ClusterDescription,
  CommandLog,
  FetchResult,
  LogNode,
  TailChunk,
  Target,
  TopicDescription,
} from './command-log.js';
import { Deadlines } from './deadlines.js';
import { followTail } from './following-tail.js';
import type { LogNodeDirectory } from './log-node-directory.js';

export const APPEND_TIMEOUT_MS = 10_000;
/** One try of a call that may be repeated; then the leader is looked for again. */
export const ATTEMPT_TIMEOUT_MS = 3_000;
export const DESCRIBE_POLL_MS = 1_000;
export const TAIL_CREDIT_BYTES = 4 * 1024 * 1024;
/** `not-leader` answers with a hint that are followed without a pause: two nodes that point at each other must not spin. */
export const HINTS_FOLLOWED_MAX = 3;
/** A fetch that waits its whole time may take this much longer. */
const FETCH_SLACK_MS = 3_000;

export interface RoutingCommandLogOptions {
  readonly directory: LogNodeDirectory;
  readonly rng: Rng;
  readonly clock?: Clock;
  readonly scheduler?: Scheduler;
  /** Whole time of an append, barrier or other call that gives none, ms. */
  readonly timeoutMs?: number;
  readonly attemptTimeoutMs?: number;
  readonly pollMs?: number;
  /** Region to read from when this process has no log node. */
  readonly region?: string;
}

interface Call<T> {
  readonly timeoutMs: number;
  /** An attempt whose outcome is unknown may be repeated. */
  readonly repeatable: boolean;
  /** `attempt` counts those that reached a node, from 0. */
  readonly run: (node: LogNode, group: GroupId, attempt: number) => Promise<T>;
}

/**
 * The command log over log nodes, in this process or across TCP: finds each partition's leader, follows it when it changes, and repeats
 * what may be repeated.
 *
 *     append ──► leader known? ──no──► look again, wait (backoff)
 *                  │ yes                         ▲
 *                  ▼                             │ not-leader (hint: at once), connection lost, overloaded …
 *                LogNode.append ─────────────────┘
 *
 * An append that once ended in an unknown outcome and then in a rejection is unknown: the rejection speaks of the second attempt only.
 */
export class RoutingCommandLog implements CommandLog {
  private readonly clock: Clock;
  private readonly scheduler: Scheduler;
  private readonly rng: Rng;
  private readonly timeoutMs: number;
  private readonly attemptTimeoutMs: number;
  private readonly directory: LogNodeDirectory;
  private readonly deadlines: Deadlines;
  private readonly map: ClusterMap;
  /** By topic, then partition. */
  private readonly gates = new Map<string, BarrierGate[]>();
  /** Calls that wait for their next attempt, and tails. */
  private readonly closeListeners = new Set<() => void>();
  private closed = false;

  constructor(options: RoutingCommandLogOptions) {
    this.clock = options.clock ?? systemClock;
    this.scheduler = options.scheduler ?? systemScheduler;
    this.rng = options.rng;
    this.timeoutMs = options.timeoutMs ?? APPEND_TIMEOUT_MS;
    this.attemptTimeoutMs = options.attemptTimeoutMs ?? ATTEMPT_TIMEOUT_MS;
    this.directory = options.directory;
    this.deadlines = new Deadlines(this.clock, this.scheduler);
    this.map = new ClusterMap({
      directory: options.directory,
      scheduler: this.scheduler,
      rng: this.rng,
      deadlines: this.deadlines,
      pollMs: options.pollMs ?? DESCRIBE_POLL_MS,
      describeTimeoutMs: this.attemptTimeoutMs,
      region: options.region ?? '',
    });
  }

  get changes(): Observable<ClusterDescription> {
    return this.map.changes;
  }

  describe(): ClusterDescription {
    return this.map.current;
  }

  refresh(): Promise<void> {
    return this.map.hear();
  }

  topic(name: string): Promise<TopicDescription> {
    return this.map.topic(name);
  }

  append(
    target: Target,
    batch: Buffer,
    options: { readonly acks: Acks; readonly timeoutMs?: number },
  ): Promise<AppendResult> {
    const { acks } = options;
    return this.callLeader(target, {
      timeoutMs: options.timeoutMs ?? this.timeoutMs,
      repeatable: batchSessionLow(batch) !== 0 || batchSessionHigh(batch) !== 0,
      // A leader stamps the batch in place, and the last attempt's may still be in a log or a socket: later attempts get a copy.
      run: (node, group, attempt) => node.append(group, attempt === 0 ? batch : Buffer.from(batch), { acks }),
    });
  }

  openSession(target: Target): Promise<number> {
    // A session that was opened and whose id got lost is never used and expires.
    return this.callLeader(target, {
      timeoutMs: this.timeoutMs,
      repeatable: true,
      run: (node, group) => node.openSession(group),
    });
  }

  offsetAtTime(target: Target, time: LogTime): Promise<Offset> {
    return this.callLeader(target, {
      timeoutMs: this.timeoutMs,
      repeatable: true,
      run: (node, group) => node.offsetAtTime(group, time),
    });
  }

  transferLeadership(target: Target, to: NodeId): Promise<void> {
    return this.callLeader(target, {
      timeoutMs: this.timeoutMs,
      repeatable: false,
      run: (node, group) => node.transferLeadership(group, to),
    });
  }

  barrier(target: Target, options: { readonly timeoutMs?: number } = {}): Promise<Barrier> {
    const timeoutMs = options.timeoutMs ?? this.timeoutMs;
    // What is known costs a read one promise.
    if (!this.closed && this.map.has(target)) return this.gate(target).wait(timeoutMs);
    return this.lookUpBarrier(target, timeoutMs);
  }

  private async lookUpBarrier(target: Target, timeoutMs: number): Promise<Barrier> {
    this.assertOpen();
    await this.lookUp(target);
    return this.gate(target).wait(timeoutMs);
  }

  private gate(target: Target): BarrierGate {
    let gates = this.gates.get(target.topic);
    if (gates === undefined) this.gates.set(target.topic, (gates = []));
    return (gates[target.partition] ??= this.gateFor(target));
  }

  private gateFor(target: Target): BarrierGate {
    return new BarrierGate({
      clock: this.clock,
      scheduler: this.scheduler,
      deadlines: this.deadlines,
      ask: () => this.attemptOnLeader(target, this.attemptTimeoutMs, (node, group) => node.barrier(group)),
      retryAfterMs: (error, attempt) => {
        if (this.closed || !error.retriable) return null;
        if (this.hintIsNews(error) && attempt < HINTS_FOLLOWED_MAX) return 0;
        void this.map.refresh();
        return backoffMs(this.rng, attempt);
      },
    });
  }

  async fetch(
    target: Target,
    from: Offset,
    options: { readonly maxBytes: number; readonly maxWaitMs: number },
  ): Promise<FetchResult> {
    this.assertOpen();
    await this.lookUp(target);
    const deadline = this.clock.monotonicMs() + options.maxWaitMs + this.timeoutMs;
    const refusedBy = new Set<LogNode>();
    for (let attempt = 0; ; attempt++) {
      const partition = this.map.has(target) ? this.map.partition(target) : null;
      const replicas = partition ? this.map.replicasOf(partition) : [];
      const node = replicas.length > 0 ? replicas[attempt % replicas.length] : null;
      let error: TidelineError;
      if (node === null || partition === null) {
        error = new TidelineError('not-ready', `no replica of ${target.topic}/${target.partition} can be reached`);
      } else {
        try {
          return await this.within(options.maxWaitMs + FETCH_SLACK_MS, node.fetch(partition.group, from, options));
        } catch (thrown) {
          error = toTidelineError(thrown);
        }
        if (error.code === 'offset-out-of-range') {
          // Replicas trim each for itself: only when all have let go of it is it gone.
          refusedBy.add(node);
          if (replicas.every((replica) => refusedBy.has(replica))) throw error;
        } else if (!error.retriable && error.code !== 'storage-damaged') {
          throw error;
        }
      }
      if (this.closed || this.clock.monotonicMs() >= deadline) throw error;
      void this.map.refresh();
      await this.sleep(backoffMs(this.rng, attempt));
    }
  }

  tail(target: Target, from: Offset, options: { readonly creditBytes?: number } = {}): Observable<TailChunk> {
    return followTail(
      {
        replicas: () => this.map.replicasOf(this.map.partition(target)),
        open: (node, position, creditBytes) => node.tail(this.map.partition(target).group, position, { creditBytes }),
        broken: () => void this.map.refresh(),
        backoffMs: (attempt) => backoffMs(this.rng, attempt),
        scheduler: this.scheduler,
        prepare: () => this.lookUp(target),
        onClose: (listener) => {
          if (this.closed) listener();
          this.closeListeners.add(listener);
          return () => this.closeListeners.delete(listener);
        },
      },
      from,
      options.creditBytes ?? TAIL_CREDIT_BYTES,
    );
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.map.close();
    for (const listener of this.closeListeners) listener();
    await this.directory.close();
  }

  /** Runs the call on the partition's leader until it succeeds, fails for good, or its time is over. */
  private async callLeader<T>(target: Target, call: Call<T>): Promise<T> {
    this.assertOpen();
    const deadline = this.clock.monotonicMs() + call.timeoutMs;
    await this.lookUp(target);
    let inDoubt = false;
    let reached = 0;
    let hints = 0;
    for (let attempt = 0; ;) {
      const remainingMs = deadline - this.clock.monotonicMs();
      let error: TidelineError;
      try {
        return await this.attemptOnLeader(
          target,
          call.repeatable ? Math.min(remainingMs, this.attemptTimeoutMs) : remainingMs,
          (node, group) => call.run(node, group, reached++),
        );
      } catch (thrown) {
        error = toTidelineError(thrown);
      }
      if (error.outcome === 'unknown') inDoubt = true;
      if (!this.mayRepeat(error, call.repeatable)) throw finalError(error, inDoubt, false);
      if (this.hintIsNews(error) && hints < HINTS_FOLLOWED_MAX && deadline > this.clock.monotonicMs()) {
        hints++;
        continue;
      }
      hints = 0;
      void this.map.refresh();
      const leftMs = deadline - this.clock.monotonicMs();
      if (leftMs > 0) {
        // A batch that came before its predecessor does not wait for an election, only for the other one's retry.
        const pauseMs = error.code === 'sequence-gap' ? 1 : backoffMs(this.rng, attempt++);
        await this.sleep(Math.min(leftMs, pauseMs));
      }
      if (this.closed)
        throw finalError(new TidelineError('shutting-down', 'the command log is closed'), inDoubt, false);
      if (this.clock.monotonicMs() >= deadline) throw finalError(error, inDoubt, true);
    }
  }

  private mayRepeat(error: TidelineError, repeatable: boolean): boolean {
    // A full disk does not empty itself within an append's time: the caller should know now.
    return error.retriable && error.code !== 'storage-full' && (repeatable || error.outcome === 'rejected');
  }

  private hintIsNews(error: TidelineError): boolean {
    return error.code === 'not-leader' && error.details['leader'] !== undefined && error.details['leader'] !== NO_NODE;
  }

  private async attemptOnLeader<T>(
    target: Target,
    timeoutMs: number,
    run: (node: LogNode, group: GroupId) => Promise<T>,
  ): Promise<T> {
    const { group } = this.map.partition(target);
    const node = this.map.leaderNode(group);
    if (node === null) {
      throw new TidelineError('no-leader', `no leader of ${target.topic}/${target.partition} is known`);
    }
    try {
      return await this.within(timeoutMs, run(node, group));
    } catch (thrown) {
      if (isTidelineError(thrown, 'not-leader')) {
        const { leader } = thrown.details;
        this.map.learnNotLeader(group, node.id, typeof leader === 'number' ? asNodeId(leader) : NO_NODE);
      }
      throw thrown;
    }
  }

  /** What was sent and not answered in time has an unknown outcome. */
  private within<T>(timeoutMs: number, answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const forget = this.deadlines.add(timeoutMs, () => {
        reject(new TidelineError('timeout', `no answer within ${Math.round(timeoutMs)} ms`));
      });
      answer.then(
        (value) => {
          forget();
          resolve(value);
        },
        (thrown: unknown) => {
          forget();
          reject(toTidelineError(thrown));
        },
      );
    });
  }

  /**
   * Asks once more when the partition is not known. Returns also while no node has described the cluster: that is for the retries.
   * Errors: `unknown-topic` · `unknown-partition`
   */
  private async lookUp(target: Target): Promise<void> {
    if (this.map.has(target)) return;
    await this.map.refresh();
    try {
      this.map.partition(target);
    } catch (thrown) {
      if (!isTidelineError(thrown, 'not-ready')) throw thrown;
    }
  }

  private sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel();
        this.closeListeners.delete(wake);
        resolve();
      };
      const cancel = this.scheduler.after(ms, wake);
      this.closeListeners.add(wake);
    });
  }

  private assertOpen(): void {
    if (this.closed) throw new TidelineError('shutting-down', 'the command log is closed');
  }
}

/** An error of the last attempt, as an error of the call. */
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
