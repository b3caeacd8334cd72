import { REQUEST_BYTES_MAX, TidelineError, systemClock, systemScheduler, type Clock, type Scheduler } from '#kernel';
import type { BatchMemory, RecordInput } from '#wire';
import type { AppendPort, AppendReceipt, AppendTarget, ProducerAcks } from './append-port.js';
import { ProducerLane, type AppendCompletion } from './producer-lane.js';
import { recordBytes } from './record-limits.js';
import { ReusedMemory } from './reused-memory.js';

export interface ProducerOptions {
  /** A batch is sealed before it grows beyond this. Default 1 MiB. */
  readonly batchBytesMax?: number;
  /** Default 16,384. */
  readonly batchRecordsMax?: number;
  /** Batches in flight to one partition, at most 8. Default 7. */
  readonly inflightBatchesMax?: number;
  /** While a batch is in flight the next goes out beside it only from this size on. Default 32 KiB. */
  readonly pipelineBytesMin?: number;
  /** Records taken and not yet answered; then `overloaded`. Default 200,000. */
  readonly queuedRecordsMax?: number;
  /** Bytes of them. Default 64 MiB. */
  readonly queuedBytesMax?: number;
  /** From taking a record to its answer, ms. Default 10,000. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
  readonly scheduler?: Scheduler;
}

/** Lanes of a partition: one that is exactly once, and one each for the weaker acknowledgements, which give that up. */
const LANES_PER_PARTITION = 3;

/**
 * The write path of a gateway and of the SDK: gathers the records of many callers into one batch per partition and keeps their order.
 * Records of `quorum` and `applied` go through a session: each takes effect once, also when a leader fails in between.
 * Those of `leader` and `none` have lanes of their own, without order towards the others; of them an answer that got lost is `unknown`.
 */
export class BatchingProducer<
  Acks extends ProducerAcks = Exclude<ProducerAcks, 'applied'>,
  Receipt extends AppendReceipt = AppendReceipt,
> {
  private readonly lanes = new Map<string, (ProducerLane<Acks, Receipt> | undefined)[]>();
  private readonly options: Required<ProducerOptions>;
  /** Of all lanes. Undefined: each batch gets memory of its own, the port may keep it. */
  private readonly memory: BatchMemory | undefined;
  private queuedRecords = 0;
  private queuedBytes = 0;
  private closed = false;
  private idleListeners: (() => void)[] = [];

  constructor(
    private readonly port: AppendPort<Acks, Receipt>,
    options: ProducerOptions = {},
  ) {
    if (port.releasesBatches === true) this.memory = new ReusedMemory();
    this.options = {
      batchBytesMax: 1024 * 1024,
      batchRecordsMax: 16_384,
      // A log remembers the last 8 batches of a session: a retry of any of these is recognised.
      inflightBatchesMax: 7,
      pipelineBytesMin: 32 * 1024,
      queuedRecordsMax: 200_000,
      queuedBytesMax: 64 * 1024 * 1024,
      timeoutMs: 10_000,
      clock: systemClock,
      scheduler: systemScheduler,
      ...options,
    };
  }

  /** Records taken and not yet answered. */
  get pendingRecords(): number {
    return this.queuedRecords;
  }

  get pendingBytes(): number {
    return this.queuedBytes;
  }

  /**
   * Takes one record; `done` gets the receipt of its batch and the record's index in it. The record's bytes are copied before this returns.
   * @throws TidelineError `overloaded` · `key-too-large` · `record-too-large` · `bad-request` · `shutting-down`: not taken, `done` is not called
   */
  send(target: AppendTarget, record: RecordInput, acks: Acks, done: AppendCompletion<Receipt>): void {
    const bytes = recordBytes(record);
    this.admit();
    this.count(1, this.lane(target, acks).add(record, { acks, bytes }, done));
  }

  /**
   * Takes several records that stay together: one batch, consecutive offsets, all or none.
   * @throws as `send`, and `request-too-large`; `bad-request` for none at all
   */
  sendAll(target: AppendTarget, records: readonly RecordInput[], acks: Acks, done: AppendCompletion<Receipt>): void {
    if (records.length === 0) throw new TidelineError('bad-request', 'no records');
    let bytes = 0;
    for (const record of records) bytes += recordBytes(record);
    if (bytes > REQUEST_BYTES_MAX) {
      throw new TidelineError('request-too-large', `${bytes} bytes in one batch`, {
        details: { limit: REQUEST_BYTES_MAX },
      });
    }
    this.admit();
    this.count(records.length, this.lane(target, acks).add(records, { acks, bytes }, done));
  }

  /** Resolves when everything taken so far has its answer. Never rejects: each caller hears of its own. */
  flush(): Promise<void> {
    if (this.queuedRecords === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.idleListeners.push(resolve);
    });
  }

  /** Takes no more records and waits for what it has. */
  close(): Promise<void> {
    this.closed = true;
    return this.flush();
  }

  private admit(): void {
    if (this.closed) throw new TidelineError('shutting-down', 'the producer is closed');
    const { queuedRecordsMax, queuedBytesMax } = this.options;
    if (this.queuedRecords < queuedRecordsMax && this.queuedBytes < queuedBytesMax) return;
    throw new TidelineError('overloaded', `${this.queuedRecords} records of ${this.queuedBytes} bytes wait already`, {
      details: { queuedRecordsMax, queuedBytesMax },
    });
  }

  private lane(target: AppendTarget, acks: Acks): ProducerLane<Acks, Receipt> {
    let lanes = this.lanes.get(target.topic);
    if (lanes === undefined) this.lanes.set(target.topic, (lanes = []));
    const strength = acks === 'none' ? 2 : acks === 'leader' ? 1 : 0;
    const at = target.partition * LANES_PER_PARTITION + strength;
    let lane = lanes[at];
    if (lane === undefined) {
      const exactlyOnce = strength === 0;
      lane = new ProducerLane(
        { topic: target.topic, partition: target.partition },
        // `quorum` is a member of Acks whenever `applied` is: a port that knows neither makes no strong lane.
        (exactlyOnce ? 'quorum' : acks) as Acks,
        exactlyOnce,
        this.port,
        {
          ...this.options,
          memory: this.memory,
          inflightBatchesMax: exactlyOnce ? this.options.inflightBatchesMax : 1,
          ended: (records, bytes) => this.count(-records, -bytes),
        },
      );
      lanes[at] = lane;
    }
    return lane;
  }

  private count(records: number, bytes: number): void {
    this.queuedRecords += records;
    this.queuedBytes += bytes;
    if (this.queuedRecords > 0 || this.idleListeners.length === 0) return;
    const listeners = this.idleListeners;
    this.idleListeners = [];
    for (const listener of listeners) listener();
  }
}
