import { TidelineError, assert, toTidelineError, type Clock, type Scheduler } from '#kernel';
import { BATCH_HEADER_BYTES, BatchBuilder, setBatchSession, type BatchMemory, type RecordInput } from '#wire';
import type { AppendPort, AppendReceipt, AppendTarget, ProducerAcks } from './append-port.js';

/** Called once, never before the call that took it returns. `index`: of the caller's first record in the batch. */
export type AppendCompletion<Receipt> = (error: TidelineError | null, receipt: Receipt | null, index: number) => void;

/** How often a batch may move to a new session before its callers are told. */
const SESSIONS_TRIED_MAX = 3;
const REOPEN_PAUSE_MS = 50;
/** Room for the first batch of a lane. */
const FIRST_BATCH_BYTES = 4096;

export interface LaneOptions {
  readonly batchBytesMax: number;
  readonly batchRecordsMax: number;
  readonly inflightBatchesMax: number;
  readonly pipelineBytesMin: number;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly memory: BatchMemory | undefined;
  /** Records and bytes of a batch that has ended, either way. */
  readonly ended: (records: number, bytes: number) => void;
}

interface Session {
  readonly id: number;
  lastSequence: number;
  /** A batch of it has failed: no more are numbered in it. */
  retired: boolean;
}

interface Batch<Acks, Receipt> {
  /** In which the batch was first sent: order among batches that move to a new session. */
  order: number;
  bytes: Buffer;
  readonly acks: Acks;
  readonly queuedAtMs: number;
  readonly records: number;
  readonly completions: AppendCompletion<Receipt>[];
  readonly indexes: number[];
  sessionsTried: number;
  /** Nobody looks at the bytes any more. */
  released: boolean;
}

/**
 * The records on their way to one partition, in order.
 *
 *     add ─► gathering ─(full)─► sealed ─┐
 *               └──(slot free)───────────┴─► in flight ─► done
 *                                   ▲            │
 *                                   └─ resend ◄──┘ session expired, or the batch before it failed; nothing in doubt
 *
 * Group commit: what comes while a batch is in flight joins the next. A second batch goes out beside the first only when
 * pipelineBytesMin have gathered, so small commands gather and large ones stream. Nothing waits for a clock: an idle lane sends at
 * the end of the turn.
 *
 * Exactly once: batches of a session are numbered 1, 2, 3 … when they are sent. As soon as one fails its session is retired: what is in
 * flight ends by itself (a batch after a gap can never be appended), and only then a new session begins. A number is never
 * used for a second batch, so a late copy of a batch that was given up cannot be taken for another one.
 */
export class ProducerLane<Acks extends ProducerAcks, Receipt extends AppendReceipt> {
  private readonly builder: BatchBuilder;
  private completions: AppendCompletion<Receipt>[] = [];
  private indexes: number[] = [];
  private acks: Acks;
  private queuedAtMs = 0;

  private sealed: Batch<Acks, Receipt>[] = [];
  private resend: Batch<Acks, Receipt>[] = [];
  private inflight = 0;
  private sent = 0;
  private session: Session | null = null;
  private opening = false;
  private scheduled = false;

  constructor(
    private readonly target: AppendTarget,
    private readonly weakestAcks: Acks,
    /** With a session: exactly once, several batches in flight. Without: one batch at a time, never sent twice when in doubt. */
    private readonly exactlyOnce: boolean,
    private readonly port: AppendPort<Acks, Receipt>,
    private readonly options: LaneOptions,
  ) {
    this.builder = new BatchBuilder(() => options.clock.wallMs(), FIRST_BATCH_BYTES, options.memory);
    this.acks = weakestAcks;
  }

  /** Adds records that stay together in one batch. `bytes`: an upper bound of theirs. Returns the bytes they take. */
  add(
    records: readonly RecordInput[] | RecordInput,
    options: { readonly acks: Acks; readonly bytes: number },
    done: AppendCompletion<Receipt>,
  ): number {
    const { builder } = this;
    if (
      builder.recordCount > 0 &&
      (builder.byteLength + options.bytes > this.options.batchBytesMax ||
        builder.recordCount >= this.options.batchRecordsMax)
    ) {
      this.sealed.push(this.seal());
    }
    if (builder.recordCount === 0) this.queuedAtMs = this.options.clock.monotonicMs();
    const before = builder.byteLength;
    const index = builder.recordCount;
    if (isList(records)) for (const record of records) builder.add(record);
    else builder.add(records);
    this.completions.push(done);
    this.indexes.push(index);
    if (options.acks !== this.weakestAcks) this.acks = options.acks;
    if (this.inflight === 0 || builder.byteLength >= this.options.pipelineBytesMin) this.schedule();
    return builder.byteLength - before;
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.options.scheduler.defer(this.pump);
  }

  private readonly pump = (): void => {
    this.scheduled = false;
    if (this.exactlyOnce && !this.sessionReady()) return;
    while (this.inflight < this.options.inflightBatchesMax) {
      const batch = this.next();
      if (batch === null) return;
      this.send(batch);
    }
  };

  private get empty(): boolean {
    return this.sealed.length === 0 && this.resend.length === 0 && this.builder.recordCount === 0;
  }

  private next(): Batch<Acks, Receipt> | null {
    const sealed = this.sealed.shift();
    if (sealed) return sealed;
    if (this.builder.recordCount === 0) return null;
    if (this.inflight > 0 && this.builder.byteLength < this.options.pipelineBytesMin) return null;
    return this.seal();
  }

  private seal(): Batch<Acks, Receipt> {
    const records = this.builder.recordCount;
    const batch: Batch<Acks, Receipt> = {
      order: 0,
      bytes: this.builder.finish(),
      acks: this.acks,
      queuedAtMs: this.queuedAtMs,
      records,
      completions: this.completions,
      indexes: this.indexes,
      sessionsTried: 0,
      released: false,
    };
    this.completions = [];
    this.indexes = [];
    this.acks = this.weakestAcks;
    return batch;
  }

  private sessionReady(): boolean {
    if (this.session?.retired) {
      if (this.inflight > 0) return false;
      this.session = null;
      this.resend.sort((a, b) => a.order - b.order);
      this.sealed = [...this.resend, ...this.sealed];
      this.resend = [];
    }
    if (this.session) return true;
    if (!this.opening && !this.empty) this.open();
    return false;
  }

  private open(): void {
    this.opening = true;
    this.port.openSession(this.target).then(
      (id) => {
        this.opening = false;
        this.session = { id, lastSequence: 0, retired: false };
        this.pump();
      },
      (thrown: unknown) => {
        this.opening = false;
        const error = toTidelineError(thrown);
        // None of them has been sent in this session, whatever became of the request for one.
        const rejection = new TidelineError(error.code, error.message, {
          outcome: 'rejected',
          cause: error,
          details: error.details,
        });
        if (this.builder.recordCount > 0) this.sealed.push(this.seal());
        const kept: Batch<Acks, Receipt>[] = [];
        for (const batch of this.sealed.splice(0)) {
          if (error.retriable && this.remainingMs(batch) > 0) kept.push(batch);
          else this.fail(batch, rejection);
        }
        this.sealed = [...kept, ...this.sealed];
        if (!this.empty) this.options.scheduler.after(REOPEN_PAUSE_MS, () => this.schedule());
      },
    );
  }

  private remainingMs(batch: Batch<Acks, Receipt>): number {
    return this.options.timeoutMs - (this.options.clock.monotonicMs() - batch.queuedAtMs);
  }

  private send(batch: Batch<Acks, Receipt>): void {
    const timeoutMs = this.remainingMs(batch);
    if (timeoutMs <= 0) {
      this.fail(batch, new TidelineError('overloaded', `waited ${this.options.timeoutMs} ms and was not sent`));
      return;
    }
    const { session } = this;
    if (session) {
      assert(!session.retired, 'a retired session numbers no batches');
      // An earlier session's bytes may still be in a socket or a log.
      if (batch.sessionsTried > 0) batch.bytes = Buffer.from(batch.bytes);
      batch.sessionsTried++;
      setBatchSession(batch.bytes, { low: session.id, high: 0, sequence: ++session.lastSequence });
    }
    batch.order = this.sent++;
    this.inflight++;
    const released = (): void => {
      batch.released = true;
    };
    this.port.append(this.target, batch.bytes, { acks: batch.acks, timeoutMs, released }).then(
      (receipt) => this.appended(batch, receipt),
      (thrown: unknown) => this.failed(batch, toTidelineError(thrown)),
    );
  }

  private appended(batch: Batch<Acks, Receipt>, receipt: Receipt): void {
    this.inflight--;
    this.settle(batch, null, receipt);
    if (batch.released) this.options.memory?.give(batch.bytes);
    if (!this.empty || this.resend.length > 0) this.schedule();
  }

  private failed(batch: Batch<Acks, Receipt>, error: TidelineError): void {
    this.inflight--;
    if (this.session) this.session.retired = true;
    const notAppended = error.outcome === 'rejected';
    const anotherSessionHelps = error.code === 'session-expired' || error.code === 'sequence-gap';
    if (
      this.exactlyOnce &&
      notAppended &&
      anotherSessionHelps &&
      batch.sessionsTried < SESSIONS_TRIED_MAX &&
      this.remainingMs(batch) > 0
    ) {
      this.resend.push(batch);
    } else {
      this.fail(batch, error);
    }
    if (!this.empty) this.schedule();
  }

  private fail(batch: Batch<Acks, Receipt>, error: TidelineError): void {
    this.settle(batch, error, null);
  }

  private settle(batch: Batch<Acks, Receipt>, error: TidelineError | null, receipt: Receipt | null): void {
    const { completions, indexes } = batch;
    this.options.ended(batch.records, batch.bytes.length - BATCH_HEADER_BYTES);
    for (let i = 0; i < completions.length; i++) {
      try {
        completions[i](error, receipt, indexes[i]);
      } catch (thrown) {
        // One caller's defect is not the next one's; it surfaces on its own.
        this.options.scheduler.defer(() => {
          throw thrown;
        });
      }
    }
  }
}

const isList = (records: readonly RecordInput[] | RecordInput): records is readonly RecordInput[] =>
  Array.isArray(records);
