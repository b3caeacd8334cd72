import {
  AssertionFailure,
  TidelineError,
  asOffset,
  assert,
  systemClock,
  systemScheduler,
  type Clock,
  type GroupId,
  type LogTime,
  type Offset,
  type Scheduler,
  type Term,
} from '#kernel';
import {
  batchControlPayload,
  batchFirstOffset,
  batchGroup,
  batchIsControl,
  batchLastOffset,
  batchLength,
  batchLogTime,
  batchTerm,
  BATCH_HEADER_BYTES,
  forEachBatch,
} from '#wire';
import { listCheckpointsSync, readCheckpointSync, writeCheckpoint } from './checkpoint-file.js';
import type { DiskCallback, FileSystem } from './file-system.js';
import { walkFrames } from './frame-walk.js';
import { OffsetIndex, indexPath } from './offset-index.js';
import { PARTITION_LOG_DEFAULTS, type PartitionLogOptions } from './partition-log-options.js';
import type {
  Checkpoint,
  DurableState,
  PartitionLog,
  PersistRequest,
  RecoveryFinding,
  TermStartInLog,
} from './partition-log.js';
import { rebuildIndex, recoverPartition, type DamagedRange } from './recovery.js';
import { FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, encodeFrame, frameBatchLength, frameCrc } from './segment-format.js';
import { rewriteDamaged } from './segment-repair.js';
import { scanSegment, type SegmentScan } from './segment-scan.js';
import { readSegment, type SegmentReadRequest } from './segment-read.js';
import { SegmentWriter } from './segment-writer.js';
import { Segment } from './segment.js';
import type { StateFile } from './state-file.js';
import { TailCache } from './tail-cache.js';

/** Sealed segments whose files stay open for readers. */
const OPEN_SEALED_MAX = 8;
/** Sealed segments whose index stays in memory. */
const LOADED_INDEXES_MAX = 64;
/** One writev takes at most 1024 buffers, two per batch: frame and batch. */
const BATCHES_PER_WRITE_MAX = 512;
const FREE_SPACE_CHECK_MS = 1000;
/** A read that does not check out is tried again: with a fresh index, then with a scanned segment. */
const READ_ATTEMPTS_MAX = 3;
/** Bytes looked at in one step when an offset is sought by time. */
const TIME_SEARCH_BYTES = 64 * 1024;

export interface OpenPartitionLog {
  readonly fs: FileSystem;
  /** The partition's own folder; created when missing (its parent must exist). */
  readonly directory: string;
  readonly group: GroupId;
  readonly clock?: Clock;
  readonly scheduler?: Scheduler;
  readonly options?: Partial<PartitionLogOptions>;
}

/**
 * Opens the log of a partition and brings it back to order if the process or machine stopped in the middle of something.
 * @throws TidelineError `storage-damaged` (the hard state is lost) | `unsupported-version`
 */
export const openPartitionLog = (request: OpenPartitionLog): PartitionLog => new SegmentedLog(request);

interface Persisting {
  readonly request: PersistRequest;
  readonly done: DiskCallback;
  /** Index of the next batch to write. */
  next: number;
}

/**
 * A partition's folder:
 *
 *     state                        hard state, two alternating slots                      state-file.ts
 *     %020d.log                    segments, named by their first offset                  segment-format.ts
 *     %020d.index, .timeindex      caches beside sealed segments                          offset-index.ts
 *     %020d.checkpoint             the last two checkpoints                               checkpoint-file.ts
 *     %020d.POSITION.torn          tails that recovery cut, for whoever wants to look
 *     *.tmp                        not finished; removed when the log is opened
 *
 * How things become durable, step by step, each durable before the next begins, so that recovery finds one of the states between:
 *
 *     append     one write of frames and batches into the last segment
 *     roll       footer · cut to size and sync · new segment aside, renamed, folder synced
 *     truncate   state with `truncateAfter` · later segments removed, the last one cut and synced · state without it
 *     install    checkpoint · state with the new base (and, without suffix, a `minIncarnation` that kills all segments) · files removed
 *     trim       state with the new base · files removed, oldest first
 *     repair     the damaged segment written anew aside · renamed over it, folder synced
 */
class SegmentedLog implements PartitionLog {
  readonly group: GroupId;
  readonly findings: RecoveryFinding[];
  damaged: DamagedRange[];

  private readonly fs: FileSystem;
  private readonly directory: string;
  private readonly clock: Clock;
  private readonly scheduler: Scheduler;
  private readonly options: PartitionLogOptions;
  private readonly stateFile: StateFile;
  private readonly tail: TailCache;
  private segments: Segment[];
  private starts: TermStartInLog[] = [];
  private writer: SegmentWriter | null = null;
  private current: DurableState;
  private persisting: Persisting | null = null;
  /** Within the call of `persist`. */
  private starting = false;
  /** Waits for the persist in flight to end. */
  private readonly afterPersist: (() => void)[] = [];
  private failure: Error | null = null;
  private closing = false;
  private readsInFlight = 0;
  private onReadsDone: (() => void) | null = null;
  /** Rises whenever bytes that were part of the log stop being so: a read begun before may have seen them go. */
  private epoch = 0;
  private useCounter = 0;
  private cancelWatermark: (() => void) | null = null;
  private freeCheckedAt = -Infinity;
  private lowOnSpace = false;

  constructor({ fs, directory, group, clock, scheduler, options }: OpenPartitionLog) {
    this.fs = fs;
    this.directory = directory;
    this.group = group;
    this.clock = clock ?? systemClock;
    this.scheduler = scheduler ?? systemScheduler;
    this.options = { ...PARTITION_LOG_DEFAULTS, ...options };
    const recovered = recoverPartition({
      fs,
      directory,
      group,
      indexIntervalBytes: this.options.indexIntervalBytes,
      validate: this.options.validate,
      truncateOnAnyDamage: this.options.mutantTruncateOnAnyDamage,
    });
    this.stateFile = recovered.stateFile;
    this.segments = recovered.segments;
    this.findings = recovered.findings;
    this.damaged = recovered.damaged;
    this.tail = new TailCache(this.options.tailCacheBytes);
    const { record } = this.stateFile;
    this.current = { term: record.term, vote: record.vote, commit: record.commit };
    this.clipDamage();
    this.rebuildStarts();
  }

  /* ---- what there is ---- */

  get state(): DurableState {
    return this.current;
  }

  get baseOffset(): Offset {
    return this.stateFile.record.baseOffset;
  }

  get baseTerm(): Term {
    return this.stateFile.record.baseTerm;
  }

  private get last(): Segment | null {
    const last = this.segments[this.segments.length - 1];
    return last !== undefined && last.lastOffset > this.stateFile.record.baseOffset ? last : null;
  }

  get lastOffset(): Offset {
    return this.last?.lastOffset ?? this.stateFile.record.baseOffset;
  }

  get lastTerm(): Term {
    return this.last?.lastTerm ?? this.stateFile.record.baseTerm;
  }

  get lastLogTime(): LogTime {
    return this.last?.lastLogTime ?? this.stateFile.record.baseLogTime;
  }

  get termStarts(): readonly TermStartInLog[] {
    return this.starts;
  }

  get segmentCount(): number {
    return this.segments.length;
  }

  get byteLength(): number {
    let bytes = 0;
    for (const segment of this.segments) bytes += segment.dataEnd;
    return bytes;
  }

  get nearlyFull(): boolean {
    const now = this.clock.monotonicMs();
    if (now - this.freeCheckedAt >= FREE_SPACE_CHECK_MS) {
      this.freeCheckedAt = now;
      this.lowOnSpace = this.fs.freeBytesSync(this.directory) < this.options.reserveBytes;
    }
    return this.lowOnSpace;
  }

  private rebuildStarts(): void {
    const { baseOffset } = this.stateFile.record;
    this.starts = [];
    for (const segment of this.segments) {
      if (segment.lastOffset <= baseOffset) continue;
      for (const start of segment.termStarts) this.noteTerm(start.term, start.firstOffset);
    }
  }

  private noteTerm(term: Term, offset: Offset): void {
    const firstOffset = asOffset(Math.max(offset, this.stateFile.record.baseOffset + 1));
    const last = this.starts[this.starts.length - 1];
    if (last && last.term === term) return;
    if (last && last.firstOffset === firstOffset) this.starts[this.starts.length - 1] = { term, firstOffset };
    else this.starts.push({ term, firstOffset });
  }

  /** Damage that lies outside the log by now is none. */
  private clipDamage(): void {
    const first = asOffset(this.baseOffset + 1);
    this.damaged = this.damaged
      .filter(({ toOffset }) => toOffset === null || toOffset > first)
      .map(({ fromOffset, toOffset }) => ({ fromOffset: asOffset(Math.max(fromOffset, first)), toOffset }));
  }

  private get tailIsDamaged(): boolean {
    return this.damaged.length > 0 && this.damaged[this.damaged.length - 1].toOffset === null;
  }

  /* ---- persist ---- */

  persist(request: PersistRequest, done: DiskCallback): void {
    assert(this.persisting === null, 'one persist is in flight');
    assert(!this.closing, 'nothing is persisted after close');
    if (this.failure) {
      const { failure } = this;
      this.scheduler.defer(() => done(failure));
      return;
    }
    this.checkRequest(request);
    this.persisting = { request, done, next: 0 };
    this.starting = true;
    this.guarded(() => (request.install ? this.install(request.install) : this.persistState()));
    this.starting = false;
  }

  /** The caller's part of the contract, before anything is touched. */
  private checkRequest({ install, state, truncateAfter, batches }: PersistRequest): void {
    assert(!state || state.term >= this.current.term, 'the term does not go back');
    let end: number = this.lastOffset;
    if (install && !(install.keepSuffix && install.offset <= end)) end = install.offset;
    if (truncateAfter !== undefined) {
      assert(truncateAfter >= (install?.offset ?? this.baseOffset), 'the log is not cut below its base');
      end = Math.min(end, truncateAfter);
    }
    for (const batch of batches) {
      assert(
        batchLength(batch) === batch.length && batchGroup(batch) === this.group,
        'batches are whole and of this group',
      );
      assert(batchFirstOffset(batch) === end + 1, 'batches continue the log');
      end = batchLastOffset(batch);
    }
  }

  /** Whatever goes wrong with the disk ends this log; a broken contract ends the caller. */
  private guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      this.fail(error as Error);
    }
  }

  private readonly fail = (error: Error): void => {
    this.failure ??= error;
    this.cancelWatermark?.();
    this.cancelWatermark = null;
    if (this.persisting) this.finish();
  };

  /** `refusal`: nothing was done and nothing is broken. Never calls back before `persist` has returned. */
  private finish(refusal: Error | null = null): void {
    if (this.starting) {
      this.scheduler.defer(() => this.finish(refusal));
      return;
    }
    if (!this.persisting) return;
    const { done } = this.persisting;
    this.persisting = null;
    for (const waiting of this.afterPersist.splice(0)) waiting();
    done(this.failure ?? refusal);
  }

  private next(error: Error | null, step: () => void): void {
    if (error) this.fail(error);
    else if (this.failure) this.fail(this.failure);
    else this.guarded(step);
  }

  private install({ offset, term, logTime, keepSuffix, state }: NonNullable<PersistRequest['install']>): void {
    writeCheckpoint(this.fs, this.directory, this.group, { offset, term, bytes: state }, (error) =>
      this.next(error, () => {
        const { record } = this.stateFile;
        const keeps = keepSuffix && offset <= this.lastOffset;
        record.baseOffset = offset;
        record.baseTerm = term;
        record.baseLogTime = logTime;
        record.durable = asOffset(keeps ? Math.max(record.durable, offset) : offset);
        if (!keeps) {
          record.minIncarnation = record.nextIncarnation;
          record.truncateAfter = null;
        }
        this.adoptState();
        this.stateFile.save((error) =>
          this.next(error, () => this.afterIdleWriter(() => this.dropReplaced(keeps, () => this.persistState()))),
        );
      }),
    );
  }

  private dropReplaced(keeps: boolean, then: () => void): void {
    this.epoch++;
    let gone: Segment[];
    if (keeps) {
      const { baseOffset } = this.stateFile.record;
      const keptFrom = this.segments.findIndex(
        (segment, i) => i === this.segments.length - 1 || segment.lastOffset > baseOffset,
      );
      gone = this.segments.splice(0, keptFrom);
      this.clipDamage();
    } else {
      this.writer?.closeSync();
      this.writer = null;
      gone = this.segments.splice(0);
      this.tail.clear();
      this.damaged = [];
    }
    this.remove(gone);
    this.rebuildStarts();
    then();
  }

  private remove(segments: readonly Segment[]): void {
    for (const segment of segments) {
      segment.retire();
      segment.unlinkSync(this.fs);
    }
    if (segments.length > 0) this.fs.syncDirectorySync(this.directory);
  }

  /** Takes the request's state into the record; returns whether it must be durable before what follows. */
  private adoptState(): boolean {
    const state = this.persisting!.request.state;
    if (!state) return false;
    const { record } = this.stateFile;
    const mustSave = state.term !== record.term || state.vote !== record.vote;
    this.current = state;
    record.term = state.term;
    record.vote = state.vote;
    this.noteCommit();
    return mustSave;
  }

  /** The saved commit offset is never above what is durable. */
  private noteCommit(): void {
    const { record } = this.stateFile;
    record.commit = asOffset(Math.max(record.commit, Math.min(this.current.commit, record.durable)));
  }

  private persistState(): void {
    const { truncateAfter } = this.persisting!.request;
    const mustSave = this.adoptState();
    if (truncateAfter !== undefined) {
      const cuts = truncateAfter < this.lastOffset || (truncateAfter === this.lastOffset && this.tailIsDamaged);
      if (cuts) return this.truncate(truncateAfter);
    }
    if (!mustSave) {
      if (this.persisting!.request.state) this.saveLater();
      return this.append();
    }
    this.stateFile.save((error) => this.next(error, () => this.append()));
  }

  /* ---- truncation ---- */

  private truncate(after: Offset): void {
    const { record } = this.stateFile;
    record.truncateAfter = after;
    record.durable = asOffset(Math.min(record.durable, after));
    this.stateFile.save((error) =>
      this.next(error, () =>
        this.afterIdleWriter(() => {
          this.epoch++;
          this.tail.truncateAfter(after);
          this.cutSegments(after, () => {
            record.truncateAfter = null;
            this.rebuildStarts();
            this.stateFile.save((error) => this.next(error, () => this.append()));
          });
        }),
      ),
    );
  }

  private cutSegments(after: Offset, then: () => void): void {
    const keep = this.segments.filter((segment) => segment.base <= after).length;
    const gone = this.segments.splice(keep).toReversed();
    if (gone.length > 0) {
      this.writer?.closeSync();
      this.writer = null;
      this.remove(gone);
    }
    const wasDamaged = this.tailIsDamaged;
    this.damaged = this.damaged.filter(({ fromOffset }) => fromOffset <= after);
    const last = this.segments[keep - 1];
    if (!last || (last.lastOffset <= after && !wasDamaged)) return then();
    const cut = last.lastOffset > after ? this.shorten(last, after) : last;
    if (cut.sealed) return then();
    this.ensureWriter(cut).cut(cut.dataEnd, (error) => this.next(error, then));
  }

  /** The segment as it is when the frames after `after` are gone; a sealed one becomes writable again. */
  private shorten(segment: Segment, after: Offset): Segment {
    const index = this.indexOf(segment);
    const file = segment.openSync(this.fs);
    const from = index.positionAtOrBelow(after) ?? SEGMENT_HEADER_BYTES;
    let dropped = 0;
    const kept = {
      end: SEGMENT_HEADER_BYTES,
      chain: -1,
      offset: asOffset(segment.base - 1),
      term: segment.previousTerm,
      time: segment.previousLogTime,
    };
    const position = walkFrames(file, segment, { from, to: segment.dataEnd }, (bytes, at, position) => {
      const batchAt = at + FRAME_HEADER_BYTES;
      if (batchFirstOffset(bytes, batchAt) > after) {
        dropped++;
        return true;
      }
      kept.end = position + FRAME_HEADER_BYTES + frameBatchLength(bytes, at);
      kept.chain = frameCrc(bytes, at);
      kept.offset = batchLastOffset(bytes, batchAt);
      kept.term = batchTerm(bytes, batchAt);
      kept.time = batchLogTime(bytes, batchAt);
      return true;
    });
    assert(kept.offset <= after, 'the walk looks at no frame that stays behind the cut');
    if (kept.offset < after) {
      const isBetween = position >= segment.dataEnd || dropped > 0;
      assert(!isBetween, 'the log is cut between batches');
      throw this.damagedError(after);
    }
    const target = segment.sealed ? this.reopen(segment) : segment;
    target.dataEnd = kept.end;
    target.chain = kept.chain;
    target.lastOffset = kept.offset;
    target.lastTerm = kept.term;
    target.lastLogTime = kept.time;
    target.batches -= dropped;
    target.termStarts = segment.termStarts.filter((start) => start.firstOffset <= after);
    target.index = index;
    index.truncateAfter(after);
    target.forgetCursors();
    return target;
  }

  /** A fresh handle for a sealed segment that is written again; readers of the old one finish undisturbed. */
  private reopen(segment: Segment): Segment {
    const open = segment.copy();
    open.sealed = false;
    this.segments[this.segments.indexOf(segment)] = open;
    segment.retire();
    return open;
  }

  /* ---- appending ---- */

  private append(): void {
    const persisting = this.persisting!;
    const { batches } = persisting.request;
    if (persisting.next === batches.length) return this.finish();
    if (this.tailIsDamaged) {
      const message = `group ${this.group}: the end of the log is damaged; repair it before appending`;
      return this.finish(new TidelineError('storage-damaged', message));
    }
    const last = this.segments[this.segments.length - 1];
    if (!last || last.sealed || !this.fits(last.dataEnd, batches[persisting.next])) return this.roll();

    const writer = this.ensureWriter(last);
    const start = last.dataEnd;
    let end = persisting.next;
    let position = start;
    const most = Math.min(batches.length, end + BATCHES_PER_WRITE_MAX);
    while (end < most && this.fits(position, batches[end])) {
      position += FRAME_HEADER_BYTES + batches[end++].length;
    }
    const count = end - persisting.next;
    const headers = Buffer.allocUnsafe(FRAME_HEADER_BYTES * count);
    const buffers: Uint8Array[] = [];
    const place = {
      group: this.group,
      base: last.base,
      incarnation: last.incarnation,
      position: start,
      writeStart: start,
      previous: 0,
    };
    for (let i = 0; i < count; i++) {
      const batch = batches[persisting.next + i];
      place.position = last.dataEnd;
      place.previous = last.chain;
      const at = i * FRAME_HEADER_BYTES;
      const crc = encodeFrame(headers, at, batch, place);
      buffers.push(headers.subarray(at, at + FRAME_HEADER_BYTES), batch);
      this.noteTerm(batchTerm(batch), batchFirstOffset(batch));
      last.appended(batch, crc);
      this.tail.add(batch);
    }
    persisting.next = end;
    writer.write(buffers, start, position - start, this.onWritten);
  }

  private readonly onWritten = (error: Error | null): void => {
    if (error || this.failure) return this.next(error, () => undefined);
    const { record } = this.stateFile;
    record.durable = this.lastOffset;
    this.noteCommit();
    this.tail.trim(record.durable);
    this.saveLater();
    this.append();
  };

  /** Whether a batch may stand at `position`; the first of a segment always may. */
  private fits(position: number, batch: Uint8Array): boolean {
    const isFirst = position === SEGMENT_HEADER_BYTES;
    return isFirst || position + FRAME_HEADER_BYTES + batch.length <= this.options.segmentBytes;
  }

  private ensureWriter(segment: Segment): SegmentWriter {
    if (this.writer?.segment !== segment) {
      this.writer?.closeSync();
      this.writer = new SegmentWriter(this.fs, segment, this.options, this.fail);
    }
    return this.writer!;
  }

  private afterIdleWriter(then: () => void): void {
    if (this.writer) this.writer.whenNotFilling(() => this.next(null, then));
    else then();
  }

  private roll(): void {
    const old = this.segments[this.segments.length - 1];
    const begin = (): void => {
      const { record } = this.stateFile;
      const start = {
        group: this.group,
        base: asOffset(this.lastOffset + 1),
        incarnation: record.nextIncarnation++,
        previousTerm: this.lastTerm,
        previousLogTime: this.lastLogTime,
      };
      this.segments.push(Segment.createSync(this.fs, this.directory, start, this.options.indexIntervalBytes));
      this.append();
    };
    if (!old || old.sealed) return begin();
    const writer = this.ensureWriter(old);
    writer.seal((error) =>
      this.next(error, () => {
        old.sealed = true;
        writer.closeSync();
        this.writer = null;
        this.saveIndex(old);
        this.limitOpenSegments();
        begin();
      }),
    );
  }

  /** Commit and watermark, some time soon. */
  private saveLater(): void {
    if (this.cancelWatermark || this.closing || this.failure) return;
    this.cancelWatermark = this.scheduler.after(this.options.watermarkDelayMs, () => {
      this.cancelWatermark = null;
      if (this.failure) return;
      this.stateFile.save((error) => {
        if (error) this.fail(error);
      });
    });
  }

  /* ---- indexes and handles ---- */

  private saveIndex(segment: Segment): void {
    try {
      segment.index?.saveSync(this.fs, segment.path, segment);
    } catch {
      // A cache: made again when it is missed.
    }
  }

  private indexOf(segment: Segment): OffsetIndex {
    segment.lastUse = ++this.useCounter;
    if (segment.index) return segment.index;
    segment.index = OffsetIndex.loadSync(this.fs, segment.path, segment, this.options.indexIntervalBytes);
    if (segment.index === null) {
      rebuildIndex({ fs: this.fs, group: this.group, indexIntervalBytes: this.options.indexIntervalBytes }, segment);
      this.findings.push({ kind: 'index-rebuilt', file: indexPath(segment.path) });
    }
    const loaded = this.segments.filter((other) => other.sealed && other.index !== null && other !== segment);
    if (loaded.length >= LOADED_INDEXES_MAX) leastUsed(loaded).index = null;
    return segment.index!;
  }

  private limitOpenSegments(): void {
    const open = this.segments.filter((segment) => segment.sealed && segment.isOpen && !segment.isBusy);
    if (open.length > OPEN_SEALED_MAX) leastUsed(open).closeSync();
  }

  /** The segment that holds `offset`; the last one that begins at or below it. */
  private segmentFor(offset: Offset): number {
    let low = 0;
    let high = this.segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.segments[middle].base <= offset) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /* ---- reading ---- */

  read(request: SegmentReadRequest, done: ReadCallback): void {
    this.readAttempt(request, 1, done);
  }

  private readAttempt(request: SegmentReadRequest, attempt: number, done: ReadCallback): void {
    const { from } = request;
    const answer = (error: Error | null, batches: Buffer): void => this.scheduler.defer(() => done(error, batches));
    if (from <= this.baseOffset) {
      const details = { logStart: this.baseOffset + 1, lastOffset: this.lastOffset };
      return answer(
        new TidelineError('offset-out-of-range', `offset ${from} is below the log start ${details.logStart}`, {
          details,
        }),
        EMPTY,
      );
    }
    let to = asOffset(Math.min(request.to, this.lastOffset));
    if (this.damaged.length > 0) {
      if (
        this.damaged.some((range) => range.fromOffset <= from && (range.toOffset === null || from < range.toOffset))
      ) {
        return answer(this.damagedError(from), EMPTY);
      }
      for (const range of this.damaged) if (range.fromOffset > from) to = asOffset(Math.min(to, range.fromOffset - 1));
    }
    if (from > to) return answer(null, EMPTY);
    if (from >= this.tail.firstOffset) return answer(null, this.tail.read(from, to, request.bytesMax));
    this.readFromDisk({ from, to, bytesMax: request.bytesMax }, attempt, done);
  }

  private damagedError(offset: Offset): TidelineError {
    return new TidelineError('storage-damaged', `group ${this.group}: offset ${offset} is damaged on this node`, {
      details: { group: this.group, offset },
    });
  }

  private readFromDisk(request: SegmentReadRequest, attempt: number, done: ReadCallback): void {
    const segment = this.segments[this.segmentFor(request.from)];
    const { epoch } = this;
    this.readsInFlight++;
    const finish = (error: Error | null, batches: Buffer): void => {
      this.readsInFlight--;
      done(error, batches);
      if (this.readsInFlight === 0 && this.onReadsDone) {
        const then = this.onReadsDone;
        this.onReadsDone = null;
        then();
      }
    };
    let file;
    try {
      this.indexOf(segment);
      file = segment.acquire(this.fs);
    } catch (error) {
      this.scheduler.defer(() => finish(error as Error, EMPTY));
      return;
    }
    readSegment(file, segment, request, this.options.indexIntervalBytes, (error, result) => {
      segment.release();
      if (segment.sealed) this.limitOpenSegments();
      if (error) return finish(error, EMPTY);
      if (result && 'batches' in result) return finish(null, result.batches);
      if (attempt >= READ_ATTEMPTS_MAX) return finish(this.damagedError(request.from), EMPTY);
      // First the log may have changed under the read, or a cursor or the index may be wrong. If that is not it, it is the segment.
      segment.forgetCursors();
      if (this.epoch === epoch) {
        if (attempt > 1) this.noteDamage(segment);
        else if (segment.sealed) segment.index = null;
      }
      this.readAttempt(request, attempt + 1, finish);
    });
  }

  /** A read met damage: the whole segment is looked at, so that the owner knows what to repair and readers find their way around it. */
  private noteDamage(segment: Segment): SegmentScan {
    const index = new OffsetIndex(this.options.indexIntervalBytes);
    const file = this.fs.openSync(segment.path, { readOnly: true });
    try {
      const scan = scanSegment(file, {
        group: this.group,
        base: segment.base,
        stopAfter: segment.lastOffset,
        visit: (frame) =>
          index.add(batchFirstOffset(frame.bytes, frame.batchAt), frame, batchLogTime(frame.bytes, frame.batchAt)),
      });
      segment.index = index;
      for (const gap of scan.gaps) {
        const toOffset = asOffset(Math.min(gap.toOffset ?? segment.lastOffset + 1, segment.lastOffset + 1));
        const { fromOffset, position, reason } = gap;
        if (fromOffset >= toOffset || this.damaged.some((range) => range.fromOffset === fromOffset)) continue;
        this.findings.push({ kind: 'corruption', file: segment.path, position, fromOffset, toOffset, reason });
        this.damaged = [...this.damaged, { fromOffset, toOffset }].sort((a, b) => a.fromOffset - b.fromOffset);
      }
      return scan;
    } finally {
      file.closeSync();
    }
  }

  offsetAtTime(time: LogTime, done: (error: Error | null, offset: Offset) => void): void {
    const after = asOffset(this.lastOffset + 1);
    const at = this.segments.findIndex(
      (segment) => segment.lastOffset > this.baseOffset && segment.lastLogTime >= time,
    );
    if (at < 0) return this.scheduler.defer(() => done(null, after));
    const start = this.indexOf(this.segments[at]).offsetBefore(time) ?? this.segments[at].base;
    const search = (from: Offset): void => {
      if (from > this.lastOffset) return done(null, from);
      this.read({ from, to: this.lastOffset, bytesMax: TIME_SEARCH_BYTES }, (error, batches) => {
        if (error) return done(error, from);
        let found: Offset | null = null;
        let next = from;
        forEachBatch(batches, (batchAt) => {
          if (found === null && batchLogTime(batches, batchAt) >= time) found = batchFirstOffset(batches, batchAt);
          next = asOffset(batchLastOffset(batches, batchAt) + 1);
        });
        if (found !== null) done(null, found);
        else if (next === from) done(null, after);
        else search(next);
      });
    };
    search(asOffset(Math.max(start, this.baseOffset + 1)));
  }

  scanHeadersSync(from: Offset, visit: (header: Buffer, controlPayload: Buffer | null) => void): void {
    const start = asOffset(Math.max(from, this.baseOffset + 1));
    if (start > this.lastOffset) return;
    for (let i = Math.max(this.segmentFor(start), 0); i < this.segments.length; i++) {
      const segment = this.segments[i];
      const index = this.indexOf(segment);
      const file = segment.acquire(this.fs);
      try {
        let position = index.positionAtOrBelow(start) ?? SEGMENT_HEADER_BYTES;
        while (position < segment.dataEnd) {
          position = walkFrames(file, segment, { from: position, to: segment.dataEnd }, (bytes, at) => {
            const batchAt = at + FRAME_HEADER_BYTES;
            if (batchLastOffset(bytes, batchAt) < start) return true;
            const isControl = batchIsControl(bytes, batchAt);
            const length = isControl ? frameBatchLength(bytes, at) : BATCH_HEADER_BYTES;
            const header = bytes.subarray(batchAt, batchAt + length);
            visit(header, isControl ? (batchControlPayload(header) as Buffer) : null);
            return true;
          });
          if (position >= segment.dataEnd) break;
          // Damage: reported when the log was opened or now, and passed over.
          const gap = this.noteDamage(segment).gaps.find(({ resumesAt }) => resumesAt !== null && resumesAt > position);
          if (!gap) break;
          position = gap.resumesAt!;
        }
      } finally {
        segment.release();
      }
      this.limitOpenSegments();
    }
  }

  /* ---- housekeeping ---- */

  trimBefore(offset: Offset): void {
    let count = 0;
    while (count < this.segments.length - 1 && this.segments[count].lastOffset < offset) count++;
    if (count === 0 || this.failure) return;
    const first = this.segments[count];
    const { record } = this.stateFile;
    const gone = this.segments.splice(0, count);
    if (first.base - 1 > record.baseOffset) {
      record.baseOffset = asOffset(first.base - 1);
      record.baseTerm = first.previousTerm;
      record.baseLogTime = first.previousLogTime;
    }
    this.clipDamage();
    this.rebuildStarts();
    this.stateFile.save((error) => this.next(error, () => this.remove(gone)));
  }

  saveCheckpoint(checkpoint: Checkpoint, done: DiskCallback): void {
    if (this.failure) {
      const { failure } = this;
      return this.scheduler.defer(() => done(failure));
    }
    writeCheckpoint(this.fs, this.directory, this.group, checkpoint, (error) => {
      if (error) this.fail(error);
      done(error);
    });
  }

  get checkpoints(): readonly Checkpoint[] {
    const good: Checkpoint[] = [];
    for (const offset of listCheckpointsSync(this.fs, this.directory)) {
      if (offset > this.lastOffset) continue;
      const checkpoint = readCheckpointSync(this.fs, this.directory, this.group, offset);
      if (typeof checkpoint !== 'string') good.push(checkpoint);
    }
    return good;
  }

  repair(batches: readonly Uint8Array[], done: DiskCallback): void {
    const run = (): void => {
      if (this.failure) return done(this.failure);
      let error: Error | null = null;
      try {
        this.repairSync(batches);
      } catch (failure) {
        error = failure as Error;
        if (!(error instanceof TidelineError)) this.fail(error);
      }
      done(error);
    };
    const whenIdle = (): void => (this.writer ? this.writer.whenNotFilling(run) : run());
    if (this.persisting) this.afterPersist.push(whenIdle);
    else this.scheduler.defer(whenIdle);
  }

  private repairSync(batches: readonly Uint8Array[]): void {
    const range =
      batches.length > 0
        ? this.damaged.find((each) => each.fromOffset === batchFirstOffset(batches[0]))
        : this.damaged.at(-1);
    if (!range)
      throw new TidelineError('bad-request', `group ${this.group}: no damaged range begins at the first batch`);
    const rewritten = rewriteDamaged(
      { fs: this.fs, directory: this.directory, group: this.group, intervalBytes: this.options.indexIntervalBytes },
      {
        segments: this.segments,
        range,
        batches,
        nextIncarnation: this.stateFile.record.nextIncarnation++,
        base: { term: this.baseTerm, logTime: this.stateFile.record.baseLogTime },
      },
    );
    this.epoch++;
    this.tail.clear();
    if (this.writer && this.writer.segment === rewritten.replaced) {
      this.writer.closeSync();
      this.writer = null;
    }
    rewritten.replaced?.retire();
    this.segments = rewritten.segments;
    this.damaged = this.damaged.flatMap((each) => (each === range ? rewritten.remaining : [each]));
    const { record } = this.stateFile;
    if (range.toOffset === null) {
      record.truncateAfter = null;
      record.durable = this.lastOffset;
      this.stateFile.saveSync();
    }
    this.rebuildStarts();
  }

  close(done: () => void): void {
    assert(!this.closing, 'a log is closed once');
    this.closing = true;
    this.cancelWatermark?.();
    this.cancelWatermark = null;
    const closeAll = (): void => {
      this.writer?.closeSync();
      for (const segment of this.segments) segment.retire();
      this.stateFile.closeSync();
      done();
    };
    const save = (): void => {
      if (this.failure) this.stateFile.whenIdle(closeAll);
      else this.stateFile.save(() => this.stateFile.whenIdle(closeAll));
    };
    const reads = (): void => {
      if (this.readsInFlight === 0) save();
      else this.onReadsDone = save;
    };
    const fills = (): void => (this.writer ? this.writer.whenNotFilling(reads) : reads());
    if (this.persisting) this.afterPersist.push(fills);
    else this.scheduler.defer(fills);
  }
}

type ReadCallback = (error: Error | null, batches: Buffer) => void;

const EMPTY = Buffer.alloc(0);

const leastUsed = (segments: readonly Segment[]): Segment =>
  segments.reduce((least, segment) => (segment.lastUse < least.lastUse ? segment : least));
