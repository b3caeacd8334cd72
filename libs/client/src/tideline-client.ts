import { randomInt } from 'node:crypto';
import {
  NO_OFFSET,
  SeededRng,
  TidelineError,
  asLogTime,
  asOffset,
  assert,
  hashKey,
  isErrorCode,
  partitionOf,
  systemClock,
  systemScheduler,
  type Clock,
  type Rng,
  type Scheduler,
} from '#kernel';
import { tcpTransport } from '#net';
import {
  decodeRecords,
  encodeBatch,
  encodeOp,
  forEachBatch,
  gatewayServiceV1,
  idempotencySession,
  readAllFound,
  type ApplyResultMessage,
  type ArchiveResponse,
  type FoundEntryMessage,
  type ClusterDescriptionMessage,
  type GatewayAppendResponse,
  type RecordInput,
  type ViewStatsMessage,
} from '#wire';
import { Observable } from 'rxjs';
import type { AppendTarget, ProducerAcks } from './append-port.js';
import { BatchingProducer } from './batching-producer.js';
import type { TidelineClientOptions } from './client-options.js';
import type {
  AppendOptions,
  AppendedRange,
  ArchiveOptions,
  CommandResult,
  DeleteOptions,
  ReadOptions,
  RecordToAppend,
  ScanOptions,
  ScanPage,
  SentCallback,
  SetOptions,
  ViewDescription,
  Written,
  Consistency,
} from './client-requests.js';
import { GatewayPool } from './gateway-pool.js';
import { GatewayRouter } from './gateway-router.js';
import { JointGets, type JointConsistency } from './joint-gets.js';
import { NO_OPTIONS, deleteRecord, isConditional, recordInput, setRecord } from './record-inputs.js';
import { RecordTail, tailBatches, type TailBatches, type TailOptions, type TailRecord } from './record-tail.js';
import { recordBytes } from './record-limits.js';
import { ArchivedViewEntry, ViewEntry, keyBytes, type KeyInput, type ValueInput } from './values.js';
import { watchView, type ViewWatchEvent, type WatchOptions } from './view-watch.js';

const ARCHIVE_PAGE = 1000;
const SCAN_LIMIT_MAX = 10_000;
/** Of the answer to gets that went together: what is beyond is asked for again, each by itself. */
const JOINT_ANSWER_BYTES_MAX = 256 * 1024;
const READ_LAG_MS = 1_000;
const IDEMPOTENCY_KEY_CHARS_MAX = 255;
/** A fetch may wait on the server for as long; then it is asked again. */
const FETCH_WAIT_MS_MAX = 60_000;

/**
 * A client of a Tideline cluster over the native protocol. Safe for any number of concurrent calls, which is also how it is fast: writes
 * made in one turn of the event loop share a batch.
 *
 * Every failed write carries an `outcome`: `rejected` has not and will not take effect, `unknown` may. Writes of `quorum` and `applied`
 * are retried across leader changes and lost connections and take effect once.
 */
export class TidelineClient {
  private readonly producer: BatchingProducer<ProducerAcks, GatewayAppendResponse>;
  private readonly router: GatewayRouter;
  private readonly jointGets: JointGets;
  private readonly clock: Clock;
  private readonly scheduler: Scheduler;
  private readonly rng: Rng;
  private readonly timeoutMs: number;
  /** Offset of this client's last write, by topic and partition: what a session read must see. */
  private readonly written = new Map<string, number[]>();
  private turn = 0;
  private closing: Promise<void> | null = null;

  private constructor(options: TidelineClientOptions) {
    this.clock = options.clock ?? systemClock;
    this.scheduler = options.scheduler ?? systemScheduler;
    this.rng = options.rng ?? new SeededRng(randomInt(2 ** 32));
    this.timeoutMs = options.timeoutMs ?? 10_000;
    const { clock, scheduler, rng, timeoutMs } = this;
    const pool = new GatewayPool({
      seeds: options.addresses,
      transport: options.transport ?? tcpTransport,
      hello: {
        nodeId: 0,
        clusterId: options.clusterId ?? '',
        service: 'gateway',
        software: options.name ?? 'tideline-client',
        addresses: {},
      },
      clock,
      rng,
      connectTimeoutMs: options.connectTimeoutMs ?? 2_000,
    });
    this.router = new GatewayRouter({ pool, clock, scheduler, rng, timeoutMs, pollMs: options.pollMs ?? 5_000 });
    this.jointGets = new JointGets({
      scheduler,
      together: (target, keys, consistency) => this.getTogether(target, keys, consistency),
      alone: (target, key, consistency) => this.getAlone(target.topic, target, key, { consistency }),
    });
    this.producer = new BatchingProducer(this.router, { ...options.producer, timeoutMs, clock, scheduler });
  }

  /**
   * Finds the cluster: resolves as soon as one of the addresses has described it.
   * Errors: `bad-option` · `connection-lost` (nobody answered within timeoutMs) · `cluster-mismatch`
   */
  static async connect(options: TidelineClientOptions): Promise<TidelineClient> {
    if (options.addresses.length === 0) throw new TidelineError('bad-option', 'addresses: at least one is needed');
    const client = new TidelineClient(options);
    try {
      await client.router.describe();
    } catch (error) {
      client.router.close();
      throw error;
    }
    client.router.startPolling();
    return client;
  }

  /* ---- writing ---- */

  /**
   * Appends records; those of one partition stay together, in order. Resolves with a range per partition, ascending.
   * When records of several partitions are given, a failure of one is the failure of the call though others may be in.
   * Errors: `unknown-topic` · `unknown-partition` · `record-too-large` · `key-too-large` · `request-too-large` · `overloaded` (too much waits:
   * slow down) · `no-leader` · `timeout` (outcome unknown) …
   */
  async append(
    topic: string,
    records: RecordToAppend | readonly RecordToAppend[],
    options: AppendOptions = {},
  ): Promise<readonly AppendedRange[]> {
    const inputs = (Array.isArray(records) ? (records as readonly RecordToAppend[]) : [records as RecordToAppend]).map(
      recordInput,
    );
    const acks = options.acks ?? 'quorum';
    // No pause when the topic is known: calls keep the order they were made in.
    const { partitions } = this.router.topicIfKnown(topic) ?? (await this.router.topic(topic));
    const groups = this.byPartition(topic, partitions.length, inputs, options.partition);
    if (options.idempotencyKey !== undefined) {
      return [await this.appendUnderKey(topic, groups, acks, options.idempotencyKey)];
    }
    return Promise.all(
      [...groups.keys()]
        .sort((a, b) => a - b)
        .map((partition) => this.appendTo({ topic, partition }, groups.get(partition)!, acks)),
    );
  }

  private appendTo(target: AppendTarget, records: readonly RecordInput[], acks: ProducerAcks): Promise<AppendedRange> {
    return new Promise((resolve, reject) => {
      this.producer.sendAll(target, records, acks, (error, receipt, index) => {
        if (error) {
          reject(error);
          return;
        }
        const firstOffset = receipt!.firstOffset + index;
        const lastOffset = firstOffset + records.length - 1;
        this.remember(target, lastOffset);
        resolve({ partition: target.partition, firstOffset, lastOffset });
      });
    });
  }

  /** A batch of its own: the key stands in its header. */
  private async appendUnderKey(
    topic: string,
    groups: ReadonlyMap<number, readonly RecordInput[]>,
    acks: ProducerAcks,
    key: string,
  ): Promise<AppendedRange> {
    if (key.length === 0 || key.length > IDEMPOTENCY_KEY_CHARS_MAX) {
      throw new TidelineError('bad-request', `an idempotency key has 1 to ${IDEMPOTENCY_KEY_CHARS_MAX} characters`);
    }
    if (groups.size !== 1) {
      throw new TidelineError('bad-request', 'records under one idempotency key go to one partition');
    }
    const [[partition, records]] = groups;
    for (const record of records) recordBytes(record);
    const target = { topic, partition };
    // The payload must be that of the first call, byte for byte: timestamps in it are differences to the create time, which is
    // therefore one of them and not the moment of this call.
    const createTime = records.find((record) => record.timestamp !== undefined)?.timestamp ?? this.clock.wallMs();
    const batch = encodeBatch(records, { createTime, session: idempotencySession(key) });
    const { firstOffset, lastOffset } = await this.router.append(target, batch, { acks, timeoutMs: this.timeoutMs });
    this.remember(target, lastOffset);
    return { partition, firstOffset, lastOffset };
  }

  /**
   * Appends one record without a promise: `done` is called once, after this returns. For loops that write very much; `flush()` and
   * `pendingRecords` go with it. The topic must be known already (`connect` and `topic()` see to that).
   * @throws TidelineError as `append`, for what is refused at once; `done` is then not called
   */
  send(
    topic: string,
    record: RecordInput,
    options: { readonly acks?: ProducerAcks; readonly partition?: number },
    done: SentCallback,
  ): void {
    const description = this.router.topicIfKnown(topic);
    if (description === undefined) throw new TidelineError('unknown-topic', `topic ${topic} is not known yet`);
    const partition = options.partition ?? this.partitionFor(record.key, description.partitions.length);
    const target = { topic, partition };
    this.producer.send(target, record, options.acks ?? 'quorum', (error, receipt, index) => {
      if (error) {
        done(error, null);
        return;
      }
      const offset = receipt!.firstOffset + index;
      this.remember(target, offset);
      done(null, { partition, offset });
    });
  }

  /** Records taken and not yet answered. */
  get pendingRecords(): number {
    return this.producer.pendingRecords;
  }

  /** Resolves when everything taken so far has its answer. */
  flush(): Promise<void> {
    return this.producer.flush();
  }

  /**
   * Sets an entry of a map view. Resolves when it is committed; with a condition, when it has been applied.
   * Errors: as `append`; `condition-failed` (details.offset: the entry's, 0 for none) · `wrong-type`
   */
  set(view: string, key: KeyInput, value: ValueInput, options: SetOptions = NO_OPTIONS): Promise<Written> {
    const acks = isConditional(options) ? 'applied' : (options.acks ?? 'quorum');
    return this.submit(view, acks, () => setRecord(key, value, options), asWritten);
  }

  /** Deletes an entry; without a condition also when there is none. Errors: as `set` */
  del(view: string, key: KeyInput, options: DeleteOptions = {}): Promise<Written> {
    const acks = isConditional(options) ? 'applied' : (options.acks ?? 'quorum');
    return this.submit(view, acks, () => deleteRecord(key, options), asWritten);
  }

  /**
   * Runs a command of a data type (`incrby`, `hset` …) on an entry; resolves with its result when it has been applied.
   * Arguments are text, numbers as their decimal text, or bytes. Errors: as `append`; `unknown-command` · `wrong-type` · `bad-request`
   */
  async command(
    view: string,
    key: KeyInput,
    name: string,
    args: readonly (string | number | Uint8Array)[] = [],
  ): Promise<CommandResult> {
    const bytes = args.map((arg) => (arg instanceof Uint8Array ? arg : Buffer.from(String(arg))));
    const record = { key: keyBytes(key), op: encodeOp(name, bytes) };
    return this.submit(view, 'applied', () => record, asCommandResult);
  }

  /**
   * One record to the partition of its key. With the topic known it is taken before this returns, so that calls keep the order they were
   * made in. `answer` gets the JSON text of the result, empty for none.
   */
  private submit<Answer>(
    view: string,
    acks: ProducerAcks,
    build: () => RecordInput,
    answer: (written: Written, result: string) => Answer,
  ): Promise<Answer> {
    const topic = this.router.topicIfKnown(view);
    if (topic === undefined) return this.router.topic(view).then(() => this.submit(view, acks, build, answer));
    // What is thrown here rejects the promise.
    return new Promise((resolve, reject) => {
      const record = build();
      const partition = this.partitionFor(record.key, topic.partitions.length);
      const target = { topic: view, partition };
      this.producer.send(target, record, acks, (error, receipt, index) => {
        if (error) {
          reject(error);
          return;
        }
        const offset = receipt!.firstOffset + index;
        this.remember(target, offset);
        if (acks !== 'applied') {
          resolve(answer({ partition, offset }, ''));
          return;
        }
        const applied = receipt!.results[index];
        if (applied === undefined) {
          reject(
            new TidelineError('result-evicted', 'it is committed; its result is not known', { details: { offset } }),
          );
        } else if (applied.ok) {
          resolve(answer({ partition, offset }, applied.value));
        } else {
          reject(commandError(applied));
        }
      });
    });
  }

  /* ---- reading ---- */

  /**
   * The entry under a key; null when there is none or it has expired. Gets of one turn of the event loop share a request, unless they have
   * options beyond `consistency`.
   * Errors: `unknown-view` · `no-leader` · `timeout` (the view did not get there in time) …
   */
  get(view: string, key: KeyInput, options: ReadOptions = NO_READ_OPTIONS): Promise<ViewEntry | null> {
    // A copy: it is sent after this call.
    const bytes = Buffer.from(key as Uint8Array);
    const target = this.targetIfKnown(view, bytes);
    const consistency = jointConsistencyOf(options);
    if (target === null || consistency === null) return this.getAlone(view, target, bytes, options);
    return this.jointGets.get(target, bytes, consistency);
  }

  private async getAlone(
    view: string,
    target: AppendTarget | null,
    key: Buffer,
    options: ReadOptions,
  ): Promise<ViewEntry | null> {
    const { entry } = await this.router.ask(
      gatewayServiceV1.get,
      (timeoutMs) => ({ view, partition: null, key, ...this.readOf(options, target, timeoutMs) }),
      target,
      options,
    );
    return entry === null ? null : new ViewEntry(entry, key);
  }

  private async getTogether(
    target: AppendTarget,
    keys: readonly Buffer[],
    consistency: JointConsistency,
  ): Promise<readonly (FoundEntryMessage | null | undefined)[]> {
    const { topic: view, partition } = target;
    const partitions = this.router.topicIfKnown(view)?.partitions.length ?? 0;
    const { found } = await this.router.ask(
      gatewayServiceV1.getMany,
      (timeoutMs) => ({
        view,
        partition,
        partitions,
        keys,
        bytesMax: JOINT_ANSWER_BYTES_MAX,
        ...this.readOf({ consistency }, target, timeoutMs),
      }),
      target,
    );
    return readAllFound(found, keys.length);
  }

  /** One page of entries in the order of their keys. Go on with `after` = the last key while `more`. Errors: as `get` */
  async scan(view: string, options: ScanOptions = {}): Promise<ScanPage> {
    const { prefix, after, limit = 100, bytesMax = 1024 * 1024, values = true, partition = null } = options;
    if (!Number.isInteger(limit) || limit < 1 || limit > SCAN_LIMIT_MAX) {
      throw new TidelineError('bad-request', `limit is ${limit}; 1 to ${SCAN_LIMIT_MAX} is allowed`);
    }
    const partitions = this.router.topicIfKnown(view)?.partitions.length;
    const only = partition ?? (partitions === 1 ? 0 : null);
    const target = only === null ? null : { topic: view, partition: only };
    const { entries, more } = await this.router.ask(
      gatewayServiceV1.scan,
      (timeoutMs) => ({
        view,
        partition,
        prefix: toBuffer(keyBytes(prefix ?? '')),
        after: after === undefined ? null : toBuffer(keyBytes(after)),
        limit,
        bytesMax,
        values,
        ...this.readOf(options, target, timeoutMs),
      }),
      target,
      options,
    );
    return { entries: entries.map((entry) => new ViewEntry(entry, entry.key)), more };
  }

  /** The views there are, as a host has them: how far, how large; of a projection its version, and how far the next one is. */
  async views(): Promise<readonly ViewDescription[]> {
    const [stats, projections] = await Promise.all([
      this.router.ask(gatewayServiceV1.views, () => undefined, null, {}),
      this.router.ask(gatewayServiceV1.projections, () => undefined, null, {}),
    ]);
    const statsOf = (view: string, kind: string): ViewStatsMessage | null =>
      stats.find((each) => each.view === view && each.kind === kind) ?? null;
    return [
      ...stats
        .filter(({ kind }) => kind === 'map')
        .map((each) => ({ view: each.view, topic: each.topic, kind: each.kind, stats: each, projection: null })),
      ...projections.map((projection) => {
        const { view, topic } = projection;
        return { view, topic, kind: 'projection' as const, stats: statsOf(view, 'projection'), projection };
      }),
    ];
  }

  /**
   * What has expired, or had to make room, and is in the view's archive, in the order in which it went, page by page. Nothing for a view
   * without an archive. Errors: as `get`; those of the archive's database
   */
  async *archive(view: string, options: ArchiveOptions = {}): AsyncGenerator<ArchivedViewEntry, void, undefined> {
    const { key, from, to } = options;
    let left = options.limit ?? Number.POSITIVE_INFINITY;
    for (let cursor: string | null = null; ;) {
      const page: ArchiveResponse = await this.router.ask(
        gatewayServiceV1.archive,
        () => ({
          view,
          key: key === undefined ? null : toBuffer(keyBytes(key)),
          from: from === undefined ? null : asLogTime(from),
          to: to === undefined ? null : asLogTime(to),
          limit: Math.min(left, ARCHIVE_PAGE),
          cursor,
        }),
        null,
        options,
      );
      for (const entry of page.entries) yield new ArchivedViewEntry(entry);
      left -= page.entries.length;
      ({ cursor } = page);
      if (cursor === null || left <= 0) return;
    }
  }

  /** All entries under a prefix, page by page. What is written meanwhile may or may not be among them. */
  async *entries(view: string, options: ScanOptions = {}): AsyncGenerator<ViewEntry, void, undefined> {
    let { after } = options;
    for (;;) {
      const page = await this.scan(view, { ...options, ...(after !== undefined && { after }) });
      yield* page.entries;
      if (!page.more || page.entries.length === 0) return;
      after = page.entries.at(-1)!.key;
    }
  }

  /**
   * Records of one partition from an offset on; waits up to maxWaitMs for the first (default 0, at most 60,000).
   * Errors: `unknown-topic` · `offset-out-of-range`
   */
  async fetch(
    topic: string,
    options: {
      readonly from: number;
      readonly partition?: number;
      /** Default 1 MiB; at least one batch comes whatever its size. */
      readonly maxBytes?: number;
      readonly maxWaitMs?: number;
    },
  ): Promise<{
    readonly records: readonly TailRecord[];
    readonly nextOffset: number;
    readonly commitOffset: number;
    readonly logStartOffset: number;
  }> {
    const partition = options.partition ?? 0;
    const target = { topic, partition };
    const maxWaitMs = Math.min(options.maxWaitMs ?? 0, FETCH_WAIT_MS_MAX);
    const { batches, nextOffset, commitOffset, logStartOffset } = await this.router.ask(
      gatewayServiceV1.fetch,
      { ...target, from: asOffset(options.from), maxBytes: options.maxBytes ?? 1024 * 1024, maxWaitMs },
      target,
      { timeoutMs: this.timeoutMs + maxWaitMs, attemptTimeoutMs: this.timeoutMs + maxWaitMs },
    );
    const records: TailRecord[] = [];
    forEachBatch(batches, (at) => {
      for (const record of decodeRecords(batches, at)) {
        if (record.offset >= options.from) records.push(Object.assign(record, { partition }));
      }
    });
    return { records, nextOffset, commitOffset, logStartOffset };
  }

  /** Records as they are committed; see RecordTail. Nothing is asked before it is subscribed to or iterated. */
  tail(topic: string, options: TailOptions = {}): RecordTail {
    return new RecordTail((given) => this.tailBatches(topic, given), options);
  }

  /** As `tail`, batches as they come: for those who move bytes or decode themselves. Each must be released. */
  tailBatches(topic: string, options: TailOptions = {}): Observable<TailBatches> {
    return tailBatches({ router: this.router, rng: this.rng }, topic, options);
  }

  /**
   * Entries of a view, then `live`, then changes. After a disconnect it says `restart` and begins again with the entries.
   * Ends when the client is closed. Errors for good only: `unknown-view`
   */
  watch(view: string, options: WatchOptions = {}): Observable<ViewWatchEvent> {
    return watchView({ router: this.router, rng: this.rng }, view, options);
  }

  /** Offset after the newest committed record of a partition. */
  async endOffset(topic: string, partition = 0): Promise<number> {
    const target = { topic, partition };
    return (await this.router.ask(gatewayServiceV1.barrier, target, target)).offset + 1;
  }

  /** First offset whose log time is not before the time. */
  offsetAtTime(topic: string, time: Date, partition = 0): Promise<number> {
    const target = { topic, partition };
    return this.router.ask(gatewayServiceV1.offsetAtTime, { ...target, time: asLogTime(time.getTime()) }, target);
  }

  /** Nodes, topics, partitions and leaders, asked for now. */
  describe(): Promise<ClusterDescriptionMessage> {
    return this.router.describe();
  }

  /** As last heard; no I/O. */
  get cluster(): ClusterDescriptionMessage {
    assert(this.router.description !== null, 'a connected client has a description');
    return this.router.description;
  }

  /** Takes no more writes, waits for those it has (at most timeoutMs and a little), ends tails, disconnects. */
  close(): Promise<void> {
    this.closing ??= this.producer.close().then(() => this.router.close());
    return this.closing;
  }

  /* ---- placing ---- */

  private partitionFor(key: Uint8Array | null | undefined, partitions: number): number {
    if (partitions === 1) return 0;
    return key ? partitionOf(hashKey(key), partitions) : this.turn++ % partitions;
  }

  private byPartition(
    topic: string,
    partitions: number,
    records: readonly RecordInput[],
    only: number | undefined,
  ): ReadonlyMap<number, readonly RecordInput[]> {
    if (records.length === 0) throw new TidelineError('bad-request', 'no records');
    if (only !== undefined && !(Number.isInteger(only) && only >= 0 && only < partitions)) {
      throw new TidelineError('unknown-partition', `topic ${topic} has no partition ${only}`, {
        details: { partitions },
      });
    }
    if (only !== undefined || partitions === 1) return new Map([[only ?? 0, records]]);
    const keyless = this.partitionFor(null, partitions);
    const groups = new Map<number, RecordInput[]>();
    for (const record of records) {
      const partition = record.key ? this.partitionFor(record.key, partitions) : keyless;
      const group = groups.get(partition);
      if (group) group.push(record);
      else groups.set(partition, [record]);
    }
    return groups;
  }

  private targetIfKnown(view: string, key: Uint8Array): AppendTarget | null {
    const topic = this.router.topicIfKnown(view);
    return topic ? { topic: view, partition: this.partitionFor(key, topic.partitions.length) } : null;
  }

  private remember(target: AppendTarget, offset: number): void {
    let offsets = this.written.get(target.topic);
    if (offsets === undefined) this.written.set(target.topic, (offsets = []));
    if (!(offsets[target.partition] >= offset)) offsets[target.partition] = offset;
  }

  /** One offset cannot speak for several partitions: a session read over all of them becomes a linearizable one. */
  private readOf(
    options: ReadOptions,
    target: AppendTarget | null,
    timeoutMs: number,
  ): {
    readonly consistency: Consistency;
    readonly minOffset: number;
    readonly maxLagMs: number;
    readonly timeoutMs: number;
  } {
    let { consistency = 'linearizable' } = options;
    if (consistency === 'session' && target === null) consistency = 'linearizable';
    const own = target ? (this.written.get(target.topic)?.[target.partition] ?? NO_OFFSET) : NO_OFFSET;
    return {
      consistency,
      minOffset: consistency === 'session' ? Math.max(own, options.minOffset ?? 0) : 0,
      maxLagMs: options.maxLagMs ?? READ_LAG_MS,
      timeoutMs,
    };
  }
}

const toBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const NO_READ_OPTIONS: ReadOptions = {};

/** Null: the read wants something of its own. */
const jointConsistencyOf = (options: ReadOptions): JointConsistency | null => {
  const { consistency = 'linearizable', minOffset, timeoutMs } = options;
  return consistency === 'bounded' || minOffset !== undefined || timeoutMs !== undefined ? null : consistency;
};

const asWritten = (written: Written): Written => written;

const asCommandResult = (written: Written, result: string): CommandResult => ({
  ...written,
  result: result === '' ? null : (JSON.parse(result) as unknown),
});

const commandError = ({ code, message, entryOffset }: ApplyResultMessage): TidelineError =>
  new TidelineError(isErrorCode(code) ? code : 'internal', message || code, {
    outcome: 'rejected',
    details: { offset: entryOffset },
  });
