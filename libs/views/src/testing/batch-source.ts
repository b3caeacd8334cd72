import { asGroupId, asLogTime, asOffset, asTerm, hashKey, slotOf } from '#kernel';
import { BatchBuilder, ControlKind, encodeControlBatch, stampBatch, type RecordInput } from '#wire';

/** Batches as a log would give them: stamped with rising offsets and log times. */
export class BatchSource {
  nextOffset = 1;
  /** One for all batches: it knows from the last how much room the next takes, so that making them leaves little garbage where turns are measured. */
  private readonly builder = new BatchBuilder(() => this.logTime);

  constructor(public logTime = 1_000_000) {}

  records(records: readonly RecordInput[]): Buffer {
    for (const record of records) this.builder.add(record);
    return this.stamp(this.builder.finish(), records.length);
  }

  beacon(): Buffer {
    return this.stamp(encodeControlBatch(ControlKind.Beacon, new Uint8Array(0), this.logTime), 1);
  }

  private stamp(batch: Buffer, offsets: number): Buffer {
    stampBatch(batch, {
      firstOffset: asOffset(this.nextOffset),
      term: asTerm(1),
      logTime: asLogTime(this.logTime),
      group: asGroupId(1),
    });
    this.nextOffset += offsets;
    return batch;
  }
}

/** Keys that all live in one slot, so that few of them fill its index and chunks. */
export const keysOfSlot = (slot: number, count: number): Buffer[] => {
  const keys: Buffer[] = [];
  for (let n = 0; keys.length < count; n++) {
    const key = Buffer.from(`key-${n}`);
    if (slotOf(hashKey(key)) === slot) keys.push(key);
  }
  return keys;
};
