import type { LogTime, NodeId, Offset, Term } from '#kernel';

/** What a producer appends through: a connection to gateways in the SDK, the command log itself in a gateway. */

/** applied: quorum, and the answer carries what the view made of each record. */
export type ProducerAcks = 'none' | 'leader' | 'quorum' | 'applied';

export interface AppendTarget {
  readonly topic: string;
  readonly partition: number;
}

/** Where a batch is in the log. The record with index i of the batch has offset firstOffset + i. */
export interface AppendReceipt {
  readonly firstOffset: Offset;
  readonly lastOffset: Offset;
  readonly logTime: LogTime;
  readonly term: Term;
  readonly node: NodeId;
  /** It had been appended before, by an attempt whose answer got lost. */
  readonly duplicate: boolean;
}

export interface BatchOptions<Acks extends ProducerAcks> {
  readonly acks: Acks;
  readonly timeoutMs: number;
  /** Called before the receipt comes, if by then nobody looks at the batch any more: its memory may be used again. */
  readonly released?: () => void;
}

/**
 * Follows leaders and repeats what may be repeated, until `timeoutMs`; errors are final and say by their outcome whether the batch may
 * still be in the log. Batches of one session may be given while others are under way; the log puts them in order by their sequence.
 */
export interface AppendPort<
  Acks extends ProducerAcks = Exclude<ProducerAcks, 'applied'>,
  Receipt extends AppendReceipt = AppendReceipt,
> {
  /** It tells when batches are released. Any other port may keep their bytes for good, as a log does. */
  readonly releasesBatches?: true;
  append(target: AppendTarget, batch: Buffer, options: BatchOptions<Acks>): Promise<Receipt>;
  openSession(target: AppendTarget): Promise<number>;
}
