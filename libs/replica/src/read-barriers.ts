import { asOffset, type LogTime, type NodeId, type Offset, type Term, type TidelineError } from '#kernel';

/** What a read must wait for, and the time it reads at. */
export interface BarrierPoint {
  readonly offset: Offset;
  readonly time: LogTime;
  readonly term: Term;
  /** The node that led. */
  readonly node: NodeId;
}

/** Exactly one of the two is null. */
export type BarrierCallback = (error: TidelineError | null, barrier: BarrierPoint | null) => void;

/** Callers that share one read request. */
export interface SharedBarrier {
  /** Number of the read request. */
  readonly id: number;
  readonly time: LogTime;
  /** Every batch with a log time before `time` ends at or below it: it must be committed before the time may be told. */
  readonly waitOffset: Offset;
  /** What Raft answered; null until then. */
  readOffset: Offset | null;
  readonly callers: readonly BarrierCallback[];
}

/**
 * Barriers on their way. A turn's callers share one read request, and none joins a request made before it came, because the proof of
 * leadership must begin after the question.
 *
 *     ask ──► gathering ── end of turn: requestRead ──► asked ── Raft proved the leader ──► proved ── waitOffset committed ──► answered
 */
export class ReadBarriers {
  private gathering: BarrierCallback[] = [];
  /** In order of their ids, which is also that of time and waitOffset. */
  private readonly shared: SharedBarrier[] = [];
  private nextId = 1;

  get isGathering(): boolean {
    return this.gathering.length > 0;
  }

  get size(): number {
    let size = this.gathering.length;
    for (const barrier of this.shared) size += barrier.callers.length;
    return size;
  }

  ask(caller: BarrierCallback): void {
    this.gathering.push(caller);
  }

  /** Makes one of all that gathered. */
  begin(time: LogTime, waitOffset: Offset): SharedBarrier {
    const barrier = { id: this.nextId++, time, waitOffset, readOffset: null, callers: this.gathering };
    this.gathering = [];
    this.shared.push(barrier);
    return barrier;
  }

  proved(id: number, offset: Offset): void {
    for (const barrier of this.shared) if (barrier.id === id) barrier.readOffset = offset;
  }

  /** Takes the next one that can be answered at this commit offset. */
  takeReady(commit: Offset): SharedBarrier | null {
    const first = this.shared[0];
    if (first === undefined || first.readOffset === null || first.waitOffset > commit) return null;
    this.shared.shift();
    return first;
  }

  /** All callers of all stages; none are left. */
  takeAll(): BarrierCallback[] {
    const callers = this.shared.flatMap((barrier) => barrier.callers);
    callers.push(...this.gathering);
    this.gathering = [];
    this.shared.length = 0;
    return callers;
  }

  /** The offset of the answer: what was read, and what the time stands on. */
  static offsetOf(barrier: SharedBarrier): Offset {
    return asOffset(Math.max(barrier.readOffset ?? 0, barrier.waitOffset));
  }
}
