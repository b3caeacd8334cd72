import type { GroupId, LogTime, Offset, Term } from '#kernel';
import type { Checkpoint, DurableState, PartitionLog, PersistRequest, RecoveryFinding, TermStartInLog } from '#storage';

export interface LogObserver {
  persistBegins(request: PersistRequest): void;
  persistEnded(request: PersistRequest): void;
  trimmed(baseOffset: Offset): void;
  repaired(batches: readonly Uint8Array[]): void;
}

/** A production log with somebody who looks at what is asked of it and what it answers. */
export class ObservedLog implements PartitionLog {
  constructor(
    readonly inner: PartitionLog,
    private readonly observer: LogObserver,
  ) {}

  get group(): GroupId {
    return this.inner.group;
  }
  get state(): DurableState {
    return this.inner.state;
  }
  get baseOffset(): Offset {
    return this.inner.baseOffset;
  }
  get baseTerm(): Term {
    return this.inner.baseTerm;
  }
  get lastOffset(): Offset {
    return this.inner.lastOffset;
  }
  get lastTerm(): Term {
    return this.inner.lastTerm;
  }
  get lastLogTime(): LogTime {
    return this.inner.lastLogTime;
  }
  get termStarts(): readonly TermStartInLog[] {
    return this.inner.termStarts;
  }
  get findings(): readonly RecoveryFinding[] {
    return this.inner.findings;
  }
  get damaged(): PartitionLog['damaged'] {
    return this.inner.damaged;
  }
  get segmentCount(): number {
    return this.inner.segmentCount;
  }
  get byteLength(): number {
    return this.inner.byteLength;
  }
  get nearlyFull(): boolean {
    return this.inner.nearlyFull;
  }
  get checkpoints(): readonly Checkpoint[] {
    return this.inner.checkpoints;
  }

  persist(request: PersistRequest, done: (error: Error | null) => void): void {
    this.observer.persistBegins(request);
    this.inner.persist(request, (error) => {
      if (error === null) this.observer.persistEnded(request);
      done(error);
    });
  }

  read(request: Parameters<PartitionLog['read']>[0], done: Parameters<PartitionLog['read']>[1]): void {
    this.inner.read(request, done);
  }

  offsetAtTime(time: LogTime, done: (error: Error | null, offset: Offset) => void): void {
    this.inner.offsetAtTime(time, done);
  }

  scanHeadersSync(from: Offset, visit: (header: Buffer, controlPayload: Buffer | null) => void): void {
    this.inner.scanHeadersSync(from, visit);
  }

  trimBefore(offset: Offset): void {
    this.inner.trimBefore(offset);
    this.observer.trimmed(this.inner.baseOffset);
  }

  saveCheckpoint(checkpoint: Checkpoint, done: (error: Error | null) => void): void {
    this.inner.saveCheckpoint(checkpoint, done);
  }

  repair(batches: readonly Uint8Array[], done: (error: Error | null) => void): void {
    this.inner.repair(batches, (error) => {
      if (error === null) this.observer.repaired(batches);
      done(error);
    });
  }

  close(done: () => void): void {
    this.inner.close(done);
  }
}
