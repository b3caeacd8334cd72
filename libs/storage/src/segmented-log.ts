import {
  AssertionFailure,
  BATCH_BYTES_MAX,
  NO_NODE,
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
import { batchFirstOffset, batchGroup, batchLastOffset, batchLength, batchTerm } from '#wire';
import { listCheckpointsSync, readCheckpointSync, writeCheckpoint } from './checkpoint-file.js';
import { Damage } from './damage.js';
import type { DiskCallback, FileSystem } from './file-system.js';
import type { LoopWrites } from './loop-writes.js';
import { LogReader, type ReadCallback } from './log-reader.js';
import { PARTITION_LOG_DEFAULTS, type PartitionLogOptions } from './partition-log-options.js';
import type {
  Checkpoint,
  DurableState,
  PartitionLog,
  PersistRequest,
  RecoveryFinding,
  TermStartInLog,
} from './partition-log.js';
import { recoverPartition, type DamagedRange } from './recovery.js';
import { FRAME_HEADER_BYTES, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, encodeFrame } from './segment-format.js';
import { SegmentList } from './segment-list.js';
import type { SegmentReadRequest } from './segment-read.js';
import { rewriteDamaged } from './segment-repair.js';
import { SegmentWriter } from './segment-writer.js';
import { Segment } from './segment.js';
import type { StateFile } from './state-file.js';
import { TailCache } from './tail-cache.js';

/** One writev takes at most 1024 buffers, two per batch: frame and batch. */
const BATCHES_PER_WRITE_MAX = 512;
const FREE_SPACE_CHECK_MS = 1000;
/** A segment may be longer than asked by one batch that fits nowhere, and by its footer. */
const SEGMENT_BYTES_LIMIT = SEGMENT_BYTES_MAX - 2 * BATCH_BYTES_MAX;
export interface OpenPartitionLog {
  readonly fs: FileSystem;
  /** The partition's own folder; created when missing (its parent must exist). */
  readonly directory: string;
  readonly group: GroupId;
  readonly clock?: Clock;
  readonly scheduler?: Scheduler;
  /** What decides whether the event loop makes a write itself that may be `atOnce`; without it none. Shared by all logs of a disk. */
  readonly loopWrites?: LoopWrites;
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
  private readonly fs: FileSystem;
  private readonly directory: string;
  private readonly clock: Clock;
  private readonly scheduler: Scheduler;
  private readonly options: PartitionLogOptions;
  private readonly loopWrites: LoopWrites | null;
  private readonly stateFile: StateFile;
  private readonly tail: TailCache;
  private readonly segments: SegmentList;
  private readonly damage: Damage;
  private readonly reader: LogReader;
  private starts: TermStartInLog[] = [];
  private writer: SegmentWriter | null = null;
  private current: DurableState;
  private persisting: Persisting | null = null;
  /** Within the call of `persist`. */
  private starting = false;
  /** What was asked for came to its end within that call. */
  private ended: { readonly refusal: Error | null } | null = null;
  private repairing = false;
  /** Waits for the persist or repair in flight to end. */
  private readonly whenQuiet: (() => void)[] = [];
  private failure: Error | null = null;
  private closing = false;
  private cancelWatermark: (() => void) | null = null;
  private freeCheckedAt = -Infinity;
  private lowOnSpace = false;

  constructor({ fs, directory, group, clock, scheduler, options, loopWrites }: OpenPartitionLog) {
    this.fs = fs;
    this.directory = directory;
    this.group = group;
    this.clock = clock ?? systemClock;
    this.scheduler = scheduler ?? systemScheduler;
    this.options = { ...PARTITION_LOG_DEFAULTS, ...options };
    this.loopWrites = loopWrites ?? null;
    assert(this.options.segmentBytes <= SEGMENT_BYTES_LIMIT, 'positions in a segment are 32-bit numbers');
    const recovered = recoverPartition({
      fs,
      directory,
      group,
      indexIntervalBytes: this.options.indexIntervalBytes,
      validate: this.options.validate,
      truncateOnAnyDamage: this.options.mutantTruncateOnAnyDamage,
    });
    this.stateFile = recovered.stateFile;
    this.damage = new Damage(group, recovered.findings, recovered.damaged);
    const { indexIntervalBytes } = this.options;
    this.segments = new SegmentList({ fs, directory, group, indexIntervalBytes }, this.damage, recovered.segments);
    this.tail = new TailCache(this.options.tailCacheBytes);
    const { segments, damage, tail } = this;
    this.reader = new LogReader({
      fs,
      scheduler: this.scheduler,
      segments,
      damage,
      tail,
      extent: this,
      indexIntervalBytes,
    });
    const { record } = this.stateFile;
    this.current = { term: record.term, vote: record.vote, commit: record.commit };
    this.damage.startAt(asOffset(record.baseOffset + 1));
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

  /** Up to here it would survive a crash now. */
  get durableOffset(): Offset {
    return this.stateFile.record.durable;
  }

  get findings(): readonly RecoveryFinding[] {
    return this.damage.findings;
  }

  get damaged(): readonly DamagedRange[] {
    return this.damage.ranges;
  }

  private get last(): Segment | null {
    const { last } = this.segments;
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
    return this.segments.all.length;
  }

  get byteLength(): number {
    return this.segments.byteLength;
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
    for (const segment of this.segments.all) {
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
    if (this.repairing) {
      this.whenQuiet.push(() => this.persist(request, done));
      return;
    }
    this.checkRequest(request);
    this.persisting = { request, done, next: 0 };
    this.starting = true;
    this.guarded(() => (request.install ? this.install(request.install) : this.persistState()));
    this.starting = false;
    const { ended } = this;
    if (ended === null) return;
    this.ended = null;
    if (request.atOnce === true) this.finish(ended.refusal);
    else this.scheduler.defer(() => this.finish(ended.refusal));
  }

  /** The caller's part of the contract, before anything is touched. */
  private checkRequest({ install, state, truncateAfter, batches, promisedUpTo }: PersistRequest): void {
    assert(!state || state.term >= this.current.term, 'the term does not go back');
    let end: number = this.lastOffset;
    if (install && !(install.keepSuffix && install.offset <= end)) end = install.offset;
    if (truncateAfter !== undefined) {
      assert(truncateAfter >= (install?.offset ?? this.baseOffset), 'the log is not cut below its base');
      end = Math.min(end, truncateAfter);
    }
    for (const batch of batches) {
      assert(batch.length <= BATCH_BYTES_MAX, 'a batch has at most BATCH_BYTES_MAX bytes');
      assert(
        batchLength(batch) === batch.length && batchGroup(batch) === this.group,
        'batches are whole and of this group',
      );
      assert(batchFirstOffset(batch) === end + 1, 'batches continue the log');
      end = batchLastOffset(batch);
    }
    assert((promisedUpTo ?? 0) <= end, 'what is promised is in the request');
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

  /** `refusal`: nothing was done and nothing is broken. */
  private finish(refusal: Error | null = null): void {
    if (this.starting) {
      this.ended = { refusal };
      return;
    }
    if (!this.persisting) return;
    const { done } = this.persisting;
    this.persisting = null;
    for (const waiting of this.whenQuiet.splice(0)) waiting();
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
        record.durable = asOffset(Math.max(keeps ? record.durable : 0, offset, this.promised));
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
    const { segments, damage } = this;
    const { baseOffset } = this.stateFile.record;
    segments.epoch++;
    let gone: Segment[];
    if (keeps) {
      const isKept = (segment: Segment): boolean => segment === segments.last || segment.lastOffset > baseOffset;
      gone = segments.all.splice(0, segments.all.findIndex(isKept));
      damage.startAt(asOffset(baseOffset + 1));
    } else {
      this.dropWriter();
      gone = segments.all.splice(0);
      this.tail.clear();
      damage.clear();
    }
    segments.removeFiles(gone);
    this.rebuildStarts();
    then();
  }

  /** Takes the request's state into the record; returns whether it must be durable before what follows. */
  private adoptState(): boolean {
    const state = this.persisting!.request.state;
    if (!state) return false;
    const { record } = this.stateFile;
    const mustSave = state.term !== record.term || state.vote !== record.vote;
    this.current = state;
    record.term = state.term;
    record.vote = this.options.mutantForgetVote ? NO_NODE : state.vote;
    this.noteCommit();
    return mustSave;
  }

  /** What the request under way owes: the watermark is there before the batches are. */
  private get promised(): Offset {
    return this.persisting?.request.promisedUpTo ?? asOffset(0);
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
      const cuts = truncateAfter < this.lastOffset || (truncateAfter === this.lastOffset && this.damage.isOpenEnded);
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
    record.durable = asOffset(Math.max(Math.min(record.durable, after), this.promised));
    this.stateFile.save((error) =>
      this.next(error, () =>
        this.afterIdleWriter(() => {
          this.segments.epoch++;
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
    const { segments, damage } = this;
    const keep = segments.all.filter((segment) => segment.base <= after).length;
    const gone = segments.all.splice(keep).toReversed();
    if (gone.length > 0) this.dropWriter();
    segments.removeFiles(gone);
    const wasOpenEnded = damage.isOpenEnded;
    damage.cutAfter(after);
    const { last } = segments;
    if (!last || (last.lastOffset <= after && !wasOpenEnded)) return then();
    const cut = last.lastOffset > after ? segments.shorten(last, after) : last;
    if (cut.sealed) return then();
    this.ensureWriter(cut).cut(cut.dataEnd, (error) => this.next(error, then));
  }

  /* ---- appending ---- */

  private append(): void {
    const persisting = this.persisting!;
    const { batches } = persisting.request;
    if (persisting.next === batches.length) return this.finish();
    if (this.damage.isOpenEnded) {
      const message = `group ${this.group}: the end of the log is damaged; repair it before appending`;
      return this.finish(new TidelineError('storage-damaged', message));
    }
    const { last } = this.segments;
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
    const atOnce = this.starting && persisting.request.atOnce === true;
    writer.write({ buffers, position: start, length: position - start }, this.onWritten, atOnce);
  }

  private readonly onWritten = (error: Error | null): void => {
    if (error || this.failure) return this.next(error, () => undefined);
    const { record } = this.stateFile;
    record.durable = asOffset(Math.max(this.lastOffset, this.promised));
    this.noteCommit();
    this.tail.trim(this.lastOffset);
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
      this.dropWriter();
      this.writer = new SegmentWriter(this.fs, segment, this.options, this.fail, this.loopWrites);
    }
    return this.writer!;
  }

  private dropWriter(): void {
    this.writer?.closeSync();
    this.writer = null;
  }

  private afterIdleWriter(then: () => void): void {
    if (this.writer) this.writer.whenNotFilling(() => this.next(null, then));
    else then();
  }

  private roll(): void {
    const old = this.segments.last;
    const begin = (): void => {
      const { record } = this.stateFile;
      const start = {
        group: this.group,
        base: asOffset(this.lastOffset + 1),
        incarnation: record.nextIncarnation++,
        previousTerm: this.lastTerm,
        previousLogTime: this.lastLogTime,
      };
      this.segments.all.push(Segment.createSync(this.fs, this.directory, start, this.options.indexIntervalBytes));
      this.append();
    };
    if (!old || old.sealed) return begin();
    const writer = this.ensureWriter(old);
    writer.seal((error) =>
      this.next(error, () => {
        old.sealed = true;
        this.dropWriter();
        this.segments.saveIndex(old);
        this.segments.limitOpen();
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

  /* ---- reading ---- */

  read(request: SegmentReadRequest, done: ReadCallback): void {
    this.reader.read(request, done);
  }

  offsetAtTime(time: LogTime, done: (error: Error | null, offset: Offset) => void): void {
    this.reader.offsetAtTime(time, done);
  }

  scanHeadersSync(from: Offset, visit: (header: Buffer, controlPayload: Buffer | null) => void): void {
    this.reader.scanHeadersSync(from, visit);
  }

  /* ---- housekeeping ---- */

  trimBefore(offset: Offset): void {
    const { all } = this.segments;
    let count = 0;
    while (count < all.length - 1 && all[count].lastOffset < offset) count++;
    if (count === 0 || this.failure) return;
    const first = all[count];
    const { record } = this.stateFile;
    const gone = all.splice(0, count);
    if (first.base - 1 > record.baseOffset) {
      record.baseOffset = asOffset(first.base - 1);
      record.baseTerm = first.previousTerm;
      record.baseLogTime = first.previousLogTime;
    }
    this.damage.startAt(asOffset(record.baseOffset + 1));
    this.rebuildStarts();
    this.stateFile.save((error) => this.next(error, () => this.segments.removeFiles(gone)));
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
      let error = this.failure;
      try {
        if (!error) this.repairSync(batches);
      } catch (failure) {
        error = failure as Error;
        if (!(error instanceof TidelineError)) this.fail(error);
      }
      this.repairing = false;
      for (const waiting of this.whenQuiet.splice(0)) waiting();
      done(error);
    };
    const begin = (): void => {
      if (this.persisting || this.repairing) {
        this.whenQuiet.push(begin);
        return;
      }
      this.repairing = true;
      if (this.writer) this.writer.whenNotFilling(run);
      else run();
    };
    this.scheduler.defer(begin);
  }

  private repairSync(batches: readonly Uint8Array[]): void {
    const { segments, damage } = this;
    const { record } = this.stateFile;
    const range =
      batches.length > 0
        ? damage.ranges.find((each) => each.fromOffset === batchFirstOffset(batches[0]))
        : damage.ranges.find((each) => each.toOffset === null);
    if (!range) {
      throw new TidelineError('bad-request', `group ${this.group}: no damaged range begins at the first batch`);
    }
    const { fs, directory, group } = this;
    const rewritten = rewriteDamaged(
      { fs, directory, group, intervalBytes: this.options.indexIntervalBytes },
      {
        segments: segments.all,
        range,
        batches,
        nextIncarnation: record.nextIncarnation++,
        base: { term: this.baseTerm, logTime: record.baseLogTime },
      },
    );
    segments.epoch++;
    this.tail.clear();
    if (this.writer?.segment === rewritten.replaced) this.dropWriter();
    rewritten.replaced?.retire();
    segments.all = rewritten.segments;
    damage.replace(range, rewritten.remaining);
    // A file can be damaged once more between its first look and its repair.
    for (const missing of rewritten.missing) damage.met(missing);
    if (range.toOffset === null && !damage.isOpenEnded) {
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
      this.dropWriter();
      for (const segment of this.segments.all) segment.retire();
      this.stateFile.closeSync();
      done();
    };
    const save = (): void => {
      if (this.failure) this.stateFile.whenIdle(closeAll);
      else this.stateFile.save(() => this.stateFile.whenIdle(closeAll));
    };
    const begin = (): void => {
      if (this.persisting || this.repairing) this.whenQuiet.push(begin);
      else if (this.writer) this.writer.whenNotFilling(() => this.reader.whenIdle(save));
      else this.reader.whenIdle(save);
    };
    this.scheduler.defer(begin);
  }
}
