import type { GroupId } from '#kernel';
import { BUILT_IN_TYPES, MapView } from '#views';
import { ModelView } from '../../libs/views/src/testing/index.js';
import { ModelOfTypes } from './model-of-types.js';
import type { ShadowEntry } from './shadow-log.js';

const RESULTS_KEPT = 100_000;

/** Entries that a view holds which may hold only so much, and the keys that are written to it. */
export const LIMITED_ENTRIES = 6;
export const LIMITED_KEYS = 10;

/** What a view with an archive that may hold only so much is after each batch of the log, though nothing of it was ever archived. */
export class LimitedReference {
  readonly digests = new Map<number, string>();
  private readonly fold = new MapView({ archive: true, maxEntries: LIMITED_ENTRIES });

  constructor(readonly group: GroupId) {}

  get evicted(): number {
    return this.fold.evictedCount;
  }

  follow(entry: ShadowEntry): void {
    this.fold.applyBatches(Buffer.from(entry.bytes!));
    this.digests.set(entry.lastOffset, this.fold.digest);
  }
}

/** What the committed log of one partition adds up to, told three ways: by a view of production code, and by plain models. */
export class ReferenceView {
  fold = ReferenceView.empty();
  readonly model = new ModelView();
  readonly types = new ModelOfTypes();
  /** Of the fold, by offset. */
  readonly digests = new Map<number, string>();

  constructor(
    readonly group: GroupId,
    /** Of its topic. */
    readonly partition: number,
  ) {}

  static readonly options = { resultsMax: RESULTS_KEPT, dataTypes: BUILT_IN_TYPES };

  static empty(): MapView {
    return new MapView(ReferenceView.options);
  }

  follow(entry: ShadowEntry): void {
    const bytes = Buffer.from(entry.bytes!);
    this.fold.applyBatches(bytes);
    this.model.applyBatches(bytes);
    this.types.applyBatch(bytes);
    this.digests.set(entry.lastOffset, this.fold.digest);
  }
}
