import {
  TidelineError,
  hashKey,
  isErrorCode,
  partitionOf,
  toTidelineError,
  type LogTime,
  type NodeId,
  type Offset,
  type Term,
} from '#kernel';
import {
  DEL_IF,
  PUT_IF,
  checkBatch,
  checkBatchHeader,
  decodeOp,
  encodeBatch,
  encodeConditionalOp,
  idempotencySession,
  validateRecords,
  type EntryCondition,
  type RecordInput,
} from '#wire';
import type { Acks, AppendResult, CommandLog, Target, TopicDescription } from '#command-log';
import { encodeReplay, validateCommand, type ApplyResult, type ViewQuery } from '#views';
import type { GatewayLimits, GatewayTime } from './gateway-options.js';
import { CONTENT_TYPE, checkKey, checkRecordBytes } from './record-json.js';
import { partitionOfTopic, type TopicDirectory } from './topic-directory.js';

/** As a user asks for it; `applied` is quorum plus the view's result. */
export type WriteAcks = Acks | 'applied';
export const WRITE_ACKS: readonly WriteAcks[] = ['none', 'leader', 'quorum', 'applied'];

const IDEMPOTENCY_KEY_BYTES_MAX = 255;

/** Puts records into batches and these into the log; what is on its way shares them. See libs/client. */
export interface RecordProducer {
  /** The records take consecutive offsets, in one batch. */
  append(target: Target, records: readonly RecordInput[], acks: Acks): Promise<ProducedRecords>;
  close(): Promise<void>;
}

export interface ProducedRecords {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly logTime: LogTime;
  readonly term: Term;
  readonly node: NodeId;
}

/** What became of the records of one request in one partition. */
export interface PartitionAppend extends ProducedRecords {
  readonly partition: number;
}

export interface AppendAnswer {
  readonly partitions: readonly PartitionAppend[];
  /** Of each record of the request, in its order; only for acks `applied`. */
  readonly results: readonly ApplyResult[] | null;
}

/** An entry to be set. */
export interface EntryPut {
  readonly value: Buffer;
  readonly contentType: string | null;
  readonly ttlMs: number | null;
  readonly condition: EntryCondition | null;
}

export interface EntryWrite {
  readonly partition: number;
  /** Of the record. */
  readonly offset: Offset;
  readonly term: Term;
  readonly node: NodeId;
  /** The view's word, if it was asked. */
  readonly result: ApplyResult | null;
}

export interface WriteOptions {
  readonly acks: WriteAcks;
  readonly idempotencyKey: string | null;
}

export interface WritePathParts {
  readonly log: CommandLog;
  readonly views: ViewQuery;
  readonly topics: TopicDirectory;
  readonly producer: RecordProducer;
  readonly limits: GatewayLimits;
  readonly time: GatewayTime;
}

/**
 * Every write of every protocol.
 *
 *     records ─► partition by key ─► producer (shares batches) ───────────────► log ─► offsets
 *                     └ Idempotency-Key: a batch of its own per partition ─┘       └─ applied, conditions, commands: ─► view's results
 *
 * Once a record is in the log an error is `unknown`, whatever its code says elsewhere: the write has taken or will take effect.
 */
export class WritePath {
  private nextPartition = 0;

  constructor(private readonly parts: WritePathParts) {}

  /**
   * Records of one request; those of one partition take consecutive offsets. Records without key go to one partition together.
   * @throws (rejects) `unknown-topic` · `unknown-view` (acks applied without view) · errors of the log and the view. When some partitions
   * have the records and others not, details.partitions says which, and the outcome is unknown: a retry with the same Idempotency-Key completes it.
   */
  async append(topicName: string, records: readonly RecordInput[], options: WriteOptions): Promise<AppendAnswer> {
    const { acks, idempotencyKey } = options;
    const topic =
      acks === 'applied' ? await this.parts.topics.view(topicName) : await this.parts.topics.topic(topicName);
    const partitions = this.split(topic, records, idempotencyKey);
    const appended = await this.appendAll(topic, partitions, options);
    if (acks !== 'applied') return { partitions: appended, results: null };
    const results: ApplyResult[] = [];
    await Promise.all(
      appended.map(async (part, i) => {
        const ofPartition = await this.results(topic.name, part);
        for (const [at, index] of partitions[i].indexes.entries()) results[index] = ofPartition[at];
      }),
    );
    return { partitions: appended, results };
  }

  /** Sets an entry; with a condition the view decides when it applies the record. @throws (rejects) `condition-failed` … */
  async put(view: string, key: Buffer, entry: EntryPut, options: WriteOptions): Promise<EntryWrite> {
    const { value, contentType, ttlMs, condition } = entry;
    checkKey(key, this.parts.limits);
    checkRecordBytes(key.length + value.length + (contentType?.length ?? 0), this.parts.limits);
    return this.writeEntry(
      view,
      {
        key,
        value,
        ...(contentType === null ? {} : { headers: [{ name: CONTENT_TYPE, value: Buffer.from(contentType) }] }),
        ...(ttlMs === null ? {} : { ttlMs }),
        ...(condition === null ? {} : { op: encodeConditionalOp(PUT_IF, condition) }),
      },
      condition === null ? options : { ...options, acks: 'applied' },
    );
  }

  /** Removes an entry; there need not be one. @throws (rejects) `condition-failed` … */
  async delete(
    view: string,
    key: Buffer,
    condition: EntryCondition | null,
    options: WriteOptions,
  ): Promise<EntryWrite> {
    checkKey(key, this.parts.limits);
    if (condition === null) return this.writeEntry(view, { key, value: null }, options);
    const op = encodeConditionalOp(DEL_IF, condition);
    return this.writeEntry(view, { key, value: null, op }, { ...options, acks: 'applied' });
  }

  /** A command of a data type; answers with its result. @throws (rejects) `unknown-command` · `bad-request` · `wrong-type` … */
  async command(view: string, key: Buffer, op: Buffer, idempotencyKey: string | null): Promise<EntryWrite> {
    checkKey(key, this.parts.limits);
    checkRecordBytes(key.length + op.length, this.parts.limits);
    const { name, args } = decodeOp(op);
    // What is wrong whatever the entry is takes no place in the log.
    const problem = validateCommand(name, args, { key, value: null });
    if (problem !== null) throw problem;
    return this.writeEntry(view, { key, op }, { acks: 'applied', idempotencyKey });
  }

  /** A batch that a native client has encoded. @throws (rejects) `malformed-batch` · `key-too-large` … */
  async appendBatch(
    target: Target,
    batch: Buffer,
    options: { readonly acks: WriteAcks; readonly timeoutMs: number },
  ): Promise<AppendResult & { readonly results: readonly ApplyResult[] }> {
    const { limits, log, topics } = this.parts;
    checkRecords(batch, limits);
    const applied = options.acks === 'applied';
    const topic = applied ? await topics.view(target.topic) : await topics.topic(target.topic);
    partitionOfTopic(topic, target.partition);
    const acks = options.acks === 'applied' ? 'quorum' : options.acks;
    const timeoutMs =
      options.timeoutMs > 0 ? Math.min(options.timeoutMs, limits.writeTimeoutMs) : limits.writeTimeoutMs;
    const appended = await log.append(target, batch, { acks, timeoutMs });
    const results = applied ? await this.results(topic.name, { partition: target.partition, ...appended }) : [];
    return { ...appended, results };
  }

  /** Asks a projection to try parked events again, one or all of a partition: a record like any other. Answers with its offset. */
  async replay(
    viewName: string,
    { partition, offset }: { readonly partition: number; readonly offset: Offset | null },
  ): Promise<EntryWrite> {
    const { view, topic } = await this.parts.topics.readable(viewName);
    partitionOfTopic(topic, partition);
    const record = encodeReplay({ view, offset });
    const appended = await this.parts.producer.append({ topic: topic.name, partition }, [record], 'quorum');
    return { partition, offset: appended.lastOffset, term: appended.term, node: appended.node, result: null };
  }

  private async writeEntry(viewName: string, record: RecordInput, options: WriteOptions): Promise<EntryWrite> {
    const { topics, producer } = this.parts;
    const known = topics.known(viewName);
    const topic = known !== null && known.view.kind !== 'none' ? known : await topics.view(viewName);
    const partition = partitionOf(hashKey(record.key!), topic.partitions.length);
    const target = { topic: topic.name, partition };
    const acks = options.acks === 'applied' ? 'quorum' : options.acks;
    const appended =
      options.idempotencyKey === null
        ? await producer.append(target, [record], acks)
        : await this.appendOnce(target, [record], acks, options.idempotencyKey);
    const { lastOffset: offset, term, node } = appended;
    if (options.acks !== 'applied') return { partition, offset, term, node, result: null };
    const [result] = await this.results(topic.name, { partition, ...appended });
    if (!result.ok) throw refusal(result, offset);
    return { partition, offset, term, node, result };
  }

  private split(
    topic: TopicDescription,
    records: readonly RecordInput[],
    idempotencyKey: string | null,
  ): PartitionRecords[] {
    const count = topic.partitions.length;
    // A retry must send a record without key to where it went at first.
    const keyless =
      idempotencyKey === null ? this.nextPartition++ % count : partitionOf(hashKey(Buffer.from(idempotencyKey)), count);
    if (count === 1) return [{ partition: 0, records, indexes: [...records.keys()] }];
    const byPartition = new Map<number, { records: RecordInput[]; indexes: number[] }>();
    for (const [index, record] of records.entries()) {
      const partition = record.key ? partitionOf(hashKey(record.key), count) : keyless;
      let part = byPartition.get(partition);
      if (!part) byPartition.set(partition, (part = { records: [], indexes: [] }));
      part.records.push(record);
      part.indexes.push(index);
    }
    return [...byPartition].sort(([a], [b]) => a - b).map(([partition, part]) => ({ partition, ...part }));
  }

  private async appendAll(
    topic: TopicDescription,
    parts: readonly PartitionRecords[],
    options: WriteOptions,
  ): Promise<PartitionAppend[]> {
    const acks = options.acks === 'applied' ? 'quorum' : options.acks;
    const ends = await Promise.allSettled(
      parts.map(async ({ partition, records }): Promise<PartitionAppend> => {
        const target = { topic: topic.name, partition };
        const appended =
          options.idempotencyKey === null
            ? await this.parts.producer.append(target, records, acks)
            : await this.appendOnce(target, records, acks, options.idempotencyKey);
        return { partition, ...appended };
      }),
    );
    const done: PartitionAppend[] = [];
    const failed: TidelineError[] = [];
    for (const end of ends) {
      if (end.status === 'fulfilled') done.push(end.value);
      else failed.push(toTidelineError(end.reason));
    }
    if (failed.length === 0) return done;
    const worst = failed.find((error) => error.outcome === 'unknown') ?? failed[0];
    if (done.length === 0 && worst.outcome === 'rejected') throw worst;
    throw new TidelineError(worst.code, worst.message, {
      outcome: 'unknown',
      cause: worst,
      details: {
        ...worst.details,
        ...(done.length === 0
          ? {}
          : {
              partitions: done.map(({ partition, firstOffset, lastOffset }) => ({
                partition,
                firstOffset,
                lastOffset,
              })),
            }),
      },
    });
  }

  /** A batch of its own that the log takes once, however often it is sent. */
  private appendOnce(
    target: Target,
    records: readonly RecordInput[],
    acks: Acks,
    idempotencyKey: string,
  ): Promise<AppendResult> {
    const batch = encodeBatch(records, {
      createTime: this.parts.time.clock.wallMs(),
      session: idempotencySession(`${target.topic}\u0000${idempotencyKey}`),
    });
    return this.parts.log.append(target, batch, { acks, timeoutMs: this.parts.limits.writeTimeoutMs });
  }

  private async results(
    view: string,
    { partition, firstOffset, lastOffset }: { partition: number; firstOffset: Offset; lastOffset: Offset },
  ): Promise<readonly ApplyResult[]> {
    try {
      const answer = await this.parts.views.results({
        view,
        partition,
        firstOffset,
        lastOffset,
        timeoutMs: this.parts.limits.readTimeoutMs,
      });
      return answer.results;
    } catch (thrown) {
      const error = toTidelineError(thrown);
      throw new TidelineError(error.code, `the write is committed, its result is not known: ${error.message}`, {
        outcome: 'unknown',
        cause: error,
        details: { ...error.details, partition, firstOffset, lastOffset },
      });
    }
  }
}

/**
 * A batch's records, as far as they are a gateway's business. The payload's checksum is for the log, which takes no batch without it: here it only
 * tells damage from records that were wrong from the start.
 * @throws TidelineError `malformed-batch` · `key-too-large` …
 */
const checkRecords = (batch: Buffer, limits: GatewayLimits): void => {
  checkBatchHeader(batch);
  try {
    validateRecords(batch, limits);
  } catch (error) {
    checkBatch(batch);
    throw error;
  }
};

interface PartitionRecords {
  readonly partition: number;
  readonly records: readonly RecordInput[];
  /** Where each was in the request. */
  readonly indexes: readonly number[];
}

/** The view has applied the record and it had no effect. */
const refusal = (result: ApplyResult, offset: Offset): TidelineError => {
  const code = isErrorCode(result.code) ? result.code : 'bad-request';
  return new TidelineError(code, result.message === '' ? `the write had no effect: ${result.code}` : result.message, {
    outcome: 'rejected',
    details: { offset, entryOffset: result.entryOffset },
  });
};

/** @throws TidelineError `bad-request` */
export const checkIdempotencyKey = (key: unknown, name: string): string | null => {
  if (key === undefined || key === null) return null;
  if (typeof key === 'string' && key !== '' && Buffer.byteLength(key) <= IDEMPOTENCY_KEY_BYTES_MAX) return key;
  throw new TidelineError('bad-request', `${name} has 1 to ${IDEMPOTENCY_KEY_BYTES_MAX} bytes`, {
    details: { parameter: name },
  });
};
