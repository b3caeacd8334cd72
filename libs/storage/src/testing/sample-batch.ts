import { asLogTime, asOffset, asTerm, type GroupId, type Offset } from '#kernel';
import { batchLastOffset, encodeBatch, stampBatch } from '#wire';

export interface SampleBatch {
  readonly group: GroupId;
  readonly firstOffset: number;
  readonly term?: number;
  readonly logTime?: number;
  readonly records?: number;
  /** Of each record's value. */
  readonly valueBytes?: number;
  /** Tells batches of the same place apart. */
  readonly salt?: number;
}

/** A stamped batch for tests. Its values hold no zero byte, so that a lost sector shows. */
export const sampleBatch = (sample: SampleBatch): Buffer => {
  const { group, firstOffset, term = 1, logTime = 1000 + firstOffset, records = 1, valueBytes = 40, salt = 0 } = sample;
  const batch = encodeBatch(
    Array.from({ length: records }, (_, i) => ({
      key: Buffer.from(`key-${firstOffset + i}`),
      value: Buffer.alloc(valueBytes, `value ${firstOffset + i} ${term} ${salt} `),
    })),
    { createTime: 1 },
  );
  stampBatch(batch, { firstOffset: asOffset(firstOffset), term: asTerm(term), logTime: asLogTime(logTime), group });
  return batch;
};

/** Consecutive batches of one record each, or as many as `records` says. */
export const sampleBatches = (count: number, sample: SampleBatch): Buffer[] => {
  const batches: Buffer[] = [];
  let next: Offset = asOffset(sample.firstOffset);
  for (let i = 0; i < count; i++) {
    const batch = sampleBatch({ ...sample, firstOffset: next });
    batches.push(batch);
    next = asOffset(batchLastOffset(batch) + 1);
  }
  return batches;
};
