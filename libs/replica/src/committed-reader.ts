import { NO_OFFSET, TidelineError, asOffset, type LogTime, type Offset } from '#kernel';
import type { PartitionLog } from '#storage';
import { batchLastOffset, forEachBatch } from '#wire';
import { storageError } from './group-errors.js';
import type { ReadResult } from './group-host.js';
import type { RecentEntries } from './recent-entries.js';

const NO_BYTES = Buffer.alloc(0);

/** Reads of the part of a log that is committed and durable on this node: the end of it from memory, what lies before from disk. */
export class CommittedReader {
  constructor(
    private readonly log: PartitionLog,
    private readonly recent: RecentEntries,
    private readonly readable: () => Offset,
    private readonly damageMet: () => void,
  ) {}

  get logStartOffset(): Offset {
    return asOffset(this.log.baseOffset + 1);
  }

  read(
    { from, maxBytes }: { readonly from: Offset; readonly maxBytes: number },
    done: (error: TidelineError | null, result: ReadResult | null) => void,
  ): void {
    const { logStartOffset } = this;
    if (from < logStartOffset) {
      const message = `offset ${from} is below the log start ${logStartOffset}`;
      done(new TidelineError('offset-out-of-range', message, { details: { logStart: logStartOffset } }), null);
      return;
    }
    const to = this.readable();
    const recent = from > to ? NO_BYTES : this.recent.read(from, to, maxBytes);
    if (recent !== null) {
      done(null, this.resultOf(recent, from));
      return;
    }
    this.log.read({ from, to, bytesMax: maxBytes }, (error, batches) => {
      if (error === null) done(null, this.resultOf(batches, from));
      else {
        this.damageMet();
        done(storageError(error), null);
      }
    });
  }

  private resultOf(batches: Buffer, from: Offset): ReadResult {
    let nextOffset = from;
    forEachBatch(batches, (at) => {
      nextOffset = asOffset(batchLastOffset(batches, at) + 1);
    });
    return { batches, nextOffset, commitOffset: this.readable(), logStartOffset: this.logStartOffset };
  }

  offsetAtTime(time: LogTime, done: (error: TidelineError | null, offset: Offset) => void): void {
    this.log.offsetAtTime(time, (error, offset) => {
      if (error !== null) done(storageError(error), NO_OFFSET);
      else done(null, asOffset(Math.min(offset, this.readable() + 1)));
    });
  }
}
