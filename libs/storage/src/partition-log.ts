import type { GroupId, LogTime, NodeId, Offset, Term } from '#kernel';

/** Term, vote and a commit watermark: one durable record. */
export interface DurableState {
  readonly term: Term;
  readonly vote: NodeId;
  /** Lower bound of the commit offset; may be saved late, is never above what is durable. */
  readonly commit: Offset;
}

/** One unit that becomes durable as a whole or, after a crash, up to a batch boundary. Carried out in the order of the fields. */
export interface PersistRequest {
  /** Replaces the log up to `offset` (Raft snapshot install). Without keepSuffix everything after it goes too. */
  readonly install?: {
    readonly offset: Offset;
    readonly term: Term;
    readonly logTime: LogTime;
    readonly keepSuffix: boolean;
    readonly state: Uint8Array;
  };
  readonly state?: DurableState;
  /** Cut the log after this offset. */
  readonly truncateAfter?: Offset;
  /** Whole stamped batches, consecutive offsets. Kept by reference until done; not copied. */
  readonly batches: readonly Uint8Array[];
  /**
   * With an installation or a cut: what `batches` hold up to here may have been acknowledged by this node before. A crash that leaves less of
   * them leaves a log that is damaged at its end, not a shorter one.
   */
  readonly promisedUpTo?: Offset;
  /**
   * The caller has nothing better to do than to wait: the log may write before `persist` returns, if it is told and finds that to be quick
   * (loop-writes.ts), and `done` may be called before that.
   */
  readonly atOnce?: boolean;
}

/** A state of the log's readers at an offset (sessions, log time, configuration), so that opening need not scan the whole log. */
export interface Checkpoint {
  /** Everything up to here is in the state. */
  readonly offset: Offset;
  readonly term: Term;
  readonly bytes: Buffer;
}

/** What recovery found. */
export type RecoveryFinding =
  | {
      readonly kind: 'torn-tail';
      readonly file: string;
      readonly position: number;
      readonly bytes: number;
      readonly savedAs: string;
    }
  | { readonly kind: 'index-rebuilt'; readonly file: string }
  /** A segment's header or footer was damaged and could be made again from what surrounds it. */
  | { readonly kind: 'metadata-rebuilt'; readonly file: string; readonly reason: string }
  | {
      readonly kind: 'corruption';
      readonly file: string;
      readonly position: number;
      readonly fromOffset: Offset;
      /** First good offset after the damage; null when none is known. */
      readonly toOffset: Offset | null;
      readonly reason: string;
    };

export interface TermStartInLog {
  readonly term: Term;
  readonly firstOffset: Offset;
}

/**
 * The log of one partition on this node: a folder. One `persist` in flight at a time.
 * Contract suite: partition-log.conformance.ts.
 */
export interface PartitionLog {
  readonly group: GroupId;
  readonly state: DurableState;
  /** Last offset and term no longer in the log; {0, 0} for a whole log. */
  readonly baseOffset: Offset;
  readonly baseTerm: Term;
  /** Last offset written (durable once its persist is done). */
  readonly lastOffset: Offset;
  readonly lastTerm: Term;
  /** Log time of the last batch; of the base when there is none. */
  readonly lastLogTime: LogTime;
  readonly termStarts: readonly TermStartInLog[];
  readonly findings: readonly RecoveryFinding[];
  /** Damaged ranges that must be repaired before this node may vote or ack for them. */
  readonly damaged: readonly { readonly fromOffset: Offset; readonly toOffset: Offset | null }[];
  readonly segmentCount: number;
  readonly byteLength: number;

  /**
   * `done(null)`: durable. `done(error)`: the log is unusable from now on and refuses everything; the owner ends the process.
   * ENOSPC is announced earlier by `nearlyFull`. While the end of the log is damaged, batches are refused with `storage-damaged`;
   * state, install and truncation are not, and the log stays usable.
   */
  persist(request: PersistRequest, done: (error: Error | null) => void): void;
  /** Whether the volume has less room than the reserve; proposals are then refused. Cheap: looked up at most once a second. */
  readonly nearlyFull: boolean;

  /**
   * Whole batches from the one that contains `from`, at most `bytesMax` bytes but at least one batch; up to and including offset `to`.
   * Empty when `from` is above the end. Checksums are verified.
   * Errors: `offset-out-of-range` (below the start), `storage-damaged`.
   */
  read(
    request: { readonly from: Offset; readonly to: Offset; readonly bytesMax: number },
    done: (error: Error | null, batches: Buffer) => void,
  ): void;
  /** Offset of the first batch whose log time is ≥ time; lastOffset + 1 when there is none. */
  offsetAtTime(time: LogTime, done: (error: Error | null, offset: Offset) => void): void;
  /**
   * Headers (72 bytes each) of all batches from the one containing `from`, in order; synchronous, used while opening. For a control batch
   * `header` is the whole batch, so that `batchControlKind(header)` works, and `controlPayload` what follows its kind.
   * Damaged batches are passed over. The buffers are only valid during the call.
   */
  scanHeadersSync(from: Offset, visit: (header: Buffer, controlPayload: Buffer | null) => void): void;

  /** Lets go of whole segments that end below `offset`. The base moves to the last batch let go. */
  trimBefore(offset: Offset): void;
  /** Keeps the last two. */
  saveCheckpoint(checkpoint: Checkpoint, done: (error: Error | null) => void): void;
  /** Newest first; only such as are whole and at or below lastOffset. */
  readonly checkpoints: readonly Checkpoint[];
  /**
   * Replaces a damaged range, whole, by good batches from a peer; `done` when durable. A range without an end (`toOffset` null) is closed
   * by what is given: batches up to the commit offset learned from a leader elected since, or none if nothing was promised beyond.
   * Errors: `bad-request` (no range begins there, or it is not covered), `malformed-batch`; the log stays usable.
   */
  repair(batches: readonly Uint8Array[], done: (error: Error | null) => void): void;
  /** Waits for what is in flight. */
  close(done: () => void): void;
}
