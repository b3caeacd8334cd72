import { asGroupId, asLogTime, asOffset, asTerm, hashKey, slotOf } from '#kernel';
import { ControlKind, encodeBatch, encodeControlBatch, stampBatch, type RecordInput } from '#wire';

/** Batches as a log would give them: stamped with rising offsets and log times. */
export class BatchSource {
  nextOffset = 1;

  constructor(public logTime = 1_000_000) {}

  records(records: readonly RecordInput[]): Buffer {
    return this.stamp(encodeBatch(records, { createTime: this.logTime }), records.length);
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
