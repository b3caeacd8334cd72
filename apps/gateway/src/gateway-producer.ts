import { BatchingProducer } from '#client';
import { asOffset, toTidelineError, type Offset } from '#kernel';
import type { Acks, AppendResult, CommandLog, Target } from '#command-log';
import type { RecordInput } from '#wire';
import type { GatewayLimits, GatewayTime } from './gateway-options.js';
import type { ProducedRecords, RecordProducer } from './write-path.js';

/** Acks none may come without offsets. */
const shift = (firstOffset: Offset, by: number): Offset =>
  firstOffset === 0 ? firstOffset : asOffset(firstOffset + by);

/** The SDK's batching producer over the command log itself: requests that come while a batch is in flight share the next one. */
export class GatewayProducer implements RecordProducer {
  private readonly producer: BatchingProducer;

  constructor(log: CommandLog, limits: GatewayLimits, time: GatewayTime) {
    this.producer = new BatchingProducer(log, { ...time, timeoutMs: limits.writeTimeoutMs });
  }

  append(target: Target, records: readonly RecordInput[], acks: Acks): Promise<ProducedRecords> {
    return new Promise((resolve, reject) => {
      const last = records.length - 1;
      const done = (error: Error | null, receipt: AppendResult | null, index: number): void => {
        if (receipt === null) {
          reject(toTidelineError(error));
          return;
        }
        const { firstOffset, logTime, term, node } = receipt;
        resolve({
          firstOffset: shift(firstOffset, index),
          lastOffset: shift(firstOffset, index + last),
          logTime,
          term,
          node,
        });
      };
      if (last === 0) this.producer.send(target, records[0], acks, done);
      else this.producer.sendAll(target, records, acks, done);
    });
  }

  close(): Promise<void> {
    return this.producer.close();
  }
}
