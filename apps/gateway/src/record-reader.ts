import { TidelineError, asLogTime, asOffset, type Offset } from '#kernel';
import { batchIsControl, batchLastOffset, decodeRecords, forEachBatch, type LogRecord } from '#wire';
import type { CommandLog, FetchResult, Target } from '#command-log';
import type { GatewayTime } from './gateway-options.js';
import type { StreamStart } from './stream-position.js';
import { partitionOfTopic, type TopicDirectory } from './topic-directory.js';

export interface RecordPage {
  readonly records: readonly LogRecord[];
  /** Where to go on. */
  readonly nextOffset: Offset;
  readonly commitOffset: Offset;
  readonly logStartOffset: Offset;
}

/** Whether a batch has a record at or after `from`. */
export const batchConcerns = (batches: Buffer, at: number, from: Offset): boolean =>
  !batchIsControl(batches, at) && batchLastOffset(batches, at) >= from;

/** Committed records of one partition, page by page. */
export class RecordReader {
  constructor(
    private readonly parts: { readonly log: CommandLog; readonly topics: TopicDirectory; readonly time: GatewayTime },
  ) {}

  /** The first offset a reader that starts there wants. @throws (rejects) `unknown-topic` · `unknown-partition` */
  async startOffset(target: Target, start: StreamStart): Promise<Offset> {
    const partition = partitionOfTopic(await this.parts.topics.topic(target.topic), target.partition);
    switch (start.kind) {
      case 'latest': {
        const barrier = await this.parts.log.barrier(target);
        return asOffset(barrier.offset + 1);
      }
      case 'time':
        return this.parts.log.offsetAtTime(target, asLogTime(start.time));
      case 'offset':
        if (start.offset > 0) return start.offset;
      // falls through: offset 0 is before every log
      case 'earliest':
        return asOffset(Math.max(1, partition.logStartOffset));
    }
  }

  /**
   * Up to `limit` records; waits up to `waitMs` for the first. `earliest` goes to the log's start also when that has moved meanwhile.
   * @throws (rejects) `offset-out-of-range` …
   */
  async read(
    target: Target,
    start: StreamStart,
    options: { readonly limit: number; readonly maxBytes: number; readonly waitMs: number },
  ): Promise<RecordPage> {
    const { clock } = this.parts.time;
    const deadline = clock.monotonicMs() + options.waitMs;
    let from = await this.startOffset(target, start);
    const fromStart = start.kind === 'earliest' || (start.kind === 'offset' && start.offset === 0);
    for (;;) {
      const maxWaitMs = Math.max(0, Math.round(deadline - clock.monotonicMs()));
      let fetched: FetchResult;
      try {
        fetched = await this.parts.log.fetch(target, from, { maxBytes: options.maxBytes, maxWaitMs });
      } catch (error) {
        const moved = fromStart ? newLogStart(error, from) : null;
        if (moved === null) throw error;
        from = moved;
        continue;
      }
      const page = pageOf(fetched, from, options.limit);
      // Control batches alone are no answer as long as there is more or time to wait.
      const goOn = page.nextOffset <= page.commitOffset ? page.nextOffset > from : clock.monotonicMs() < deadline;
      if (page.records.length > 0 || !goOn) return page;
      from = page.nextOffset;
    }
  }
}

/** Where a log begins that has been trimmed beyond what its description said. */
export const newLogStart = (error: unknown, from: Offset): Offset | null => {
  if (!(error instanceof TidelineError) || error.code !== 'offset-out-of-range') return null;
  const { logStartOffset } = error.details;
  return typeof logStartOffset === 'number' && logStartOffset > from ? asOffset(logStartOffset) : null;
};

const pageOf = (fetched: FetchResult, from: Offset, limit: number): RecordPage => {
  const { batches, commitOffset, logStartOffset } = fetched;
  const records: LogRecord[] = [];
  let { nextOffset } = fetched;
  forEachBatch(batches, (at) => {
    if (records.length >= limit || !batchConcerns(batches, at, from)) return;
    for (const record of decodeRecords(batches, at)) {
      if (record.offset < from) continue;
      if (records.length < limit) records.push(record);
    }
  });
  if (records.length >= limit) nextOffset = asOffset(records[records.length - 1].offset + 1);
  return { records, nextOffset, commitOffset, logStartOffset };
};
