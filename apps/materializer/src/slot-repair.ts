import type { CommandLog, TailChunk, Target } from '#command-log';
import { TidelineError, asOffset, toTidelineError, type LoopShare, type Offset } from '#kernel';
import type { MapView, SlotDigests } from '#views';
import { BATCH_HEADER_BYTES, batchLastOffset, batchLength } from '#wire';
import type { Subscription } from 'rxjs';

/** Bytes applied in one turn of the event loop. */
const SLICE_BYTES = 256 * 1024;
const CREDIT_BYTES = 8 * 1024 * 1024;

/** What the slots must be at an offset for their source to be trusted. */
export interface DigestReference {
  readonly offset: Offset;
  /** Whether the slot may have this digest there. */
  accepts(slot: number, digests: SlotDigests): boolean;
}

/**
 * Builds slots of a view anew while the view goes on: another view of these slots alone, empty or from a snapshot, is fed from the log until it
 * is where the view is. In that turn the view takes them over. On the way they must be what the reference says.
 */
export class SlotRepair {
  private subscription: Subscription | null = null;
  private readonly chunks: TailChunk[] = [];
  private at = 0;
  private scheduled = false;
  private ended = false;
  private checked: boolean;

  constructor(
    private readonly options: {
      readonly log: CommandLog;
      readonly target: Target;
      /** Of the turns of the event loop. */
      readonly share: LoopShare;
      readonly view: MapView;
      readonly slots: readonly number[];
      /** Of these slots alone. */
      readonly shadow: MapView;
      readonly reference: DigestReference | null;
      /** The view has the slots, or why it has not. */
      readonly done: (error: TidelineError | null) => void;
    },
  ) {
    const { log, target, shadow, reference } = options;
    // What is taken from after the offset cannot be held against it.
    this.checked = reference === null || shadow.offset > reference.offset;
    this.subscription = log.tail(target, asOffset(shadow.offset + 1), { creditBytes: CREDIT_BYTES }).subscribe({
      next: (chunk) => {
        this.chunks.push(chunk);
        this.wake();
      },
      error: (error: unknown) => this.end(toTidelineError(error)),
      complete: () => this.end(new TidelineError('connection-lost', 'the log ended')),
    });
    this.wake();
  }

  /** How far it is. */
  get offset(): Offset {
    return this.options.shadow.offset;
  }

  /** The view has applied more, so that this may go on. */
  wake(): void {
    if (this.scheduled || this.ended) return;
    this.scheduled = true;
    this.options.share.run(this.work);
  }

  private readonly work = (): void => {
    this.scheduled = false;
    if (this.ended) return;
    const { view, shadow, slots, reference } = this.options;
    let budget = SLICE_BYTES;
    // Where it began from may be at the reference already, and the log at its end.
    if (!this.isAsItMust()) return;
    while (this.chunks.length > 0 && budget > 0) {
      const chunk = this.chunks[0];
      const limit = this.checked ? view.offset : asOffset(Math.min(view.offset, reference!.offset));
      const until = endWithin(chunk.batches, this.at, { limit, budget });
      if (until > this.at) shadow.applyBatches(chunk.batches.subarray(this.at, until));
      budget -= until - this.at;
      const held = until === this.at;
      this.at = until;
      if (this.at >= chunk.batches.length) {
        this.chunks.shift();
        this.at = 0;
        chunk.release();
      }
      if (!this.isAsItMust()) return;
      if (held && this.at < chunk.batches.length) break;
    }
    if (this.checked && shadow.offset === view.offset) {
      view.adoptSlots(shadow, slots);
      return this.end(null);
    }
    // The rest is for later turns: this one was long enough. Where it waits for the view or for the log, those wake it.
    if (budget <= 0) this.wake();
  };

  /** As far as can be told by now; false: it is not, and has ended. */
  private isAsItMust(): boolean {
    const { shadow, slots, reference } = this.options;
    if (this.checked || shadow.offset < reference!.offset) return true;
    const digests = shadow.slotDigests();
    const wrong = slots.filter((slot) => !reference!.accepts(slot, digests));
    this.checked = true;
    if (wrong.length === 0) return true;
    const message = `slot ${wrong[0]} built from it has another digest at offset ${reference!.offset} than it must have`;
    this.end(new TidelineError('storage-damaged', message));
    return false;
  }

  private end(error: TidelineError | null): void {
    if (this.ended) return;
    this.close();
    this.options.done(error);
  }

  /** What it is for has come to nothing, or is done otherwise. */
  giveUp(): void {
    this.end(new TidelineError('not-ready', 'the rebuild was given up'));
  }

  private close(): void {
    this.ended = true;
    this.subscription?.unsubscribe();
    for (const chunk of this.chunks.splice(0)) chunk.release();
  }
}

/** End of the batches from `at` that end at or before `limit`, about `budget` bytes of them. */
const endWithin = (
  batches: Buffer,
  at: number,
  { limit, budget }: { readonly limit: Offset; readonly budget: number },
): number => {
  let end = at;
  while (end + BATCH_HEADER_BYTES <= batches.length && end - at < budget && batchLastOffset(batches, end) <= limit) {
    end += batchLength(batches, end);
  }
  return end;
};
