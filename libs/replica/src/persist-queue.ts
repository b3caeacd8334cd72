import { NO_NODE, asOffset, assert, type NodeId, type Offset, type Term } from '#kernel';
import type { DurableState, PartitionLog, PersistRequest } from '#storage';

/** What one `ready()` asks to make durable. */
export interface PersistUnit {
  readonly number: number;
  readonly install: PersistRequest['install'];
  readonly hardState: { readonly term: Term; readonly vote: NodeId } | null;
  readonly truncateAfter: Offset | null;
  readonly batches: readonly Uint8Array[];
}

interface Gathered {
  number: number;
  readonly install: PersistRequest['install'];
  hardState: { readonly term: Term; readonly vote: NodeId } | null;
  readonly truncateAfter: Offset | undefined;
  readonly batches: Uint8Array[];
  /** Called when it is durable, before anybody else hears of it. */
  readonly after?: () => void;
}

/**
 * Group commit: one persist is in flight, what gathers meanwhile goes out as one.
 *
 * Units are merged as long as that keeps their meaning: within a request install, state and truncation come before the batches, so a unit that
 * installs or truncates begins a request of its own. A state that comes early does no harm: a term or vote that is durable before the
 * entries gathered with it promises nothing to anybody.
 */
export class PersistQueue {
  private readonly waiting: Gathered[] = [];
  private inFlight = 0;
  private lastGiven = 0;
  /** Units up to this number are durable. */
  durable = 0;
  private startedAt = 0;
  private savedCommit: Offset;
  /** Nothing is written any more: the log failed or is being closed. */
  private stopped = false;
  private hardState: { readonly term: Term; readonly vote: NodeId };
  private voteToWrite: { readonly term: Term; readonly vote: NodeId } | null = null;

  constructor(
    private readonly log: PartitionLog,
    private readonly options: {
      /** A lower bound of the commit offset that is durable here. */
      readonly commit: () => Offset;
      readonly monotonicMs: () => number;
      readonly persisted: (number: number, elapsedMs: number) => void;
      readonly failed: (error: Error) => void;
      /** See ReplicaMutants. */
      readonly mutantVoteWrittenLater?: boolean;
    },
  ) {
    this.savedCommit = log.state.commit;
    this.hardState = log.state;
  }

  stop(): void {
    this.stopped = true;
  }

  /** Number that messages wait for which depend on all given so far. */
  get given(): number {
    return this.lastGiven;
  }

  /** Takes it on; nothing is written before `begin`. */
  add(unit: PersistUnit): void {
    assert(unit.number > this.lastGiven, 'persist units are numbered upwards');
    this.lastGiven = unit.number;
    const last = this.waiting[this.waiting.length - 1];
    if (last !== undefined && unit.install === undefined && unit.truncateAfter === null) {
      last.number = unit.number;
      last.hardState = unit.hardState ?? last.hardState;
      for (const batch of unit.batches) last.batches.push(batch);
    } else {
      this.waiting.push({
        number: unit.number,
        install: unit.install,
        hardState: unit.hardState,
        truncateAfter: unit.truncateAfter ?? undefined,
        batches: unit.batches as Uint8Array[],
      });
    }
  }

  /** Something has been added that is not being written yet. */
  get isWaiting(): boolean {
    return this.waiting.length > 0 && !this.stopped;
  }

  /** What has been added is written, now or when the write in flight has ended. `atOnce`: see PersistRequest; `persisted` may be called before this returns. */
  begin(atOnce = false): void {
    this.pump(atOnce);
  }

  /** Saves how far the log is committed, when nothing else is going on and it has moved. */
  saveCommit(): void {
    if (this.inFlight !== 0 || this.stopped || this.options.commit() <= this.savedCommit) return;
    this.waiting.push({
      number: this.lastGiven,
      install: undefined,
      hardState: null,
      truncateAfter: undefined,
      batches: [],
    });
    this.pump();
  }

  /** Puts a state in place of the beginning of the log, behind all that has been asked for. Not the core's doing: it has no number. */
  replacePrefix(install: NonNullable<PersistRequest['install']>, after: () => void): void {
    assert(install.keepSuffix, 'only what is committed is replaced');
    this.waiting.push({
      number: this.lastGiven,
      install,
      hardState: null,
      truncateAfter: undefined,
      batches: [],
      after,
    });
    this.pump();
  }

  private pump(atOnce = false): void {
    if (this.inFlight !== 0 || this.stopped) return;
    const next = this.waiting.shift();
    if (next === undefined) return;
    const { install, hardState, truncateAfter, batches } = next;
    // The commit offset goes along with every write; the log saves it when it finds time.
    if (hardState !== null) this.hardState = hardState;
    if (hardState !== null && hardState.vote !== NO_NODE && this.options.mutantVoteWrittenLater === true) {
      this.hardState = { term: hardState.term, vote: NO_NODE };
      this.waiting.unshift({
        number: next.number,
        install: undefined,
        hardState: null,
        truncateAfter: undefined,
        batches: [],
      });
      this.voteToWrite = hardState;
    } else if (this.voteToWrite !== null && hardState === null) {
      this.hardState = this.voteToWrite;
      this.voteToWrite = null;
    }
    const commit = asOffset(Math.max(this.options.commit(), install?.offset ?? 0));
    const state: DurableState = { term: this.hardState.term, vote: this.hardState.vote, commit };
    this.savedCommit = commit;
    this.inFlight = 1;
    this.startedAt = this.options.monotonicMs();
    this.log.persist({ install, state, truncateAfter, batches, atOnce }, (error) => {
      this.inFlight = 0;
      if (error !== null) {
        this.stopped = true;
        this.options.failed(error);
        return;
      }
      this.durable = next.number;
      next.after?.();
      const elapsed = this.options.monotonicMs() - this.startedAt;
      this.pump();
      this.options.persisted(next.number, elapsed);
    });
  }
}
