/** What may be set of a partition log; the defaults suit production. */
export interface PartitionLogOptions {
  /** A segment is sealed when the next batch would make it longer. */
  readonly segmentBytes: number;
  /** Zeros laid out ahead of the data: the first step of a segment, and the largest. 0 switches it off. */
  readonly preallocateFirstBytes: number;
  readonly preallocateBytes: number;
  /** About one index entry for as many bytes of frames. */
  readonly indexIntervalBytes: number;
  /** Recently appended batches kept in memory, by reference. */
  readonly tailCacheBytes: number;
  /** `nearlyFull` when the volume has less free. */
  readonly reserveBytes: number;
  /** After an append, commit offset and durable watermark are saved at the latest after this time. */
  readonly watermarkDelayMs: number;
  /** What opening reads in full: the last segment, or all. */
  readonly validate: 'tail' | 'all';
  /** Only for the simulator, which must catch it: cut the log at any bad checksum. */
  readonly mutantTruncateOnAnyDamage: boolean;
  /** Only for the simulator, which must catch it: the vote is not in the record that makes the term durable. */
  readonly mutantForgetVote: boolean;
}

export const PARTITION_LOG_DEFAULTS: PartitionLogOptions = {
  segmentBytes: 64 * 1024 * 1024,
  preallocateFirstBytes: 1024 * 1024,
  preallocateBytes: 4 * 1024 * 1024,
  indexIntervalBytes: 32 * 1024,
  tailCacheBytes: 4 * 1024 * 1024,
  reserveBytes: 128 * 1024 * 1024,
  watermarkDelayMs: 1000,
  validate: 'tail',
  mutantTruncateOnAnyDamage: false,
  mutantForgetVote: false,
};
